"""What crosses the wire: typed messages, their frames and their caps.

A frame is a 16-byte header, a small typed head (msgpack) and a raw body::

    magic "SIMG" | version u8 | type u8 | head length u16 | body length u64 | head | body        (big endian)

Large blobs (evaluation keys, ciphertexts, the public program) travel as bodies, so that they are neither copied into
nor out of an encoding. Both lengths are checked against the caps of the message's type before anything is stored.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from secureimg.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "VERSION",
    "AskKeys",
    "Bye",
    "Caps",
    "Code",
    "Evaluate",
    "FrameHeader",
    "Hangup",
    "Hello",
    "InputPreparation",
    "KeysState",
    "KeysStored",
    "Message",
    "Offer",
    "Refusal",
    "RegisterKeys",
    "Result",
    "decode_head",
    "decode_header",
    "encode_frame",
]

MAGIC: Final = b"SIMG"
VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBBHQ")
HEADER_BYTES: Final = _HEADER.size

KeyId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,128}\Z", max_length=128)]
Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,128}\Z", max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=2000)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
Count = Annotated[int, Meta(ge=1, le=2**20)]
RequestId = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Code(enum.StrEnum):
    """Why the server refuses, for programs; the message and the remedy are for people."""

    MALFORMED = "malformed"
    TIMEOUT = "timeout"
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_KEY = "unknown-key"
    BAD_KEYS = "bad-keys"
    BAD_CIPHERTEXT = "bad-ciphertext"
    KEY_MEMORY = "key-memory"
    BUSY = "busy"
    SHUTTING_DOWN = "shutting-down"
    INTERNAL = "internal"


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """Base of all messages. The tag of a subclass is the type number in its frame's header."""


class Hello(_Message, frozen=True, tag=1):
    """Owner: opens the conversation, naming the model it expects (name or program fingerprint; None takes any)."""

    model: Name | None = None
    software: Text = ""


class InputPreparation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a picture becomes the model's input: `secureimg.graph.Preprocessing`, as it travels."""

    mode: Annotated[str, Meta(pattern=r"\A(L|RGB)\Z", max_length=3)]
    size: tuple[Annotated[int, Meta(ge=1, le=65536)], Annotated[int, Meta(ge=1, le=65536)]] | None
    mean: Annotated[tuple[float, ...], Meta(min_length=1, max_length=3)]
    std: Annotated[tuple[float, ...], Meta(min_length=1, max_length=3)]

    def __post_init__(self) -> None:
        """Refuse numbers that would turn every pixel into NaN."""
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or not all(v > 0 for v in self.std):
            raise ValueError("mean and std must be finite, and std above 0")


class Offer(_Message, frozen=True, tag=2):
    """Server: the program it evaluates, and what it accepts. Body: the public program."""

    model: Name
    program: Fingerprint
    max_keys_bytes: Size
    max_ciphertext_bytes: Size
    preparation: InputPreparation | None = None


class AskKeys(_Message, frozen=True, tag=3):
    """Owner: does the server hold these keys of mine, and if not, how many bytes would it take?"""

    key_id: KeyId


class KeysState(_Message, frozen=True, tag=4):
    """Server: answer to `AskKeys`. `room` is what one key set of this owner may measure, in bytes."""

    key_id: KeyId
    known: bool
    room: Size


class RegisterKeys(_Message, frozen=True, tag=5):
    """Owner: keep these evaluation keys. Body: the evaluation keys."""

    key_id: KeyId


class KeysStored(_Message, frozen=True, tag=6):
    """Server: the keys are ready to be used by their id, by the same owner, in any connection."""

    key_id: KeyId


class Evaluate(_Message, frozen=True, tag=7):
    """Owner: run the program on this. Body: the encrypted input, `count` images of it in use."""

    request_id: RequestId
    key_id: KeyId
    count: Count


class Result(_Message, frozen=True, tag=8):
    """Server: the encrypted answer (body) with the seconds of waiting and of evaluation, and peak memory in bytes."""

    request_id: RequestId
    seconds: Seconds
    waited: Seconds
    peak_rss: Size


class Refusal(_Message, frozen=True, tag=9):
    """Server: this request is not done; the conversation goes on."""

    code: Code
    message: Text
    remedy: Text
    retry_after: Seconds | None = None


