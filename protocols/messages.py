"""What owner and server of encrypted inference say to each other: typed messages and their caps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocols.binding import PUBLIC_KEY_BYTES
from protocols.frames import HEADER_BYTES, MAGIC, VERSION, Catalogue, FrameHeader, Head

__all__ = [
    "CATALOGUE",
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

KeyId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,128}\Z", max_length=128)]
Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8,128}\Z", max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=2000)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
Count = Annotated[int, Meta(ge=1, le=2**20)]
Token = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z", max_length=32)]
PublicKey = Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
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
    RATE = "rate"
    LIMIT = "limit"
    GONE = "gone"
    SHUTTING_DOWN = "shutting-down"
    UNKNOWN_DEALER = "unknown-dealer"
    BAD_SHARE = "bad-share"
    PEER = "peer"
    DEALER = "dealer"
    INTERNAL = "internal"


class Hello(Head, frozen=True, tag=1):
    """Owner: opens the conversation, naming the model it expects (name or program fingerprint; None takes any)."""

    key: PublicKey
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


class Offer(Head, frozen=True, tag=2):
    """Server: the program it evaluates, and what it accepts. Body: the public program."""

    key: PublicKey
    model: Name
    program: Fingerprint
    max_keys_bytes: Size
    max_ciphertext_bytes: Size
    preparation: InputPreparation | None = None


class AskKeys(Head, frozen=True, tag=3):
    """Owner: does the server hold these keys of mine, and if not, how many bytes would it take?"""

    key_id: KeyId


class KeysState(Head, frozen=True, tag=4):
    """Server: answer to `AskKeys`. `room` is what one key set of this owner may measure, in bytes."""

    key_id: KeyId
    known: bool
    room: Size


class RegisterKeys(Head, frozen=True, tag=5):
    """Owner: keep these evaluation keys. Body: the evaluation keys."""

    key_id: KeyId


class KeysStored(Head, frozen=True, tag=6):
    """Server: the keys are ready to be used by their id, by the same owner, in any connection."""

    key_id: KeyId


class Evaluate(Head, frozen=True, tag=7):
    """Owner: run the program on this. Body: the encrypted input, `count` images of it in use.

    The owner draws `request_id` at random. Asked again under the same one, in any connection, the server gives the answer
    that it has, or is at work on, and does not evaluate twice. `seconds` is how long the owner goes on waiting.
    """

    request_id: Token
    key_id: KeyId
    count: Count
    seconds: Seconds


class Result(Head, frozen=True, tag=8):
    """Server: the encrypted answer (body) with the seconds of waiting and of evaluation, and peak memory in bytes."""

    request_id: Token
    seconds: Seconds
    waited: Seconds
    peak_rss: Size


class Refusal(Head, frozen=True, tag=9):
    """Server: this request is not done; the conversation goes on."""

    code: Code
    message: Text
    remedy: Text
    retry_after: Seconds | None = None


class Hangup(Head, frozen=True, tag=10):
    """Server: a refusal that ends the conversation; nothing follows it."""

    code: Code
    message: Text
    remedy: Text
    retry_after: Seconds | None = None


class Bye(Head, frozen=True, tag=11):
    """Owner: done; nothing follows it."""


Message = Hello | Offer | AskKeys | KeysState | RegisterKeys | KeysStored | Evaluate | Result | Refusal | Hangup | Bye

_TYPES: Final[dict[int, type[Head]]] = {
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


@dataclass(frozen=True)
class Caps:
    """Largest bodies that a side stores, in bytes. Bodies of all other messages are empty."""

    program: int = 16 << 20
    keys: int = 4 << 30
    ciphertext: int = 1 << 30
    result: int = 1 << 30

    def body(self, kind: type[Head]) -> int:
        """Return the largest body of a message of this kind."""
        if kind is Offer:
            return self.program
        if kind is RegisterKeys:
            return self.keys
        if kind is Evaluate:
            return self.ciphertext
        if kind is Result:
            return self.result
        return 0


CATALOGUE: Final = Catalogue(
    _TYPES,
    {Hello: 4096, Offer: 4096, Refusal: 16384, Hangup: 16384, Bye: 64},
)
"""The messages between owner and server."""

encode_frame = CATALOGUE.encode
decode_header = CATALOGUE.header
decode_head = CATALOGUE.head
