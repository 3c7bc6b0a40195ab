"""Vectors divided by their lengths, inside of graphs: the last stages of descriptors."""

from __future__ import annotations

import math
from typing import Final

from secureimg.graph import GraphBuilder

__all__ = ["copies", "divided_by_length"]

_ERROR: Final = 2.0**-12


def copies(b: GraphBuilder, value: str, count: int) -> str:
    """A value (1, H, W) as `count` equal channels."""
    return b.concat(*[value] * count)


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
    size = b.mean(b.square(of), (0,))
    inverse = b.inverse_sqrt(size, squares[0] / count, squares[1] / count, error=_ERROR)
    product = b.multiply(value, copies(b, inverse, b.shape(value)[0]))
    return b.affine(product, 1 / math.sqrt(count))
