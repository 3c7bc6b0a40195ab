"""The bounded queue of evaluations: one dedicated thread works it off, whoever finds it full is told so at once."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from secureimg.errors import SecureImgError

__all__ = ["DeadlineError", "EvaluationQueue", "Outcome", "QueueFullError"]


class DeadlineError(SecureImgError):
    """A request's time was over before its turn came."""


class QueueFullError(SecureImgError):
    """As many evaluations wait as may wait.

    Attributes
    ----------
    retry_after : float
        Seconds until a place is likely to be free.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Outcome:
    """A finished evaluation: the encrypted answer, seconds in the queue and in evaluation."""

    blob: bytes
    waited: float
    seconds: float


@dataclass(frozen=True)
class _Job:
    work: Callable[[], bytes]
    future: Future[Outcome]
    since: float
    deadline: float


class EvaluationQueue:
    """First come, first served, on one thread: the evaluator brings its own worker processes.

    Parameters
    ----------
    places : int
        Evaluations that may wait beside the one that runs.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._waiting = 0
        self._typical = 1.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="evaluation", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], bytes], *, owner: str = "", deadline: float = math.inf) -> Future[Outcome]:
        """Put work into the queue.

        What waits past its deadline, on the clock of `time.monotonic`, is not begun: its future fails with `DeadlineError`.

        Raises
        ------
        QueueFullError
            If no place is free.
        """
        with self._lock:
            if self._waiting > self.places:
                seconds = round(self._typical + 0.05, 1)
                raise QueueFullError(
                    f"server busy: queue of {self.places} full, retry in about {seconds:g} s", retry_after=seconds
                )
            self._waiting += 1
        job = _Job(work, Future(), time.monotonic(), deadline)
        job.future.add_done_callback(self._left)
        self._jobs.put(job)
        return job.future

    def close(self, grace: float) -> None:
        """Finish what is queued, within `grace` seconds; take nothing new."""
        self._jobs.put(None)
        self._thread.join(grace)

    def _left(self, _: Future[Outcome]) -> None:
        with self._lock:
            self._waiting -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            start = time.monotonic()
            if start > job.deadline:
                job.future.set_exception(DeadlineError(f"it waited {start - job.since:.1f} s, longer than its owner does"))
                continue
            try:
                blob = job.work()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for this job, not to this thread
                job.future.set_exception(error)
                continue
            seconds = time.monotonic() - start
            self._typical += 0.3 * (seconds - self._typical)
            job.future.set_result(Outcome(blob, start - job.since, seconds))
