"""The owner's client: splits images, sends a share to each party, puts the answer together; deals, if it is the dealer."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.conversation import Conversation, Received
from protocols.errors import RefusedError
from protocols.identity import PARTY_ROLES
from protocols.messages import Bye
from protocols.sharing.dealer import dealt_pieces
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
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import BlobError, LocalProtocolError, RemoteProtocolError, SecureImgError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Answer", "Offline", "SharesClient"]

Address = tuple[str, int]

_TURN: Final = 0.25
_GRACE: Final = 0.5


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
        Seconds to wait for an answer.

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
    ) -> None:
        self._timeout = timeout
        self.dealing = dealing
        self._requests = 0
        self._ready: tuple[int, int] | None = None
        self._dealer: sharing.Dealer | None = None
        context = bundle_context(Path(identity), ssl.PROTOCOL_TLS_CLIENT)
        self._talks: list[Talk] = []
        try:
            for role, address in (("party-0", party_0), ("party-1", party_1)):
                wire = Wire(dial(*address, context, min(timeout, 30.0), PARTY_ROLES[role]))
                self._talks.append(Talk(Conversation(Role.OWNER, Caps(), VISIT), wire, timeout))
            session = secrets.token_hex(16)
            heard = self._ask([(Open(session=session, dealing=dealing, model=model), b"")] * 2, Welcome)
            self.program = self._learn(heard)
        except BaseException:
            self._hang_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn(self, heard: list[Received]) -> sharing.PublicProgram:
        bodies = [item.body or b"" for item in heard]
        seed = b""
        if self.dealing == "client-aided":
            seed, bodies[1] = bodies[1][:SEED_BYTES], bodies[1][SEED_BYTES:]
        if bodies[0] != bodies[1] or heard[0].message.party != 0 or heard[1].message.party != 1:
            raise RemoteProtocolError("the two parties offer different programs: do not send them anything")
        try:
            public = sharing.PublicProgram.from_bytes(bodies[0])
        except BlobError as error:
            raise RemoteProtocolError(f"the parties' program: {error}") from None
        self.preparation = heard[0].message.preparation
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
        start = time.perf_counter()
        request, self._requests = self._requests, self._requests + 1
        message = Prepare(request=request, images=images, correlation=secrets.token_hex(16))
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
        message = Input(request=request)
        size = self.program.result_bytes(count)
        parts = [np.empty(size, dtype=np.uint8) for _ in self._talks]
        heard = self._ask([(message, seed), (message, share.data)], Output, parts)
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
                    raise failures[min(failures)]
                try:
                    with self._blaming(number):
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
            raise failures[min(failures)]
        return [heard[number] for number in sorted(heard)]

    @contextlib.contextmanager
    def _telling(self, number: int) -> Any:
        """A party that hung up takes no more, but what it said before is still to be heard."""
        with self._blaming(number), contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            yield

    @contextlib.contextmanager
    def _blaming(self, number: int) -> Any:
        who = f"party {number}"
        try:
            yield
        except TimeoutError:
            raise RemoteProtocolError(f"{who} did not answer within {self._timeout:g} s") from None
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise RemoteProtocolError(f"the connection to {who} broke ({reason})") from None


def _sink(kind: type[Any], memory: NDArray[np.uint8] | None) -> Callable[[Any, int], memoryview | None]:
    """Memory for the body of an awaited message, if it has the awaited size."""

    def sink(message: Any, size: int) -> memoryview | None:
        if memory is None or not isinstance(message, kind) or size != memory.size:
            return None
        return memory.data

    return sink
