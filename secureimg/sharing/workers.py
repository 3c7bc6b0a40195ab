"""Blocks of a large product on all cores of this process.

Kernels and matrix products release the interpreter lock, so threads are enough. The matrix library gets one thread for
each block: its own threads wait in busy loops, which two parties on one machine would pay for several times over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Final

from threadpoolctl import ThreadpoolController

__all__ = ["in_parallel", "one_blas_thread"]

_SMALL: Final = 1 << 22


class _Limit:
    """The number of threads is the process's: the first to come limits it, the last to leave restores it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.restore = ExitStack()
        self.libraries: ThreadpoolController | None = None


_limit: Final = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products of this process run on the thread that calls them; some ten microseconds."""
    with _limit.lock:
        if not _limit.users:
            _limit.libraries = _limit.libraries or ThreadpoolController()
            _limit.restore.enter_context(_limit.libraries.limit(limits=1, user_api="blas"))
        _limit.users += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.users -= 1
            if not _limit.users:
                _limit.restore.close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="products")


def in_parallel(work: int, task: Callable[[int], None], parts: Iterable[int]) -> None:
    """Call `task` on each part; on several threads, if there is enough to do. To be used in `one_blas_thread`.

    Parameters
    ----------
    work : int
        Multiplications in all.
    task : callable
        Must write to places of its own only.
    parts : iterable of int
    """
    if work < _SMALL:
        for part in parts:
            task(part)
        return
    for _ in _pool().map(task, parts):
        pass
