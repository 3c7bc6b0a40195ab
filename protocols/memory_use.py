"""How much memory this process and its workers have used at most."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

__all__ = ["peak_memory", "peak_of"]

_PROC = Path("/proc")
_FRESH = 2.0
_last: dict[bool, tuple[float, int]] = {}


def peak_memory(*, children: bool = True) -> int:
    """Return the peak resident memory of this process and its live child processes, in bytes.

    A worker that was forked shares pages with its parent; those count once. So a child adds its private pages and what
    its own peak was above its present size. Where the system has no /proc, only this process is counted. Reading it takes
    milliseconds and is done for every answer, so a figure serves for two seconds.
    """
    now = time.monotonic()
    since, size = _last.get(children, (-_FRESH, 0))
    if now - since >= _FRESH:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        size += sum(_private_peak(child) for child in (_children(os.getpid()) if children else ()))
        _last[children] = now, size
    return size


def peak_of(process: int) -> int:
    """Return the peak resident memory of another process of ours, in bytes; 0 if it is gone."""
    return _fields(_PROC / str(process) / "status").get("VmHWM", 0)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for tasks in (_PROC / str(parent) / "task").glob("*/children"):
        try:
            found += [int(word) for word in tasks.read_text().split()]
        except OSError:  # the thread has just ended
            continue
    return found


def _private_peak(process: int) -> int:
    status = _fields(_PROC / str(process) / "status")
    shares = _fields(_PROC / str(process) / "smaps_rollup")
    private = shares.get("Private_Clean", 0) + shares.get("Private_Dirty", 0)
    return private + max(0, status.get("VmHWM", 0) - status.get("VmRSS", 0))


def _fields(path: Path) -> dict[str, int]:
    """Read the lines `Name:  123 kB` of a file, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {word[0].rstrip(":"): int(word[1]) * 1024 for word in words}
