"""One owner's connection at the server: reads requests, answers or refuses them, keeps every deadline."""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError
from contextlib import ExitStack

from protocols.bell import Bell
from protocols.conversation import Buffer, Opening, State
from protocols.errors import RefusedError
from protocols.evaluation import Outcome
from protocols.keystore import Reservation
from protocols.listener import Guest
from protocols.memory_use import peak_memory
from protocols.messages import AskKeys, Code, Evaluate, Hello, Message, RegisterKeys
from protocols.results import Kept
from protocols.server import ServerConversation
from protocols.station import Station
from protocols.wire import Wire
from secureimg.errors import RemoteProtocolError

__all__ = ["Session"]

_log = logging.getLogger(__name__)


class Session:
    """Runs one connection to its end, on the calling thread.

    Parameters
    ----------
    guest : Guest
        An owner who proved who it is.
    station : Station
        What it serves now; the session stays with it.
    """

    def __init__(self, guest: Guest, station: Station) -> None:
        self._owner = owner = guest.fingerprint
        self._shared = shared = station.shared
        self._station = station
        self._limits = shared.limits.fitted(station.engine.keys_bytes, station.engine.input_bytes)
        self._talk = ServerConversation(self._limits.caps, owner=owner, server=guest.own)
        self._wire = Wire(guest.sock)
        self._bell = Bell(guest.sock)
        self._frame_since: float | None = None
        self._reservation: Reservation | None = None
        self._held = 0
        self._answered: Kept[Outcome] | None = None
        self._greeted = False
        self._refusal: RefusedError | None = None

    def wake(self) -> None:
        """Make the session look up: an evaluation is done, or the service stops. Callable from any thread."""
        self._bell.ring()

    def run(self) -> None:
        """Serve until either side is done. Raises nothing that the other side can cause."""
        linger = True
        try:
            with self._shared.gate.session(self._owner):
                self._serve()
            linger = self._talk.state is State.CLOSED
        except RefusedError as refusal:
            self._hang_up(refusal.code, refusal.message, refusal.remedy, refusal.retry_after)
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
                self._station.keys.cancel(self._reservation)
            self._give_back()
            if self._greeted:
                self._shared.observer.closed(self._owner)
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
        self._shared.observer.refused(self._owner, code=code.value, message=message)
        try:
            self._send(self._talk.hang_up(code, message, remedy, retry_after))
        except OSError:
            _log.info("owner %s left before it could be told why", self._owner[:12])

    def _open(self, message: Message, size: int) -> None:
        """Judge a request before its body is stored."""
        self._refusal = None
        self._forget()  # whoever asks on has the answer before
        try:
            if isinstance(message, RegisterKeys):
                self._reservation = self._station.reserve(self._owner, message.key_id, size)
            elif isinstance(message, Evaluate):
                if self._shared.results.find((self._owner, message.request_id)) is not None:
                    self._talk.discard_body()  # asked before, over another connection: nothing is evaluated twice
                else:
                    self._station.admit(self._owner, message.key_id, message.count, size)
                    self._held = size
        except RefusedError as refusal:
            self._talk.discard_body()
            self._refusal = refusal

    def _refuse(self, refusal: RefusedError) -> None:
        self._shared.observer.refused(self._owner, code=refusal.code.value, message=refusal.message)
        self._send(self._talk.refuse(refusal.code, refusal.message, refusal.remedy, refusal.retry_after))

    def _forget(self) -> None:
        if self._answered is not None:
            self._shared.results.forget(self._answered)
            self._answered = None

    def _give_back(self) -> None:
        self._shared.inputs.give_back(self._held)
        self._held = 0

    def _answer(self, message: Message, body: bytes | None) -> None:
        try:
            if self._refusal is not None:
                raise self._refusal
            if isinstance(message, Hello):
                self._greet(message)
            elif isinstance(message, AskKeys):
                known = self._station.keys.holds(self._owner, message.key_id)
                room = min(self._station.keys.per_owner, self._limits.caps.keys)
                self._send(self._talk.keys_state(message.key_id, known=known, room=room))
            elif isinstance(message, RegisterKeys):
                reservation, self._reservation = self._reservation, None
                assert reservation is not None
                self._station.register(reservation, body or b"")
                _log.info("owner %s: keys %s registered", self._owner[:12], message.key_id[:12])
                self._send(self._talk.keys_stored(message.key_id))
            elif isinstance(message, Evaluate):
                self._evaluate(message, body)
        except RefusedError as refusal:
            self._refuse(refusal)
        finally:
            self._give_back()

    def _greet(self, message: Hello) -> None:
        engine = self._station.engine
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
        self._greeted = True
        self._shared.observer.opened(self._owner, model=engine.model, program=engine.fingerprint, dealer="")

    def _evaluate(self, message: Evaluate, body: bytes | None) -> None:
        """Answer a request, with an evaluation of its own or with the one that was asked for before under its name."""
        kept = self._shared.results.find((self._owner, message.request_id))
        if kept is None and body is None:
            raise RefusedError(Code.GONE, "the answer to that request is no longer kept", "ask anew")
        with ExitStack() as stack:
            if kept is None:
                if self._shared.stopping():
                    return
                assert body is not None
                kept = self._station.begin(
                    self._owner, message.request_id, message.key_id, body, message.seconds, stack
                )
            kept.future.add_done_callback(lambda _: self.wake())
            outcome = self._station.finish(self._owner, message.count, kept, self._await)
        self._send(
            self._talk.result(
                message.request_id,
                outcome.blob,
                seconds=outcome.seconds,
                waited=outcome.waited,
                peak_rss=peak_memory(),
            )
        )
        self._answered = kept

    def _await(self, kept: Kept[Outcome]) -> Outcome:
        """Wait for an evaluation.

        If the owner leaves meanwhile, one that waits gives up its place; one that runs goes on, and its answer is kept for
        a while.
        """
        future = kept.future
        self._shared.results.join(kept)
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
            if not (self._shared.results.leave(kept) and future.cancel()) and not future.done():
                future.exception()  # it runs and cannot be stopped: its keys stay lent until it is through
