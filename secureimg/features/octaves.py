"""Powers of two that bring positive values of any size to one size: what roots and divisions on shares begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.graph import GraphBuilder
from secureimg.graph.ops import elements

__all__ = ["common_power_of_two", "power_and_root", "power_of_two"]


def power_of_two(b: GraphBuilder, value: str, top: float, octaves: int, least: float = 1.0) -> str:
    """For each element x the largest ``p = least * 2^j``, j from 0 to `octaves`, with ``p x`` at most `top`.

    Parameters
    ----------
    b : GraphBuilder
    value : str
        At most ``top / least``; p x is above ``top / 2`` where x is above ``top / (least * 2^(octaves + 1))``.
    top : float
    octaves : int
        Comparisons for each element.
    least : float
        A power of two.

    Returns
    -------
    str
        p, of the shape of the value.
    """
    return power_and_root(b, value, top, octaves, least)[0]


def power_and_root(b: GraphBuilder, value: str, top: float, octaves: int, least: float = 1.0) -> tuple[str, str]:
    """The same and its square root."""
    below = _below(b, value, top / least, octaves)
    levels = least * 2.0 ** np.arange(octaves + 1)
    power, root = (b.reshape(_counted(b, below, each), b.shape(value)) for each in (levels, np.sqrt(levels)))
    return power, root


def common_power_of_two(b: GraphBuilder, value: str, top: float, octaves: int) -> str:
    """The same, one power for all elements of a value: that of the largest.

    Returns
    -------
    str
        p, of the shape (1, 1, 1).
    """
    below = b.mean(_below(b, value, top, octaves), (1, 2))
    everywhere = b.step(b.affine(below, 1.0, -1.0))  # a mean of ones and zeros is 1 if all are
    return _counted(b, everywhere, 2.0 ** np.arange(octaves + 1))


def _below(b: GraphBuilder, value: str, top: float, octaves: int) -> str:
    """Whether each element is at most the top over 2, 4, 8 and so on: (octaves, elements, 1)."""
    limits = (top * 2.0 ** -np.arange(1.0, octaves + 1)).reshape(-1, 1, 1)
    flat = b.reshape(value, (1, elements(b.shape(value)), 1))
    return b.step(b.affine(flat, -np.ones(limits.shape), limits))


def _counted(b: GraphBuilder, below: str, levels: NDArray[Any]) -> str:
    """The level reached: the first one where nothing is below."""
    return b.conv(below, np.diff(levels).reshape(1, -1, 1, 1), levels[:1])