class Hangup(_Message, frozen=True, tag=10):
    """Server: a refusal that ends the conversation; nothing follows it."""

    code: Code
    message: Text
    remedy: Text
    retry_after: Seconds | None = None


class Bye(_Message, frozen=True, tag=11):
    """Owner: done; nothing follows it."""


Message = Hello | Offer | AskKeys | KeysState | RegisterKeys | KeysStored | Evaluate | Result | Refusal | Hangup | Bye

_TYPES: Final[dict[int, type[Message]]] = {
    1: Hello,
    2: Offer,
    3: AskKeys,
    4: KeysState,
    5: RegisterKeys,
    6: KeysStored,
    7: Evaluate,
    8: Result,
    9: Refusal,
    10: Hangup,
    11: Bye,
}
_NUMBERS: Final = {kind: number for number, kind in _TYPES.items()}
_HEAD_CAPS: Final[dict[type[Message], int]] = {
    Hello: 4096,
    Offer: 4096,
    Refusal: 16384,
    Hangup: 16384,
    Bye: 64,
}
_SMALL_HEAD: Final = 1024
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(kind) for kind in _NUMBERS}
_ENCODER: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True)
class Caps:
    """Largest bodies that a side stores, in bytes. Bodies of all other messages are empty."""

    program: int = 16 << 20
    keys: int = 4 << 30
    ciphertext: int = 1 << 30

    def body(self, kind: type[Message]) -> int:
        """Return the largest body of a message of this kind."""
        if kind is Offer:
            return self.program
        if kind is RegisterKeys:
            return self.keys
        if kind is Evaluate or kind is Result:
            return self.ciphertext
        return 0


@dataclass(frozen=True)
class FrameHeader:
    """A checked frame header: what follows is `head` bytes of msgpack and `body` raw bytes."""

    kind: type[Message]
    head: int
    body: int


def _head_cap(kind: type[Message]) -> int:
    return _HEAD_CAPS.get(kind, _SMALL_HEAD)


def encode_frame(message: Message, body_bytes: int = 0) -> bytes:
    """Return header and head of a frame whose body, `body_bytes` long, the caller sends right after.

    Raises
    ------
    LocalProtocolError
        If the head is larger than its cap.
    """
    kind = type(message)
    head = _ENCODER.encode(message)
    if len(head) > _head_cap(kind):
        raise LocalProtocolError(
            f"the head of {kind.__name__} would be {len(head)} bytes, above its cap of {_head_cap(kind)}: "
            "shorten its texts"
        )
    return _HEADER.pack(MAGIC, VERSION, _NUMBERS[kind], len(head), body_bytes) + head


def decode_header(data: bytes | bytearray | memoryview, caps: Caps) -> FrameHeader:
    """Check the 16 bytes of a frame header against version, type and caps, before anything else is read.

    Raises
    ------
    RemoteProtocolError
        If the magic, version or type is unknown, or a length is above its cap.
    """
    magic, version, number, head, body = _HEADER.unpack(data)
    if magic != MAGIC:
        raise RemoteProtocolError(
            "not a secureimg frame: its first four bytes are not 'SIMG'. Is this another service?"
        )
    if version != VERSION:
        raise RemoteProtocolError(
            f"frame of protocol version {version}, this side speaks version {VERSION}: use equal releases"
        )
    kind = _TYPES.get(number)
    if kind is None:
        raise RemoteProtocolError(f"unknown message type {number}, known are 1 to {len(_TYPES)}")
    if head > _head_cap(kind):
        raise RemoteProtocolError(f"the head of {kind.__name__} is {head} bytes, above its cap of {_head_cap(kind)}")
    cap = caps.body(kind)
    if body > cap:
        raise RemoteProtocolError(f"the body of {kind.__name__} is {body} bytes, above its cap of {cap}")
    return FrameHeader(kind, head, body)


def decode_head(kind: type[Message], data: bytes | bytearray | memoryview) -> Message:
    """Decode the head of a frame.

    Raises
    ------
    RemoteProtocolError
        If it is not msgpack, lacks a field, has one too many, or a value is outside its limits.
    """
    try:
        return _DECODERS[kind].decode(data)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"the head of {kind.__name__} does not fit its type: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        raise RemoteProtocolError(f"the head of {kind.__name__} is not valid msgpack") from None
