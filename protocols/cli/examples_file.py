"""Pictures with labels in one .npz file, as MedMNIST has them: untrusted, so capped and typed before it is unpacked."""

from __future__ import annotations

import ast
import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.output_files import read_blob
from secureimg.errors import BlobError

__all__ = ["MAX_BYTES", "LabelledPictures", "decode_examples", "read_examples"]

MAX_BYTES: Final = 1 << 30
"""Largest file, and most bytes that its arrays may hold."""

_NAMES: Final = ("train_images", "train_labels", "val_images", "val_labels")
_MAX_HEADER: Final = 4096
_MAX_MEMBERS: Final = 64
_MAX_CLASSES: Final = 1000
_MAX_SIDE: Final = 512


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """Pictures to train on, pictures to measure on.

    Attributes
    ----------
    train_images, val_images : (N, H, W) or (N, H, W, 3) uint8
    train_labels, val_labels : (N,) int64
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val_images: NDArray[np.uint8]
    val_labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(max(self.train_labels.max(), self.val_labels.max())) + 1


def read_examples(path: Path) -> LabelledPictures:
    """Read an .npz file, see `decode_examples`."""
    return decode_examples(read_blob(path, MAX_BYTES), str(path))


def decode_examples(data: bytes, where: str, limit: int = MAX_BYTES) -> LabelledPictures:
    """Decode an .npz file with train_images, train_labels, val_images and val_labels; others in it are not read.

    Parameters
    ----------
    data : bytes
    where : str
        How messages call it.
    limit : int
        Most bytes that an array may hold.

    Raises
    ------
    BlobError
        If it is no such file, too large or damaged, or its arrays do not fit each other.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise BlobError(f"{where}: {len(archive.infolist())} arrays, the limit is {_MAX_MEMBERS}")
            arrays = [_member(archive, name, where, limit) for name in _NAMES]
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError,
            LookupError, OverflowError) as error:  # fmt: skip
        raise BlobError(f"{where}: is not an .npz file, or damaged ({type(error).__name__}): make it anew") from None
    train_images, train_labels, val_images, val_labels = arrays
    return LabelledPictures(
        _pictures(train_images, f"{where}, train_images"),
        _labels(train_labels, len(train_images), f"{where}, train_labels"),
        _same(_pictures(val_images, f"{where}, val_images"), train_images, where),
        _labels(val_labels, len(val_images), f"{where}, val_labels"),
    )  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str, where: str, limit: int) -> NDArray[np.generic]:
    """Read one array; the header says how many bytes may follow, and no more is unpacked."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BlobError(f"{where}: there is no array {name!r}: {', '.join(_NAMES)} are needed") from None
    with archive.open(info) as stream:
        start = stream.read(10)
        if len(start) != 10 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2):
            raise BlobError(
                f"{where}: array {name!r} is not in numpy's format, version 1 or 2: save it with numpy.savez"
            )
        length = int.from_bytes(start[8:10], "little")
        if start[6] == 2:
            length += int.from_bytes(stream.read(2), "little") << 16
        if length > _MAX_HEADER:
            raise BlobError(f"{where}: array {name!r} has a header of {length} bytes, the limit is {_MAX_HEADER}")
        dtype, shape = _described(stream.read(length), f"{where}: array {name!r}")
        size = math.prod(shape) * dtype.itemsize
        if size > limit:
            raise BlobError(f"{where}: array {name!r} of shape {shape} is larger than the limit of {limit} bytes")
        body = stream.read(size + 1)
        if len(body) != size:
            raise BlobError(
                f"{where}: array {name!r} of shape {shape} should have {size} bytes, it has other: save it anew"
            )
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _described(header: bytes, where: str) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    try:
        described = ast.literal_eval(header.decode("latin-1").strip())
        kind, order, shape = described["descr"], described["fortran_order"], described["shape"]
    except (SyntaxError, ValueError, TypeError, LookupError, MemoryError, RecursionError):
        raise BlobError(f"{where}: its header is malformed: save it anew") from None
    if (
        not isinstance(kind, str)
        or kind[:1] not in "<|>"
        or kind[1:] not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
    ):
        raise BlobError(f"{where}: holds {str(kind)[:40]!r}, whole numbers are needed: convert it")
    good = isinstance(shape, tuple) and len(shape) <= 4 and all(type(side) is int and side >= 0 for side in shape)
    if not good or order is not False:
        raise BlobError(f"{where}: its shape or order is none of numpy's usual: save it with numpy.ascontiguousarray")
    return np.dtype(kind), shape


def _pictures(array: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    colour = array.ndim == 4 and array.shape[3] == 3
    if array.dtype != np.uint8 or not (array.ndim == 3 or colour) or min(array.shape) < 1:
        raise BlobError(
            f"{where}: shape {array.shape} and type {array.dtype}; (N, H, W) or (N, H, W, 3) uint8 is needed"
        )
    if max(array.shape[1:3]) > _MAX_SIDE:
        raise BlobError(
            f"{where}: pictures of {array.shape[1]}x{array.shape[2]}, the limit is {_MAX_SIDE}: make them smaller"
        )
    return array.astype(np.uint8, copy=False)


def _same(array: NDArray[np.uint8], other: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    if array.shape[1:] != other.shape[1:]:
        raise BlobError(
            f"{where}: pictures to train on have shape {other.shape[1:]}, those to measure on {array.shape[1:]}"
        )
    return array


def _labels(array: NDArray[np.generic], count: int, where: str) -> NDArray[np.int64]:
    if array.shape not in ((count,), (count, 1)):
        raise BlobError(f"{where}: shape {array.shape}, one label for each of {count} pictures is needed")
    flat = array.reshape(-1)
    if int(flat.min()) < 0 or int(flat.max()) >= _MAX_CLASSES:
        raise BlobError(
            f"{where}: labels from {int(flat.min())} to {int(flat.max())}, 0 to {_MAX_CLASSES - 1} are allowed"
        )
    return flat.astype(np.int64)
