"""Encryption in chunks: a stream of any length under one fresh key, in bounded memory.

This is the STREAM construction: chunk number and a flag for the last chunk are the nonce of AES-256-GCM. A chunk that was
changed, moved, doubled or taken from another file is not authentic, and a stream that ends early has no last chunk.

Source: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance",
CRYPTO 2015 (STREAM); the nonces are those of age's payload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secureimg.errors import BlobError

__all__ = ["CHUNK", "TAG", "ChunkWriter", "read_chunks", "sealed_length"]

CHUNK: Final = 1 << 16
"""Plain bytes of every chunk but the last."""

TAG: Final = 16
_MOST_CHUNKS: Final = 1 << 32


def sealed_length(plain: int) -> int:
    """Return how many bytes a plain stream of at least one byte takes."""
    return plain + TAG * -(-plain // CHUNK)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class ChunkWriter:
    """Encrypts what is written to it.

    Parameters
    ----------
    sink : binary file
    key : bytes
        32 bytes, used for this stream only.
    associated : bytes
        What every chunk is bound to.
    """

    def __init__(self, sink: BinaryIO, key: bytes, associated: bytes) -> None:
        self._sink = sink
        self._cipher = AESGCM(key)
        self._associated = associated
        self._number = 0
        self._kept = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt every chunk that is full, but keep the last: it may be the end."""
        self._kept += data
        start = 0
        while len(self._kept) - start > CHUNK:
            self._put(bytes(self._kept[start : start + CHUNK]), last=False)
            start += CHUNK
        del self._kept[:start]

    def close(self) -> None:
        """Write the last chunk. The sink is left open."""
        self._put(bytes(self._kept), last=True)
        self._kept.clear()

    def _put(self, chunk: bytes, *, last: bool) -> None:
        if self._number >= _MOST_CHUNKS:
            raise BlobError(f"a sealed image has at most {_MOST_CHUNKS * CHUNK:,} bytes: seal it in parts")
        self._sink.write(self._cipher.encrypt(_nonce(self._number, last), chunk, self._associated))
        self._number += 1


def read_chunks(source: BinaryIO, key: bytes, associated: bytes) -> Iterator[bytes]:
    """Yield each plain chunk once it is authentic. Only when the iterator ends is the whole stream known to be.

    Raises
    ------
    BlobError
        At the first chunk that is not authentic, or at an end that is not the stream's.
    """
    cipher = AESGCM(key)
    chunk = source.read(CHUNK + TAG)
    number = 0
    while True:
        following = source.read(CHUNK + TAG) if len(chunk) == CHUNK + TAG else b""
        if len(chunk) <= TAG or number >= _MOST_CHUNKS:
            raise BlobError(f"the sealed image ends within its chunk {number}: it was cut, get it again")
        try:
            plain = cipher.decrypt(_nonce(number, not following), chunk, associated)
        except InvalidTag:
            raise BlobError(
                f"chunk {number} of the sealed image is not authentic: it was changed, cut, or put together from others; "
                "get it again"
            ) from None
        yield plain
        if not following:
            return
        chunk = following
        number += 1
