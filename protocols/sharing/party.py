"""What both parties do as processes: sessions with owners, correlations, runs."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.conversation import Conversation
from protocols.memory_use import peak_memory
from protocols.messages import Bye, Code, Hangup
from protocols.preparation import preparation_for
from protocols.sharing.dealer import Supply
from protocols.sharing.link import Link
from protocols.sharing.listener import Guest, Listener
from protocols.sharing.messages import (
    VISIT,
    Caps,
    Dealing,
    Input,
    Open,
    Output,
    Prepare,
    Prepared,
    Role,
    Stage,
    Welcome,
)
from protocols.sharing.stock import Stock, agree
from protocols.sharing.talk import Talk
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import BlobError, BudgetError, RemoteProtocolError, SecureImgError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Address", "Bytes", "PartyLimits", "PartyServer", "Session", "Trouble"]

_log = logging.getLogger(__name__)


Bytes = NDArray[np.uint8]
Address = tuple[str, int]


@dataclass(frozen=True)
class PartyLimits:
    """What a party grants.

    Attributes
    ----------
    connections : int
        Open connections.
    patience : float
        Seconds that the other party, or a message under way, may be silent.
    idle : float
        Seconds between an owner's requests.
    dealer : float
        Seconds that the dealer process may be silent: it may be at work for another session.
    caps : Caps
        Largest bodies.
    """

    connections: int = 64
    patience: float = 30.0
    idle: float = 600.0
    dealer: float = 60.0
    caps: Caps = field(default_factory=Caps)


class Trouble(Exception):
    """Something that ends a session, or one request of it."""

    def __init__(self, code: Code, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.remedy = code, remedy


@dataclass
class Session:
    """What a session of an owner has gathered at one party."""

    token: str
    owner: str
    dealing: Dealing
    link: Link
    runner: sharing.PartyZero | sharing.PartyOne
    public: sharing.PublicProgram
    epoch: str
    weight_seed: bytes = field(default=b"", repr=False)
    supply: Supply | None = None
    weights: int = 0
    ready: tuple[int, str, sharing.Prepared] | None = None

    def close(self) -> None:
        """Close everything but the owner's connection."""
        self.link.close()
        if self.supply is not None:
            self.supply.close()


