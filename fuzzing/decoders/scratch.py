"""Files for decoders that read a path: one for each process, in memory where the system has such a place."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["written"]


@cache
def _folder() -> Path:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="secureimg-fuzz-", dir=memory if os.access(memory, os.W_OK) else None)
    maker = os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # a worker must not take the folder away from its parent
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def written(data: bytes, suffix: str = "", mode: int = 0o600) -> Path:
    """Write an input where this process, and no other, has it; return its path. The next call overwrites it.

    The first call must be made before workers are forked: seeds do that.
    """
    path = _folder() / f"{os.getpid()}{suffix}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return path
