"""The bounded queue of evaluations: fair to owners, several at once; whoever finds it full is told so immediately."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
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
    """Owners take turns, and each one's work is done in the order in which it came.

    Parameters
    ----------
    places : int
        Evaluations that may wait beside those that run.
    parallel : int
        Evaluations that run at the same time, a thread each; the engine brings its own processes.
    """

    def __init__(self, places: int, parallel: int = 1) -> None:
        self.places, self.parallel = places, parallel
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._present = 0
        self._typical = 1.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"evaluation {number}", daemon=True) for number in range(parallel)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Evaluations that wait or run."""
        return self._present

    def submit(self, work: Callable[[], bytes], *, owner: str = "", deadline: float = math.inf) -> Future[Outcome]:
        """Put work into the queue.

        What waits past its deadline, on the clock of `time.monotonic`, is not begun: its future fails with `DeadlineError`.

        Raises
        ------
        QueueFullError
            If no place is free, or the queue is closed.
        """
        job = _Job(work, Future(), time.monotonic(), deadline)
        with self._changed:
            seconds = round(self._typical / self.parallel + 0.05, 2)
            if self._closed:
                raise QueueFullError("server busy: it takes no more evaluations of this model", retry_after=seconds)
            if self._present >= self.places + self.parallel:
                raise QueueFullError(
                    f"server busy: queue of {self.places} full, retry in about {seconds:g} s", retry_after=seconds
                )
            self._present += 1
            self._waiting.setdefault(owner, deque()).append(job)
            self._changed.notify()
        job.future.add_done_callback(self._left)
        return job.future

    def close(self, grace: float) -> None:
        """Take nothing new; finish what is queued within `grace` seconds, and cancel what has not begun by then."""
        limit = time.monotonic() + grace
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))
        with self._changed:
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
        for job in left:
            job.future.cancel()

    def _left(self, _: Future[Outcome]) -> None:
        with self._changed:
            self._present -= 1

    def _next(self) -> _Job | None:
        """Wait for the next job, from the owner whose last turn is longest ago; None when the queue is closed and empty."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            owner, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[owner] = jobs
            return job

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._do(job)

    def _do(self, job: _Job) -> None:
        start = time.monotonic()
        if start > job.deadline:
            job.future.set_exception(DeadlineError(f"it waited {start - job.since:.1f} s, longer than its owner does"))
            return
        try:
            blob = job.work()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for this job, not to this thread
            job.future.set_exception(error)
            return
        seconds = time.monotonic() - start
        with self._changed:
            self._typical += 0.3 * (seconds - self._typical)
        job.future.set_result(Outcome(blob, start - job.since, seconds))
