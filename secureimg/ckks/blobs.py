"""The frame around everything that crosses a wire or a disk.

    magic 4 | version u16 | kind u16 | program fingerprint 32 | key id 16 | payload length u64 | SHA-256 32 | payload

The digest covers the header before it and the payload. It finds damage and mix-ups; it is not a signature, and whoever
may alter a blob may also recompute it: authenticity comes from the TLS link.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass

from secureimg.errors import BlobError

__all__ = ["HEADER_BYTES", "Frame", "Kind", "frame", "unframe"]

_MAGIC = b"sIMG"
_VERSION = 1
_HEADER = struct.Struct("<4sHH32s16sQ")
HEADER_BYTES = _HEADER.size + 32


class Kind(enum.IntEnum):
    """What a blob holds."""

    PROGRAM = 1
    EVALUATION_KEYS = 2
    INPUT = 3
    OUTPUT = 4
    OWNER_KEYS = 5
    SEALED_OWNER_KEYS = 6


@dataclass(frozen=True)
class Frame:
    """A checked blob: its kind, the program and key it belongs to, and its payload."""

    kind: Kind
    program: bytes
    key_id: bytes
    payload: memoryview


def frame(kind: Kind, payload: bytes | bytearray | memoryview, program: bytes = b"", key_id: bytes = b"") -> bytes:
    """Wrap a payload."""
    header = _HEADER.pack(_MAGIC, _VERSION, kind, program.ljust(32, b"\0"), key_id.ljust(16, b"\0"), len(payload))
    digest = hashlib.sha256(header)
    digest.update(payload)
    return b"".join((header, digest.digest(), payload))


def unframe(
    blob: bytes | bytearray | memoryview,
    kind: Kind,
    *,
    max_bytes: int,
    program: bytes | None = None,
    key_id: bytes | None = None,
) -> Frame:
    """Check a blob and give its payload without copying it.

    Parameters
    ----------
    blob : bytes-like
        Untrusted.
    kind : Kind
        What it has to be.
    max_bytes : int
        Cap on the payload.
    program, key_id : bytes, optional
        What it has to belong to.

    Raises
    ------
    BlobError
        One for each way in which a blob can be wrong, before anything is decoded.
    """
    name = kind.name.lower().replace("_", " ")
    view = memoryview(blob).cast("B")
    if len(view) < HEADER_BYTES:
        raise BlobError(
            f"{name} blob is truncated: {len(view)} bytes, a header alone has {HEADER_BYTES}; send it again"
        )
    magic, version, found, of, key, length = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise BlobError(f"not a secureimg blob: it does not begin with {_MAGIC!r}; a {name} blob was expected")
    if version != _VERSION:
        raise BlobError(f"{name} blob has version {version}, this release reads version {_VERSION}: use equal releases")
    if found != kind:
        known = Kind(found).name.lower().replace("_", " ") if found in Kind.__members__.values() else f"kind {found}"
        raise BlobError(f"expected a {name} blob, got {known}: check which file or message this is")
    if length > max_bytes:
        raise BlobError(f"{name} blob claims {length:,} bytes, the limit is {max_bytes:,}")
    if len(view) - HEADER_BYTES != length:
        raise BlobError(
            f"{name} blob says {length:,} bytes of payload and has {len(view) - HEADER_BYTES:,}: it was cut or extended "
            "on the way; send it again"
        )
    if program is not None and of != program.ljust(32, b"\0"):
        raise BlobError(
            f"{name} blob belongs to program {of.hex()[:16]}, not to {program.hex()[:16]}: make it anew for this program"
        )
    if key_id is not None and key != key_id.ljust(16, b"\0"):
        raise BlobError(
            f"{name} blob belongs to key {key.hex()[:16]}, not to {key_id.hex()[:16]}: use the matching keys"
        )
    payload = view[HEADER_BYTES:]
    digest = hashlib.sha256(view[: _HEADER.size])
    digest.update(payload)
    if digest.digest() != bytes(view[_HEADER.size : HEADER_BYTES]):
        raise BlobError(f"{name} blob is damaged: its digest does not match its content; send it again")
    return Frame(kind, bytes(of), bytes(key), payload)
