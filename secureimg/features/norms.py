"""Vectors divided by their lengths, inside of graphs: the last stages of descriptors."""

from __future__ import annotations

import math
from typing import Final

from secureimg.graph import GraphBuilder

__all__ = ["at_most", "copies", "divided_by_length"]

_ERROR: Final = 2.0**-12
_ROOM: Final = 8  # bits before the point of a mean of squares


def copies(b: GraphBuilder, value: str, count: int) -> str:
    """A value (1, H, W) as `count` equal channels."""
    return b.concat(*[value] * count)


def at_most(b: GraphBuilder, value: str, limit: float) -> str:
    """The smaller of a value and a limit, by a comparison without the window in which `Clip` may be wrong."""
    over = b.affine(value, 1.0, -limit)
    return b.subtract(value, b.multiply(b.step(over), over))


def divided_by_length(b: GraphBuilder, value: str, of: str, count: int, squares: tuple[float, float]) -> str:
    """Channels divided by the length of others.

    Parameters
    ----------
    b : GraphBuilder
    value : str
        Of shape (C, H, W).
    of : str
        Of shape (count, H, W): at each place a vector whose length divides the value there.
    count : int
    squares : (float, float)
        Smallest and largest square of that length.

    Returns
    -------
    str
        Of the shape of the value.
    """
    # squares of small values would keep few bits
    gain = 2.0 ** max(0, math.floor((_ROOM - math.log2(squares[1] / count)) / 2))
    low, high = (gain**2 * square / count for square in squares)
    size = b.mean(b.square(b.affine(of, gain)), (0,))
    inverse = b.inverse_sqrt(size, low, high, error=_ERROR)
    product = b.multiply(b.affine(value, gain), copies(b, inverse, b.shape(value)[0]))
    return b.affine(product, 1 / math.sqrt(count))
