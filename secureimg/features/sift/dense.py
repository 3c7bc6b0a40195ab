"""SIFT descriptors on a grid: what they are of is public, so nothing has to be found, and nothing leaks."""

from __future__ import annotations

import math

import numpy as np

from secureimg.errors import GraphError
from secureimg.features.axes import channel, grey_shape
from secureimg.features.borders import convolve, convolve_twice
from secureimg.features.filters import gaussian_kernel
from secureimg.features.sift.description import CELLS, DIRECTIONS, add_directions, add_normalised, cell_weights
from secureimg.graph import Graph, PublicGraphBuilder

__all__ = ["sift_dense"]

_GAIN = 64.0
_BLUR = 1 / 3  # in cells
_CAMERA_SIGMA = 0.5


def sift_dense(shape: tuple[int, ...], step: int = 8, cell: int = 6) -> Graph:
    """SIFT descriptors of one size on a grid of places, none of them turned.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    step : int
        Pixels from one place to the next, at least 1. The first is ``5 cell // 2`` pixels from the left and the upper
        border, the last at least as far from the others.
    cell : int
        Side of each of the 4 x 4 cells in pixels, 3 to 64. The picture is first blurred by a third of it.

    Returns
    -------
    Graph
        To (rows, columns, 128), each descriptor of length 1.

    Raises
    ------
    GraphError
        If a parameter is out of range, or the picture is smaller than 5 cells.

    Notes
    -----
    Bosch, Zisserman and Munoz, ICCV 2007, with the descriptor of `cv2.SIFT`. Shares: 12 comparisons for each pixel, 128 for
    each descriptor, some 40 rounds. CKKS: not possible (comparisons). Leaks nothing but shapes.

    Deviations from OpenCV's descriptors at such places: a gradient is shared between the two nearest directions in the
    proportion of its components along them.
    """
    _, height, width = full = grey_shape(shape, "sift_dense")
    if step < 1:
        raise GraphError(f"sift_dense: a step of {step}, it must be at least 1")
    if not 3 <= cell <= 64:
        raise GraphError(f"sift_dense: a cell of {cell} pixels is outside 3 to 64")
    reach = 5 * cell // 2
    if min(height, width) <= 2 * reach:
        raise GraphError(
            f"sift_dense: a picture of {height}x{width} has no room for 5 cells of {cell}: take smaller cells"
        )
    b = PublicGraphBuilder("sift_dense", full)
    blur = gaussian_kernel(math.sqrt(max((_BLUR * cell) ** 2 - _CAMERA_SIGMA**2, 0.0)))
    smooth = convolve_twice(b, b.affine(b.input, _GAIN), blur[None, None], blur[None, None, None], "mirror")
    across = np.zeros((3, 3))
    across[1] = 1.0, 0.0, -1.0
    both = convolve(b, smooth, np.stack([across, -across.T]), "mirror")  # OpenCV's directions turn upwards
    votes = add_directions(b, channel(b, both, 0), channel(b, both, 1), DIRECTIONS)
    weights = cell_weights(np.arange(-reach, reach + 1.0) / cell)
    columns = b.conv(
        votes, np.tile(weights[:, None, None, :], (DIRECTIONS, 1, 1, 1)), strides=(1, step), groups=DIRECTIONS
    )
    rows = b.conv(
        columns, np.tile(weights[:, None, :, None], (DIRECTIONS * CELLS, 1, 1, 1)), strides=(step, 1),
        groups=DIRECTIONS * CELLS,
    )  # fmt: skip
    _, down, right = b.shape(rows)  # direction, column of cells, row of cells
    folded = b.transpose(b.reshape(rows, (DIRECTIONS, CELLS, CELLS, down, right)), (2, 1, 0, 3, 4))
    descriptors = add_normalised(b, b.reshape(folded, (CELLS * CELLS * DIRECTIONS, down, right)))
    return b.build(b.transpose(descriptors, (1, 2, 0)))
