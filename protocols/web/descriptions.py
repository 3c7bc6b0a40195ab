"""What the HTTPS interfaces answer, as types; their OpenAPI documents (`protocols.web.openapi`) are made of these."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocols.messages import InputPreparation

__all__ = [
    "Answer",
    "Encoding",
    "Learned",
    "Model",
    "PageFacts",
    "Problem",
    "ServedProgram",
    "Stored",
    "Tail",
]

Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Bytes = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Party = Annotated[int, Meta(ge=0, le=1)]


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """How numbers stand in a share, and shares in octets.

    A number x is `round(x * 2**scale / factor)` modulo `2**width`. A share has `bytes` octets a number, little-endian, cut
    into planes: the octets 0 to 3 of all numbers (if `bytes` has the bit 4), then two octets of all (bit 2), then one (bit
    1). 8 octets are one plane. With `code` above 0 the result is no number but a place: `2**code - 1` minus the low `code`
    bits.
    """

    shape: Annotated[tuple[int, ...], Meta(description="Numbers of one image.")]
    width: Annotated[int, Meta(ge=1, le=64, description="Bits of a number.")]
    bytes: Annotated[int, Meta(ge=1, le=8, description="Octets of a number in a share.")]
    scale: Annotated[int, Meta(description="Fractional bits: numbers count in units of 2**-scale.")]
    factor: float = 1.0
    code: Annotated[int, Meta(ge=0, le=64)] = 0
    share_bytes: Annotated[int, Meta(ge=1, description="Octets of a share of one image.")]


class Tail(msgspec.Struct, frozen=True):
    """An op that the owner does on the result itself."""

    op: Literal["softmax", "log softmax", "argmax"]
    axis: int


class Learned(msgspec.Struct, frozen=True):
    """Who may learn what from one request."""

    who: str
    what: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model that both parties run together, as this party knows it."""

    party: Party
    other: Annotated[str | None, Meta(description="Address of the other party's interface.")]
    model: str
    program: Annotated[Hex64, Meta(description="SHA-256 of the program: equal at both parties.")]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float]
    preparation: Annotated[InputPreparation | None, Meta(description="How a picture becomes an input.")]
    output_shape: tuple[int, ...]
    labels: tuple[str, ...] | None
    reveal: Literal["scores", "label", "top-k", "shares"]
    top: int
    tail: tuple[Tail, ...]
    input: Encoding
    result: Encoding
    images: Annotated[int, Meta(ge=1, description="Images that one request may hold.")]
    rounds: int
    online_bytes: Annotated[int, Meta(description="Octets between the parties for one image.")]
    offline_bytes: Annotated[int, Meta(description="Octets from the dealer to party 1 for one image.")]
    learns: tuple[Learned, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A party's share of the result, and what it took."""

    party: Party
    session: Hex32
    share: Annotated[bytes, Meta(description="Base64. Add the other party's share to it.")]
    rounds: int
    seconds: Seconds
    offline_seconds: Seconds
    sent: Annotated[int, Meta(description="Octets that this party sent to the other one.")]


class PageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the page must know before it asks for a token."""

    party: Party
    other: str | None
    software: str
    files: Annotated[dict[str, str], Meta(description="SHA-256 of each of the page's files; equal at both parties.")]


class ServedProgram(msgspec.Struct, frozen=True, kw_only=True):
    """The model that the CKKS server evaluates."""

    model: str
    program: str
    preparation: InputPreparation | None
    program_bytes: Bytes
    max_keys_bytes: Bytes
    max_ciphertext_bytes: Bytes


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation keys are here."""

    key_id: str
    bytes: Bytes


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request is not done (RFC 9457)."""

    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    code: Annotated[str, Meta(description="The reason, for programs.")]
    message: Annotated[str, Meta(description="What was wrong, for people.")]
    remedy: Annotated[str, Meta(description="What to do about it.")]
    retry_after: Seconds | None = None
    type: str = "about:blank"
