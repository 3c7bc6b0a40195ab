"""The owner's client: a blocking connection to a server, with keys that never leave this process."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.conversation import Buffer, Received, State
from protocols.errors import BrokenError, RefusedError
from protocols.messages import Caps, Code, Hangup, KeysState, KeysStored, Message, Offer, Refusal, Result
from protocols.owner import OwnerConversation
from protocols.pki import owner_bundle
from protocols.tls import bundle_context, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg.ckks import OwnerKeys, PublicProgram
from secureimg.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["Answer", "OwnerClient"]

_PAUSE = 0.2
_PASSING = frozenset({Code.BUSY, Code.RATE, Code.SHUTTING_DOWN})


@dataclass(frozen=True)
class Answer:
    """An encrypted answer and what it took.

    Attributes
    ----------
    blob : bytes
        For `OwnerKeys.decrypt`.
    seconds, waited : float
        Seconds of evaluation at the server, and in its queue.
    peak_rss : int
        The server's peak memory so far, bytes.
    """

    blob: bytes
    seconds: float
    waited: float
    peak_rss: int


class OwnerClient:
    """A connection to a server, authenticated on both sides.

    Parameters
    ----------
    host, port : str, int
        The server.
    identity : Path or str
        The owner's bundle `owner.pem`, or a directory that holds it.
    model : str, optional
        Name or fingerprint of the model expected; any other is refused. None takes what the server has.
    timeout : float
        Seconds to wait for an answer, the time of the evaluation included. The server is told, and gives up by then, too.
    patience : float
        Seconds to go on asking while the server says that it is busy, or when the connection breaks. An answer that was
        under way is fetched, not computed again.
    pins : set of str
        SHA-256 of the server certificates to accept; empty: any of the authority's.
    caps : Caps, optional
        Largest bodies to accept from the server.

    Raises
    ------
    KeyMaterialError
        If the identity cannot be loaded.
    RemoteProtocolError
        If nobody answers, or it is not the right server.
    RefusedError
        If the server refuses the greeting.

    Examples
    --------
    >>> with OwnerClient("127.0.0.1", 7443, "owner.pem") as client:   # doctest: +SKIP
    ...     keys = OwnerKeys.generate(client.program)
    ...     client.register(keys)
    ...     scores = client.infer(image)
    """

    def __init__(
        self,
        host: str,
        port: int,
        identity: Path | str,
        *,
        model: str | None = None,
        timeout: float = 900.0,
        patience: float = 120.0,
        pins: frozenset[str] = frozenset(),
        caps: Caps | None = None,
    ) -> None:
        self._address, self._identity, self._model = (host, port), owner_bundle(Path(identity)), model
        self._timeout, self._patience = timeout, patience
        self._pins, self._caps = pins, caps
        self._keys: OwnerKeys | None = None
        self._former = (0, 0)
        self._connect()

    def _connect(self) -> None:
        """Greet the server and learn its program."""
        context = bundle_context(self._identity, ssl.PROTOCOL_TLS_CLIENT)
        sock = dial(*self._address, context, min(self._timeout, 30.0), "server", self._pins)
        self._wire = Wire(sock)
        self._talk = OwnerConversation(self._caps, owner=context.identity.fingerprint, server=peer_fingerprint(sock))
        try:
            offer, body = self._ask(self._talk.hello(self._model, "secureimg"))
            if not isinstance(offer, Offer):
                raise RemoteProtocolError(f"expected an Offer, got {type(offer).__name__}")
            self.offer = offer
            self.program = PublicProgram.from_bytes(body)
            if self.program.fingerprint != offer.program:
                raise RemoteProtocolError("the server's program is not the one it names: do not trust this server")
        except BaseException:
            self._wire.close()
            raise

    def _reconnect(self, limit: float) -> None:
        """Connect again after a broken connection, until `limit` on the clock of `time.monotonic`."""
        self._wire.close()
        self._former = self.bytes_sent, self.bytes_received
        program, pause = self.program.fingerprint, _PAUSE
        while True:
            try:
                self._connect()
                break
            except RefusedError as refusal:
                pause = refusal.retry_after or pause
                if refusal.code not in _PASSING or time.monotonic() + pause > limit:
                    raise
            except RemoteProtocolError:
                if time.monotonic() + pause > limit:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        if self.program.fingerprint != program:
            raise BrokenError(
                "the connection broke, and the server has another model now: make keys for it and ask again"
            )
        if self._keys is not None:
            self._deliver(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bytes_sent(self) -> int:
        """Bytes of messages sent so far, before TLS."""
        return self._former[0] + self._wire.sent

    @property
    def bytes_received(self) -> int:
        """Bytes of messages received so far, after TLS."""
        return self._former[1] + self._wire.received

    def register(self, keys: OwnerKeys) -> int:
        """Let the server have the evaluation keys, unless it holds them already; use these keys from here on.

        Returns
        -------
        int
            Bytes of evaluation keys sent; 0 if the server had them.
        """
        sent = self._deliver(keys)
        self._keys = keys
        return sent

    def evaluate(self, blob: bytes, count: int = 1) -> Answer:
        """Have an encrypted input evaluated.

        Parameters
        ----------
        blob : bytes
            From `OwnerKeys.encrypt` of the registered keys.
        count : int
            Images in it.

        Raises
        ------
        RefusedError
            If the server refuses, or is busy for longer than our patience.
        LocalProtocolError
            If no keys were registered.
        """
        if self._keys is None:
            raise LocalProtocolError("no keys registered: call register(keys) first")
        limit = time.monotonic() + self._patience
        request = secrets.token_hex(16)
        registered_again = False
        while True:
            try:
                answer, body = self._ask(
                    self._talk.evaluate(self._keys.key_id, count, blob, request_id=request, seconds=self._timeout)
                )
            except RefusedError as refusal:
                if refusal.code is Code.UNKNOWN_KEY and not registered_again:
                    registered_again = True
                    self._deliver(self._keys)
                    continue
                pause = refusal.retry_after or 1.0
                if refusal.code not in _PASSING or time.monotonic() + pause > limit:
                    raise
                time.sleep(pause)
                if self._talk.state is State.CLOSED:
                    self._reconnect(limit)
                continue
            except BrokenError:
                self._reconnect(limit)
                continue
            if not isinstance(answer, Result):
                raise RemoteProtocolError(f"expected a Result, got {type(answer).__name__}")
            return Answer(body, answer.seconds, answer.waited, answer.peak_rss)

    def infer(self, x: ArrayLike) -> NDArray[np.float64]:
        """Encrypt, have evaluated, decrypt.

        Parameters
        ----------
        x : (N, *input_shape)
            Values as the model wants them; any N, sent in batches of the program's size.

        Returns
        -------
        (N, *output_shape) float64
        """
        if self._keys is None:
            raise LocalProtocolError("no keys registered: call register(keys) first")
        values = np.asarray(x, dtype=np.float64)
        if values.shape[1:] != self.program.input_shape or not len(values):
            raise LocalProtocolError(
                f"expected an array of shape (N, {', '.join(map(str, self.program.input_shape))}), got {values.shape}"
            )
        parts = []
        for start in range(0, len(values), self.program.batch):
            part = values[start : start + self.program.batch]
            answer = self.evaluate(self._keys.encrypt(part), len(part))
            parts.append(self._keys.decrypt(answer.blob, len(part)))
        return np.concatenate(parts)

    def close(self) -> None:
        """Say goodbye and close the connection."""
        with contextlib.suppress(OSError, LocalProtocolError):
            self._wire.send(self._talk.bye(), time.monotonic() + 1.0)
        self._wire.close()

    def _deliver(self, keys: OwnerKeys) -> int:
        state, _ = self._ask(self._talk.ask_keys(keys.key_id))
        if not isinstance(state, KeysState):
            raise RemoteProtocolError(f"expected KeysState, got {type(state).__name__}")
        if state.known:
            return 0
        blob = keys.evaluation_keys().to_bytes()
        if len(blob) > state.room:
            raise LocalProtocolError(
                f"the evaluation keys are {len(blob)} bytes, the server has room for {state.room}: "
                "ask its operator for more key memory"
            )
        stored, _ = self._ask(self._talk.register_keys(keys.key_id, blob))
        if not isinstance(stored, KeysStored):
            raise RemoteProtocolError(f"expected KeysStored, got {type(stored).__name__}")
        return len(blob)

    def _ask(self, buffers: list[Buffer]) -> tuple[Message, bytes]:
        """Send a request and return the answer; raise the server's refusal."""
        deadline = time.monotonic() + self._timeout
        try:
            self._wire.send(buffers, deadline)
        except TimeoutError:
            raise RemoteProtocolError(f"the server did not take the request within {self._timeout:g} s") from None
        except OSError as error:  # it may have said why before it hung up
            return self._listen(time.monotonic() + 2.0, error)
        return self._listen(deadline, None)

    def _listen(self, deadline: float, broken: OSError | None) -> tuple[Message, bytes]:
        try:
            events = self._talk.receive_data(b"")  # what came before the conversation was bound
            while True:
                for event in events:
                    if isinstance(event, Received):
                        return self._judge(event)
                data = self._wire.receive(deadline)
                if not len(data):
                    self._end()
                    raise BrokenError("the server closed the connection: connect again")
                events = self._talk.receive_data(data)
        except TimeoutError:
            raise RemoteProtocolError(f"no answer from the server within {self._timeout:g} s") from None
        except OSError as error:
            reason = getattr(broken or error, "reason", None) or type(broken or error).__name__
            raise BrokenError(
                f"the connection to the server broke ({reason}): does it know this owner's certificate, is it running?"
            ) from None

    def _end(self) -> None:
        """The server sends no more, though it owes an answer."""
        try:
            self._talk.receive_eof()
        except RemoteProtocolError as error:
            raise BrokenError(f"{error}: is it running?") from None

    def _judge(self, event: Received) -> tuple[Message, bytes]:
        message = event.message
        if isinstance(message, Refusal | Hangup):
            raise RefusedError(message.code, message.message, message.remedy, message.retry_after)
        return message, event.body or b""
