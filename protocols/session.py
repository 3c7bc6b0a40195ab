"""One owner's connection at the server: reads requests, answers or refuses them, keeps every deadline."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from protocols.bell import Bell
from protocols.conversation import Buffer, Opening, State
from protocols.engine import Engine
from protocols.evaluation import EvaluationQueue, Outcome, QueueFullError
from protocols.keystore import KeyStore, NoRoomError, Reservation
from protocols.limits import Limits
from protocols.memory_use import peak_memory
from protocols.messages import AskKeys, Code, Evaluate, Hello, Message, RegisterKeys
from protocols.server import ServerConversation
from protocols.wire import Wire
from secureimg.errors import BlobError, RemoteProtocolError, SecureImgError

__all__ = ["Budget", "Session", "Shared"]

_log = logging.getLogger(__name__)


class Budget:
    """Bytes that all sessions together may hold in encrypted inputs."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes, if that many are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._left += size


@dataclass(frozen=True)
class Shared:
    """What all sessions of a service share."""

    engine: Engine[Any]
    limits: Limits
    keys: KeyStore[Any]
    evaluations: EvaluationQueue
    inputs: Budget
    stopping: Callable[[], bool]


class Session:
    """Runs one connection to its end, on the calling thread.

    Parameters
    ----------
    sock : ssl.SSLSocket
        TLS established, the owner's certificate verified.
    owner : str
        Fingerprint of that certificate.
    shared : Shared
        The service.
    """

    def __init__(self, sock: ssl.SSLSocket, owner: str, shared: Shared) -> None:
        self._sock = sock
        self._owner = owner
        self._shared = shared
        self._limits = shared.limits
        self._talk = ServerConversation(shared.limits.caps)
        self._wire = Wire(sock)
        self._bell = Bell(sock)
        self._frame_since: float | None = None
        self._reservation: Reservation | None = None
        self._held = 0
        self._refusal: tuple[Code, str, str, float | None] | None = None

    def wake(self) -> None:
        """Make the session look up: an evaluation is done, or the service stops. Callable from any thread."""
        self._bell.ring()

    def run(self) -> None:
        """Serve until either side is done. Raises nothing that the other side can cause."""
        linger = True
        try:
            self._serve()
            linger = self._talk.state is State.CLOSED
        except RemoteProtocolError as error:
            _log.warning("owner %s: %s", self._owner[:12], error)
            self._hang_up(Code.MALFORMED, str(error), "use the same release of secureimg on both sides")
        except TimeoutError:
            self._hang_up(Code.TIMEOUT, self._overdue(), "connect again; if the network is slow, send less at a time")
        except OSError as error:
            linger = False
            _log.info("owner %s: connection lost (%s)", self._owner[:12], type(error).__name__)
        except Exception:  # noqa: BLE001 - our own fault: this connection ends, the server stays
            _log.exception("owner %s: internal error", self._owner[:12])
            self._hang_up(Code.INTERNAL, "internal error of the server", "tell its operator, who finds it in the log")
        finally:
            if self._reservation is not None:
                self._shared.keys.cancel(self._reservation)
            self._give_back()
            self._wire.close(linger=linger)
            self._bell.close()

    def _serve(self) -> None:
        start = time.monotonic()
        while self._talk.state is not State.CLOSED:
            if self._shared.stopping() and not self._talk.mid_frame:
                self._hang_up(
                    Code.SHUTTING_DOWN, "the server is shutting down", "connect again later", retry_after=30.0
                )
                return
            if not self._bell.wait(self._deadline(start)):
                continue
            data = self._wire.receive(self._deadline(start))
            if not len(data):
                self._talk.receive_eof()
                return
            for event in self._talk.receive_data(data):
                if isinstance(event, Opening):
                    self._open(event.message, event.size)
                else:
                    self._answer(event.message, event.body)
            if not self._talk.mid_frame:
                self._frame_since = None
            elif self._frame_since is None:
                self._frame_since = time.monotonic()

    def _deadline(self, start: float) -> float:
        if self._talk.state is State.START:
            return start + self._limits.handshake
        if self._frame_since is not None:
            return self._frame_since + self._limits.patience(self._talk.body_size)
        return time.monotonic() + self._limits.idle

    def _overdue(self) -> str:
        if self._talk.state is State.START:
            return f"no greeting within {self._limits.handshake:g} s"
        if self._frame_since is not None:
            seconds = self._limits.patience(self._talk.body_size)
            return f"a message of {self._talk.body_size} bytes was not complete within {seconds:.0f} s"
        return f"no request for {self._limits.idle:g} s"

    def _send(self, buffers: list[Buffer]) -> None:
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        self._wire.send(buffers, time.monotonic() + self._limits.patience(size))

    def _hang_up(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> None:
        try:
            self._send(self._talk.hang_up(code, message, remedy, retry_after))
        except OSError:
            _log.info("owner %s left before it could be told why", self._owner[:12])

    def _open(self, message: Message, size: int) -> None:
        """Judge a request before its body is stored."""
        self._refusal = None
        if isinstance(message, RegisterKeys):
            try:
                self._reservation = self._shared.keys.reserve(self._owner, message.key_id, size)
            except NoRoomError as error:
                self._refuse_body(Code.KEY_MEMORY, str(error), "try later, or ask the operator for more key memory")
        elif isinstance(message, Evaluate):
            if not self._shared.keys.holds(self._owner, message.key_id):
                self._refuse_body(
                    Code.UNKNOWN_KEY,
                    f"this owner has no evaluation keys {message.key_id[:16]} at the server",
                    "register them (again: the server drops keys that were not used for long)",
                )
            elif self._shared.inputs.take(size):
                self._held = size
            else:
                text = f"server busy: no memory for {size} more bytes of input"
                self._refuse_body(Code.BUSY, text, "try again later", retry_after=5.0)

    def _refuse_body(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> None:
        self._talk.discard_body()
        self._refusal = (code, message, remedy, retry_after)

    def _give_back(self) -> None:
        self._shared.inputs.give_back(self._held)
        self._held = 0

    def _answer(self, message: Message, body: bytes | None) -> None:
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            self._send(self._talk.refuse(*refusal))
        elif isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, AskKeys):
            known = self._shared.keys.holds(self._owner, message.key_id)
            room = min(self._shared.keys.per_owner, self._limits.caps.keys)
            self._send(self._talk.keys_state(message.key_id, known=known, room=room))
        elif isinstance(message, RegisterKeys):
            self._register(message, body or b"")
        elif isinstance(message, Evaluate):
            try:
                self._evaluate(message, body or b"")
            finally:
                self._give_back()

    def _greet(self, message: Hello) -> None:
        engine = self._shared.engine
        if message.model is not None and message.model not in engine.names():
            self._hang_up(
                Code.UNKNOWN_MODEL,
                "the server has no model of the name or fingerprint asked for",
                f"ask for {engine.model!r}, or for none to take what it has",
            )
            return
        self._send(
            self._talk.offer(
                model=engine.model,
                program=engine.fingerprint,
                public=engine.public,
                preparation=engine.preparation,
            )
        )

    def _register(self, message: RegisterKeys, body: bytes) -> None:
        reservation, self._reservation = self._reservation, None
        assert reservation is not None
        try:
            key_id, keys = self._shared.engine.load_keys(body)
            if key_id != message.key_id:
                raise SecureImgError(f"the keys are {key_id[:16]}, but were announced as {message.key_id[:16]}")
        except SecureImgError as error:
            self._shared.keys.cancel(reservation)
            self._send(self._talk.refuse(Code.BAD_KEYS, str(error), "make the keys again from this server's program"))
            return
        except BaseException:
            self._shared.keys.cancel(reservation)
            raise
        self._shared.keys.fill(reservation, keys)
        with suppress(QueueFullError):  # a busy server expands them at their first use
            self._shared.evaluations.submit(lambda: self._shared.engine.prepare(keys))
        _log.info("owner %s: keys %s registered, %d bytes", self._owner[:12], key_id[:12], len(body))
        self._send(self._talk.keys_stored(key_id))

    def _evaluate(self, message: Evaluate, body: bytes) -> None:
        engine = self._shared.engine
        with ExitStack() as stack:
            keys = stack.enter_context(self._shared.keys.use(self._owner, message.key_id))
            if keys is None:  # evicted while the body came in
                self._send(
                    self._talk.refuse(Code.UNKNOWN_KEY, "the keys were dropped meanwhile", "register them again")
                )
                return
            if self._shared.stopping():
                return
            try:
                future = self._shared.evaluations.submit(lambda: engine.evaluate(keys, body))
            except QueueFullError as error:
                buffers = self._talk.refuse(Code.BUSY, str(error), "try again then", retry_after=error.retry_after)
                self._send(buffers)
                return
            future.add_done_callback(lambda _: self.wake())
            try:
                outcome = self._await(future)
            except BlobError as error:
                remedy = "encrypt again with the registered keys and this server's program"
                self._send(self._talk.refuse(Code.BAD_CIPHERTEXT, str(error), remedy))
                return
            except SecureImgError as error:
                self._send(self._talk.refuse(Code.INTERNAL, str(error), "ask again; if it stays, tell the operator"))
                return
        _log.info("owner %s: evaluated in %.3f s", self._owner[:12], outcome.seconds)
        self._send(
            self._talk.result(
                message.request_id,
                outcome.blob,
                seconds=outcome.seconds,
                waited=outcome.waited,
                peak_rss=peak_memory(),
            )
        )

    def _await(self, future: Future[Outcome]) -> Outcome:
        """Wait for an evaluation; if the owner leaves or misbehaves meanwhile, the evaluation gives up its place."""
        try:
            while not future.done():
                if self._bell.wait(time.monotonic() + 3600.0) and not future.done():
                    data = self._wire.receive(time.monotonic() + 0.5)
                    if not len(data):
                        raise ConnectionResetError("the owner left during its evaluation")
                    self._talk.receive_data(data)
            return future.result()
        except CancelledError:
            raise ConnectionResetError("evaluation cancelled") from None
        finally:
            if not future.cancel() and not future.done():
                # It runs and cannot be stopped; its keys stay lent until it is through.
                future.exception()
