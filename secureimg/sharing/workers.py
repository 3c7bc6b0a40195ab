"""Blocks of a large product on all cores of this process.

Kernels and matrix products release the interpreter lock, so threads are enough. The matrix library gets one thread for
each block meanwhile: its own threads wait in busy loops, which two parties on one machine would pay for dearly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from threadpoolctl import ThreadpoolController

__all__ = ["in_parallel"]

_SMALL: Final = 1 << 22


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="products")


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def in_parallel(work: int, task: Callable[[int], None], parts: Iterable[int]) -> None:
    """Call `task` on each part; on several threads, if there is enough to do.

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
    with _libraries().limit(limits=1, user_api="blas"):
        for _ in _pool().map(task, parts):
            pass
