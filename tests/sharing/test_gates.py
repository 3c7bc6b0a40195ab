"""The gate: ReLU, truncation and ring extension of shares, against exact integer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.errors import CompileError
from secureimg.sharing.gate import DIGIT_BITS, Gate
from secureimg.sharing.ring import signed
from secureimg.sharing.seat import CHUNK

from .two_party import PART, Seeds, play_gate

COUNTS = (1, 63, 64, 65, CHUNK, CHUNK + 1)


def split(rng: np.random.Generator, values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares whose sum is right modulo ``2^bits`` only, as registers have them: what is above is noise."""
    mask = rng.integers(0, 2**64, values.size, dtype=np.uint64)
    noise = rng.integers(0, 2**64, values.size, dtype=np.uint64) << np.uint64(bits) if bits < 64 else np.uint64(0)
    return mask, values.view(np.uint64) - mask + noise


def check_gate(gate: Gate, values: np.ndarray, rng: np.random.Generator, seeds: Seeds) -> None:
    """The rule of the module: floor or floor + 1 (exact without drop); signs wrong only for small values."""
    found, *whole = play_gate(gate, split(rng, values, gate.drop + gate.bits), (seeds.zero, seeds.one))
    if gate.bit:
        check_bits(gate, found & np.uint64((1 << gate.width) - 1), values)
        return
    result, floor = signed(found, gate.width), values >> np.int64(gate.drop)
    roundings = (floor, floor + 1) if gate.drop else (floor,)
    clipped = np.any([result == np.maximum(kept, 0) for kept in roundings], axis=0)
    small = np.any([(np.abs(kept) < 1 << gate.low) & ((result == kept) | (result == 0)) for kept in roundings], axis=0)
    assert np.all(clipped | small)
    if gate.both:
        kept = signed(whole[0], gate.width)
        assert np.all(np.any([kept == rounding for rounding in roundings], axis=0))
        if gate.low == 0:
            assert np.array_equal(np.maximum(kept, 0), result)


def check_bits(gate: Gate, found: np.ndarray, values: np.ndarray) -> None:
    """1 for what is at least 0, 0 for the rest; either for small values, and for what may round up to 0."""
    floor = values >> np.int64(gate.drop)
    small = (np.minimum(np.abs(floor), np.abs(floor + (gate.drop > 0))) < 1 << gate.low) & (gate.low > 0)
    rounded = (values < 0) & (values > -2 << gate.drop) & (gate.drop > 0)
    assert np.isin(found, (0, 1)).all()
    assert np.all((found == (values >= 0)) | small | rounded)


def most(gate: Gate) -> int:
    """Largest |x| after the drop that the gate is made for."""
    return (1 << gate.sign) - 1 - ((1 << gate.low) if gate.low else 0) - (1 if gate.drop else 0)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    drop = draw(st.sampled_from([0, 0, 1, 7, 16, 30]))
    bits = draw(st.integers(4, min(62, 64 - drop)))
    digit, wanted = draw(st.sampled_from(DIGIT_BITS)), draw(st.sampled_from(["x or 0", "both", "bit"]))
    width = draw(st.one_of(st.just(bits), st.just(64), st.integers(1 if wanted == "bit" else bits, 64)))
    return Gate(draw(st.sampled_from(COUNTS)), drop, bits, digit, width, wanted == "both", wanted == "bit")


@settings(max_examples=120)
@given(gate=gates(), seed=st.integers(0, 2**32 - 1))
def test_any_gate_on_values_of_every_size(gate: Gate, seed: int) -> None:
    """All shapes of gates, on values spread over every order of magnitude that they take."""
    rng = np.random.default_rng(seed)
    limit = most(gate)
    sizes = np.exp2(rng.uniform(0, np.log2(limit + 1), gate.count)).astype(np.int64) - rng.integers(0, 2, gate.count)
    values = np.clip(sizes, 0, limit) * rng.choice([-1, 1], gate.count)
    fraction = rng.integers(0, 1 << gate.drop, gate.count)
    check_gate(gate, (values << np.int64(gate.drop)) + fraction, rng, Seeds.numbered(seed))


