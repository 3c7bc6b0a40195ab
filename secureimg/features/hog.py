"""Histograms of oriented gradients.

Follows Dalal and Triggs, CVPR 2005, in the form of `skimage.feature.hog` 0.26: central differences with zeros at the
border, magnitudes voted into one bin each, cells of whole pixels, dense blocks.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import scipy.sparse as sp

from secureimg.errors import GraphError
from secureimg.features.axes import along, channel, picture_shape
from secureimg.features.norms import copies, divided_by_length
from secureimg.graph import Graph, GraphBuilder, ops

__all__ = ["BlockNorm", "hog"]

BlockNorm = Literal["L1", "L1-sqrt", "L2", "L2-Hys"]

_EPS = 1e-5
_STEEP = 1024.0  # the sign of a column difference decides only where the row difference is 0 (or very small)
_FIRST, _LAST = -4, 15  # octaves of a block's sum: from 9 cells of the steepest gradients to one pixel off by 1 / 255
_ERROR = 2.0**-12


def hog(
    shape: tuple[int, ...],
    orientations: int = 9,
    pixels_per_cell: tuple[int, int] = (8, 8),
    cells_per_block: tuple[int, int] = (3, 3),
    block_norm: BlockNorm = "L2-Hys",
    *,
    feature_vector: bool = True,
) -> Graph:
    """Histogram of oriented gradients.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1]. Of several channels each pixel takes the one with the largest gradient.
    orientations : int
        Bins over 180 degrees, 2 to 64.
    pixels_per_cell, cells_per_block : (int, int)
        Rows, columns.
    block_norm : str
        "L1", "L1-sqrt", "L2" or "L2-Hys".
    feature_vector : bool
        A flat result, or (block rows, block columns, cell rows, cell columns, orientations).

    Returns
    -------
    Graph
        Its result is that of scikit-image.

    Raises
    ------
    GraphError
        If a parameter is out of range or the picture is smaller than a block.

    Notes
    -----
    Shares: some 40 rounds; for each pixel a comparison for each orientation and 140 for the magnitude. Agrees with
    scikit-image to 1e-3 of the largest value. CKKS: not possible (comparisons). Leaks nothing but shapes.

    Deviations: there is no `transform_sqrt`: the owner takes the root of its picture before it is shared, and no
    `visualize`. Where the row part of a gradient is not 0 but below a 1024th of its column part, which pixels of 8 bits
    cannot have, the first and the last bin may be confused. On shares, where two channels have nearly the same largest
    gradient (their squares differ by less than 2^-14) either may be taken.
    """
    channels, height, width = picture_shape(shape, "hog")
    (cell_rows, cell_columns), (block_rows, block_columns) = pixels_per_cell, cells_per_block
    if not 2 <= orientations <= 64:
        raise GraphError(f"hog: {orientations} orientations, the limits are 2 and 64")
    if min(*pixels_per_cell, *cells_per_block) < 1:
        raise GraphError(f"hog: cells of {pixels_per_cell} and blocks of {cells_per_block} need sides of at least 1")
    if block_norm not in ("L1", "L1-sqrt", "L2", "L2-Hys"):
        raise GraphError(f"hog: block_norm {block_norm!r} is none of 'L1', 'L1-sqrt', 'L2', 'L2-Hys'")
    rows, columns = height // cell_rows, width // cell_columns
    if rows < block_rows or columns < block_columns:
        raise GraphError(
            f"hog: a picture of {height}x{width} is smaller than a block of {block_rows * cell_rows}x"
            f"{block_columns * cell_columns}: take smaller cells or blocks"
        )
    b = GraphBuilder("hog", (channels, height, width))
    across, down, energy = _gradient(b, b.input)
    votes = _votes(b, across, down, energy, orientations)
    votes = b.apply(ops.Slice((0, 0, 0), (orientations, rows * cell_rows, columns * cell_columns), (1, 1, 1)), votes)
    cells = b.average_pool(votes, pixels_per_cell)
    blocks = _normalised(b, _stacked(b, cells, cells_per_block), block_norm)
    side_rows, side_columns = rows - block_rows + 1, columns - block_columns + 1
    folded = b.reshape(blocks, (block_rows, block_columns, orientations, side_rows, side_columns))
    ordered = b.transpose(folded, (3, 4, 0, 1, 2))
    return b.build(b.flatten(ordered) if feature_vector else ordered)


def _differences(size: int) -> sp.csr_array:
    """Next minus previous; 0 at both ends."""
    matrix = sp.lil_array((size, size))
    for place in range(1, size - 1):
        matrix[place, place - 1], matrix[place, place + 1] = -1.0, 1.0
    return sp.csr_array(matrix)


def _gradient(b: GraphBuilder, picture: str) -> tuple[str, str, str]:
    """Differences along columns and rows and the sum of their squares, each (1, H, W)."""
    shape = b.shape(picture)
    both = [b.apply(along(shape, axis, _differences(shape[axis])), picture) for axis in (2, 1)]
    squares = [b.square(part) for part in both]
    energy = b.add(*squares)
    across, down, largest = (channel(b, value, 0) for value in (*both, energy))
    for number in range(1, shape[0]):
        other = [channel(b, value, number) for value in (*both, energy)]
        first = b.step(b.subtract(largest, other[2]))  # of equal ones the first
        across, down, largest = (
            b.add(new, b.multiply(first, b.subtract(old, new)))
            for old, new in zip((across, down, largest), other, strict=True)
        )
    return across, down, largest


def _votes(b: GraphBuilder, across: str, down: str, energy: str, bins: int) -> str:
    """Each pixel's magnitude in the bin of its direction: (bins, H, W).

    A gradient and its opposite count alike: both are turned into the upper half plane, where each line between two bins
    takes one comparison.
    """
    vector = b.concat(across, down)
    upper = b.step(b.conv(vector, np.array([1.0, _STEEP]).reshape(1, 2, 1, 1)))
    turned = b.multiply(b.concat(upper, upper), vector)
    folded = b.subtract(b.add(turned, turned), vector)
    angles = np.arange(1, bins) * np.pi / bins
    lines = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    beyond = b.step(b.conv(folded, lines.reshape(bins - 1, 2, 1, 1)))
    between = np.zeros((bins, bins - 1))
    between[range(bins - 1), range(bins - 1)] = -1.0
    between[range(1, bins), range(bins - 1)] = 1.0
    chosen = b.conv(beyond, between.reshape(bins, bins - 1, 1, 1), np.eye(bins)[0])
    magnitude = b.sqrt(energy, 0.0, 2.0, error=_ERROR)
    return b.multiply(chosen, copies(b, magnitude, bins))


def _stacked(b: GraphBuilder, cells: str, block: tuple[int, int]) -> str:
    """The cells of each block one after the other: (cells * bins, block rows, block columns)."""
    bins, rows, columns = b.shape(cells)
    counts = (bins, rows - block[0] + 1, columns - block[1] + 1)
    parts = [
        b.apply(ops.Slice((0, row, column), counts, (1, 1, 1)), cells)
        for row in range(block[0])
        for column in range(block[1])
    ]
    return b.concat(*parts) if len(parts) > 1 else parts[0]


def _normalised(b: GraphBuilder, blocks: str, norm: BlockNorm) -> str:
    """Divide each block by its norm.

    Sums of blocks span twenty octaves: each is first scaled by a power of two, picked by comparisons, so that it lies
    between 1/2 and 1 of `top`.
    """
    count = b.shape(blocks)[0]
    octaves = np.arange(_FIRST, _LAST + 1)
    total = b.mean(blocks, (0,))
    limits = (2.0 ** -octaves.astype(float) / count).reshape(-1, 1, 1)
    below = b.step(b.affine(total, -np.ones(limits.shape), limits))
    steps = 2.0 ** (octaves - _FIRST)
    power = b.conv(below, steps.reshape(1, -1, 1, 1), np.ones(1))
    top = 2.0 ** (1 - _FIRST)
    scaled = b.multiply(copies(b, power, count), blocks)
    guard = b.affine(power, _EPS)
    together = b.concat(scaled, guard)
    scaled = b.apply(ops.Slice((0, 0, 0), b.shape(blocks), (1, 1, 1)), together)
    if norm in ("L1", "L1-sqrt"):
        size = b.mean(together, (0,))
        inverse = b.reciprocal(size, top / 2.2 / (count + 1), top * 1.1 / (count + 1), error=_ERROR)
        out = b.affine(b.multiply(scaled, copies(b, inverse, count)), 1 / (count + 1))
        return b.sqrt(out, 0.0, 1.0, error=_ERROR) if norm == "L1-sqrt" else out
    least = min(top**2 / 4 / count, (2.0 ** (_LAST - _FIRST + 1) * _EPS) ** 2)
    out = divided_by_length(b, scaled, together, count + 1, (least / 1.1, top**2 * 1.1))
    if norm == "L2":
        return out
    out = b.apply(ops.Clip(-math.inf, 0.2), out)
    return divided_by_length(b, out, b.pad(out, ((0, 1), (0, 0), (0, 0)), _EPS), count + 1, (0.035, 1.1))
