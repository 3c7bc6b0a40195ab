"""Answers under way and answers not yet taken: an owner whose connection broke asks again and gets the same one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Kept", "Results"]

T = TypeVar("T")

Name = tuple[str, ...]


@dataclass(eq=False)
class Kept(Generic[T]):
    """One answer.

    Attributes
    ----------
    future : Future
        Done when the answer is. One that fails is kept no longer.
    """

    name: Name
    since: float
    future: Future[T]
    size: int = 0
    waiting: int = 0
    recorded: bool = False
    _recording: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def record(self, write: Callable[[], None]) -> None:
        """Have the answer written down before it leaves: once, and by all who would send it waited for.

        What `write` raises is raised, and the next one tries again.
        """
        with self._recording:
            if not self.recorded:
                write()
                self.recorded = True


class Results(Generic[T]):
    """Answers by the names under which they were asked for. Safe to use from several threads.

    An answer is held until it is forgotten (its owner has it), `seconds` have passed since it was asked for, or others
    need the memory. Those under way are never dropped.

    Parameters
    ----------
    size : callable
        Bytes that an answer takes.
    limit : int
        Bytes of finished answers to hold.
    seconds : float
        How long.
    """

    def __init__(self, size: Callable[[T], int], limit: int = 256 << 20, seconds: float = 600.0) -> None:
        self._size, self._limit, self._seconds = size, limit, seconds
        self._kept: OrderedDict[Name, Kept[T]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, name: Name) -> Kept[T] | None:
        """Return the answer of that name, done or under way."""
        with self._lock:
            self._drop_old()
            return self._kept.get(name)

    def begin(self, name: Name, future: Future[T] | None = None) -> Kept[T] | None:
        """Take a name for an answer that is going to be made; None if it is taken."""
        with self._lock:
            self._drop_old()
            if name in self._kept:
                return None
            kept = self._kept[name] = Kept(name, time.monotonic(), future or Future())
        kept.future.add_done_callback(lambda _: self._done(kept))
        return kept

    def forget(self, kept: Kept[T]) -> None:
        """Drop an answer: its owner has it, or it must not leave."""
        with self._lock:
            if self._kept.get(kept.name) is kept:
                del self._kept[kept.name]

    def join(self, kept: Kept[T]) -> None:
        """One more connection waits for an answer."""
        with self._lock:
            kept.waiting += 1

    def leave(self, kept: Kept[T]) -> bool:
        """A connection waits no more; return whether nobody does."""
        with self._lock:
            kept.waiting -= 1
            return not kept.waiting

    def _done(self, kept: Kept[T]) -> None:
        """Weigh an answer; older ones make room for it."""
        if kept.future.cancelled() or kept.future.exception() is not None:
            self.forget(kept)
            return
        size = self._size(kept.future.result())
        with self._lock:
            kept.size = size
            excess = sum(other.size for other in self._kept.values()) - self._limit
            for name, other in list(self._kept.items()):
                if excess <= 0 or other is kept:
                    break
                if other.size:
                    del self._kept[name]
                    excess -= other.size

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        for name, kept in list(self._kept.items()):
            if kept.since > oldest:
                break
            if kept.future.done():
                del self._kept[name]
