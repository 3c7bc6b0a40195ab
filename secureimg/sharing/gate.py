"""The gate: sign, truncation, ring extension and selection of a whole tensor in three rounds.

For shares of x it gives shares of ``max(x, 0)`` (and of x itself, if asked), with the lowest `drop` bits gone; or of the
sign alone, as a number 1 or 0. After the drop it needs |x| below ``2^sign - 2^low``, where `sign` is ``bits - 2`` if the
result is to be extended to a wider ring and ``bits - 1`` if not; `low` is 0 or at most ``sign - 12``.

Round 1 opens ``c = x + offset + r`` (`bits` bits a value), round 2 six masked bits of the comparison, round 3 one masked
sign bit. The dealer gives party 1, for each value: thermometer codes of r's digits, products of masks, and shares of
beta, beta r and of r's top bit; party 0 has all of its part from a seed.

Exactness: a dropped fraction costs less than one unit in the last place. The sign is exact except for |x| below
``2^low`` units, where `low` is what the window of four digits leaves out; there the result is x or 0. (Just below
``2^sign`` the window cannot tell either: hence the bound above.)
Source: comparison with a public value after a masked opening (Damgard et al., TCC 2006, section 6), with the borrow as
one table lookup a digit; the extension by the top bit of r follows Escudero et al., CRYPTO 2020, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import CompileError
from secureimg.sharing.ring import byte_width
from secureimg.sharing.seat import CHUNK
from secureimg.sharing.streams import Stream

__all__ = ["DIGIT_BITS", "Corrections", "Gate", "draw", "gate_streams", "table_kind"]

_LANES: Final = 64
_TABLE_KINDS: Final[dict[int, Any]] = {3: np.uint8, 4: np.uint16, 5: np.uint32, 6: np.uint64}
DIGIT_BITS: Final = tuple(_TABLE_KINDS)
"""Bits that one digit of the window may have; the window has four."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Gate:
    """The public shape of one gate.

    Attributes
    ----------
    count : int
        Values.
    drop : int
        Fractional bits to drop first.
    bits : int
        Ring of the opening: c is taken modulo ``2^bits``.
    digit : int
        Bits of each of the four digits of the comparison's window.
    width : int
        Bits of the result's ring; above `bits` the result is extended, which needs one more bit of headroom.
    both : bool
        Whether x itself is wanted too.
    bit : bool
        Whether only 1 for x >= 0 and 0 for the rest is wanted, in a ring of any width.
    """

    count: int
    drop: int
    bits: int
    digit: int
    width: int
    both: bool = False
    bit: bool = False

    def __post_init__(self) -> None:
        least = 1 if self.bit else self.bits
        if self.digit not in DIGIT_BITS or not 4 <= self.bits <= 62 or not least <= self.width <= 64:
            raise CompileError(
                f"a gate of {self.bits} bits, digits of {self.digit}, result of {self.width} is impossible"
            )

    @property
    def extend(self) -> bool:
        """Whether x is wanted in a wider ring than the opening's."""
        return self.width > self.bits and not self.bit

    @property
    def sign(self) -> int:
        """Number of the bit of c - r that is the sign."""
        return self.bits - 2 if self.extend else self.bits - 1

    @property
    def low(self) -> int:
        """The sign is exact for |x| of at least ``2^low`` units (and less than ``2^sign - 2^low``)."""
        return max(0, self.sign - 4 * self.digit)

    @property
    def up(self) -> int:
        """How far c is moved up so that its window starts at bit 0."""
        return max(0, 4 * self.digit - self.sign)

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """Yield start, number of values and padded number of values of each chunk."""
        for start in range(0, self.count, CHUNK):
            size = min(CHUNK, self.count - start)
            yield start, size, -(-size // _LANES) * _LANES

    @property
    def padded(self) -> int:
        """Number of values, rounded up as they travel."""
        return -(-self.count // _LANES) * _LANES

    def correction_bytes(self, padded: int) -> int:
        """Bytes that party 1 gets from the dealer for as many values."""
        shares = 1 if self.bit else 2  # of beta, and of beta r
        size = 4 * int(np.dtype(_TABLE_KINDS[self.digit]).itemsize) + 2 + shares * byte_width(self.width)
        if self.extend:
            size += 3 * byte_width(self.width - self.bits)
        return size * padded

    @property
    def rounds(self) -> tuple[int, ...]:
        """Bytes that each party sends in each round."""
        return self.padded * byte_width(self.bits), self.padded, self.padded // 8


def table_kind(gate: Gate) -> Any:
    """The type of one digit's thermometer code."""
    return _TABLE_KINDS[gate.digit]


class Corrections:
    """Party 1's corrections of one chunk, taken apart."""

    def __init__(self, gate: Gate, data: Bytes, padded: int) -> None:
        kind = _TABLE_KINDS[gate.digit]
        size = np.dtype(kind).itemsize * padded
        self._data, self._padded, self._place = data, padded, 0
        self.tables = self._take(4 * size).view(kind).reshape(4, padded)
        self.products = self._take(2 * padded).view(np.uint16)
        self.betas = self._take(byte_width(gate.width) * padded)
        if not gate.bit:
            self.beta_masks = self._take(byte_width(gate.width) * padded)
        if gate.extend:
            top = byte_width(gate.width - gate.bits)
            self.upper = self._take(top * padded)
            self.tops = self._take(top * padded)
            self.beta_tops = self._take(top * padded)

    def _take(self, size: int) -> Bytes:
        part = self._data[self._place : self._place + size]
        self._place += size
        return part

    @classmethod
    def each(cls, gate: Gate, data: Bytes) -> Iterator[tuple[int, Corrections | None, int]]:
        """Yield start, corrections (None for party 0, who has none) and padded size of each chunk."""
        place = 0
        for start, _, padded in gate.chunks():
            if not data.size:
                yield start, None, padded
                continue
            size = gate.correction_bytes(padded)
            yield start, cls(gate, data[place : place + size], padded), padded
            place += size


def draw(stream: Stream, memory: NDArray[Any]) -> NDArray[Any]:
    """Fill memory from a stream and return it."""
    stream.fill(memory)
    return memory


def gate_streams(seed: bytes, step: str, party: int) -> dict[str, Stream]:
    """A party's streams for one gate; those that only party 0 has hold its shares of what the dealer corrects."""
    names = ["masks", "bits"]
    if party == 0:
        names += ["tables", "products", "tops", "beta tops", "betas", "beta masks"]
    return {name: Stream(seed, "gate", step, name) for name in names}
