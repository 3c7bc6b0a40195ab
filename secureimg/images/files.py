"""Reading a file that may be anything, up to a cap."""

from __future__ import annotations

import stat
from pathlib import Path

from secureimg.errors import ImageError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "check_pixels", "read_capped"]

MAX_BYTES = 64 * 2**20
"""The largest file that is read unless the caller says otherwise."""

MAX_PIXELS = 64 * 10**6
"""The largest picture (height times width) that is decoded unless the caller says otherwise."""


def read_capped(source: str | Path | bytes, max_bytes: int) -> tuple[bytes, str]:
    """Return a file's bytes, and the name by which errors call it.

    Parameters
    ----------
    source : str, Path or bytes
        A path, or the content itself.
    max_bytes : int
        The size is checked against this before the file is read.

    Raises
    ------
    ImageError
        The file is missing, not a regular file, not readable, empty or too large.
    """
    if isinstance(source, bytes):
        name, size = "the image in memory", len(source)
    elif isinstance(source, str | Path):
        name, size = f"image file {str(source)!r}", _regular_size(Path(source))
    else:
        raise ImageError(f"an image is a path or bytes, not {type(source).__name__}: pass one of these")
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes): copy or export it again")
    if size > max_bytes:
        raise ImageError(
            f"{name} has {size} bytes, more than the limit of {max_bytes}: make it smaller, or raise max_bytes"
        )
    if isinstance(source, bytes):
        return source, name
    try:
        with Path(source).open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror}): check its permissions") from error
    if not 0 < len(data) <= max_bytes:
        raise ImageError(f"{name} changed its size while it was read, to {len(data)} bytes: try again when it is whole")
    return data, name


def _regular_size(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ImageError(f"image file {str(path)!r} does not exist: check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ImageError(f"image file {str(path)!r} cannot be reached: check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{str(path)!r} is a directory, not an image file: name one file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{str(path)!r} is not a regular file (a device, pipe or socket): name an image file")
    return status.st_size


def check_pixels(name: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture without pixels or with more than ``max_pixels``, as its header states them.

    Raises
    ------
    ImageError
        The picture is empty or too large.
    """
    if height < 1 or width < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height}): export it again")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} has {height * width} pixels ({width} x {height}), more than the limit of {max_pixels}: "
            "scale it down, or raise max_pixels"
        )
