"""Histograms of directions and descriptors of 128 values, from patches of gradients.

Follows Lowe, IJCV 2004, sections 5 and 6, in the form of OpenCV's `cv2.SIFT`. A patch is a blurred picture sampled on a
square grid around a keypoint, along its direction and in units of its size: so what is computed is the same for all
patches, and does not tell where they come from.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.features.norms import at_most, copies, divided_by_length
from secureimg.features.octaves import power_of_two
from secureimg.features.sift.keypoints import BINS
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = [
    "CELLS", "DESCRIPTOR_SIDE", "DESCRIPTOR_STEP", "DIRECTIONS", "ORIENTATION_SIDE", "ORIENTATION_STEP", "add_directions",
    "add_normalised", "cell_weights", "describe", "histogram_directions", "sift_descriptors", "sift_orientations",
]  # fmt: skip

Array = NDArray[np.float64]

CELLS: Final = 4
"""Of a descriptor, in rows and columns."""

DIRECTIONS: Final = 8
"""Of a cell's histogram."""

_PER_CELL: Final = 5
_CELL: Final = 3.0  # side of a cell in units of a keypoint's blur
DESCRIPTOR_STEP: Final = _CELL / _PER_CELL
"""Between samples of a descriptor's patch, in units of the keypoint's blur."""

DESCRIPTOR_SIDE: Final = (CELLS + 1) * _PER_CELL + 2
"""Samples in a row of a descriptor's patch."""

ORIENTATION_STEP: Final = 0.5
"""Between samples of a patch for directions, in units of the keypoint's blur."""

ORIENTATION_SIDE: Final = 19
"""Samples in a row of a patch for directions."""

_LARGEST_BIN: Final = 0.2
_GAIN: Final = 64.0
_MOST_PATCHES: Final = 4096
_GUARDS: Final = (1.0, 2.0**-6)  # keep 0 / 0 away, and are far below the length of every descriptor
_LEAST_SCALE: Final = 2.0**-7  # means of a descriptor's values are at most 2^7, those seen are 2^-1 to 2^5
_OCTAVES: Final = 10
_SQUARES: Final = (0.9 * 128 / 4, 1.1 * 128**2)  # of a descriptor's length when its mean is 1/2 to 1
_CLIPPED_SQUARES: Final = (0.035, 1.1)


def sift_orientations(shape: tuple[int, ...] = (ORIENTATION_SIDE, ORIENTATION_SIDE)) -> Graph:
    """Histogram of the directions of gradients around each keypoint.

    Parameters
    ----------
    shape : (19, 19) or (count, 19, 19)
        Of patches of a blurred picture, see `sift_patches`; at most 4096.

    Returns
    -------
    Graph
        To (count, 36): what `oriented` reads.

    Raises
    ------
    GraphError
        If the patches are of another size or there are too many.

    Notes
    -----
    Shares: 54 comparisons for each of 289 gradients, 6 rounds. CKKS: not possible. Leaks nothing but the number of
    patches.

    Deviations from OpenCV: gradients are taken on the patch, where samples are half of the blur apart, not on pixels; each
    is shared between the two nearest bins, in the proportion of its components along them.
    """
    b = PublicGraphBuilder("sift_orientations", _patches(shape, ORIENTATION_SIDE, "sift_orientations"))
    return b.build(histogram_directions(b, b.input))


def sift_descriptors(shape: tuple[int, ...] = (DESCRIPTOR_SIDE, DESCRIPTOR_SIDE)) -> Graph:
    """Descriptor of each keypoint: 4 x 4 cells of 8 directions, of length 1.

    Parameters
    ----------
    shape : (27, 27) or (count, 27, 27)
        Of patches of a blurred picture, see `sift_patches`; at most 4096.

    Returns
    -------
    Graph
        To (count, 128); all 0 for a patch without gradients.

    Raises
    ------
    GraphError
        If the patches are of another size or there are too many.

    Notes
    -----
    Shares: 12 comparisons for each of 625 gradients and 128 for clipping, some 34 rounds. CKKS: not possible. Leaks
    nothing but the number of patches. Order of the values as OpenCV's, whose descriptors are 512 times as large, rounded.

    Deviations from OpenCV: as `sift_orientations`; samples are 0.6 of the blur apart.
    """
    b = PublicGraphBuilder("sift_descriptors", _patches(shape, DESCRIPTOR_SIDE, "sift_descriptors"))
    return b.build(describe(b, b.input))


def _patches(shape: tuple[int, ...], side: int, where: str) -> tuple[int, int, int]:
    full = picture_shape(shape, where)
    if full[1:] != (side, side):
        raise GraphError(f"{where}: patches of {full[1]}x{full[2]}, they must be {side}x{side}")
    if full[0] > _MOST_PATCHES:
        raise GraphError(f"{where}: {full[0]} patches, the limit is {_MOST_PATCHES}: take several batches")
    return full


# ------------------------------------------------------------------------------------------------- inside of other graphs


