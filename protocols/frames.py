"""Frames: how typed messages travel, whoever speaks.

A frame is a 32-byte header, a small typed head (msgpack) and a raw body::

    magic "SIMG" | version u8 | type u8 | head length u16 | body length u64 | tag 16 bytes | head | body     (big endian)

The tag ties the frame to its session, see `protocols.binding`; the two frames that open a conversation have none (zeros).

Large blobs (keys, ciphertexts, shares, corrections, programs) travel as bodies, so that they are neither copied into nor
out of an encoding. Both lengths are checked against the caps of the message's type before anything is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from protocols.binding import NO_TAG, TAG_BYTES, Tagger
from secureimg.errors import LocalProtocolError, ParameterError, RemoteProtocolError

__all__ = ["HEADER_BYTES", "MAGIC", "VERSION", "BodyCaps", "Catalogue", "FrameHeader", "Head"]

MAGIC: Final = b"SIMG"
VERSION: Final = 2
_PLAIN: Final = struct.Struct(">4sBBHQ")
HEADER_BYTES: Final = _PLAIN.size + TAG_BYTES
_SMALL_HEAD: Final = 1024
_ENCODER: Final = msgspec.msgpack.Encoder()


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """Base of all messages. The tag of a subclass is the type number in its frame's header."""


class BodyCaps(Protocol):
    """Largest bodies that a side stores."""

    def body(self, kind: type[Head]) -> int:
        """Return the largest body of a message of this kind, in bytes."""


@dataclass(frozen=True)
class FrameHeader:
    """A checked frame header: what follows is `head` bytes of msgpack and `body` raw bytes."""

    kind: type[Any]
    head: int
    body: int
    plain: bytes
    tag: bytes

    def check(self, head: bytes, tagger: Tagger | None) -> None:
        """Check the frame's tag; without a tagger it must have none.

        Raises
        ------
        RemoteProtocolError
            If it is of another session, place or direction.
        """
        if tagger is not None:
            tagger.check(self.plain + head, self.tag)
        elif self.tag != NO_TAG:
            raise RemoteProtocolError(f"{self.kind.__name__} has a tag before the session has keys")


class Catalogue:
    """The messages of one protocol, by number, with the caps of their heads.

    Parameters
    ----------
    types : mapping of int to message type
    head_caps : mapping of message type to int
        Bytes; 1024 for a type that is not named.
    """

    def __init__(self, types: Mapping[int, type[Head]], head_caps: Mapping[type[Head], int]) -> None:
        self._types = dict(types)
        self._numbers = {kind: number for number, kind in types.items()}
        self._caps = dict(head_caps)
        self._decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in types.values()}

    def _cap(self, kind: type[Head]) -> int:
        return self._caps.get(kind, _SMALL_HEAD)

    def encode(self, message: Head, body_bytes: int = 0, tagger: Tagger | None = None) -> bytes:
        """Return header and head of a frame whose body, `body_bytes` long, the caller sends right after.

        Raises
        ------
        LocalProtocolError
            If the head is larger than its cap.
        """
        kind = type(message)
        head = _ENCODER.encode(message)
        if len(head) > self._cap(kind):
            raise LocalProtocolError(
                f"the head of {kind.__name__} would be {len(head)} bytes, above its cap of {self._cap(kind)}: "
                "shorten its texts"
            )
        plain = _PLAIN.pack(MAGIC, VERSION, self._numbers[kind], len(head), body_bytes)
        return plain + (NO_TAG if tagger is None else tagger.tag(plain + head)) + head

    @staticmethod
    def check_start(data: bytes | bytearray) -> None:
        """Refuse what cannot be a frame at its first wrong byte.

        Raises
        ------
        RemoteProtocolError
        """
        if not MAGIC.startswith(bytes(data[: len(MAGIC)])):
            raise RemoteProtocolError(
                "not a secureimg frame: its first four bytes are not 'SIMG'. Is this another service?"
            )

    def header(self, data: bytes | bytearray | memoryview, caps: BodyCaps) -> FrameHeader:
        """Check the 32 bytes of a frame header against version, type and caps, before anything else is read.

        Raises
        ------
        RemoteProtocolError
            If the magic, version or type is unknown, or a length is above its cap.
        """
        plain, tag = bytes(data[: _PLAIN.size]), bytes(data[_PLAIN.size :])
        magic, version, number, head, body = _PLAIN.unpack(plain)
        self.check_start(magic)
        if version != VERSION:
            raise RemoteProtocolError(
                f"frame of protocol version {version}, this side speaks version {VERSION}: use equal releases"
            )
        kind = self._types.get(number)
        if kind is None:
            raise RemoteProtocolError(f"unknown message type {number}, known are {sorted(self._types)}")
        if head > self._cap(kind):
            raise RemoteProtocolError(
                f"the head of {kind.__name__} is {head} bytes, above its cap of {self._cap(kind)}"
            )
        cap = caps.body(kind)
        if body > cap:
            raise RemoteProtocolError(f"the body of {kind.__name__} is {body} bytes, above its cap of {cap}")
        return FrameHeader(kind, head, body, plain, tag)

    def head(self, kind: type[Any], data: bytes | bytearray | memoryview) -> Any:
        """Decode the head of a frame.

        Raises
        ------
        RemoteProtocolError
            If it is not msgpack, lacks a field, has one too many, or a value is outside its limits.
        """
        try:
            return self._decoders[kind].decode(data)
        except (msgspec.ValidationError, ParameterError) as error:
            raise RemoteProtocolError(f"the head of {kind.__name__} does not fit its type: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
            raise RemoteProtocolError(f"the head of {kind.__name__} is not valid msgpack") from None
