"""The inner loops of the gate (sign, truncation, selection), each over one chunk that stays in the cache.

All arithmetic is modulo 2^64; callers reduce. `party` is 0 or 1: public constants are added by party 0.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.sharing.carry import MASK_PRODUCTS, PICK
from secureimg.sharing.ring import Words

__all__ = ["deal", "digits", "mask", "resolve", "select", "tell"]

Bytes = NDArray[np.uint8]

_one = np.uint64(1)


@numba.njit(cache=True, nogil=True)
def mask(values: Words, drop: int, offset: int, masks: Words, bits: int, out: Words) -> None:
    """Write ``(values >> drop) + offset + masks mod 2^bits``: this party's share of c."""
    keep = (_one << np.uint64(bits)) - _one
    for i in range(values.size):
        out[i] = ((values[i] >> np.uint64(drop)) + np.uint64(offset) + masks[i]) & keep


@numba.njit(cache=True, nogil=True)
def digits(
    opened: Words,
    tables: NDArray[np.unsignedinteger],
    masks: Bytes,
    up: int,
    down: int,
    width: int,
    party: int,
    out: Bytes,
    top: Bytes,
) -> None:
    """Pick g and p of each digit of c; write the six masked bits, and g of the top digit."""
    full = (_one << np.uint64(width)) - _one
    first = np.uint64(1 - party)
    for i in range(opened.size):
        window = (opened[i] << np.uint64(up)) >> np.uint64(down)
        v0, v1 = window & full, (window >> np.uint64(width)) & full
        v2, v3 = (window >> np.uint64(2 * width)) & full, (window >> np.uint64(3 * width)) & full
        t0, t1 = np.uint64(tables[0, i]), np.uint64(tables[1, i])
        t2, t3 = np.uint64(tables[2, i]), np.uint64(tables[3, i])
        g0, g1, g2, g3 = (t0 >> v0) & _one, (t1 >> v1) & _one, (t2 >> v2) & _one, (t3 >> v3) & _one
        p1 = (((t1 << _one) | first) >> v1 & _one) ^ g1
        p2 = (((t2 << _one) | first) >> v2 & _one) ^ g2
        p3 = (((t3 << _one) | first) >> v3 & _one) ^ g3
        six = (
            p3 | g2 << np.uint64(1) | p2 << np.uint64(2) | g1 << np.uint64(3) | p1 << np.uint64(4) | g0 << np.uint64(5)
        )
        out[i] = (six ^ np.uint64(masks[i])) & np.uint64(63)
        top[i] = g3


@numba.njit(cache=True, nogil=True)
def resolve(
    six: Bytes,
    products: NDArray[np.uint16],
    masks: Bytes,
    top: Bytes,
    opened: Words,
    sign: int,
    party: int,
    out: Bytes,
) -> None:
    """Write this party's share of (x >= 0) XOR beta."""
    for i in range(six.size):
        pick = PICK[six[i] & 63]
        own = np.uint32(products[i] & 0x7FFF) | (np.uint32(masks[i] & 63) << np.uint32(16))
        bits = own & pick
        bits ^= bits >> np.uint32(16)
        bits ^= bits >> np.uint32(8)
        bits ^= bits >> np.uint32(4)
        bits ^= bits >> np.uint32(2)
        bits ^= bits >> np.uint32(1)
        share = (bits & 1) ^ top[i] ^ (products[i] >> 15) ^ (masks[i] >> 6 & 1)
        if party == 0:
            share ^= (pick >> np.uint32(31)) ^ np.uint32((opened[i] >> np.uint64(sign)) & _one)
        out[i] = share & 1


@numba.njit(cache=True, nogil=True)
def select(
    opened: Words,
    chosen: Bytes,
    offset: int,
    bits: int,
    extend: bool,
    party: int,
    masks: Words,
    tops: Words,
    beta_tops: Words,
    betas: Words,
    beta_masks: Words,
    out: Words,
    whole: Words,
) -> None:
    """Write this party's share of x where x >= 0 and 0 elsewhere; and, if `whole` is not empty, of x itself."""
    both = whole.size > 0
    for i in range(opened.size):
        c = opened[i]
        a = c - np.uint64(offset)
        x = (a if party == 0 else np.uint64(0)) - masks[i]
        bx = a * betas[i] - beta_masks[i]
        if extend:
            high = (c >> np.uint64(bits - 1)) << np.uint64(bits)
            x -= high * tops[i]
            bx -= high * beta_tops[i]
        delta = np.uint64(chosen[i])
        out[i] = bx + delta * (x - (bx << _one))
        if both:
            whole[i] = x


@numba.njit(cache=True, nogil=True)
def tell(chosen: Bytes, betas: Words, party: int, out: Words) -> None:
    """Write this party's share of delta XOR beta, as a number."""
    for i in range(chosen.size):
        delta = np.uint64(chosen[i])
        out[i] = (delta if party == 0 else np.uint64(0)) + betas[i] - ((delta * betas[i]) << _one)


@numba.njit(cache=True, nogil=True)
def deal(
    masks0: Words,
    masks1: Words,
    tables0: NDArray[np.unsignedinteger],
    bits0: Bytes,
    bits1: Bytes,
    products0: NDArray[np.uint16],
    bits: int,
    sign: int,
    up: int,
    down: int,
    width: int,
    extend: bool,
    tables1: NDArray[np.unsignedinteger],
    products1: NDArray[np.uint16],
    upper: Words,
    tops: Words,
    beta_tops: Words,
    betas: Words,
    beta_masks: Words,
) -> None:
    """Turn party 0's shares (in `tops` ... `beta_masks`, overwritten) and both masks into party 1's corrections."""
    keep = (_one << np.uint64(bits)) - _one
    full = (_one << np.uint64(width)) - _one
    for i in range(masks0.size):
        r = (masks0[i] + masks1[i]) & keep
        window = (r << np.uint64(up)) >> np.uint64(down)
        for d in range(4):
            v = (window >> np.uint64(d * width)) & full
            tables1[d, i] = np.uint64(tables0[d, i]) ^ ((_one << v) - _one)
        both = bits0[i] ^ bits1[i]
        products1[i] = products0[i] ^ MASK_PRODUCTS[both & 63] ^ np.uint16(((r >> np.uint64(sign)) & _one) << 15)
        beta = np.uint64((both >> 6) & 1)
        value = r
        if extend:
            top = r >> np.uint64(bits - 1)
            value = r - (top << np.uint64(bits))
            upper[i] = (value - masks0[i] - (masks1[i] & keep)) >> np.uint64(bits)
            tops[i] = top - tops[i]
            beta_tops[i] = beta * top - beta_tops[i]
        betas[i] = beta - betas[i]
        beta_masks[i] = beta * value - beta_masks[i]
