"""Histograms of oriented gradients.

Follows Dalal and Triggs, CVPR 2005, in the form of `skimage.feature.hog` 0.26: central differences with zeros at the
border, magnitudes voted into one bin each, cells of whole pixels, dense blocks.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp

from secureimg.errors import GraphError
from secureimg.features.axes import along, channel, channels, picture_shape
from secureimg.features.norms import at_most, copies, divided_by_length
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = ["BlockNorm", "hog"]

BlockNorm = Literal["L1", "L1-sqrt", "L2", "L2-Hys"]
"""How a block of cells is normalised."""

_GAIN = 64.0  # of differences, so that squares of small ones keep some bits on shares
_EPS = 1e-5
_TIE = 2.0**-5  # off a line at 45 degrees counts as on it: more than rounding; the next gradient of 8 bits is 45 off
_LOWER = 6  # bits that blocks are made smaller by: what they are then divided by is not near 0
_FIRST, _LAST = -10, 9  # octaves of a block's sum: from 9 cells of the steepest gradients to one pixel off by 1 / 255
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
    Shares: some 44 rounds; for each pixel a comparison for each orientation and 140 for the magnitude. Agrees with
    scikit-image to 3e-4 of the largest value. CKKS: not possible (comparisons). Leaks nothing but shapes.

    Deviations: there is no `transform_sqrt`: the owner takes the root of its picture before it is shared, and no
    `visualize`. If `orientations` is a multiple of 4, gradients of 45 degrees are on the line between two bins: they count
    in the second, as scikit-image has it for pictures of whole numbers; for pixels divided by 255 its rounding decides, one
    way or the other. On shares, where two channels have nearly the same largest
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
    b = PublicGraphBuilder("hog", (channels, height, width))
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
    """Next minus previous, times the gain; 0 at both ends."""
    matrix = sp.lil_array((size, size))
    for place in range(1, size - 1):
        matrix[place, place - 1], matrix[place, place + 1] = -_GAIN, _GAIN
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

    A gradient and its opposite count alike: the one in the lower half plane is beyond a line if its opposite is. On lines
    at 45, 90 and 135 degrees there are gradients, which are beyond it: there both signs are looked at.
    """
    vector = b.concat(across, down)
    angles = np.arange(1, bins) * np.pi / bins
    lines = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    # whole multiples of 2^-24, which shares hold exactly: gradients of 8 bits come as near to a line as 2^-20
    lines = np.rint(lines * 2.0**24) / 2.0**16
    met = np.flatnonzero(np.arange(1, bins) * 4 % bins == 0)
    compared = np.concatenate([lines, -lines[met], [[0.0, 1.0], [0.0, -1.0], [1.0, 0.0]]])
    shifts = np.zeros(len(compared))
    shifts[met], shifts[bins - 1 : bins - 1 + met.size] = _TIE, _TIE
    signs = b.step(b.conv(vector, compared.reshape(-1, 2, 1, 1), shifts))
    above, below, right = (channel(b, signs, len(compared) - place) for place in (3, 2, 1))
    level = b.affine(b.add(above, below), 1.0, -1.0)  # neither up nor down: then those to the right are upper
    upper = b.subtract(above, b.multiply(level, b.affine(right, -1.0, 1.0)))
    plus, upper = channels(b, signs, 0, bins - 1), copies(b, upper, bins - 1)
    reversed_, shift = np.zeros((bins - 1, len(compared))), np.ones(bins - 1)  # 1 less the sign, where not looked at
    reversed_[range(bins - 1), range(bins - 1)] = -1.0
    reversed_[met, :], shift[met] = 0.0, 0.0
    reversed_[met, range(bins - 1, bins - 1 + met.size)] = 1.0
    minus = b.conv(signs, reversed_.reshape(bins - 1, -1, 1, 1), shift)
    beyond = b.add(minus, b.multiply(upper, b.subtract(plus, minus)))
    between = np.zeros((bins, bins - 1))
    between[range(bins - 1), range(bins - 1)] = -1.0
    between[range(1, bins), range(bins - 1)] = 1.0
    chosen = b.conv(beyond, between.reshape(bins, bins - 1, 1, 1), np.eye(bins)[0])
    magnitude = b.sqrt(energy, 0.0, 2.0 * _GAIN**2, error=_ERROR)
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
    steps = 2.0 ** (octaves - _FIRST - _LOWER)
    power = b.conv(below, steps.reshape(1, -1, 1, 1), np.full(1, 2.0**-_LOWER))
    top = 2.0 ** (1 - _FIRST - _LOWER)
    scaled = b.multiply(copies(b, power, count), blocks)
    guard = b.affine(power, _EPS * _GAIN)
    together = b.concat(scaled, guard)
    scaled = b.apply(ops.Slice((0, 0, 0), b.shape(blocks), (1, 1, 1)), together)
    if norm in ("L1", "L1-sqrt"):
        size = b.mean(together, (0,))
        inverse = b.reciprocal(size, top / 2.2 / (count + 1), top * 1.1 / (count + 1), error=_ERROR)
        out = b.affine(b.multiply(scaled, copies(b, inverse, count)), 1 / (count + 1))
        return b.sqrt(out, 0.0, 1.0, error=_ERROR) if norm == "L1-sqrt" else out
    least = min(top**2 / 4 / count, (2.0 ** (_LAST - _FIRST - _LOWER + 1) * _EPS * _GAIN) ** 2)
    out = divided_by_length(b, scaled, together, count + 1, (least / 1.1, top**2 * 1.1))
    if norm == "L2":
        return out
    out = at_most(b, out, 0.2)
    return divided_by_length(b, out, b.pad(out, ((0, 1), (0, 0), (0, 0)), _EPS), count + 1, (0.035, 1.1))
