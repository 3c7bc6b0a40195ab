"""Patches around keypoints: a blurred picture sampled along a keypoint's direction, in units of its size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import channels
from secureimg.features.sift.keypoints import KeyPoints
from secureimg.features.sift.scales import ScaleSpace
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = ["add_patches", "sift_patches"]

Array = NDArray[np.float64]


def sift_patches(space: ScaleSpace, points: KeyPoints, side: int, step: float) -> Graph:
    """Patches around known keypoints.

    Parameters
    ----------
    space : ScaleSpace
    points : KeyPoints
        Public: they are part of the graph.
    side : int
        Samples in a row and in a column.
    step : float
        Between samples, in units of a keypoint's blur.

    Returns
    -------
    Graph
        From the picture to (len(points), side, side), values in [0, 1].

    Raises
    ------
    GraphError
        If there are no keypoints.

    Notes
    -----
    Linear: one level on CKKS, 3 rounds on shares. Whoever holds the graph learns places, sizes and directions.
    """
    b = PublicGraphBuilder("sift_patches", (1, *space.shape))
    return b.build(add_patches(b, space, b.input, points, side, step))


def add_patches(b: GraphBuilder, space: ScaleSpace, picture: str, points: KeyPoints, side: int, step: float) -> str:
    """The same inside of another graph."""
    if not len(points):
        raise GraphError("sift: there are no keypoints to take patches of")
    layers = space.n_octave_layers
    blurred = [b.flatten(channels(b, value, 1, layers)) for value in space.build(b, picture, 1.0)]
    matrix = _sampling(space, points, side, step)
    ends = np.cumsum([0, *(layers * rows * columns for rows, columns in space.octaves)])
    used = [number for number in range(len(blurred)) if (points.octave == number).any()]
    pieces = tuple(sp.csr_array(matrix[:, start:end]) for start, end in pairwise(ends.tolist()))
    shape = (len(points), side, side)
    grey = np.full(matrix.shape[0], 0.5)  # what the blurred pictures are less
    return b.apply(ops.LinearMap(tuple(pieces[n] for n in used), grey, shape), *(blurred[n] for n in used))


def _sampling(space: ScaleSpace, points: KeyPoints, side: int, step: float) -> sp.csr_array:
    """Weights of the blurred pictures' pixels in each sample, by linear interpolation; pixels at the border repeat."""
    layers, zoom = space.n_octave_layers, 2.0 ** (1 - points.octave)
    blur = points.size / 2 * zoom
    reach = (np.arange(side) - (side - 1) / 2) * step
    turned = np.deg2rad(points.angle)
    along, beside = blur[:, None, None] * reach[None, None, :], blur[:, None, None] * reach[None, :, None]
    cosine, sine = np.cos(turned)[:, None, None], np.sin(turned)[:, None, None]
    x = (points.x * zoom)[:, None, None] + cosine * along - sine * beside
    y = (points.y * zoom)[:, None, None] + sine * along + cosine * beside
    rows, columns = (np.array([size[axis] for size in space.octaves])[points.octave][:, None, None] for axis in (0, 1))
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    left, top = np.minimum(np.floor(x), columns - 2), np.minimum(np.floor(y), rows - 2)
    right_part, lower_part = x - left, y - top
    starts = np.cumsum([0, *(layers * size[0] * size[1] for size in space.octaves)])
    first = (starts[points.octave] + (points.layer - 1) * rows[:, 0, 0] * columns[:, 0, 0])[:, None, None]
    places, weights = [], []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        places.append((first + (top + down) * columns + left + right).ravel())
        weights.append(((lower_part if down else 1 - lower_part) * (right_part if right else 1 - right_part)).ravel())
    count = len(points) * side * side
    matrix = sp.coo_array(
        (np.concatenate(weights), (np.tile(np.arange(count), 4), np.concatenate(places).astype(np.int64))),
        shape=(count, int(starts[-1])),
    )
    return sp.csr_array(matrix)
