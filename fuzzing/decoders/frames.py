"""A stream of frames as a fuzzer sees it: where frames begin, and how their tags are made right again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from fuzzing.trees import altered
from protocols.binding import NO_TAG, TAG_BYTES, Tagger
from protocols.frames import HEADER_BYTES

__all__ = ["KEY", "change_head", "frames_of", "retag"]

KEY: Final = b"k" * 32
"""Session key of both directions while fuzzing."""

_PLAIN: Final = HEADER_BYTES - TAG_BYTES


def frames_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end of the head and end of each frame, as the length fields say; the last one may be cut short."""
    place = 0
    while place + HEADER_BYTES <= len(data):
        head = int.from_bytes(data[place + 6 : place + 8], "big")
        body = int.from_bytes(data[place + 8 : place + 16], "big")
        middle = place + HEADER_BYTES + head
        end = min(middle + body, len(data))
        yield place, middle, end
        place = max(end, place + HEADER_BYTES)


def retag(data: bytes) -> bytes:
    """Give every frame but the first, which opens the conversation, the tag that belongs to its bytes and its place."""
    out, tagger = bytearray(data), Tagger(KEY)
    for number, (begin, middle, _) in enumerate(frames_of(data)):
        plain = bytes(out[begin : begin + _PLAIN])
        head = bytes(out[begin + HEADER_BYTES : middle])
        out[begin + _PLAIN : begin + HEADER_BYTES] = NO_TAG if number == 0 else tagger.tag(plain + head)
    return bytes(out)


def change_head(data: bytes, rng: random.Random) -> bytes:
    """Change the tree in the head of one frame; lengths and tags are made right again."""
    places = list(frames_of(data))
    begin, middle, _ = places[int(rng.random() * len(places))]
    tree = msgspec.msgpack.decode(data[begin + HEADER_BYTES : middle])
    try:
        head = msgspec.msgpack.encode(altered(tree, rng))
    except (RecursionError, OverflowError, UnicodeEncodeError, TypeError):  # nothing that could be sent
        head = b"\x91" * 600
    size = min(len(head), 0xFFFF).to_bytes(2, "big")
    changed = data[: begin + 6] + size + data[begin + 8 : begin + HEADER_BYTES] + head + data[middle:]
    return retag(changed)
