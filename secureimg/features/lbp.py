"""Local binary patterns.

Follows Ojala, Pietikäinen and Mäenpää, TPAMI 2002, in the form of `skimage.feature.local_binary_pattern` 0.26: points on a
circle, counted from the right against the clock, bilinear between pixels, 0 outside of the picture.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import grey_shape
from secureimg.graph import Graph, Preprocessing, PublicGraphBuilder

__all__ = ["LbpMethod", "local_binary_pattern"]

LbpMethod = Literal["default", "uniform"]
"""All codes; or the bits set in those with at most two changes, and one code for the rest."""

_MOST_POINTS = 24
_LARGEST_RADIUS = 32.0
_TIE = 2.0**-13  # of 255
_WEIGHT = 2.0**15  # weights are whole multiples of its inverse, also where they are hidden: equal pixels differ by 0


def local_binary_pattern(shape: tuple[int, ...], P: int = 8, R: float = 1.0, method: LbpMethod = "default") -> Graph:
    """Which of the points around each pixel are at least as bright as it, as a code.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values from 0 to 255 (the graph's preprocessing makes them of a file). Whole numbers: for others
        scikit-image warns of meaningless codes, too.
    P : int
        Points, 2 to 24.
    R : float
        Radius in pixels, up to 32.
    method : str
        "default" (P bits, the first point lowest) or "uniform" (how many ones, or P + 1 if neighbours differ more than
        twice).

    Returns
    -------
    Graph
        Its result has the shape (1, H, W).

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    Shares: 3 rounds ("uniform": 8), P comparisons a pixel. CKKS: not possible. Leaks nothing but shapes.

    Deviations: where a point is exactly as bright as the pixel, scikit-image's floating point may see it darker; here it
    never is. Of pictures of whole numbers that is less than one code in a hundred, of most less than one in a thousand. No
    "ror", "nri_uniform" or "var".
    """
    _, height, width = grey_shape(shape, "local_binary_pattern")
    if not 2 <= P <= _MOST_POINTS:
        raise GraphError(f"local_binary_pattern: P = {P} points, the limits are 2 and {_MOST_POINTS}")
    if not 0 < R <= _LARGEST_RADIUS:
        raise GraphError(f"local_binary_pattern: a radius R of {R}, the limits are 0 and {_LARGEST_RADIUS:g}")
    if method not in ("default", "uniform"):
        raise GraphError(f"local_binary_pattern: method {method!r} is none of 'default', 'uniform'")
    b = PublicGraphBuilder("lbp", (1, height, width))
    kernels, reach = _kernels(P, R)
    # equal pixels count as brighter: with hidden weights that takes a little more than their last place
    bits = b.step(b.conv(b.input, kernels, np.full(P, _TIE), pads=(reach,) * 4))
    ones = np.ones((1, P, 1, 1))
    if method == "default":
        code = b.conv(bits, (2.0 ** np.arange(P)).reshape(1, P, 1, 1))
    else:
        chain = np.zeros((2, P - 1, P, 1, 1))
        chain[0, range(P - 1), range(P - 1)] = chain[1, range(P - 1), range(1, P)] = 1.0
        left, right = (b.conv(bits, pick) for pick in chain)
        # of two bits: a + b - 2 a b is 1 if they differ; their sum over the chain counts all but the ends twice
        inner = np.full((1, P, 1, 1), 2.0)
        inner[0, 0] = inner[0, -1] = 1.0
        twice = b.conv(b.multiply(left, right), np.full((1, P - 1, 1, 1), 2.0))
        changes = b.subtract(b.conv(bits, inner), twice)
        uniform = b.step(b.affine(changes, -1.0, 2.5))
        code = b.affine(b.multiply(uniform, b.conv(bits, ones, np.array([-(P + 1.0)]))), 1.0, P + 1.0)
    return b.build(code, preprocessing=Preprocessing("L", (height, width), (0.0,), (1 / 255,)))


def _kernels(points: int, radius: float) -> tuple[NDArray[np.float64], int]:
    """Each point's interpolation minus the pixel itself, (P, 1, side, side), and how far they reach."""
    angles = 2 * np.pi * np.arange(points) / points
    reach = math.ceil(radius)
    kernels = np.zeros((points, 1, 2 * reach + 1, 2 * reach + 1))
    for kernel, angle in zip(kernels[:, 0], angles, strict=True):
        row, column = round(-radius * math.sin(angle), 5), round(radius * math.cos(angle), 5)
        for r, row_weight in _neighbours(row):
            for c, column_weight in _neighbours(column):
                kernel[reach + r, reach + c] += np.rint(row_weight * column_weight * _WEIGHT) / _WEIGHT
        kernel[reach, reach] -= kernel.sum()
    return kernels, reach


def _neighbours(place: float) -> tuple[tuple[int, float], tuple[int, float]]:
    """The two grid points around a place and their weights."""
    below = math.floor(place)
    return (below, 1.0 - (place - below)), (math.ceil(place), place - below)
