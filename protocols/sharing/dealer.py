"""The dealer as a process of its own, and what a party asks of it."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocols.conversation import Conversation, Received
from protocols.errors import RefusedError
from protocols.listener import Guest, Listener
from protocols.messages import Bye, Code, Hangup, Refusal
from protocols.operations import Observer
from protocols.sharing.messages import SUPPLY, Caps, Deal, Dealt, Engage, Engaged, Role, Stage, supply_terms
from protocols.sharing.talk import Talk
from protocols.tls import IdentityContext, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg.errors import BlobError, RemoteProtocolError, SecureImgError
from secureimg.sharing import Dealer, PublicProgram, cost_of, fresh_seed
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["DealerServer", "Supply", "dealt_pieces"]

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 1 << 16
_DEALERS: Final = 2

Bytes = NDArray[np.uint8]


def dealt_pieces(dealer: Dealer, images: int, seeds: tuple[bytes, bytes]) -> Iterator[memoryview]:
    """Party 1's part of a correlation as it travels: its seed, then the corrections."""
    yield memoryview(seeds[1])
    for piece in dealer.deal(images, seeds):
        yield piece.data.cast("B")


class DealerServer:
    """Deals to two parties who prove to be party 0 and party 1. It sees neither shares nor weights.

    The first party that names a correlation makes the dealer draw its seeds; the second one gets its part of the same, and
    then they are forgotten. So the parties may ask at different times, and nothing is ever dealt twice: a token that
    comes again gets new seeds.

    Parameters
    ----------
    identity : Path
        The dealer's bundle.
    host, port : str, int
    patience : float
        Longest silence of a party while it has the word, seconds.
    observer : Observer, optional
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "party-0" and "party-1"; a role that is not named: all of the authority's.
    """

    def __init__(
        self,
        identity: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        patience: float = 600.0,
        observer: Observer | None = None,
        pins: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._patience = patience
        self.observer = observer or Observer()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._half: OrderedDict[tuple[str, str, str], tuple[int, tuple[bytes, bytes]]] = OrderedDict()
        self._dealers: OrderedDict[tuple[str, str], Dealer] = OrderedDict()
        self.listener = Listener(identity, host, port, self._serve, roles={"party-0", "party-1"}, pins=dict(pins or {}))
        self.observer.gauge(
            "waiting_halves", "Correlations that one party has and the other not.", lambda: len(self._half)
        )

    def renew(self) -> None:
        """Read the bundle anew, for connections from now on. Raises `KeyMaterialError` if it cannot be used."""
        self.listener.renew()

    def close(self) -> None:
        """Stop listening, and deal no more than what is under way."""
        self._stopping.set()
        self.listener.close()

    def _serve(self, guest: Guest) -> None:
        talk = Talk(Conversation(Role.DEALER, Caps(), SUPPLY), Wire(guest.sock), self._patience)
        try:
            self._converse(talk, guest)
        except RemoteProtocolError as error:
            _log.warning("%s: %s", guest.role, error)
            _hang_up(talk, Code.MALFORMED, str(error), "use equal releases of secureimg")
        except TimeoutError:
            _hang_up(talk, Code.TIMEOUT, f"silent for {self._patience:g} s", "connect again")

    def _converse(self, talk: Talk, guest: Guest) -> None:
        engage = talk.hear()
        assert isinstance(engage.message, Engage)
        party = engage.message.party
        if guest.role != f"party-{party}":
            _hang_up(talk, Code.UNKNOWN_DEALER, f"a certificate of {guest.role} does not make party {party}",
                     "use the bundle of that party")  # fmt: skip
            return
        dealer = self._engage(engage) if party == 1 else None
        asked: Engage = engage.message
        talk.say(Engaged(key=talk.conversation.key))
        talk.conversation.bind(supply_terms(asked, guest.fingerprint, guest.own))
        while isinstance((heard := talk.hear()).message, Deal):
            deal: Deal = heard.message
            if self._stopping.is_set():
                _hang_up(talk, Code.SHUTTING_DOWN, "the dealer is shutting down", "ask again later")
                return
            seeds = self._seeds(party, (asked.program, asked.epoch, deal.correlation))
            if seeds is None:
                said = f"correlation {deal.correlation} was dealt to party {party} before"
                talk.say(Refusal(code=Code.DEALER, message=said, remedy="ask for a new one: each is good for one use"))
                continue
            answer = Dealt(correlation=deal.correlation)
            if dealer is None:
                talk.say(answer, seeds[0])
                continue
            size = SEED_BYTES + cost_of(dealer.public, deal.images).offline_bytes
            if size > Caps().corrections:
                said = f"{deal.images} images need {size} bytes of corrections, the limit is {Caps().corrections}"
                talk.say(Refusal(code=Code.DEALER, message=said, remedy="send fewer images at a time"))
                continue
            talk.say_pieces(answer, size, dealt_pieces(dealer, deal.images, seeds))

    def _engage(self, engage: Received) -> Dealer:
        body = engage.body or b""
        try:
            public = PublicProgram.from_bytes(body[SEED_BYTES:])
        except BlobError as error:
            raise RemoteProtocolError(str(error)) from None
        if public.fingerprint != engage.message.program:
            raise RemoteProtocolError("the program that came is not the one that was named")
        name = (public.fingerprint, engage.message.epoch)
        with self._lock:
            dealer = self._dealers.pop(name, None) or Dealer(public, body[:SEED_BYTES])
            self._dealers[name] = dealer
            while len(self._dealers) > _DEALERS:
                self._dealers.popitem(last=False)
        return dealer

    def _seeds(self, party: int, correlation: tuple[str, str, str]) -> tuple[bytes, bytes] | None:
        """Seeds of both parties; None if this party has its part and the other one has not asked yet."""
        with self._lock:
            held = self._half.get(correlation)
            if held is not None and held[0] == party:
                return None
            if held is not None:
                return self._half.pop(correlation)[1]
            seeds = fresh_seed(), fresh_seed()
            self._half[correlation] = party, seeds
            while len(self._half) > _REMEMBERED:  # parts whose other half nobody fetched
                self._half.popitem(last=False)
            return seeds


def _hang_up(talk: Talk, code: Code, message: str, remedy: str) -> None:
    if talk.conversation.state is Stage.CLOSED:
        return
    with contextlib.suppress(OSError, SecureImgError):
        talk.say(Hangup(code=code, message=message[:2000], remedy=remedy))
    talk.wire.close(linger=True)


class Supply:
    """A party's connection to the dealer process.

    Parameters
    ----------
    address : (str, int)
    context : IdentityContext
        The party's, to dial.
    party : int
    epoch : str
        Names the weight mask.
    public : PublicProgram
        What the correlations are for.
    weight_seed : bytes
        Party 1's; party 0 has none.
    patience : float
        Seconds to wait for the dealer to begin an answer.
    pins : set of str
        Certificates accepted for the dealer; empty: any of the authority's.
    """

    def __init__(
        self,
        address: tuple[str, int],
        context: IdentityContext,
        party: int,
        epoch: str,
        public: PublicProgram,
        weight_seed: bytes,
        patience: float,
        pins: frozenset[str] = frozenset(),
    ) -> None:
        sock = dial(*address, context, min(patience, 30.0), "dealer", pins)
        self._wire = Wire(sock)
        self._talk = Talk(Conversation(Role.PARTY, Caps(), SUPPLY), self._wire, patience)
        self.epoch = epoch
        conversation = self._talk.conversation
        asked = Engage(key=conversation.key, party=party, program=public.fingerprint, epoch=epoch)
        body = weight_seed + public.to_bytes() if party else b""
        try:
            self._ask(lambda: self._talk.say(asked, body))
            conversation.bind(supply_terms(asked, context.identity.fingerprint, peer_fingerprint(sock)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def received(self) -> int:
        """Bytes from the dealer so far."""
        return self._wire.received

    def fetch(self, correlation: str, images: int, size: int, deadline: float = math.inf) -> tuple[bytes, Bytes]:
        """Get this party's part of a correlation: its seed and `size` bytes of corrections (0 for party 0).

        The dealer must begin to answer before the deadline, on the clock of `time.monotonic`.
        """
        memory = np.empty(SEED_BYTES + size, dtype=np.uint8)

        def sink(message: object, arriving: int) -> memoryview | None:
            if isinstance(message, Dealt) and arriving == memory.size:
                return memory.data
            return None

        def ask() -> Received:
            self._talk.say(Deal(correlation=correlation, images=images))
            patience = max(0.001, min(self._talk.patience, deadline - time.monotonic()))
            return self._talk.hear(patience, sink)

        heard = self._ask(ask)
        assert heard is not None
        if not isinstance(heard.message, Dealt) or heard.message.correlation != correlation or heard.body is not None:
            raise RemoteProtocolError(
                f"the dealer sent another correlation, or not {memory.size} bytes: is it the same release?"
            )
        return memory[:SEED_BYTES].tobytes(), memory[SEED_BYTES:]

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(OSError, SecureImgError):
            self._talk.say(Bye())
        self._wire.close()

    def _ask(self, question: object) -> Received | None:
        assert callable(question)
        try:
            answer = question()
            if isinstance(answer, Received):
                return answer
            heard = self._talk.hear()
            if not isinstance(heard.message, Engaged):
                raise RemoteProtocolError(f"expected Engaged, got {type(heard.message).__name__}")
            return None
        except RefusedError as refusal:
            raise RemoteProtocolError(f"the dealer refused: {refusal}") from None
        except TimeoutError:
            raise RemoteProtocolError("the dealer was silent for too long: is it running?") from None
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise RemoteProtocolError(f"the connection to the dealer broke ({reason})") from None
