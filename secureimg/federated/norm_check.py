"""Whether an owner's update is no longer than the bound, decided on shares: two bits an owner are opened, nothing else.

The program takes a sketch (`secureimg.federated.sketch`), whose numbers live modulo 2^32, as the shares do. All of them must
lie within twice the bound, which two signs tell for every residue, so that nothing hides by wrapping around. Then their
squares are summed in a wider ring and compared with the limit.

An honest update passes: the sketch's squares would have to exceed their mean by a quarter, nine deviations. One longer than
4/3 of the bound gets through when they stay below it by 30 %, ten deviations, or when two coordinates near 2^31 cancel in
every row: ``(2 * BUCKETS)^-ROWS`` = 2^-50.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.federated.sketch import Sketch
from secureimg.federated.terms import RING_BITS, Terms
from secureimg.sharing import Handed, Program, PublicProgram, text
from secureimg.sharing.widths import assign_widths

__all__ = ["check_input", "check_program", "passed"]

_ROOM: Final = 1.25
_REACH: Final = 20
"""Bits of a sketch's numbers that are squared."""


def check_program(terms: Terms) -> Program:
    """The program that both parties run on the sketches of all owners of a round, an owner as an image.

    Cost: 11 rounds; for an owner 110 kB between the parties and 103 kB from the dealer, less for short updates.
    """
    count = Sketch.values(terms.length)
    cap = 2 * terms.bound
    drop = max(0, cap.bit_length() - _REACH)
    reach = (cap >> drop) + 2
    limit = int(_ROOM * Sketch.rows(terms.length) * (terms.bound / 2**drop) ** 2) + count
    signs, squares = 2 * count, (count * reach**2).bit_length() + 2
    shapes = (
        (count,),
        (count,),
        (count,),
        (signs,),
        (signs,),
        (1,),
        (1,),
        (1,),
        (count,),
        (count,),
        (1,),
        (1,),
        (1,),
        (2,),
    )
    registers = [text.Register(shape=shape, scale=0, factor=1.0) for shape in shapes]
    few = signs.bit_length() + 2
    steps: list[text.Step] = [
        text.Combine(name="above", out=1, sources=(0,), factors=(1,), constant=cap),
        text.Combine(name="below", out=2, sources=(0,), factors=(-1,), constant=cap),
        text.Concat(name="sides", out=3, sources=(1, 2), axis=0),
        text.Decide(name="within", out=4, source=3, drop=0, bits=RING_BITS, digit=4, width=1),
        text.Sum(name="how many", out=5, source=4, axes=(0,)),
        text.Combine(name="all", out=6, sources=(5,), factors=(1,), constant=-signs),
        text.Decide(name="all within", out=7, source=6, drop=0, bits=max(4, few), digit=max(3, -(-few // 4)), width=1),
        text.Truncate(name="shorter", out=8, source=0, drop=drop, bits=RING_BITS - drop, width=64),
        text.Multiply(name="squares", out=9, left=8, right=8, width=64),
        text.Sum(name="length", out=10, source=9, axes=(0,)),
        text.Combine(name="room", out=11, sources=(10,), factors=(-1,), constant=limit),
        text.Decide(name="short", out=12, source=11, drop=0, bits=squares, digit=6, width=1),
        text.Concat(name="verdict", out=13, sources=(7, 12), axis=0),
    ]
    widths, fitted = assign_widths(registers, steps, 13, 1)
    half = float(2 ** (RING_BITS - 1))
    public = PublicProgram(
        model=f"norm check of {terms.fingerprint[:16]}", input_shape=(count,), output_shape=(2,), labels=None,
        preprocessing=None, tail=(),
        fraction_bits=16, input_range=(-half, half - 1), reveal="shares", top=1, weights="public", registers=widths,
        steps=fitted, output=13, code=0,
    )  # fmt: skip
    return Program(public, {})


def check_input(sketches: NDArray[np.uint32]) -> Handed:
    """A party's shares of all owners' sketches, shape (owners, values), as it passes them to its run."""
    return Handed(np.ascontiguousarray(sketches).view(np.uint8).reshape(-1))


def passed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """For each owner, whether its update is short enough, from both parties' results."""
    bits = (first + second) & np.uint8(1)
    return np.asarray(bits.reshape(-1, 2).all(axis=1))
