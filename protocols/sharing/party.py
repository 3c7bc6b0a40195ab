"""A party as a process: sessions with owners, the link to the other party, correlations."""

from __future__ import annotations

import contextlib
import logging
import secrets
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from numpy.typing import NDArray

from protocols.conversation import Conversation, Received
from protocols.errors import RefusedError
from protocols.identity import PARTY_ROLES
from protocols.memory_use import peak_memory
from protocols.messages import Bye, Code, Hangup
from protocols.preparation import preparation_for
from protocols.sharing.dealer import Supply
from protocols.sharing.link import Link
from protocols.sharing.listener import Guest, Listener
from protocols.sharing.messages import (
    JOIN,
    VISIT,
    Caps,
    Dealing,
    Input,
    Join,
    Joined,
    Open,
    Output,
    Prepare,
    Prepared,
    Role,
    Stage,
    Welcome,
)
from protocols.sharing.stock import Keeper, Stock, agree, fill_orders, order
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import BlobError, BudgetError, KeyMaterialError, RemoteProtocolError, SecureImgError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["PartyLimits", "PartyOneServer", "PartyServer", "PartyZeroServer"]

_log = logging.getLogger(__name__)

_MODELS: Final = 2
_OWNERS: Final = 64

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


class _Trouble(Exception):
    """Something that ends a session, or one request of it."""

    def __init__(self, code: Code, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.remedy = code, remedy


@dataclass
class _Session:
    """What a session of an owner has gathered at one party."""

    token: str
    owner: str
    dealing: Dealing
    link: Link
    runner: sharing.PartyZero | sharing.PartyOne
    public: sharing.PublicProgram
    epoch: str
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
        session: _Session | None = None
        linger = True
        try:
            opened = talk.hear().message
            assert isinstance(opened, Open)
            session = self._open(opened, guest)
            self._converse(talk, session)
        except _Trouble as trouble:
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

    def _converse(self, talk: Talk, session: _Session) -> None:
        public = session.public
        body = public.to_bytes()
        if self.number == 1 and session.dealing == "client-aided":
            body = self._weight_seed(session.dealing, session.owner) + body
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
            return None

        while not isinstance((heard := talk.hear(self.limits.idle, sink)).message, Bye):
            if isinstance(heard.message, Prepare):
                self._prepare(talk, session, heard.message, memory.pop() if memory else np.empty(0, dtype=np.uint8))
            else:
                self._run(talk, session, heard)

    def _dealt_bytes(self, session: _Session, images: int) -> int:
        """Bytes that the owner sends with `Prepare`."""
        if session.dealing != "client-aided":
            return 0
        return SEED_BYTES + (sharing.cost_of(session.public, images).offline_bytes if self.number else 0)

    def _prepare(self, talk: Talk, session: _Session, message: Prepare, body: Bytes) -> None:
        start = time.perf_counter()
        before = session.supply.received if session.supply else 0
        needed = SEED_BYTES + sharing.cost_of(session.public, message.images).offline_bytes
        if needed > self.limits.caps.corrections:  # party 0 gets a seed, but its work and memory grow alike
            said = f"{message.images} images need {needed} bytes of corrections, the limit is {self.limits.caps.corrections}"
            raise _Trouble(Code.DEALER, said, "send fewer images at a time")
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
            raise _Trouble(Code.DEALER, str(error), "see to the dealer, then open a new session") from None
        runner = session.runner
        if isinstance(runner, sharing.PartyZero):
            prepared = runner.prepare(message.images, seed)
        else:
            prepared = runner.prepare(message.images, seed, corrections)
        session.ready = message.request, message.correlation, prepared
        seconds = time.perf_counter() - start
        weights, session.weights = session.weights, 0
        talk.say(Prepared(request=message.request, seconds=seconds, dealt=dealt, weights=weights))

    def _run(self, talk: Talk, session: _Session, heard: Received) -> None:
        assert isinstance(heard.message, Input)
        assert session.ready is not None
        request, correlation, prepared = session.ready
        session.ready = None
        if heard.message.request != request:
            raise RemoteProtocolError(f"input for request {heard.message.request}, prepared was {request}")
        start, before = time.perf_counter(), session.link.sent
        try:
            _agree(
                session.link, f"{session.token} {request} {correlation} {prepared.images} {session.public.fingerprint}"
            )
            result = session.runner.run(prepared, heard.body or b"", session.link)
            session.link.flush()
        except RemoteProtocolError as error:
            raise _Trouble(Code.PEER, str(error), "open a new session; nothing was revealed") from None
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
        raise _Trouble(Code.UNKNOWN_DEALER, f"this party does not accept the dealer {dealing!r}",
                       f"ask for one of: {', '.join(allowed)}")  # fmt: skip

    def _supply(self, session: _Session) -> Supply:
        if session.supply is None:
            session.supply = self._engage(session.public, session.epoch)
        return session.supply

    def _engage(self, public: sharing.PublicProgram, epoch: str) -> Supply:
        """A connection to the dealer process for a program and weight mask."""
        assert self._dealer is not None
        body = self._weight_seed("dealer", "") + public.to_bytes() if self.number else b""
        return Supply(self._dealer, self.identity, self.number, epoch, body, self.limits.dealer)

    def _taken(self) -> None:
        """A correlation of the stock was used."""

    def _weight_seed(self, dealing: Dealing, owner: str) -> bytes:
        raise NotImplementedError

    def _open(self, message: Open, guest: Guest) -> _Session:
        raise NotImplementedError


class PartyZeroServer(PartyServer):
    """Party 0: has no weights; gets the program and masked weights from party 1.

    Parameters
    ----------
    identity : Path
    peer : (str, int)
        Where party 1 listens.
    client_aided : bool
        Whether an owner may deal for its own images.
    dealer : (str, int) or None
        Where the dealer process listens, if one may be used.
    program : secureimg.sharing.Program, optional
        The model, if its weights are public.
    """

    number = 0

    def __init__(
        self,
        identity: Path,
        peer: Address,
        *,
        program: sharing.Program | None = None,
        ahead: int = 0,
        **options: object,
    ) -> None:
        super().__init__(identity, **options)  # type: ignore[arg-type]
        self._peer = peer
        self._program = program
        self._lock = threading.Lock()
        if ahead and (self._stock is None or self._dealer is None):
            raise KeyMaterialError("correlations are made ahead by a dealer process and kept in a store: name both")
        self._programs: OrderedDict[str, sharing.PublicProgram] = OrderedDict()
        self._runners: OrderedDict[str, sharing.PartyZero] = OrderedDict()
        self._keeper = Keeper(ahead, self._restock) if ahead else None

    def close(self) -> None:
        """Stop filling the stock, then as for both parties."""
        if self._keeper is not None:
            self._keeper.close()
        super().close()

    def _taken(self) -> None:
        if self._keeper is not None:
            self._keeper.look()

    def _restock(self, goal: int) -> None:
        """Have correlations made until there are `goal` for the model that party 1 runs now."""
        assert self._stock is not None
        own = x509.load_pem_x509_certificate(self.identity.read_bytes()).fingerprint(hashes.SHA256()).hex()
        session = self._join_peer(secrets.token_hex(16), own, "dealer", "stock")
        try:
            # what was made for another model or weight mask can never be used
            self._stock.store.discard(program=session.public.fingerprint, epoch=session.epoch)
            have = len(self._stock.store.available(program=session.public.fingerprint, images=1, epoch=session.epoch))
            for _ in range(goal - have):
                order(self._stock, session.link, self._supply(session), session.public)
        finally:
            session.close()

    def _open(self, message: Open, guest: Guest) -> _Session:
        self._allow(message.dealing)
        try:
            return self._join_peer(message.session, guest.fingerprint, message.dealing, "session")
        except RefusedError as refusal:
            raise _Trouble(Code.PEER, f"party 1 refused: {refusal}", "see to party 1, then connect again") from None
        except (RemoteProtocolError, OSError) as error:
            raise _Trouble(Code.PEER, f"no link to party 1: {error}", "see to party 1, then connect again") from None

    def _join_peer(self, token: str, owner: str, dealing: Dealing, purpose: Literal["session", "stock"]) -> _Session:
        """Open a link to party 1; get program and masked weights, if they are not here yet."""
        context = bundle_context(self.identity, ssl.PROTOCOL_TLS_CLIENT)
        with self._lock:
            # a session keeps what it says it knows: another one may push it out of the cache meanwhile
            programs, runners = OrderedDict(self._programs), OrderedDict(self._runners)
        known, epochs = list(programs), tuple(runners)
        talks = []
        with contextlib.ExitStack() as opened:
            for stream in ("to party 1", "to party 0"):
                sock = dial(*self._peer, context, min(self.limits.patience, 10.0), PARTY_ROLES["party-1"])
                opened.callback(sock.close)
                talk = Talk(Conversation(Role.ZERO, self.limits.caps, JOIN), Wire(sock), self.limits.patience)
                talk.say(Join(
                    session=token, owner=owner, dealing=dealing, purpose=purpose,
                    stream="to party 1" if stream == "to party 1" else "to party 0",
                    program=known[-1] if known else None, epochs=epochs[-8:],
                ))  # fmt: skip
                talks.append((talk, sock))
            answers = [talk.hear() for talk, _ in talks]
            joined: Joined = answers[1].message
            public = self._learn(joined, answers[1].body or b"", programs)
            link = Link(talks[0][1], talks[1][1], self.limits.patience)
            opened.callback(link.close)
            runner, size = self._arm(joined, public, link, runners)
            opened.pop_all()
        return _Session(token, owner, dealing, link, runner, public, joined.epoch, weights=size)

    def _learn(
        self, joined: Joined, body: bytes, programs: Mapping[str, sharing.PublicProgram]
    ) -> sharing.PublicProgram:
        public = programs.get(joined.program)
        if public is None:
            try:
                public = sharing.PublicProgram.from_bytes(body)
            except BlobError as error:
                raise RemoteProtocolError(f"the program of party 1: {error}") from None
            if public.fingerprint != joined.program:
                raise RemoteProtocolError("the program of party 1 is not the one it names")
        if public.weights == "public" and (
            self._program is None or self._program.public.fingerprint != public.fingerprint
        ):
            raise RemoteProtocolError("party 1 runs a model with public weights that party 0 was not started with")
        with self._lock:
            self._programs[public.fingerprint] = public
            while len(self._programs) > _MODELS:
                self._programs.popitem(last=False)
        return public

    def _arm(
        self, joined: Joined, public: sharing.PublicProgram, link: Link, runners: Mapping[str, sharing.PartyZero]
    ) -> tuple[sharing.PartyZero, int]:
        """The runner for a weight mask: kept from an earlier session, or loaded through the link."""
        if not joined.weights:
            runner = runners.get(joined.epoch)
            if runner is None:
                raise RemoteProtocolError("party 1 thinks that masked weights are here that are not")
            return runner, 0
        runner = sharing.PartyZero(public, self._program)
        before = link.received
        runner.load_masked_weights(link.receive)
        with self._lock:
            self._runners[joined.epoch] = runner
            while len(self._runners) > _MODELS:
                self._runners.popitem(last=False)
        return runner, link.received - before


class PartyOneServer(PartyServer):
    """Party 1: has the model.

    Parameters
    ----------
    identity : Path
    program : secureimg.sharing.Program
    client_aided, dealer
        As for party 0.
    """

    number = 1

    def __init__(self, identity: Path, program: sharing.Program, **options: object) -> None:
        self._program = program
        self._runner = sharing.PartyOne(program)
        self._seeds: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._change = threading.Condition()
        self._streams: dict[str, dict[str, Guest]] = {}
        self._links: dict[str, tuple[str, Dealing, Link, str]] = {}
        self._timers: dict[str, threading.Timer] = {}
        super().__init__(identity, **options)  # type: ignore[arg-type]

    def _weight_seed(self, dealing: Dealing, owner: str) -> bytes:
        """The mask of the weights: one for the dealer process, one for each owner that deals itself."""
        if dealing == "dealer" and self._stock is not None:
            return self._stock.weight_seed(self._program)
        name = (dealing, owner if dealing == "client-aided" else "")
        with self._change:
            seed = self._seeds.pop(name, None) or sharing.fresh_seed()
            self._seeds[name] = seed
            while len(self._seeds) > _OWNERS:
                self._seeds.popitem(last=False)
        return seed

    def _join(self, guest: Guest) -> None:
        """Take one connection of party 0; the second one of a session completes its link."""
        if guest.role != "party-0":
            raise RemoteProtocolError(f"{guest.role} has nothing to ask of party 1")
        talk = Talk(Conversation(Role.ONE, self.limits.caps, JOIN), Wire(guest.sock), self.limits.patience)
        message = talk.hear().message
        assert isinstance(message, Join)
        try:
            self._allow(message.dealing)
        except _Trouble as trouble:
            talk.say(Hangup(code=trouble.code, message=str(trouble), remedy=trouble.remedy))
            talk.wire.close(linger=True)
            return
        public = self._program.public
        seed = self._weight_seed(message.dealing, message.owner)
        epoch = sharing.seed_name(seed)
        weights = epoch not in message.epochs
        body = b"" if message.program == public.fingerprint or message.stream == "to party 1" else public.to_bytes()
        talk.say(Joined(program=public.fingerprint, epoch=epoch, weights=weights), body)
        with self._change:
            streams = self._streams.setdefault(message.session, {})
            if message.stream in streams or message.session in self._links:
                raise RemoteProtocolError(f"session {message.session} has this stream already")
            streams[message.stream] = guest
            guest.keep()
            if len(streams) < 2:
                self._expire(message.session)
                return
            del self._streams[message.session]
            self._keep_waiting(message.session)
        link = Link(streams["to party 0"].sock, streams["to party 1"].sock, self.limits.patience)
        try:
            if weights:
                for piece in self._runner.masked_weights(seed):
                    link.send(piece)
        except SecureImgError as error:
            _log.warning("party 0: %s", error)
            link.close()
            return
        if message.purpose == "stock":
            self._fill(link, epoch)
            return
        with self._change:
            self._links[message.session] = message.owner, message.dealing, link, epoch
            self._expire(message.session)
            self._change.notify_all()

    def _fill(self, link: Link, epoch: str) -> None:
        """Keep what party 0 orders for both stocks."""
        try:
            if self._stock is None:
                raise RemoteProtocolError("party 0 fills a stock, but this party was started without a store")
            with self._engage(self._program.public, epoch) as supply:
                fill_orders(self._stock, link, supply, self._program.public)
        except RemoteProtocolError as error:
            _log.info("stock: %s", error)
        finally:
            link.close()

    def _expire(self, session: str) -> None:
        """Give up on a link that nobody comes for."""

        def give_up() -> None:
            with self._change:
                if self._timers.get(session) is not threading.current_thread():
                    return
                del self._timers[session]
                streams, waiting = self._streams.pop(session, {}), self._links.pop(session, None)
            for guest in streams.values():
                guest.sock.close()
            if waiting is not None:
                waiting[2].close()

        self._keep_waiting(session)
        timer = self._timers[session] = threading.Timer(2 * self.limits.patience, give_up)
        timer.daemon = True
        timer.start()

    def _keep_waiting(self, session: str) -> None:
        """Call `_expire` off: what it waits for is here. A timer is a thread, which a session must not leave behind."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _open(self, message: Open, guest: Guest) -> _Session:
        self._allow(message.dealing)
        public = self._program.public
        if message.model not in (None, public.model, public.fingerprint):
            raise _Trouble(Code.UNKNOWN_MODEL, f"model {message.model!r} is not served here",
                           f"ask for {public.model!r}")  # fmt: skip
        deadline = time.monotonic() + self.limits.patience
        with self._change:
            while message.session not in self._links:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _Trouble(
                        Code.PEER, "party 0 did not open its link for this session", "see to party 0; connect again"
                    )
                self._change.wait(left)
            owner, dealing, link, epoch = self._links[message.session]
            if owner != guest.fingerprint or dealing != message.dealing:
                raise _Trouble(Code.PEER, "party 0 knows this session as another owner's", "open a session of your own")
            del self._links[message.session]
            self._keep_waiting(message.session)
        return _Session(message.session, owner, dealing, link, self._runner, public, epoch)


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
