"""Anonymous files in memory, written and read whole."""

from __future__ import annotations

import os

__all__ = ["read_all", "write_all"]


def write_all(handle: int, *parts: bytes | memoryview) -> int:
    """Replace what the file holds; return how many bytes it has now. What was longer before gives its memory back."""
    os.ftruncate(handle, 0)
    place = 0
    for part in parts:
        view = memoryview(part).cast("B")
        start = place
        while place - start < len(view):
            place += os.pwrite(handle, view[place - start :], place)
    return place


def read_all(handle: int, size: int) -> bytearray:
    """Read `size` bytes from the start of the file and empty it."""
    data = bytearray(size)
    view, place = memoryview(data), 0
    while place < size:
        count = os.preadv(handle, [view[place:]], place)
        if not count:
            raise OSError("a file in memory is shorter than announced")
        place += count
    os.ftruncate(handle, 0)
    return data
