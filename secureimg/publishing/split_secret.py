"""The secret part of a split photograph, as bytes.

A header and a compressed body (msgpack), all lengths checked before anything is decoded::

    magic "SSPL" | version u8 | SHA-256 of the body | body, zstandard

The hash finds damage; it proves no origin. Seal the part for its recipients.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec
import zstandard
from msgspec import Meta

from secureimg.errors import BlobError, ImageError
from secureimg.images import MAX_BYTES, MAX_PIXELS
from secureimg.publishing.jpeg import CoefficientImage, make_frame, read_jpeg, read_skeleton

__all__ = ["MAX_SECRET", "SecretPart", "decode_secret", "encode_secret", "patch_from", "patched", "secret_frame"]

MAX_SECRET: Final = MAX_BYTES
"""Bytes of a secret part."""

_MAGIC: Final = b"SSPL\x01"
_BEGIN: Final = len(_MAGIC) + 32
_MOST_BODY: Final = 2 * MAX_BYTES
_LEVEL: Final = 12

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class SecretPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, array_like=True):
    """What the secret part holds.

    Attributes
    ----------
    threshold : int
    orientation : int
        As EXIF has it, 1 to 8.
    public : bytes
        SHA-256 of the public part.
    original : bytes
        SHA-256 of the joined file.
    size : int
        Its bytes.
    padding : int
        The bit before its markers.
    skeleton : bytes
        The joined file without its entropy-coded data: tables, headers, metadata.
    patch : bytes
        What is different from what coding of the coefficients gives; empty for most files.
    coefficients : bytes
        DC and what is above the threshold, as a progressive JPEG file.
    probe, probe_row, probe_column : bytes, int, int
        A piece of the public part, see `secureimg.publishing.split_probe`, and its first block; empty if there is none.
    """

    threshold: Annotated[int, Meta(ge=1, le=1023)]
    orientation: Annotated[int, Meta(ge=1, le=8)]
    public: Digest
    original: Digest
    size: Annotated[int, Meta(ge=1, le=_MOST_BODY)]
    padding: Annotated[int, Meta(ge=0, le=1)]
    skeleton: bytes
    patch: bytes
    coefficients: bytes
    probe: Annotated[bytes, Meta(max_length=1 << 20)]
    probe_row: Annotated[int, Meta(ge=0, le=8191)]
    probe_column: Annotated[int, Meta(ge=0, le=8191)]

    def __repr__(self) -> str:
        return f"SecretPart(threshold={self.threshold}, {len(self.coefficients)} bytes of coefficients)"


def encode_secret(part: SecretPart) -> bytes:
    """Return the bytes of a secret part."""
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(msgspec.msgpack.encode(part))
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode_secret(data: bytes) -> tuple[SecretPart, CoefficientImage, CoefficientImage]:
    """Read a secret part.

    Returns
    -------
    (SecretPart, CoefficientImage, CoefficientImage)
        The part; the joined picture without its coefficients; the secret coefficients, in the same blocks.

    Raises
    ------
    BlobError
        The bytes are no secret part, damaged, or its pieces do not fit each other.
    """
    if not isinstance(data, bytes):
        raise BlobError(f"a secret part is bytes, not {type(data).__name__}: read its file, and open its seal")
    if len(data) > MAX_SECRET:
        raise BlobError(f"the secret part has {len(data)} bytes, more than the limit of {MAX_SECRET}")
    if data[:4] != _MAGIC[:4]:
        raise BlobError("this is no secret part of a split photograph (wrong first bytes): open its seal first")
    if len(data) < _BEGIN or data[4] != _MAGIC[4]:
        raise BlobError("the secret part is cut, or of a version other than 1: copy it again, or update secureimg")
    if hashlib.sha256(data[_BEGIN:]).digest() != data[len(_MAGIC) : _BEGIN]:
        raise BlobError("the secret part is damaged (its SHA-256 does not match): copy it again")
    try:
        part = msgspec.msgpack.decode(_decompressed(data[_BEGIN:], None, _MOST_BODY), type=SecretPart)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BlobError(f"the secret part is malformed ({type(error).__name__}): make it again") from None
    try:
        whole = read_skeleton(part.skeleton, "the secret part's skeleton", MAX_PIXELS)
        expected = secret_frame(whole)
        secret = read_jpeg(
            part.coefficients, max_bytes=_MOST_BODY, max_pixels=expected.frame.width * expected.frame.height
        )
    except ImageError as error:
        raise BlobError(f"the secret part is malformed: {error}") from None
    if secret.frame != expected.frame:
        raise BlobError(
            "the secret part's coefficients are of a picture of another shape than its skeleton: make it again"
        )
    return part, whole, secret


def secret_frame(whole: CoefficientImage) -> CoefficientImage:
    """Return the empty picture that the secret coefficients of another one go into.

    Its frame covers the padding too, for scans of one component leave that out.
    """
    across, down = whole.frame.largest
    columns, rows = whole.frame.mcus
    planes = [(k + 1, c.horizontal, c.vertical, 0) for k, c in enumerate(whole.frame.components)]
    frame = make_frame(8 * across * columns, 8 * down * rows, "progressive", planes)
    ones = whole.tables[0] * 0 + 1
    colours = {1: "grey", 3: "YCbCr", 4: "CMYK"}[len(planes)]
    return CoefficientImage(frame, (ones,) * len(planes), whole.blocks, colours)  # type: ignore[arg-type]


def patch_from(base: bytes, wanted: bytes) -> bytes:
    """Return what makes `wanted` from `base`, compressed."""
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    window = min(27, max(10, (len(base) + len(wanted)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=window, enable_ldm=True)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(wanted)


def patched(base: bytes, patch: bytes, size: int) -> bytes:
    """Undo `patch_from`.

    Raises
    ------
    BlobError
        The patch is malformed.
    """
    try:
        return _decompressed(patch, base, size)
    except zstandard.ZstdError:
        raise BlobError("the secret part's patch is malformed: make it again") from None


def _decompressed(data: bytes, base: bytes | None, most: int) -> bytes:
    """As many bytes as the frame says, and no frame may say more than `most`."""
    size = zstandard.get_frame_parameters(data).content_size
    if not 0 < size <= most:
        raise zstandard.ZstdError("size")
    kept = None if base is None else zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    # in one call: a stream's decompressor would go on past the size that the frame states
    return zstandard.ZstdDecompressor(dict_data=kept).decompress(data, allow_extra_data=False)
