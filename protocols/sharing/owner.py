"""The owner's client: splits images, sends a share to each party, puts the answer together; deals, if it is the dealer."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.binding import Terms
from protocols.conversation import Conversation, Received
from protocols.errors import BrokenError, RefusedError
from protocols.messages import Bye, Code
from protocols.sharing.dealer import dealt_pieces
from protocols.sharing.messages import (
    VISIT,
    Caps,
    Dealing,
    Fetch,
    Input,
    Open,
    Output,
    Prepare,
    Prepared,
    Role,
    Stage,
    Welcome,
)
from protocols.sharing.talk import Talk, blaming
from protocols.tls import bundle_context, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import BlobError, LocalProtocolError, RemoteProtocolError, SecureImgError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Answer", "Offline", "SharesClient"]

Address = tuple[str, int]

_TURN: Final = 0.25
_GRACE: Final = 0.5
_PAUSE: Final = 0.2
_PASSING: Final = frozenset({Code.BUSY, Code.RATE, Code.SHUTTING_DOWN, Code.PEER})
_ENDED: Final = frozenset({Code.TIMEOUT, Code.SHUTTING_DOWN})
_SECOND_HAND: Final = frozenset({Code.PEER, Code.DEALER})


@dataclass(frozen=True)
class Offline:
    """What preparing took.

    Attributes
    ----------
    seconds : float
        From asking to both parties being ready.
    dealt : int
        Bytes of correlations that reached the two parties.
    weights : int
        Bytes of masked weights that party 0 got, once for a model and dealer.
    """

    seconds: float
    dealt: int
    weights: int


@dataclass(frozen=True, eq=False)
class Answer:
    """What was revealed, and what it took.

    Attributes
    ----------
    values : ndarray of float64
        As `secureimg.sharing.join_result` gives it.
    seconds : float
        From sending the shares to having the result.
    rounds : int
        Messages between the parties that waited for each other.
    sent : (int, int)
        Bytes that party 0 and party 1 sent to each other.
    peak_rss : (int, int)
        Peak memory of their processes, bytes.
    up, down : int
        Bytes of shares from and to the owner.
    shares : (ndarray of uint8, ndarray of uint8)
        What party 0 and party 1 saw of the images.
    """

    values: NDArray[np.float64] = field(repr=False)
    seconds: float
    rounds: int
    sent: tuple[int, int]
    peak_rss: tuple[int, int]
    up: int
    down: int
    shares: tuple[NDArray[np.uint8], NDArray[np.uint8]] = field(repr=False)


class SharesClient:
    """Connections to party 0 and party 1, authenticated on both sides.

    Parameters
    ----------
    party_0, party_1 : (str, int)
        Where they listen.
    identity : Path
        The owner's bundle.
    dealing : str
        "client-aided": this process makes the correlations for its own images; together with party 0 it could work out the
        weights. "dealer": a third process does, which must not collude with either party.
    model : str, optional
        Name or fingerprint of the program expected.
    timeout : float
        Seconds to wait for an answer. The parties are told, and give up by then, too.
    retry : float
        Seconds to go on trying when a connection breaks. An answer that was under way is fetched, not computed again.
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "party-0" and "party-1"; a role that is not named: all of the authority's.

    Raises
    ------
    KeyMaterialError, RemoteProtocolError, RefusedError
        If the identity cannot be loaded, a party does not answer, or one refuses.
    """

    def __init__(
        self,
        party_0: Address,
        party_1: Address,
        identity: Path | str,
        *,
        dealing: Dealing,
        model: str | None = None,
        timeout: float = 900.0,
        retry: float = 30.0,
        pins: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._parties = {"party-0": party_0, "party-1": party_1}
        self._identity, self._model, self._pins = Path(identity), model, dict(pins or {})
        self._timeout, self._retry = timeout, retry
        self.dealing = dealing
        self._requests = 0
        self._session = ""
        self._ready: tuple[int, int] | None = None
        self._dealer: sharing.Dealer | None = None
        self._talks: list[Talk] = []
        self._connect()

    def _connect(self) -> None:
        """Open a session at both parties."""
        context = bundle_context(self._identity, ssl.PROTOCOL_TLS_CLIENT)
        self._hang_up()
        self._talks, self._ready = [], None
        self._session = secrets.token_hex(16)
        seen: list[str] = []
        try:
            for role, address in self._parties.items():
                sock = dial(*address, context, min(self._timeout, 30.0), role, self._pins.get(role, frozenset()))
                seen.append(peer_fingerprint(sock))
                self._talks.append(Talk(Conversation(Role.OWNER, Caps(), VISIT), Wire(sock), self._timeout))
            questions: list[tuple[Any, Any]] = [
                (Open(key=talk.conversation.key, session=self._session, dealing=self.dealing, model=self._model), b"")
                for talk in self._talks
            ]
            heard = self._ask(questions, Welcome)
            self.program = self._learn(heard, seen)
            for talk in self._talks:
                talk.conversation.bind(
                    Terms(
                        protocol="visit", session=self._session, owner=context.identity.fingerprint, party_0=seen[0],
                        party_1=seen[1], dealing=self.dealing, model=self.program.model, program=self.program.fingerprint,
                        reveal=self.program.reveal,
                    )
                )  # fmt: skip
        except BaseException:
            self._hang_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn(self, heard: list[Received], seen: list[str]) -> sharing.PublicProgram:
        """Take the program that both parties offer, if they mean the same one and each other."""
        bodies = [item.body or b"" for item in heard]
        welcomes: list[Welcome] = [item.message for item in heard]
        seed = b""
        if self.dealing == "client-aided":
            seed, bodies[1] = bodies[1][:SEED_BYTES], bodies[1][SEED_BYTES:]
        if bodies[0] != bodies[1] or welcomes[0].party != 0 or welcomes[1].party != 1:
            raise RemoteProtocolError("the two parties offer different programs: do not send them anything")
        for number, welcome in enumerate(welcomes):
            if welcome.peer != seen[1 - number]:
                raise RemoteProtocolError(
                    f"party {number} works with another party {1 - number} (certificate {welcome.peer[:16]}) than the one "
                    f"connected to ({seen[1 - number][:16]}): check the addresses with the operators"
                )
        try:
            public = sharing.PublicProgram.from_bytes(bodies[0])
        except BlobError as error:
            raise RemoteProtocolError(f"the parties' program: {error}") from None
        for number, welcome in enumerate(welcomes):
            if (welcome.model, welcome.program, welcome.reveal) != (public.model, public.fingerprint, public.reveal):
                raise RemoteProtocolError(f"party {number} names another program than it sends: do not trust it")
        self.preparation = welcomes[0].preparation
        if self.dealing == "client-aided":
            self._dealer = sharing.Dealer(public, seed)
        return public

    def prepare(self, images: int) -> Offline:
        """Offline: have correlations for a run of `images` images made, sent, and worked in. No image is needed yet.

        Raises
        ------
        RefusedError, RemoteProtocolError
            If a party or the dealer fails.
        """
        if self._ready is not None:
            raise LocalProtocolError("a run is prepared already: call run first")
        if any(talk.conversation.state is Stage.CLOSED for talk in self._talks):
            self._connect()
        try:
            return self._prepare(images)
        except (BrokenError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.code not in _ENDED:
                raise
            ended = error
        try:
            self._reconnect()  # nothing is lost but a correlation, which is never used now
        except RemoteProtocolError:
            raise ended from None
        return self._prepare(images)

    def _prepare(self, images: int) -> Offline:
        start = time.perf_counter()
        request, self._requests = self._requests, self._requests + 1
        message = Prepare(request=request, images=images, correlation=secrets.token_hex(16), seconds=self._timeout)
        if self._dealer is None:
            heard = self._ask([(message, b"")] * 2, Prepared)
        else:
            seeds = sharing.fresh_seed(), sharing.fresh_seed()
            size = SEED_BYTES + sharing.cost_of(self.program, images).offline_bytes
            with self._telling(0):
                self._talks[0].say(message, seeds[0])
            with self._telling(1):
                self._talks[1].say_pieces(message, size, dealt_pieces(self._dealer, images, seeds))
            heard = self._hear(Prepared)
        self._ready = request, images
        dealt = sum(item.message.dealt for item in heard)
        return Offline(time.perf_counter() - start, dealt, heard[0].message.weights)

    def run(self, images: ArrayLike) -> Answer:
        """Online: share images, have the program run, put the result together. Prepares first, if `prepare` was not called.

        Parameters
        ----------
        images : array_like, shape (N, *program.input_shape)

        Returns
        -------
        Answer
        """
        array = np.asarray(images, dtype=np.float64)
        if self._ready is None:
            self.prepare(len(array))
        assert self._ready is not None
        (request, count), self._ready = self._ready, None
        if count != len(array):
            raise LocalProtocolError(f"prepared for {count} image(s), got {len(array)}")
        start = time.perf_counter()
        seed, share = sharing.share_images(self.program, array)
        message = Input(request=request, seconds=self._timeout)
        size = self.program.result_bytes(count)
        parts = [np.empty(size, dtype=np.uint8) for _ in self._talks]
        try:
            heard = self._ask([(message, seed), (message, share.data)], Output, parts)
        except BrokenError:
            heard = self._fetch(request, parts)
        for number, item in enumerate(heard):
            if item.body is not None:  # of another size than a result
                raise RemoteProtocolError(
                    f"party {number} sent {len(item.body)} bytes as its share of the result, not {size}"
                )
        first, second = parts
        values = sharing.join_result(self.program, first, second, count)
        seconds = time.perf_counter() - start
        outputs = [item.message for item in heard]
        return Answer(
            values, seconds, outputs[0].rounds, (outputs[0].sent, outputs[1].sent),
            (outputs[0].peak_rss, outputs[1].peak_rss), len(seed) + share.size, first.size + second.size,
            (sharing.expand_share(self.program, seed, count), share),
        )  # fmt: skip

    def _fetch(self, request: int, parts: list[NDArray[np.uint8]]) -> list[Received]:
        """Get the answer of a request whose connections broke. The parties run nothing again; it may be gone."""
        session, program = self._session, self.program.fingerprint
        self._reconnect()
        if self.program.fingerprint != program:
            raise BrokenError("the connection broke, and the parties run another model now: ask again")
        message = Fetch(session=session, request=request, seconds=self._timeout)
        return self._ask([(message, b"")] * 2, Output, parts)

    def _reconnect(self) -> None:
        """Open a new session; a party that restarts is given a while."""
        deadline, pause = time.monotonic() + self._retry, _PAUSE
        while True:
            try:
                self._connect()
            except RefusedError as refusal:
                if refusal.code not in _PASSING or time.monotonic() + pause > deadline:
                    raise
            except RemoteProtocolError:
                if time.monotonic() + pause > deadline:
                    raise
            else:
                return
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def close(self) -> None:
        """Say goodbye and close both connections."""
        for talk in self._talks:
            if talk.conversation.state in (Stage.READY, Stage.ARMED):
                with contextlib.suppress(OSError, SecureImgError):
                    talk.say(Bye())
        self._hang_up()

    def _hang_up(self) -> None:
        for talk in self._talks:
            talk.wire.close()

    def _ask(
        self, questions: list[tuple[Any, Any]], kind: type[Any], into: list[NDArray[np.uint8]] | None = None
    ) -> list[Received]:
        for number, (message, body) in enumerate(questions):
            with self._telling(number):
                self._talks[number].say(message, body)
        return self._hear(kind, into)

    def _hear(self, kind: type[Any], into: list[NDArray[np.uint8]] | None = None) -> list[Received]:
        """Hear both parties. When one fails, the other one is waited for only a moment, for it may know why."""
        heard: dict[int, Received] = {}
        failures: dict[int, Exception] = {}
        deadline = time.monotonic() + self._timeout
        while len(heard) + len(failures) < len(self._talks):
            for number in {0, 1} - heard.keys() - failures.keys():
                left = deadline - time.monotonic()
                if left <= 0 and failures:
                    raise _reason(failures)
                try:
                    with blaming(f"party {number}", self._timeout):
                        try:
                            item = self._talks[number].hear(
                                max(0.001, min(left, _TURN if not heard else left)),
                                _sink(kind, into[number] if into else None),
                            )
                        except TimeoutError:
                            if left <= 0:
                                raise
                            continue
                        if not isinstance(item.message, kind):
                            raise RemoteProtocolError(f"expected {kind.__name__}, got {type(item.message).__name__}")
                    heard[number] = item
                except (RefusedError, RemoteProtocolError) as error:
                    failures[number] = error
                    deadline = min(deadline, time.monotonic() + _GRACE)
        if failures:
            raise _reason(failures)
        return [heard[number] for number in sorted(heard)]

    @contextlib.contextmanager
    def _telling(self, number: int) -> Any:
        """A party that hung up takes no more, but what it said before is still to be heard."""
        with blaming(f"party {number}", self._timeout), contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            yield


def _reason(failures: Mapping[int, Exception]) -> Exception:
    """Of what both parties say, what came first: a party that lost the other one only knows that."""

    def rank(number: int) -> tuple[int, int]:
        error = failures[number]
        if not isinstance(error, RefusedError):
            return 1, number
        return (2 if error.code in _SECOND_HAND else 0), number

    return failures[min(failures, key=rank)]


def _sink(kind: type[Any], memory: NDArray[np.uint8] | None) -> Callable[[Any, int], memoryview | None]:
    """Memory for the body of an awaited message, if it has the awaited size."""

    def sink(message: Any, size: int) -> memoryview | None:
        if memory is None or not isinstance(message, kind) or size != memory.size:
            return None
        return memory.data

    return sink
