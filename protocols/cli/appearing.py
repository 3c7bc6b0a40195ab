"""Outputs that appear whole or not at all, and never over another file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from secureimg.errors import SecureImgError

__all__ = ["appearing"]


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a place to write a file; it becomes `path`, for its user only (0600), when the block ends without an error.

    Until then it lies in a private folder beside `path`, which is removed in any case.

    Raises
    ------
    SecureImgError
        If there is a file at `path` by then, or its folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".secureimg-", dir=path.absolute().parent) as folder:
            fresh = Path(folder) / f"output{path.suffix}"
            yield fresh
            with fresh.open("rb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.fsync(file.fileno())
            _move(fresh, path)
    except FileExistsError:
        raise SecureImgError(f"{path} exists already and is not overwritten: name another file or remove it") from None
    except OSError as error:
        raise SecureImgError(f"{path} cannot be written: {error.strerror or error}") from None


def _move(fresh: Path, path: Path) -> None:
    try:
        os.link(fresh, path)  # unlike rename, never over another file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        fresh.replace(path)
