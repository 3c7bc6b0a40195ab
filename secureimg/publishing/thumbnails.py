"""Thumbnail-preserving encryption: a cipher image whose thumbnail is the original's, and a ticket that decrypts it.

The cipher image has the original's size, and each block's sum in each channel is the original's, so every thumbnail that a
host makes from whole blocks is. What is inside the blocks is noise.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import BlobError, PublishingError
from secureimg.images import MAX_PIXELS
from secureimg.publishing.guarantee import Guarantee
from secureimg.publishing.thumbnail_rounds import run_rounds
from secureimg.sharing.streams import SEED_BYTES, fresh_seed

__all__ = [
    "LARGEST_BLOCK",
    "SMALLEST_BLOCK",
    "ThumbnailTicket",
    "block_sums",
    "decrypt_thumbnail",
    "encrypt_thumbnail",
    "thumbnail_guarantee",
]

Bytes = NDArray[np.uint8]

SMALLEST_BLOCK: Final = 2
"""Shortest side of a block whose sum stays, in pixels."""

LARGEST_BLOCK: Final = 64
"""Longest side of one."""

_MAGIC: Final = b"STPE\x01"
_FIELDS: Final = struct.Struct(">HBII")
_MAC: Final = 32
_TICKET: Final = len(_MAGIC) + _FIELDS.size + SEED_BYTES + _MAC


@dataclass(frozen=True)
class ThumbnailTicket:
    """What decrypts one cipher image, and no other. Secret: publish it sealed.

    Attributes
    ----------
    key : bytes
        32 bytes, of this image only. Not in the repr.
    block : int
    shape : tuple of int
        (H, W) or (H, W, 3).
    mac : bytes
        HMAC-SHA256 of block, shape and the cipher image's pixels, under a key derived from `key`.
    """

    key: bytes
    block: int
    shape: tuple[int, ...]
    mac: bytes

    def to_bytes(self) -> bytes:
        """Return 80 bytes."""
        return _MAGIC + _fields(self.block, self.shape) + self.key + self.mac

    @classmethod
    def from_bytes(cls, data: bytes) -> ThumbnailTicket:
        """Read them again.

        Raises
        ------
        BlobError
            If they are not a ticket.
        """
        if len(data) != _TICKET or not data.startswith(_MAGIC):
            raise BlobError(f"these {len(data)} bytes are no ticket of a cipher image, which has {_TICKET}")
        block, channels, height, width = _FIELDS.unpack_from(data, len(_MAGIC))
        shape = (height, width) if channels == 1 else (height, width, channels)
        if channels not in (1, 3) or not 1 <= height * width <= MAX_PIXELS:
            raise BlobError(f"the ticket is for an image of shape {shape}: grey or RGB, 1 to {MAX_PIXELS} pixels")
        if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK:
            raise BlobError(f"the ticket is for blocks of {block}: the limits are {SMALLEST_BLOCK} and {LARGEST_BLOCK}")
        start = len(_MAGIC) + _FIELDS.size
        return cls(data[start : start + SEED_BYTES], block, shape, data[start + SEED_BYTES :])

    def __repr__(self) -> str:
        return f"ThumbnailTicket(block={self.block}, shape={self.shape})"


def thumbnail_guarantee(block: int) -> Guarantee:
    """Return what thumbnail-preserving encryption promises."""
    return Guarantee(
        kind="encryption",
        statement=(
            f"Without the ticket, nothing is learned but the sum of each {block} x {block} block in each channel, up to "
            "the distance of the rounds from an ideal cipher, which is computed for small blocks and by second moments "
            "for real ones, and while AES-128 is a pseudo-random permutation. With the ticket, a changed image is refused."
        ),
        in_the_clear=f"the image's shape and its thumbnail at 1/{block} of the size, with all that it shows",
    )


def block_sums(image: Bytes, block: int) -> NDArray[np.int64]:
    """Return the sum of each block in each channel: (rows, columns) or (rows, columns, 3) int64.

    Blocks at the right and lower edge may be smaller.
    """
    rows, columns = np.arange(0, image.shape[0], block), np.arange(0, image.shape[1], block)
    return np.add.reduceat(np.add.reduceat(image, rows, axis=0, dtype=np.int64), columns, axis=1)


def encrypt_thumbnail(image: Bytes, block: int = 16, *, workers: int | None = None) -> tuple[Bytes, ThumbnailTicket]:
    """Encrypt an image under a fresh key so that its thumbnail stays.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, 3) uint8, of any size up to 64 million pixels. Transparency is not taken: composite it first.
    block : int
        2 to 64. The larger, the less the thumbnail shows, and the more it costs: 16 times 16 takes 80 stages, 64 times 64
        takes 120.
    workers : int, optional
        Threads. Default: one for each core, at most 4.

    Returns
    -------
    cipher : ndarray
        As the image, with the same sum in each block and channel.
    ticket : ThumbnailTicket
        Decrypts it.

    Raises
    ------
    PublishingError
        If the image or the block is outside what the method takes.

    Notes
    -----
    Two encryptions of one image are unrelated. Never publish a second image under a ticket's key.

    Unlike the published schemes, which serve many images under one key with a nonce for each, this one has a key for each
    image; and its stages are those of a butterfly, which mix faster than neighbours in a random order.

    Cost: about 1.1 s of processor time for 12 megapixels in RGB, on two threads.

    Source: Wright, Feng, Liu, "Thumbnail-Preserving Encryption for JPEG", IH&MMSec 2015; Tajik et al., "Balancing Image
    Privacy and Usability with Thumbnail-Preserving Encryption", NDSS 2019 (the construction with substitution and
    permutation; its notion of an ideal scheme).
    """
    return _encrypt(image, block, fresh_seed(), workers)


def decrypt_thumbnail(cipher: Bytes, ticket: ThumbnailTicket, *, workers: int | None = None) -> Bytes:
    """Return the original image, exactly.

    Parameters
    ----------
    cipher : ndarray
        The cipher image's pixels, as published.
    ticket : ThumbnailTicket
    workers : int, optional
        Threads. Default: one for each core, at most 4.

    Raises
    ------
    BlobError
        If the image is not the ticket's, or one pixel of it was changed.
    """
    if cipher.dtype != np.uint8 or cipher.shape != ticket.shape:
        raise BlobError(
            f"the cipher image is {cipher.dtype} {cipher.shape}, its ticket is for uint8 {ticket.shape}: the host has "
            "resized or converted it, or it is another image; get the PNG that was published"
        )
    cipher = np.ascontiguousarray(cipher)
    if not hmac.compare_digest(_mac(cipher, ticket.block, ticket.key), ticket.mac):
        raise BlobError(
            "the cipher image is not the one that the ticket is for, or its pixels were changed on the way: get the PNG "
            "that was published"
        )
    return run_rounds(cipher, ticket.block, ticket.key, forward=False, workers=workers)


def _encrypt(image: Bytes, block: int, key: bytes, workers: int | None) -> tuple[Bytes, ThumbnailTicket]:
    """With a given key. It must be for this image only."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        hint = ": composite its transparency on a colour first" if image.shape[2:] in ((2,), (4,)) else ""
        raise PublishingError(f"the image is uint8 (H, W) or (H, W, 3), not {image.dtype} {image.shape}{hint}")
    if not 1 <= image.shape[0] * image.shape[1] <= MAX_PIXELS:
        raise PublishingError(f"the image has shape {image.shape}: 1 to {MAX_PIXELS} pixels are taken")
    if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK:
        raise PublishingError(f"blocks of {block} x {block}: the limits are {SMALLEST_BLOCK} and {LARGEST_BLOCK}")
    cipher = run_rounds(np.ascontiguousarray(image), block, key, forward=True, workers=workers)
    return cipher, ThumbnailTicket(key, block, cipher.shape, _mac(cipher, block, key))


def _fields(block: int, shape: tuple[int, ...]) -> bytes:
    height, width = shape[:2]
    return _FIELDS.pack(block, shape[2] if len(shape) == 3 else 1, height, width)


def _mac(cipher: Bytes, block: int, key: bytes) -> bytes:
    derived = hashlib.blake2b(b"pixels", key=key, digest_size=32, person=b"secureimg-thumb1").digest()
    found = hmac.new(derived, _fields(block, cipher.shape), "sha256")
    found.update(cipher.data)
    return found.digest()
