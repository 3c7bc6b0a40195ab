"""The carry of a comparison: four digits, one round, as tables.

Both parties know ``c = x + r`` and hold XOR shares of facts about the dealer's r. The sign of x is a bit of c, a bit of r
and the borrow of ``c - r`` into it. The bits below the sign are cut into four digits. For each digit the dealer shares
the thermometer code of r's digit (bit j says "r's digit is above j"), so that for the public digit of c both
"above" (g) and "equal" (p) are bits to be picked, without talking. The borrow is then

    g3 ^ p3 g2 ^ p3 p2 g1 ^ p3 p2 p1 g0

of which the last three terms take one opening of six masked bits, with shares of the products of the masks.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONSTANT_BIT", "DIGITS", "MASK_PRODUCTS", "PICK", "PRODUCTS", "SIGN_BIT"]

DIGITS: Final = 4

# The six bits that are opened: p3, g2, p2, g1, p1, g0; and the terms of the borrow as sets of them.
_TERMS: Final = (frozenset({0, 1}), frozenset({0, 2, 3}), frozenset({0, 2, 4, 5}))
_SINGLES: Final = 6


def _products() -> tuple[tuple[int, ...], ...]:
    found = {
        subset for term in _TERMS for size in range(2, len(term) + 1) for subset in combinations(sorted(term), size)
    }
    return tuple(sorted(found, key=lambda subset: (len(subset), subset)))


PRODUCTS: Final = _products()
"""The products of masks that the dealer shares: 15 sets of bit numbers."""

SIGN_BIT: Final = 15
"""Where r's own sign bit travels beside the 15 products."""

CONSTANT_BIT: Final = 31
"""In `PICK`: whether party 0 adds 1."""


def _mask_products() -> NDArray[np.uint16]:
    table = np.zeros(1 << _SINGLES, dtype=np.uint16)
    for masks in range(table.size):
        for place, subset in enumerate(PRODUCTS):
            if all(masks >> bit & 1 for bit in subset):
                table[masks] |= np.uint16(1 << place)
    return table


def _pick() -> NDArray[np.uint32]:
    """For each opening: which shares to add. Bits 0-14 products, 16-21 the masks themselves, 31 the constant."""
    table = np.zeros(1 << _SINGLES, dtype=np.uint32)
    places = {subset: place for place, subset in enumerate(PRODUCTS)} | {(bit,): 16 + bit for bit in range(_SINGLES)}
    places[()] = CONSTANT_BIT
    for opened in range(table.size):
        for term in _TERMS:
            for size in range(len(term) + 1):
                for subset in combinations(sorted(term), size):
                    if all(opened >> bit & 1 for bit in term - set(subset)):
                        table[opened] ^= np.uint32(1 << places[subset])
    return table


MASK_PRODUCTS: Final = _mask_products()
"""Six mask bits -> their 15 products, shape (64,)."""

PICK: Final = _pick()
"""Six opened bits -> the shares whose sum is the borrow's last three terms, shape (64,)."""
