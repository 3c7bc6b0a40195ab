"""The decoder: a valid message or one RemoteProtocolError, never anything else, and caps before memory."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.messages import (
    HEADER_BYTES,
    AskKeys,
    Bye,
    Caps,
    Code,
    Evaluate,
    Hangup,
    Hello,
    InputPreparation,
    KeysState,
    KeysStored,
    Message,
    Offer,
    Refusal,
    RegisterKeys,
    Result,
    decode_head,
    decode_header,
    encode_frame,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

from .pairs import ANY_KEY

KEY = "ab" * 16
PREPARATION = InputPreparation(mode="RGB", size=(28, 28), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
MESSAGES: list[Message] = [
    Hello(key=ANY_KEY, model="mnist-cnn", software="secureimg"),
    Hello(key=ANY_KEY),
    Offer(key=ANY_KEY, model="m", program=KEY, max_keys_bytes=1, max_ciphertext_bytes=2, preparation=PREPARATION),
    AskKeys(key_id=KEY),
    KeysState(key_id=KEY, known=True, room=5),
    RegisterKeys(key_id=KEY),
    KeysStored(key_id=KEY),
    Evaluate(request_id=KEY, key_id=KEY, count=1, seconds=9.0),
    Result(request_id=KEY, seconds=0.5, waited=0.0, peak_rss=1),
    Refusal(code=Code.BUSY, message="busy", remedy="later", retry_after=1.0),
    Hangup(code=Code.MALFORMED, message="bad", remedy="none"),
    Bye(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    frame = encode_frame(message, 0)
    header = decode_header(frame[:HEADER_BYTES], Caps())
    assert (header.kind, header.body) == (type(message), 0)
    assert decode_head(header.kind, frame[HEADER_BYTES:]) == message


@pytest.mark.parametrize(
    ("offset", "raw", "reason"),
    [
        (0, b"XIMG", "SIMG"),
        (4, b"\x01", "version 1"),
        (4, b"\x00", "version 0"),
        (5, b"\x00", "unknown message type 0"),
        (5, b"\x0c", "unknown message type 12"),
        (6, b"\xff\xff", "above its cap"),
        (8, struct.pack(">Q", 2**64 - 1), "above its cap"),
        (8, struct.pack(">Q", 1), "above its cap of 0"),
    ],
)
def test_a_header_is_judged_before_anything_is_stored(offset: int, raw: bytes, reason: str) -> None:
    header = bytearray(encode_frame(Hello(key=ANY_KEY), 0)[:HEADER_BYTES])
    header[offset : offset + len(raw)] = raw
    with pytest.raises(RemoteProtocolError, match=reason):
        decode_header(header, Caps())


def test_a_head_above_its_cap_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="cap"):
        encode_frame(Hello(key=ANY_KEY, software="x" * 5000), 0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Hello, {"type": 1, "key": ANY_KEY, "model": None, "software": "", "extra": 1}),
        (Hello, {"type": 2, "key": ANY_KEY}),
        (Hello, {"type": 1, "key": ANY_KEY, "model": ""}),
        (Hello, {"type": 1, "key": ANY_KEY, "model": 7}),
        (Hello, {"type": 1}),
        (Hello, {"type": 1, "key": ANY_KEY[1:]}),
        (AskKeys, {"type": 3}),
        (AskKeys, {"type": 3, "key_id": "AB" * 16}),
        (AskKeys, {"type": 3, "key_id": KEY + "\n"}),
        (AskKeys, {"type": 3, "key_id": "a" * 129}),
        (Evaluate, {"type": 7, "request_id": -1, "key_id": KEY, "count": 1, "seconds": 1.0}),
        (Evaluate, {"type": 7, "request_id": KEY, "key_id": KEY, "count": 0, "seconds": 1.0}),
        (Evaluate, {"type": 7, "request_id": KEY, "key_id": KEY, "count": 2**40, "seconds": 1.0}),
        (Evaluate, {"type": 7, "request_id": KEY[1:], "key_id": KEY, "count": 1, "seconds": 1.0}),
        (Evaluate, {"type": 7, "request_id": KEY, "key_id": KEY, "count": 1, "seconds": -1.0}),
        (Result, {"type": 8, "request_id": KEY, "seconds": -1.0, "waited": 0.0, "peak_rss": 0}),
        (Refusal, {"type": 9, "code": "because", "message": "", "remedy": ""}),
        (Refusal, {"type": 9, "code": "busy", "message": "m" * 2001, "remedy": ""}),
        (Bye, []),
        (Bye, None),
    ],
)
def test_a_head_must_fit_its_type_exactly(kind: type[Message], fields: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_head(kind, msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "fields", [{"mean": [float("nan")]}, {"std": [0.0]}, {"mode": "CMYK"}, {"size": [0, 28]}, {"mean": []}]
)
def test_a_preparation_that_would_spoil_pixels_is_refused(fields: dict[str, object]) -> None:
    preparation = {"mode": "L", "size": [28, 28], "mean": [0.0], "std": [1.0]} | fields
    head = {"type": 2, "key": ANY_KEY, "model": "m", "program": KEY, "max_keys_bytes": 1, "max_ciphertext_bytes": 1}
    with pytest.raises(RemoteProtocolError):
        decode_head(Offer, msgspec.msgpack.encode(head | {"preparation": preparation}))


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_one_error(message: Message, data: bytes) -> None:
    try:
        found = decode_head(type(message), data)
    except RemoteProtocolError:
        return
    assert type(found) is type(message)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_damaged_head_is_a_message_or_one_error(message: Message, data: st.DataObject) -> None:
    head = bytearray(encode_frame(message, 0)[HEADER_BYTES:])
    place = data.draw(st.integers(0, len(head) - 1))
    head[place] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_head(type(message), bytes(head))
    except RemoteProtocolError:
        return
    assert type(found) is type(message)
