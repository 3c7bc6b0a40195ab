"""Gallery files: templates of enrolled pictures, with the model that made them.

Templates are biometric data, so a gallery is written for its owner only (0600). A file is a header, a typed head (msgpack)
and a raw body::

    magic "SGAL" | version u8 | head length u32 | body length u64 | SHA-256 of head and body | head | body   (big endian)

The body holds the templates (float32, little endian), then the thumbnails (uint8), in the order of the labels. All lengths
are checked against caps, and against each other, before anything is decoded. The hash finds damage, it proves no origin.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from protocols.private_files import write_private
from secureimg.errors import BlobError

__all__ = ["MAX_LABEL", "MAX_SIDE", "MAX_TEMPLATES", "Gallery", "Metric", "decode_gallery", "encode_gallery",
           "read_gallery", "write_gallery"]  # fmt: skip

Metric = Literal["cosine", "sqeuclidean"]

MAX_TEMPLATES: Final = 100_000
MAX_LABEL: Final = 200
MAX_SIDE: Final = 96
"""Of a thumbnail, in pixels."""

_MAGIC: Final = b"SGAL"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBIQ32s")
_MOST_HEAD: Final = 32 << 20
_MOST_BYTES: Final = 1 << 30
_REMEDY: Final = "make it with `secureimg enroll`"

Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1, max_length=4096)]
    layer: Annotated[str, Meta(min_length=1, max_length=1000)] | None
    digest: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
    metric: Metric
    size: Annotated[int, Meta(ge=1, le=1 << 20)]
    lengths: tuple[float, float]
    labels: Annotated[list[Annotated[str, Meta(max_length=MAX_LABEL)]], Meta(min_length=1, max_length=MAX_TEMPLATES)]
    thumbnails: Annotated[list[tuple[Side, Side, Literal[1, 3]]], Meta(max_length=MAX_TEMPLATES)] | None

    def body_bytes(self) -> int:
        """What the body of such a head measures."""
        pictures = sum(math.prod(shape) for shape in self.thumbnails or ())
        return 4 * self.size * len(self.labels) + pictures


@dataclass(frozen=True, eq=False)
class Gallery:
    """Templates of enrolled pictures.

    Attributes
    ----------
    model : str
        What made them: a MODEL of the command line.
    layer : str or None
        Where the model was cut; None for its end.
    digest : str
        Fingerprint of the graph from picture to template.
    metric : str
        "cosine" (templates of length 1) or "sqeuclidean".
    lengths : (float, float)
        The shortest and longest template, before any was divided by its length.
    labels : tuple of str
        One for each template; several may have the same.
    templates : (N, D) float32
    thumbnails : tuple of uint8 arrays (H, W) or (H, W, 3), or None
        At most 96 pixels a side.
    """

    model: str
    layer: str | None
    digest: str
    metric: Metric
    lengths: tuple[float, float]
    labels: tuple[str, ...]
    templates: NDArray[np.float32]
    thumbnails: tuple[NDArray[np.uint8], ...] | None

    def __repr__(self) -> str:
        """Say what it is, and nothing of what is in it."""
        return f"Gallery({len(self.templates)} templates of {self.templates.shape[1]}, {self.metric}, {self.model!r})"


def encode_gallery(gallery: Gallery) -> bytes:
    """Return the bytes of a gallery file.

    Raises
    ------
    BlobError
        If the gallery is empty or above a cap.
    """
    count, size = gallery.templates.shape
    if not 1 <= count <= MAX_TEMPLATES:
        raise BlobError(f"a gallery of {count} templates, the limits are 1 and {MAX_TEMPLATES}: split it in several")
    pictures = gallery.thumbnails
    shapes = (
        None if pictures is None else [(*item.shape[:2], item.shape[2] if item.ndim == 3 else 1) for item in pictures]
    )
    head = msgspec.msgpack.encode(
        _Head(
            model=gallery.model, layer=gallery.layer, digest=gallery.digest, metric=gallery.metric, size=size,
            lengths=gallery.lengths, labels=list(gallery.labels), thumbnails=shapes,
        )
    )  # fmt: skip
    parts = [gallery.templates.astype("<f4").tobytes(), *(item.tobytes() for item in pictures or ())]
    body = b"".join(parts)
    if len(head) + len(body) > _MOST_BYTES:
        raise BlobError(f"a gallery of {len(head) + len(body)} bytes, the limit is {_MOST_BYTES}: leave thumbnails out")
    digest = hashlib.sha256(head + body).digest()
    data = _HEADER.pack(_MAGIC, _VERSION, len(head), len(body), digest) + head + body
    decode_gallery(data, "the new gallery")  # what is written can be read
    return data


def decode_gallery(data: bytes, name: str) -> Gallery:
    """Read a gallery.

    Parameters
    ----------
    data : bytes
        Untrusted.
    name : str
        What to call it in an error.

    Raises
    ------
    BlobError
        If it is anything but one whole, sound gallery.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise BlobError(f"{name} is not a gallery file: {_REMEDY}")
    _, version, head_bytes, body_bytes, digest = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise BlobError(f"{name} is a gallery of version {version}, this release reads {_VERSION}: enrol again")
    if head_bytes > _MOST_HEAD or body_bytes > _MOST_BYTES:
        raise BlobError(f"{name} announces {head_bytes + body_bytes} bytes, the limit is {_MOST_BYTES}: {_REMEDY}")
    if len(data) != _HEADER.size + head_bytes + body_bytes:
        raise BlobError(f"{name} has {len(data)} bytes and announces {_HEADER.size + head_bytes + body_bytes}: it was cut "
                        "or added to; copy it again")  # fmt: skip
    if hashlib.sha256(memoryview(data)[_HEADER.size :]).digest() != digest:
        raise BlobError(f"{name} is damaged: its bytes do not have the hash in its header; copy it again")
    middle = _HEADER.size + head_bytes
    try:
        head = msgspec.msgpack.decode(memoryview(data)[_HEADER.size : middle], type=_Head)
    except msgspec.ValidationError as error:
        raise BlobError(f"{name} has a head that does not fit its type: {error}; {_REMEDY}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        raise BlobError(f"{name} has a head that is not that of a gallery: {_REMEDY}") from None
    if head.thumbnails is not None and len(head.thumbnails) != len(head.labels):
        raise BlobError(f"{name} has {len(head.thumbnails)} thumbnails of {len(head.labels)} templates: {_REMEDY}")
    if not all(text.isprintable() for text in (*head.labels, head.model, head.layer or "")):
        raise BlobError(
            f"{name} holds labels or names that cannot be printed: {_REMEDY}"
        )  # they could steer a terminal
    if head.body_bytes() != body_bytes:
        raise BlobError(f"{name} has {body_bytes} bytes of templates and thumbnails, its head says {head.body_bytes()}: "
                        f"{_REMEDY}")  # fmt: skip
    count = len(head.labels)
    raw = np.frombuffer(data, dtype="<f4", count=count * head.size, offset=middle).reshape(count, head.size)
    templates = raw.astype(np.float32)
    _check_values(head, templates, name)
    return Gallery(
        model=head.model, layer=head.layer, digest=head.digest, metric=head.metric, lengths=head.lengths,
        labels=tuple(head.labels), templates=templates,
        thumbnails=_thumbnails(head, data, middle + templates.nbytes),
    )  # fmt: skip


def _check_values(head: _Head, templates: NDArray[np.float32], name: str) -> None:
    low, high = head.lengths
    if not (0 <= low <= high < math.inf) or not np.isfinite(templates).all():
        raise BlobError(f"{name} holds templates or lengths that are not finite numbers: enrol again")
    if head.metric == "cosine":
        lengths = np.linalg.norm(templates.astype(np.float64), axis=1)
        if low <= 0 or np.abs(lengths - 1).max() > 1e-3:
            raise BlobError(f"{name} holds templates for the cosine whose length is not 1: enrol again")


def _thumbnails(head: _Head, data: bytes, offset: int) -> tuple[NDArray[np.uint8], ...] | None:
    if head.thumbnails is None:
        return None
    found = []
    for height, width, channels in head.thumbnails:
        shape = (height, width) if channels == 1 else (height, width, channels)
        found.append(np.frombuffer(data, dtype=np.uint8, count=math.prod(shape), offset=offset).reshape(shape))
        offset += math.prod(shape)
    return tuple(found)


def write_gallery(path: Path, gallery: Gallery) -> int:
    """Write a new file that only its user may read; return its size in bytes."""
    data = encode_gallery(gallery)
    write_private(path, data)
    return len(data)


def read_gallery(path: Path) -> Gallery:
    """Read a gallery file.

    Raises
    ------
    BlobError
        If it cannot be read, is too large, or is not a sound gallery.
    """
    limit = _HEADER.size + _MOST_HEAD + _MOST_BYTES
    try:
        size = path.stat().st_size
        if size > limit or not path.is_file():
            raise BlobError(f"{path} is no file of at most {limit} bytes: is it the right one?")
        data = path.read_bytes()
    except OSError as error:
        raise BlobError(f"{path} cannot be read: {error.strerror}: check the path") from None
    return decode_gallery(data, str(path))
