"""Fixed point, packing of low bytes, and keyed streams."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.errors import CompileError, ParameterError
from secureimg.sharing import fresh_seed, seed_name
from secureimg.sharing.ring import LIMIT_BITS, byte_width, decode, encode, pack, signed, unpack
from secureimg.sharing.streams import Stream

SEED = bytes(range(32))


@given(
    scale=st.integers(0, 40),
    values=st.lists(st.floats(-(2.0**20), 2.0**20, allow_nan=False, width=64), min_size=1, max_size=30),
)
def test_fixed_point_is_off_by_half_a_unit_at_most(scale: int, values: list[float]) -> None:
    """encode rounds to the nearest multiple of 2^-scale; decode gives exactly that one back."""
    found = decode(encode(values, scale), scale)
    assert np.abs(found - values).max() <= 0.5 * 2.0**-scale
    assert np.array_equal(encode(found, scale), encode(values, scale))


@given(width=st.integers(1, 64), data=st.data())
def test_low_bits_are_read_as_twos_complement(width: int, data: st.DataObject) -> None:
    """What is above `width` bits never counts."""
    value = data.draw(st.integers(-(1 << (width - 1)), (1 << (width - 1)) - 1))
    noise = data.draw(st.integers(0, 2**64 - 1)) << width
    words = np.array([(value + noise) % 2**64], dtype=np.uint64)
    assert signed(words, width).tolist() == [value]
    assert decode(words, 3, width).tolist() == [float(value) / 8]


@pytest.mark.parametrize("value", [2.0**45, -(2.0**45), 1e300, np.inf, np.nan])
def test_values_that_reach_the_limit_are_refused(value: float) -> None:
    """2^61 units is the first that does not fit; the error names the value, the places and the limit."""
    below = np.nextafter(2.0**45, 0)
    assert decode(encode([below, -below], 16), 16).tolist() == [below, -below]
    named = re.escape(f"{abs(value):.4g}")
    with pytest.raises(CompileError, match=rf"{named} with 16 fractional bits.*2\^{LIMIT_BITS}"):
        encode([0.0, value], 16)


@given(size=st.integers(1, 8), count=st.integers(0, 130), seed=st.integers(0, 2**32 - 1))
def test_packing_keeps_the_low_bytes(size: int, count: int, seed: int) -> None:
    """Every byte width and any number of words: `size` bytes each, the bits above come back as 0."""
    words = np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)
    data, back = np.zeros(size * count, dtype=np.uint8), np.full(count, 2**64 - 1, dtype=np.uint64)
    pack(words, size, data)
    unpack(data, size, back)
    assert np.array_equal(back, words & np.uint64(2 ** (8 * size) - 1))


def test_byte_widths() -> None:
    """Rounded up to whole bytes; nothing for nothing."""
    assert [byte_width(bits) for bits in (0, 1, 8, 9, 16, 17, 57, 64)] == [0, 1, 1, 2, 2, 3, 8, 8]


@settings(max_examples=30)
@given(
    pieces=st.lists(st.integers(0, 3000), max_size=12),
    large=st.sampled_from([0, (1 << 18) - 1, 1 << 18, (1 << 18) + 1]),
)
def test_a_stream_is_the_same_however_it_is_drawn(pieces: list[int], large: int) -> None:
    """Equal seed and tag give equal bytes, in one draw or many, across the inner piece size."""
    pieces = [*pieces, large]
    whole = np.empty(sum(pieces), dtype=np.uint8)
    Stream(SEED, "test", 7).fill(whole)
    stream, parts = Stream(SEED, "test", 7), [np.full(size, 0xAA, dtype=np.uint8) for size in pieces]
    for part in parts:
        stream.fill(part)
    assert np.array_equal(np.concatenate(parts), whole)


def test_seeds_and_tags_separate_streams() -> None:
    """One seed bit, another number, another split of the same letters: other bytes, which agree in one of 256 places."""
    flipped = bytes([SEED[0] ^ 1, *SEED[1:]])
    tags = [
        (SEED, "a", 1),
        (SEED, "a", 2),
        (SEED, "a", 11),
        (SEED, "a1"),
        (SEED, "a", 1, 1),
        (SEED, ""),
        (flipped, "a", 1),
    ]
    drawn = [Stream(*tag).words(512).view(np.uint8) for tag in tags]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert np.mean(one == other) < 0.02


def test_the_key_derivation_is_pinned() -> None:
    """Parties of different releases must draw the same bytes: BLAKE2b keyed with the seed, then AES-128-CTR from 0."""
    assert Stream(SEED, "gate", "3.0", "masks").words(2).tobytes().hex() == "1e08d517a41e3020768b3bc6f4074ab7"
    assert Stream(SEED, "input").words(2).tobytes().hex() == "58e118b9f4543da118e83cc52eb1feed"
    assert seed_name(SEED) == "4adac531451baf7e309bab3b4942982e"


def test_streams_keep_their_secret() -> None:
    """A repr shows neither seed nor key; a seed of another length is refused without being shown."""
    assert repr(Stream(SEED, "input")) == "Stream(…)"
    with pytest.raises(ParameterError, match="32 bytes, got 31") as caught:
        Stream(SEED[:31], "input")
    assert SEED[:31].hex() not in str(caught.value)
    assert len({fresh_seed() for _ in range(20)}) == 20