class PartyServer:
    """What both parties have in common.

    Parameters
    ----------
    identity : Path
        This party's bundle.
    dealers : mapping
        "client-aided" and "dealer" as far as they are allowed; the dealer with its address.
    """

    number: int

    def __init__(
        self,
        identity: Path,
        *,
        client_aided: bool,
        dealer: Address | None,
        store: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: PartyLimits | None = None,
    ) -> None:
        self.identity = identity
        self.limits = limits or PartyLimits()
        self._client_aided, self._dealer = client_aided, dealer
        self._stock = Stock(store, self.number) if store is not None else None
        self.listener = Listener(identity, host, port, self._serve, connections=self.limits.connections)

    def close(self) -> None:
        """Stop listening and give the stock up."""
        self.listener.close()
        if self._stock is not None:
            self._stock.close()

    # --------------------------------------------------------------------------------------------------- connections

    def _serve(self, guest: Guest) -> None:
        if guest.role == "owner":
            self._visit(guest)
        else:
            self._join(guest)

    def _join(self, guest: Guest) -> None:
        raise RemoteProtocolError(f"{guest.role} has nothing to ask of party {self.number}")

    def _visit(self, guest: Guest) -> None:
        """Serve one owner's connection to its end."""
        talk = Talk(Conversation(Role.PARTY, self.limits.caps, VISIT), Wire(guest.sock), self.limits.patience)
        session: Session | None = None
        linger = True
        try:
            opened = talk.hear().message
            assert isinstance(opened, Open)
            session = self._open(opened, guest)
            self._converse(talk, session)
        except Trouble as trouble:
            _log.warning("owner %s: %s", guest.fingerprint[:12], trouble)
            _hang_up(talk, trouble.code, str(trouble), trouble.remedy)
        except RemoteProtocolError as error:
            _log.warning("owner %s: %s", guest.fingerprint[:12], error)
            _hang_up(talk, Code.MALFORMED, str(error), "use equal releases of secureimg")
        except TimeoutError:
            _hang_up(talk, Code.TIMEOUT, "no message within the time allowed", "connect again")
        except OSError as error:
            linger = False
            _log.info("owner %s: connection lost (%s)", guest.fingerprint[:12], type(error).__name__)
        except Exception:  # noqa: BLE001 - our own fault: this session ends, the others go on
            _log.exception("owner %s: internal error", guest.fingerprint[:12])
            _hang_up(talk, Code.INTERNAL, "internal error of the party", "tell its operator, who finds it in the log")
        finally:
            if session is not None:
                session.close()
            talk.wire.close(linger=linger)

    def _converse(self, talk: Talk, session: Session) -> None:
        public = session.public
        body = public.to_bytes()
        if self.number == 1 and session.dealing == "client-aided":
            body = session.weight_seed + body
        preparation = preparation_for(public.preprocessing)
        talk.say(
            Welcome(party=self.number, model=public.model, program=public.fingerprint, preparation=preparation), body
        )
        memory: list[Bytes] = []

        def sink(message: object, size: int) -> memoryview | None:
            if isinstance(message, Prepare):
                wanted = self._dealt_bytes(session, message.images)
                if size != wanted:
                    raise RemoteProtocolError(
                        f"{size} bytes of correlation for {message.images} image(s), expected {wanted}"
                    )
                memory[:] = [np.empty(size, dtype=np.uint8)]
                return memory[0].data
            if isinstance(message, Input):
                images = session.ready[2].images if session.ready else 0
                wanted = SEED_BYTES if self.number == 0 else public.share_bytes(images)
                if size != wanted:
                    raise RemoteProtocolError(f"an input share of {size} bytes, expected {wanted}")
                memory[:] = [np.empty(size, dtype=np.uint8)]
                return memory[0].data
            return None

        while not isinstance((heard := talk.hear(self.limits.idle, sink)).message, Bye):
            arrived = memory.pop() if memory else np.empty(0, dtype=np.uint8)
            if isinstance(heard.message, Prepare):
                self._prepare(talk, session, heard.message, arrived)
            else:
                self._run(talk, session, heard.message, arrived)

    def _dealt_bytes(self, session: Session, images: int) -> int:
        """Bytes that the owner sends with `Prepare`."""
        if session.dealing != "client-aided":
            return 0
        return SEED_BYTES + (sharing.cost_of(session.public, images).offline_bytes if self.number else 0)

    def _prepare(self, talk: Talk, session: Session, message: Prepare, body: Bytes) -> None:
        start = time.perf_counter()
        before = session.supply.received if session.supply else 0
        needed = SEED_BYTES + sharing.cost_of(session.public, message.images).offline_bytes
        if needed > self.limits.caps.corrections:  # party 0 gets a seed, but its work and memory grow alike
            said = f"{message.images} images need {needed} bytes of corrections, the limit is {self.limits.caps.corrections}"
            raise Trouble(Code.DEALER, said, "send fewer images at a time")
        size = needed - SEED_BYTES if self.number else 0
        try:
            if session.dealing == "client-aided":
                seed, corrections = body[:SEED_BYTES].tobytes(), body[SEED_BYTES:]
                dealt = body.size
            else:
                taken = agree(self._stock, session.link, self.number, session.public, message.images, session.epoch)
                if taken is not None:
                    seed, corrections = taken
                    self._taken()
                else:
                    seed, corrections = self._supply(session).fetch(message.correlation, message.images, size)
                dealt = (session.supply.received if session.supply else 0) - before
        except (RemoteProtocolError, BlobError, BudgetError) as error:
            raise Trouble(Code.DEALER, str(error), "see to the dealer, then open a new session") from None
        runner = session.runner
        if isinstance(runner, sharing.PartyZero):
            prepared = runner.prepare(message.images, seed)
        else:
            prepared = runner.prepare(message.images, seed, corrections)
        session.ready = message.request, message.correlation, prepared
        seconds = time.perf_counter() - start
        weights, session.weights = session.weights, 0
        talk.say(Prepared(request=message.request, seconds=seconds, dealt=dealt, weights=weights))

    def _run(self, talk: Talk, session: Session, message: Input, body: Bytes) -> None:
        assert session.ready is not None
        request, correlation, prepared = session.ready
        session.ready = None
        if message.request != request:
            raise RemoteProtocolError(f"input for request {message.request}, prepared was {request}")
        start, before = time.perf_counter(), session.link.sent
        try:
            _agree(
                session.link, f"{session.token} {request} {correlation} {prepared.images} {session.public.fingerprint}"
            )
            result = session.runner.run(prepared, body, session.link)
            session.link.flush()
        except RemoteProtocolError as error:
            raise Trouble(Code.PEER, str(error), "open a new session; nothing was revealed") from None
        output = Output(
            request=request, seconds=time.perf_counter() - start, rounds=result.rounds, sent=session.link.sent - before,
            peak_rss=peak_memory(),
        )  # fmt: skip
        talk.say(output, result.share.data)

    # -------------------------------------------------------------------------------------------------------- dealing

    def _allow(self, dealing: Dealing) -> None:
        if self._client_aided if dealing == "client-aided" else self._dealer is not None:
            return
        allowed = [
            name for name, on in (("client-aided", self._client_aided), ("dealer", self._dealer is not None)) if on
        ]
        raise Trouble(Code.UNKNOWN_DEALER, f"this party does not accept the dealer {dealing!r}",
                       f"ask for one of: {', '.join(allowed)}")  # fmt: skip

    def _supply(self, session: Session) -> Supply:
        if session.supply is None:
            session.supply = self._engage(session.public, session.epoch, session.weight_seed)
        return session.supply

    def _engage(self, public: sharing.PublicProgram, epoch: str, weight_seed: bytes) -> Supply:
        """A connection to the dealer process for a program and weight mask."""
        assert self._dealer is not None
        body = weight_seed + public.to_bytes() if self.number else b""
        return Supply(self._dealer, self.identity, self.number, epoch, body, self.limits.dealer)

    def _taken(self) -> None:
        """A correlation of the stock was used."""

    def _open(self, message: Open, guest: Guest) -> Session:
        raise NotImplementedError


def _agree(link: Link, run: str) -> None:
    """Both parties name the run: an old session, another program or another correlation is found out here."""
    own = np.frombuffer(run.encode().ljust(256)[:256], dtype=np.uint8)
    theirs = np.empty(own.size, dtype=np.uint8)
    link.send(own)
    link.receive(theirs)
    if not np.array_equal(own, theirs):
        raise RemoteProtocolError("the two parties are about to run different things: another request or correlation")


def _hang_up(talk: Talk, code: Code, message: str, remedy: str) -> None:
    if talk.conversation.state is Stage.CLOSED:
        return
    with contextlib.suppress(OSError, SecureImgError):
        talk.say(Hangup(code=code, message=message[:2000], remedy=remedy[:2000]))