def histogram_directions(b: GraphBuilder, patches: str) -> str:
    """From patches (K, 19, 19) to (K, 36)."""
    count = b.shape(patches)[0]
    votes = add_directions(b, *_gradients(b, patches), BINS)
    side = ORIENTATION_SIDE - 2
    reach = (np.arange(side) - side // 2) * ORIENTATION_STEP
    weight = np.exp(-(reach**2) / (2 * 1.5**2))
    pooled = b.conv(b.reshape(votes, (1, BINS * count, side * side)), np.outer(weight, weight).reshape(1, 1, 1, -1))
    return b.transpose(b.reshape(pooled, (BINS, count)), (1, 0))


def describe(b: GraphBuilder, patches: str) -> str:
    """From patches (K, 27, 27) to (K, 128)."""
    count = b.shape(patches)[0]
    across, down = _gradients(b, patches)
    votes = add_directions(b, across, b.affine(down, -1.0), DIRECTIONS)  # OpenCV's directions turn the other way
    side = DESCRIPTOR_SIDE - 2
    weights = cell_weights((np.arange(side) - side // 2) / _PER_CELL).reshape(CELLS, 1, 1, side)
    columns = b.conv(b.reshape(votes, (1, DIRECTIONS * count * side, side)), weights)
    rows = b.conv(b.reshape(columns, (1, CELLS * DIRECTIONS * count, side)), weights)
    descriptors = add_normalised(b, b.reshape(rows, (CELLS * CELLS * DIRECTIONS, 1, count)))
    return b.transpose(b.reshape(descriptors, (CELLS * CELLS * DIRECTIONS, count)), (1, 0))


def cell_weights(places: Array) -> Array:
    """How much samples count in each of a row's four cells: (4, samples).

    Parameters
    ----------
    places : ndarray, shape (samples,)
        From the keypoint, in cells.
    """
    middles = np.arange(CELLS) - (CELLS - 1) / 2
    linear = np.maximum(0.0, 1.0 - np.abs(places - middles[:, None]))
    return np.asarray(linear * np.exp(-(places**2) / (CELLS**2 / 2)), dtype=np.float64)


def _gradients(b: GraphBuilder, patches: str) -> tuple[str, str]:
    """Differences along columns and rows, each (1, K, gradients of a patch)."""
    count, side, _ = b.shape(patches)
    bright, inner = b.affine(patches, _GAIN), (count, side - 2, side - 2)
    found = []
    for start, end in (((0, 1, 0), (0, 1, 2)), ((0, 0, 1), (0, 2, 1))):
        before, after = (b.apply(ops.Slice(place, inner, (1, 1, 1)), bright) for place in (start, end))
        found.append(b.reshape(b.subtract(after, before), (1, count, (side - 2) ** 2)))
    return found[0], found[1]


def add_directions(b: GraphBuilder, across: str, down: str, bins: int) -> str:
    """The parts of gradients along the two nearest of some directions: (bins, H, W) from two (1, H, W).

    A gradient between directions t and t + w of an angle a from the first has the parts ``|g| sin(w - a) / sin(w)`` and
    ``|g| sin(a) / sin(w)``; in every bin that is ``max(0, min(p, q))`` of two linear functions of the gradient, and opposite
    bins have the comparison of p and q in common.
    """
    width = 2 * math.pi / bins
    half = np.arange(bins // 2) * width
    apart = -2 * math.cos(width) * np.stack([-np.sin(half), np.cos(half)], axis=1)  # p - q
    vector = b.concat(across, down)
    larger = b.relu(b.conv(vector, apart.reshape(-1, 2, 1, 1)))
    angles = np.arange(bins) * width + width
    smaller = np.zeros((bins, 2 + bins // 2))  # p - max(0, p - q)
    smaller[:, :2] = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    for place in range(bins):
        if place < bins // 2:
            smaller[place, 2 + place] = -1.0
        else:  # p - q of the opposite bin with the sign changed: max(0, -u) = max(0, u) - u
            smaller[place, 2 + place - bins // 2] = -1.0
            smaller[place, :2] += apart[place - bins // 2]
    least = b.conv(b.concat(vector, larger), smaller.reshape(bins, -1, 1, 1) / math.sin(width))
    return b.relu(least)


def add_normalised(b: GraphBuilder, descriptors: str) -> str:
    """Descriptors (128, H, W) of length 1, no value above 0.2 before the last division."""
    count, after = b.shape(descriptors)[0], ((0, 1), (0, 0), (0, 0))
    power = power_of_two(b, b.mean(descriptors, (0,)), 1.0, _OCTAVES, _LEAST_SCALE)
    scaled = b.multiply(copies(b, power, count), descriptors)
    once = divided_by_length(b, scaled, b.pad(scaled, after, _GUARDS[0]), count + 1, _SQUARES)
    clipped = at_most(b, once, _LARGEST_BIN)
    return divided_by_length(b, clipped, b.pad(clipped, after, _GUARDS[1]), count + 1, _CLIPPED_SQUARES)
