"""Extrema of differences of Gaussians: places brighter or darker than all around them and than at other blurs.

Follows Lowe, IJCV 2004, sections 3 and 4, in the form of OpenCV's `cv2.SIFT`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secureimg.errors import GraphError
from secureimg.features.axes import channels
from secureimg.features.sift.scales import BORDER, ScaleSpace
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = ["GAIN", "sift_extrema"]

GAIN: Final = 64.0
"""Of differences of Gaussians in what `sift_extrema` gives."""

_OFFSETS: Final = tuple(
    (layer, down, right)
    for layer in (0, 1)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (layer, down, right) > (0, 0, 0)
)
_NEIGHBOURS: Final = 2 * len(_OFFSETS)


def sift_extrema(
    shape: tuple[int, ...],
    n_octave_layers: int = 3,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    sigma: float = 1.6,
) -> Graph:
    """Scale-space extrema, with what is needed to place them between pixels.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    n_octave_layers : int
        Layers of an octave, 1 to 8.
    contrast_threshold : float
        An extremum's difference of Gaussians is more than half of this over the number of layers; 0.001 to 1.
    edge_threshold : float
        Largest ratio of the two principal curvatures; more than 1, at most 1000.
    sigma : float
        Blur of an octave's first picture.

    Returns
    -------
    Graph
        To (n,): for each octave (rows, columns) of `ScaleSpace.octaves` the maps of extrema, 1 or 0, of shape
        (layers, rows - 10, columns - 10), then 64 times the differences of Gaussians, (layers + 2, rows, columns).
        `secureimg.features.sift.read_extrema` reads it.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    Shares: 18 comparisons for each pixel of each layer, of which there are 4 for each pixel of the picture and 4 / 3 for the
    smaller octaves. CKKS: not possible (comparisons). Leaks nothing but shapes: not how many extrema there are.

    Deviations from OpenCV: contrast and edges are tested at the pixel, the exact test after interpolation follows in
    `read_extrema`, so edges are allowed here half as much again. Of equal neighbours the first in reading order counts as
    the larger. What lies beyond the border of the doubled picture differs by half a pixel.
    """
    space = ScaleSpace(shape, n_octave_layers, sigma)
    if not 0.001 <= contrast_threshold <= 1:
        raise GraphError(f"sift: contrast_threshold {contrast_threshold} is outside 0.001 to 1")
    if not 1 < edge_threshold <= 1000:
        raise GraphError(f"sift: edge_threshold {edge_threshold} is not above 1 and at most 1000")
    b = PublicGraphBuilder("sift_extrema", (1, *space.shape))
    parts = []
    for blurred in space.build(b, b.input, GAIN):
        layers = n_octave_layers + 2
        differences = b.subtract(channels(b, blurred, 1, layers), channels(b, blurred, 0, layers))
        least = 0.5 * contrast_threshold / n_octave_layers
        found = _extrema(b, differences, least * GAIN, 1.5 * edge_threshold)
        parts += [b.flatten(found), b.flatten(differences)]
    return b.build(b.concat(*parts))


def _extrema(b: GraphBuilder, differences: str, least: float, ratio: float) -> str:
    """1 where a difference is above or below all its neighbours, far enough from 0, and not on an edge."""
    size = b.shape(differences)
    inner = (size[0] - 2, size[1] - 2 * BORDER, size[2] - 2 * BORDER)
    wins = _wins(b, differences, inner)
    middle = b.apply(ops.Slice((1, BORDER, BORDER), inner, (1, 1, 1)), differences)
    signs = b.step(
        b.concat(b.affine(middle, 1.0, -least), b.affine(middle, -1.0, -least), _cornered(b, differences, ratio))
    )
    above, below, cornered = (channels(b, signs, number * inner[0], inner[0]) for number in range(3))
    highest = b.affine(b.add(b.add(wins, above), cornered), 1.0, -_NEIGHBOURS - 1.5)
    lowest = b.affine(b.add(b.subtract(below, wins), cornered), 1.0, -1.5)
    both = b.step(b.concat(highest, lowest))
    return b.add(channels(b, both, 0, inner[0]), channels(b, both, inner[0], inner[0]))


def _wins(b: GraphBuilder, differences: str, inner: tuple[int, int, int]) -> str:
    """How many of its 26 neighbours each value of the inner layers and pixels exceeds. Each pair is compared once."""
    total = ""
    for layer, down, right in _OFFSETS:
        start = (1 - layer, BORDER - max(0, down), BORDER - max(0, right))
        count = (inner[0] + layer, inner[1] + abs(down), inner[2] + abs(right))
        first = b.apply(ops.Slice(start, count, (1, 1, 1)), differences)
        other = (start[0] + layer, start[1] + down, start[2] + right)
        second = b.apply(ops.Slice(other, count, (1, 1, 1)), differences)
        won = b.step(b.subtract(first, second))
        here = (layer, max(0, down), max(0, right))
        there = (0, here[1] - down, here[2] - right)
        bits = [b.apply(ops.Slice(place, inner, (1, 1, 1)), won) for place in (here, there)]
        gained = b.subtract(*bits)
        total = b.add(total, gained) if total else gained
    return b.affine(total, 1.0, float(len(_OFFSETS)))


def _cornered(b: GraphBuilder, differences: str, ratio: float) -> str:
    """Above 0 where the ratio of the principal curvatures is smaller than `ratio` and both have one sign.

    With the trace S, the difference D of the second derivatives and the mixed one M: ``S^2 > q^2 (D^2 + 4 M^2)`` with
    ``q = (ratio + 1) / (ratio - 1)``, which is Lowe's test without a division.
    """
    layers, rows, columns = b.shape(differences)
    count = (layers - 2, rows - 2 * BORDER + 2, columns - 2 * BORDER + 2)
    near = b.apply(ops.Slice((1, BORDER - 1, BORDER - 1), count, (1, 1, 1)), differences)
    line, point = np.array([[0, 0, 0], [1, -2, 1], [0, 0, 0]]), np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]]) / 4
    kernels = np.stack([line + line.T, line - line.T, 2 * point])
    each = b.conv(near, np.tile(kernels[:, None], (count[0], 1, 1, 1)), groups=count[0])
    squares = b.square(each)
    q = (ratio + 1) / (ratio - 1)
    return b.conv(squares, np.tile([[[[1.0]], [[-(q**2)]], [[-(q**2)]]]], (count[0], 1, 1, 1)), groups=count[0])
