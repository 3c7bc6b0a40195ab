"""A model as a CKKS server serves it: engine, keys, queue; and what owners may do with it, however they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from protocols.engine import Engine
from protocols.errors import RefusedError
from protocols.evaluation import DeadlineError, EvaluationQueue, Outcome, QueueFullError
from protocols.keystore import KeyStore, NoRoomError, Reservation
from protocols.limits import Limits
from protocols.messages import Code
from protocols.operations import Observer
from protocols.owner_limits import OwnerGate
from protocols.results import Kept, Results
from secureimg.errors import BlobError, SecureImgError

__all__ = ["Budget", "Shared", "Station"]


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

    limits: Limits
    inputs: Budget
    gate: OwnerGate
    results: Results[Outcome]
    observer: Observer
    stopping: Callable[[], bool]


@dataclass(frozen=True)
class Station:
    """A model as it is served: its engine, the keys that owners left for it, and its queue.

    Every method raises `RefusedError` for what is not granted or fails.
    """

    engine: Engine[Any]
    keys: KeyStore[Any]
    evaluations: EvaluationQueue
    shared: Shared

    def reserve(self, owner: str, key_id: str, size: int) -> Reservation:
        """Set memory aside for evaluation keys, before their first byte is taken in."""
        try:
            return self.keys.reserve(owner, key_id, size)
        except NoRoomError as error:
            remedy = "try later, or ask the operator for more key memory"
            raise RefusedError(Code.KEY_MEMORY, str(error), remedy) from None

    def register(self, reservation: Reservation, data: bytes) -> None:
        """Check evaluation keys and keep them in the place that was reserved."""
        try:
            key_id, keys = self.engine.load_keys(data)
            if key_id != reservation.key_id:
                raise SecureImgError(f"the keys are {key_id[:16]}, but were announced as {reservation.key_id[:16]}")
        except SecureImgError as error:
            self.keys.cancel(reservation)
            remedy = "make the keys again from this server's program"
            raise RefusedError(Code.BAD_KEYS, str(error), remedy) from None
        except BaseException:
            self.keys.cancel(reservation)
            raise
        self.keys.fill(reservation, keys)
        with suppress(QueueFullError):  # a busy server expands them at their first use
            self.evaluations.submit(lambda: self.engine.prepare(keys), owner=reservation.owner)

    def admit(self, owner: str, key_id: str, count: int, size: int) -> None:
        """Let a new evaluation pass, and take memory for its input of `size` bytes."""
        self.shared.gate.admit(owner, count)
        if not self.keys.holds(owner, key_id):
            raise RefusedError(
                Code.UNKNOWN_KEY,
                f"this owner has no evaluation keys {key_id[:16]} at the server",
                "register them (again: the server drops keys that were not used for long)",
            )
        if not self.shared.inputs.take(size):
            text = f"server busy: no memory for {size} more bytes of input"
            raise RefusedError(Code.BUSY, text, "try again later", 5.0)

    def begin(
        self, owner: str, request: str, key_id: str, data: bytes, seconds: float, stack: ExitStack
    ) -> Kept[Outcome]:
        """Queue an evaluation under the name of its request. `stack` holds its keys."""
        keys = stack.enter_context(self.keys.use(owner, key_id))
        if keys is None:  # evicted while the body came in
            raise RefusedError(Code.UNKNOWN_KEY, "the keys were dropped meanwhile", "register them again")
        try:
            future: Future[Outcome] = self.evaluations.submit(
                lambda: self.engine.evaluate(keys, data), owner=owner, deadline=time.monotonic() + seconds
            )
        except QueueFullError as error:
            raise RefusedError(Code.BUSY, str(error), "try again then", error.retry_after) from None
        kept = self.shared.results.begin((owner, request), future)
        if kept is None:  # another connection asked for the same in this moment
            future.cancel()
            raise RefusedError(Code.BUSY, "this request is being evaluated", "ask again then", 0.1)
        return kept

    def _record(self, owner: str, count: int, request: str, outcome: Outcome) -> None:
        self.shared.gate.release(owner, count)
        self.shared.observer.answered(
            owner, session=request, model=self.engine.model, program=self.engine.fingerprint, images=count,
            reveal="encrypted scores", seconds=outcome.seconds, waited=outcome.waited,
        )  # fmt: skip

    def finish(self, owner: str, count: int, kept: Kept[Outcome], wait: Callable[[Kept[Outcome]], Outcome]) -> Outcome:
        """Wait for an evaluation; count it and write it down before it leaves. What cannot be, does not leave."""
        try:
            outcome = wait(kept)
            kept.record(lambda: self._record(owner, count, kept.name[1], outcome))
        except DeadlineError as error:
            remedy = "ask again when the server is less busy, or allow more time"
            raise RefusedError(Code.TIMEOUT, str(error), remedy) from None
        except BlobError as error:
            remedy = "encrypt again with the registered keys and this server's program"
            raise RefusedError(Code.BAD_CIPHERTEXT, str(error), remedy) from None
        except SecureImgError as error:
            self.shared.results.forget(kept)
            if isinstance(error, RefusedError):
                raise
            raise RefusedError(Code.INTERNAL, str(error), "ask again; if it stays, tell the operator") from None
        return outcome
