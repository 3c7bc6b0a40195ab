"""PNG files of cipher images: nothing but pixels in them, written fast, read with every other kind of PNG refused."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secureimg.errors import ImageError, PublishingError
from secureimg.images import MAX_PIXELS

__all__ = ["decode_cipher_png", "encode_cipher_png"]

Bytes = NDArray[np.uint8]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE: Final = {1: 0, 3: 2}


def encode_cipher_png(pixels: Bytes) -> bytes:
    """Return a PNG of 8 bits a channel without any metadata.

    Parameters
    ----------
    pixels : ndarray
        (H, W) or (H, W, 3) uint8.

    Raises
    ------
    PublishingError
        If the array is no such picture.

    Notes
    -----
    The pixels are stored, not compressed: noise hardly becomes smaller, and to try takes ten times as long as to write.
    Cost: as many bytes as the pixels have, one more a row, 5 more every 64 KB.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in _COLOUR_TYPE or not pixels.size:
        raise PublishingError(f"a cipher image is uint8 (H, W) or (H, W, 3), not {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    rows = np.empty((height, 1 + width * channels), dtype=np.uint8)
    rows[:, 0] = 0  # no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    parts = [_SIGNATURE]
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 0)), (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))]
    return b"".join(parts)


def decode_cipher_png(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Bytes:
    """Return the pixels of a PNG with 8 bits a channel, grey or RGB, as they are; its metadata is not looked at.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) uint8, C-contiguous.

    Raises
    ------
    ImageError
        If it is another kind of file or PNG, is damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.mode not in ("L", "RGB") or getattr(picture, "is_animated", False):
                raise ImageError(
                    f"a cipher image is a PNG with grey or RGB pixels, this one has mode {picture.mode}: the host has "
                    "changed it, get the PNG that was published"
                )
            if picture.width * picture.height > max_pixels:
                raise ImageError(f"the cipher image has {picture.width * picture.height} pixels, limit {max_pixels}")
            return np.array(picture)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's decoder raises many types on damaged files
        raise ImageError(
            f"the cipher image is no whole PNG ({type(error).__name__}): get the PNG that was published, not a JPEG of it"
        ) from None
