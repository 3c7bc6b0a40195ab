"""Files that only their user may read."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from secureimg.errors import KeyMaterialError

__all__ = ["replace_private", "write_private"]


def write_private(path: Path, data: bytes | memoryview, *, overwrite: bool = False) -> None:
    """Write a file that only its user may read, never through another's link or over another file.

    Raises
    ------
    KeyMaterialError
        If the file exists and `overwrite` is not given, or its directory cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyMaterialError(
            f"{path} exists already and is not overwritten: name another file or remove it"
        ) from None
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)


def replace_private(path: Path, data: bytes) -> None:
    """Put a file in the place of another. Whoever opens it finds one or the other whole, even after a crash.

    Raises
    ------
    KeyMaterialError
        If it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_private(fresh, data)
    try:
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise KeyMaterialError(f"{path} cannot be replaced: {error.strerror}") from None
