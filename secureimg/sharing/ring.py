"""Numbers modulo 2^64 that stand for reals, and how their low bits travel.

A value with `scale` fractional bits is ``round(x * 2**scale)`` in two's complement. Shares are uint64 arrays, of which
only the low `width` bits carry the value; a message holds just these, rounded up to whole bytes, cut into planes of
4, 2 and 1 bytes so that packing is plain vector code.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import CompileError

__all__ = [
    "LIMIT_BITS",
    "Words",
    "byte_width",
    "decode",
    "encode",
    "pack",
    "signed",
    "unpack",
]

Words = NDArray[np.uint64]

LIMIT_BITS: Final = 61
"""No value of a program may reach 2^61 in fixed point: beyond, products could wrap around 2^64."""

_PLANES: Final[tuple[tuple[int, Any], ...]] = ((4, np.uint32), (2, np.uint16), (1, np.uint8))


def encode(values: ArrayLike, scale: int) -> Words:
    """Return ``round(x * 2**scale) mod 2**64`` of each element.

    Raises
    ------
    CompileError
        If an element is not finite or reaches 2^61.
    """
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 2.0**scale)
    largest = float(np.abs(scaled).max(initial=0.0))
    if not largest < 2.0**LIMIT_BITS:
        raise CompileError(
            f"a value of {largest / 2.0**scale:.4g} with {scale} fractional bits does not stay below 2^{LIMIT_BITS}: "
            "use fewer fractional bits or smaller values"
        )
    return scaled.astype(np.int64).view(np.uint64)


def signed(words: Words, width: int) -> NDArray[np.int64]:
    """Return the low `width` bits as two's complement."""
    shift = np.uint64(64 - width)
    return (words << shift).view(np.int64) >> np.int64(64 - width)


def decode(words: Words, scale: int, width: int = 64) -> NDArray[np.float64]:
    """Return the reals that the low `width` bits stand for."""
    return signed(words, width).astype(np.float64) * math.ldexp(1.0, -scale)


def byte_width(width: int) -> int:
    """Bytes that `width` bits take on the wire."""
    return -(-width // 8)


@numba.njit(cache=True, nogil=True)
def _narrow(words: Words, shift: int, out: NDArray[np.unsignedinteger]) -> None:
    for i in range(words.size):
        out[i] = words[i] >> np.uint64(shift)


@numba.njit(cache=True, nogil=True)
def _widen(plane: NDArray[np.unsignedinteger], shift: int, out: Words, first: bool) -> None:
    if first:
        for i in range(plane.size):
            out[i] = np.uint64(plane[i]) << np.uint64(shift)
    else:
        for i in range(plane.size):
            out[i] |= np.uint64(plane[i]) << np.uint64(shift)


def pack(words: Words, size: int, out: NDArray[np.uint8]) -> None:
    """Write the low `size` bytes of each word into `out`, `size` bytes for each, a plane after the other."""
    if size == 8:
        out.view(np.uint64)[:] = words
        return
    place = shift = 0
    for width, kind in _PLANES:
        if size & width:
            plane = out[place : place + width * words.size].view(kind)
            _narrow(words, shift, plane)
            place, shift = place + width * words.size, shift + 8 * width


def unpack(data: NDArray[np.uint8], size: int, out: Words) -> None:
    """Undo `pack`: fill `out` with words of `size` bytes, the bits above set to 0."""
    if not data.flags.writeable:  # kernels are compiled for one kind of array
        data = data.copy()
    if size == 8:
        out[:] = data.view(np.uint64)
        return
    place = shift = 0
    for width, kind in _PLANES:
        if size & width:
            plane = data[place : place + width * out.size].view(kind)
            _widen(plane, shift, out, shift == 0)
            place, shift = place + width * out.size, shift + 8 * width
