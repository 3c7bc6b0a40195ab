"""The file of one stored correlation: a header, the seed and the corrections in sealed chunks.

AES-256-GCM under a key of the file's own, the nonce a counter; header, place and last-flag are bound to every chunk, so
that a chunk that was changed, moved, left out or taken from another file does not open.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from secureimg.errors import BlobError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["CHUNK", "KEY_BYTES", "Correlation", "Header", "Sealing", "decode_header", "read_sealing"]

_MAGIC: Final = b"SIMGCORR"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<8sHI")
_HEADER_CAP: Final = 4096
CHUNK: Final = 1 << 20
_TAG: Final = 16
KEY_BYTES: Final = 32


@dataclass(frozen=True)
class Correlation:
    """What is public of one stored correlation."""

    id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    """16 random bytes in hex, chosen by the dealer, the same at both parties."""
    program: Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,128}\Z")]
    """Fingerprint of the public program that it serves, in hex."""
    images: Annotated[int, Meta(ge=1, le=1 << 32)]
    """How many images it serves."""
    dealer: Annotated[str, Meta(max_length=200)]
    """Who dealt it: short printable text."""
    epoch: Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,64}\Z")]
    """Id of the weight mask that it was dealt for, in hex."""
    size: Annotated[int, Meta(ge=0, le=1 << 40)]
    """Bytes of corrections; 0 for party 0."""
    created: Annotated[float, Meta(ge=0, le=1e12)]
    """When, in Unix seconds."""


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a file begins with, in the clear but bound to every chunk."""

    item: Correlation
    salt: Annotated[bytes, Meta(min_length=16, max_length=16)]  # an id put again after a crash gets another key


@dataclass(frozen=True, repr=False)
class Sealing:
    """The header of one file, and what seals and opens its chunks."""

    item: Correlation
    head: bytes
    cipher: AESGCM

    @classmethod
    def of(cls, header: Header, encoded: bytes, master: bytes) -> Sealing:
        """The sealing of a file with this header, under a store's key."""
        name = header.salt + header.item.id.encode()
        key = blake2b(name, key=master, digest_size=KEY_BYTES, person=b"secureimg-store1").digest()
        return cls(header.item, _PREFIX.pack(_MAGIC, _VERSION, len(encoded)) + encoded, AESGCM(key))

    def place(self, index: int) -> tuple[int, int]:
        """Offset and length of a sealed chunk; chunk 0 is the seed."""
        first = len(self.head)
        if index == 0:
            return first, SEED_BYTES + _TAG
        start = (index - 1) * CHUNK
        return first + SEED_BYTES + _TAG + start + (index - 1) * _TAG, min(CHUNK, self.item.size - start) + _TAG

    @property
    def last(self) -> int:
        """Number of the last chunk."""
        return -(-self.item.size // CHUNK)

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return sum(self.place(self.last))

    def seal(self, index: int, data: bytes | memoryview) -> bytes:
        """Encrypt and authenticate a chunk."""
        return self.cipher.encrypt(index.to_bytes(12, "little"), data, self._bound(index))

    def open(self, index: int, descriptor: int, name: str) -> bytes:
        """Read a chunk and check it; `BlobError` if it is not what was sealed."""
        offset, length = self.place(index)
        try:
            sealed = os.pread(descriptor, length, offset)
            return self.cipher.decrypt(index.to_bytes(12, "little"), sealed, self._bound(index))
        except OSError as error:
            raise BlobError(f"{name} cannot be read ({error.strerror}): check the disk, deal another one") from None
        except InvalidTag:
            raise BlobError(
                f"{name} is damaged: chunk {index} of {self.last} is not what this store's key sealed. "
                "Check the disk, discard the correlation and deal another one"
            ) from None

    def _bound(self, index: int) -> bytes:
        return self.head + struct.pack("<QB", index, index == self.last)


def decode_header(encoded: bytes, name: str) -> Header:
    """Decode a header that may come from anywhere."""
    try:
        header = msgspec.msgpack.decode(encoded, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        raise BlobError(f"{name}: not the description of a correlation ({error}): deal another one") from None
    if not header.item.dealer.isprintable():
        raise BlobError(f"{name}: the dealer's name {header.item.dealer!r} is not printable text: deal another one")
    if msgspec.msgpack.encode(header) != encoded:
        raise BlobError(f"{name}: the description has bytes to spare: deal another one")
    return header


def read_sealing(descriptor: int, name: str, master: bytes) -> tuple[Sealing, bytes]:
    """Check an untrusted file as far as its header and its length; return its sealing and its seed."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise BlobError(f"{name} is not a regular file: remove it")
    start = os.pread(descriptor, _PREFIX.size + _HEADER_CAP, 0)
    if len(start) < _PREFIX.size:
        raise BlobError(f"{name} has {info.st_size} bytes, less than a header: discard it and deal another one")
    magic, version, length = _PREFIX.unpack_from(start)
    if magic != _MAGIC or version != _VERSION:
        raise BlobError(f"{name} is not a correlation of format {_VERSION}, but {magic!r} {version}: discard it")
    if not 0 < length <= len(start) - _PREFIX.size:
        raise BlobError(f"{name} claims a header of {length} bytes, at most {_HEADER_CAP} are sound: discard it")
    encoded = start[_PREFIX.size : _PREFIX.size + length]
    header = decode_header(encoded, name)
    sealing = Sealing.of(header, encoded, master)
    if header.item.id != name.partition(".")[0]:
        raise BlobError(f"{name} holds the correlation {header.item.id}: it was renamed, discard it")
    if info.st_size != sealing.file_size:
        raise BlobError(f"{name} has {info.st_size} bytes instead of {sealing.file_size}: deal another one")
    return sealing, sealing.open(0, descriptor, name)
