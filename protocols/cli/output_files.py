"""Files that commands write: never silently over another, secrets for their owner only."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.private_files import write_private
from secureimg.errors import BlobError, SecureImgError

__all__ = ["check_new", "read_blob", "save_array", "write_new"]


def check_new(*paths: Path) -> None:
    """Refuse before any work is done if an output exists or its directory does not.

    Raises
    ------
    SecureImgError
    """
    for path in paths:
        if path.exists() or path.is_symlink():
            raise SecureImgError(f"{path} exists already and is not overwritten: name another file or remove it")
        if not path.absolute().parent.is_dir():
            raise SecureImgError(f"{path.absolute().parent} is not a directory: make it first")
    if len({path.absolute() for path in paths}) < len(paths):
        raise SecureImgError("two outputs have the same name: name different files")


def write_new(path: Path, data: bytes) -> None:
    """Write a new file that only its user may read."""
    write_private(path, data)


def save_array(path: Path, values: NDArray[np.float64]) -> None:
    """Write a new .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    write_new(path, stream.getvalue())


def read_blob(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises
    ------
    BlobError
        If it cannot be read or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BlobError(f"{path} cannot be read: {error.strerror}: check the path") from None
    if len(data) > limit:
        raise BlobError(f"{path} is larger than the limit of {limit} bytes: is it the right file?")
    return data
