"""Keyed streams: the only source of randomness of the sharing protocols.

A stream is the AES-128-CTR keystream under a key derived from a 256-bit seed and a tag that names protocol, purpose and
step, so that no two uses ever see the same bytes. It is drawn in cache-sized pieces into buffers that are reused.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secureimg.errors import ParameterError

__all__ = ["SEED_BYTES", "Stream", "fresh_seed", "seed_name"]

SEED_BYTES: Final = 32
_PIECE: Final = 1 << 18
_ZEROS: Final = memoryview(bytes(_PIECE))


def fresh_seed() -> bytes:
    """Return 32 bytes from the operating system."""
    return secrets.token_bytes(SEED_BYTES)


def seed_name(seed: bytes) -> str:
    """Return 32 hexadecimal digits that name a seed without telling it."""
    return hashlib.blake2b(seed, digest_size=16, person=b"secureimg-name-1").hexdigest()


def _name(tag: tuple[str | int, ...]) -> bytes:
    return "\0".join(str(part) for part in tag).encode()


class Stream:
    """A pseudo-random byte stream under a seed and a tag.

    Equal seeds and tags give equal streams; different tags give independent ones (as long as AES-128 is a pseudo-random
    permutation). Cost: about 10 GB/s with AES instructions.

    Parameters
    ----------
    seed : bytes
        32 secret bytes.
    *tag : str or int
        What the stream is for.
    """

    def __init__(self, seed: bytes, *tag: str | int) -> None:
        if len(seed) != SEED_BYTES:
            raise ParameterError(f"a stream's seed must have {SEED_BYTES} bytes, got {len(seed)}")
        key = hashlib.blake2b(_name(tag), key=seed, digest_size=16, person=b"secureimg-share1").digest()
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def fill(self, buffer: NDArray[Any] | memoryview | bytearray) -> None:
        """Overwrite a contiguous buffer with the next bytes of the stream."""
        view = (buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)).cast("B")
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            self._cipher.update_into(_ZEROS[: len(piece)], piece)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return `count` uniform words in fresh memory."""
        out = np.empty(count, dtype=np.uint64)
        self.fill(out)
        return out

    def __repr__(self) -> str:
        return "Stream(…)"