@pytest.mark.parametrize("digit", DIGIT_BITS)
@pytest.mark.parametrize("drop", [0, 11])
@pytest.mark.parametrize(
    ("bits", "width"), [(4, 4), (4, 64), (14, 20), (26, 26), (26, 64), (27, 40), (40, 64), (53, 53)]
)
def test_the_ends_of_the_range(digit: int, drop: int, bits: int, width: int) -> None:
    """0, one unit, one fraction, and the largest values of both signs, each many times under fresh masks."""
    gate = Gate(4 * 64, drop, bits, digit, width, True)
    top, one = most(gate) << drop, 1 << drop
    picked = [
        0,
        1,
        -1,
        one,
        -one,
        one - 1,
        top,
        -top,
        top - 1,
        1 - top,
        ((1 << gate.low) << drop),
        -((1 << gate.low) << drop),
    ]
    rng = np.random.default_rng(bits)
    check_gate(gate, np.resize(np.array(picked, dtype=np.int64), gate.count), rng, Seeds.numbered(bits + digit))


def test_a_wide_window_is_always_exact(rng: np.random.Generator) -> None:
    """When four digits reach down to bit 0 nothing is ever wrong: every value of a small ring."""
    for digit, bits in ((3, 14), (3, 10), (6, 12)):
        gate = Gate(2 * most(Gate(1, 0, bits, digit, 64)) + 1, 0, bits, digit, 64)
        assert gate.low == 0
        values = np.arange(-most(gate), most(gate) + 1)
        found, = play_gate(gate, split(rng, values, bits), (bytes(32), bytes([1] * 32)))  # fmt: skip
        assert np.array_equal(signed(found, 64), np.maximum(values, 0))


def test_a_wide_window_decides_exactly(rng: np.random.Generator) -> None:
    """The same for the sign alone, in the smallest ring there is."""
    for digit, bits in ((3, 13), (6, 12), (6, 20)):
        gate = Gate(2 * most(Gate(1, 0, bits, digit, 64, bit=True)) + 1, 0, bits, digit, 1, bit=True)
        values = np.arange(-most(gate), most(gate) + 1)
        found, = play_gate(gate, split(rng, values, bits), (bytes(32), bytes([1] * 32)))  # fmt: skip
        assert np.array_equal(found & np.uint64(1), values >= 0)


@pytest.mark.parametrize("count", [PART, PART + CHUNK + 1])
def test_long_gates_travel_in_parts(rng: np.random.Generator, count: int) -> None:
    """More values than one message holds: the last part may be short."""
    gate = Gate(count, 3, 26, 3, 40, True)
    values = rng.integers(-(most(gate) << 3), most(gate) << 3, count)
    check_gate(gate, values, rng, Seeds.numbered(5))


def test_truncation_rounds_without_drift(rng: np.random.Generator) -> None:
    """Of the two roundings each comes as often as the dropped fraction says: the mean error is none."""
    gate = Gate(20_000, 8, 24, 6, 64)
    values = rng.integers(1 << 12, 1 << 20, gate.count)
    found, = play_gate(gate, split(rng, values, 32), (bytes(32), bytes([1] * 32)))  # fmt: skip
    # the floors of two shares and one more unit: uniform roundings with a deviation of at most half a unit
    assert abs(float(np.mean(signed(found, 64) - values / 256))) < 6 * 0.5 / np.sqrt(gate.count) + 1 / 256


@pytest.mark.parametrize(
    ("bits", "digit", "width"), [(3, 3, 64), (63, 3, 64), (20, 2, 64), (20, 7, 64), (20, 3, 19), (20, 3, 65)]
)
def test_impossible_gates_are_refused(bits: int, digit: int, width: int) -> None:
    """The error names all three sizes."""
    with pytest.raises(CompileError, match=f"{bits} bits, digits of {digit}, result of {width}"):
        Gate(1, 0, bits, digit, width)
