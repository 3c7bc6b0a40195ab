"""Files that only their user may read."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from secureimg.errors import KeyMaterialError

__all__ = ["replace_private", "sync_directory", "write_private"]


def write_private(path: Path, data: bytes | memoryview, *, overwrite: bool = False, durable: bool = False) -> None:
    """Write a file that only its user may read, never through another's link or over another file.

    With `durable` its content is on disk then; its name is when `sync_directory` was called.

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
        if durable:
            file.flush()
            os.fsync(file.fileno())


def replace_private(path: Path, data: bytes | memoryview) -> None:
    """Put a file in the place of another. Whoever opens it finds one or the other whole, even after a crash.

    Raises
    ------
    KeyMaterialError
        If it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(fresh, data, durable=True)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise KeyMaterialError(f"{path} cannot be replaced: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make what was made, renamed or removed in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
