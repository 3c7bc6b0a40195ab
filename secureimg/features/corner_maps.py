"""Where the corners are: peaks of a corner response as a map of ones, which nobody but the owner sees.

Follows `skimage.feature.corner_peaks` 0.26.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from secureimg.errors import GraphError
from secureimg.features.axes import channels, grey_shape
from secureimg.features.corners import (
    GAIN,
    LARGEST_TRACE,
    det_minus_trace,
    harris,
    harris_mix,
    shi_tomasi,
    smoothed,
)
from secureimg.features.octaves import common_power_of_two
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops
from secureimg.graph.ops import elements

__all__ = ["Response", "corner_peaks"]

Response = Literal["k", "eps", "shi_tomasi"]
"""Which corner response peaks are sought in: Harris, Noble, or Shi and Tomasi."""

_MOST_DISTANCE: Final = 10
_TOP: Final = LARGEST_TRACE * GAIN**2 * 1.01
_OCTAVES: Final = 16
_SIZE: Final = 256.0


def corner_peaks(
    shape: tuple[int, ...],
    min_distance: int = 1,
    threshold_abs: float | None = None,
    threshold_rel: float | None = None,
    exclude_border: bool | int = True,
    *,
    response: Response = "k",
    k: float = 0.05,
    eps: float = 1e-6,
    sigma: float = 1.0,
) -> Graph:
    """Corners of a picture: where its corner response is larger than anywhere near.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    min_distance : int
        A peak is the largest of the square that reaches so many pixels to each side; 1 to 10.
    threshold_abs, threshold_rel : float, optional
        Least response of a peak; the same as a share of the picture's largest, between 0 and 1.
    exclude_border : bool or int
        No peaks so close to the border; True for `min_distance`.
    response : str
        "k" or "eps": `corner_harris` with that method; "shi_tomasi": `corner_shi_tomasi`.
    k, eps, sigma : float
        As of these.

    Returns
    -------
    Graph
        From the picture to (1, H, W): 1 at peaks, else 0; ``skimage.feature.corner_peaks(response, indices=False)``.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    Shares: beside the response ``2 d (d + 1)`` comparisons for each pixel for a distance of d, one for each threshold and
    one for the answer, of method "k" 16 to bring pictures of any contrast to one; some 30 rounds, with `threshold_rel` 17
    more for each halving of the picture down to one pixel. CKKS: not possible (comparisons). Leaks nothing but shapes: not
    how many corners there are.

    Deviations: no `num_peaks`, `footprint`, `labels`, `p_norm`. A response equal to a threshold counts as above it. Of
    equal responses within the distance the first in reading order wins; where three or more in a row are equal,
    scikit-image may also keep the third. On shares the error of the response, some 1e-4 of the largest, decides between
    responses that are closer than it: without a threshold many faint peaks of smooth parts are others than scikit-image's
    (on a photograph of 256x256 all of these below 4e-4 of the largest); with one at 2e-2 of the largest none were.
    """
    _, height, width = grey_shape(shape, "corner_peaks")
    if not 1 <= min_distance <= _MOST_DISTANCE:
        raise GraphError(f"corner_peaks: min_distance {min_distance} is outside 1 to {_MOST_DISTANCE}")
    if threshold_rel is not None and not 0 <= threshold_rel <= 1:
        raise GraphError(f"corner_peaks: threshold_rel {threshold_rel} is outside 0 to 1")
    if threshold_abs is not None and not np.isfinite(threshold_abs):
        raise GraphError(f"corner_peaks: threshold_abs {threshold_abs} is not finite")
    if response not in ("k", "eps", "shi_tomasi"):
        raise GraphError(f"corner_peaks: response {response!r} is none of 'k', 'eps', 'shi_tomasi'")
    border = min_distance if exclude_border is True else int(exclude_border)
    if not 0 <= 2 * border < min(height, width):
        raise GraphError(f"corner_peaks: a border of {border} pixels leaves nothing of a picture of {height}x{width}")
    b = PublicGraphBuilder("corner_peaks", (1, height, width))
    if response == "shi_tomasi":
        absolute, unit = shi_tomasi(b, b.input, sigma)
        values = absolute
    elif response == "eps":
        absolute, unit = harris(b, b.input, response, k, eps, sigma)
        values = absolute
    else:
        absolute, unit = harris(b, b.input, response, k, eps, sigma)
        values = _evened(b, k, sigma)
    wins, most = _wins(b, values, min_distance)
    if threshold_abs is not None:
        wins, most = b.add(wins, b.step(b.affine(absolute, 1.0, -threshold_abs / unit))), most + 1
    if threshold_rel is not None:
        limit = b.affine(_largest(b, values), np.full((1, height, width), threshold_rel))
        wins, most = b.add(wins, b.step(b.subtract(values, limit))), most + 1
    inside = np.zeros((1, height, width))
    inside[:, border : height - border, border : width - border] = 1.0
    return b.build(b.affine(b.step(b.affine(wins, 1.0, -float(most))), inside))


def _evened(b: GraphBuilder, k: float, sigma: float) -> str:
    """Harris responses times the power of two that brings the picture's largest trace to one size.

    They grow with the fourth power of contrast: without it those of pale pictures would be too small to compare.
    """
    tensor = smoothed(b, b.input, np.concatenate([harris_mix(k), [[1.0, 1.0, 0.0]]]), sigma)
    power = common_power_of_two(b, channels(b, tensor, 3, 1), _TOP, _OCTAVES)
    mixed = channels(b, tensor, 0, 3)
    even = b.multiply(b.affine(power, np.ones(b.shape(mixed))), mixed)
    return det_minus_trace(b, b.affine(even, _SIZE / _TOP), k)


def _wins(b: GraphBuilder, values: str, distance: int) -> tuple[str, int]:
    """How many of its neighbours, or places beyond the border, each pixel beats, and how many there are.

    Each pair is compared once: of equal ones the first wins.
    """
    offsets = [(0, right) for right in range(1, distance + 1)]
    offsets += [(down, right) for down in range(1, distance + 1) for right in range(-distance, distance + 1)]
    _, height, width = b.shape(values)
    total = ""
    for down, right in offsets:
        if down >= height or abs(right) >= width:
            continue
        size = (1, height - down, width - abs(right))
        start, end = (0, 0, max(0, -right)), (0, down, max(0, right))
        first, second = (b.apply(ops.Slice(place, size, (1, 1, 1)), values) for place in (start, end))
        won = b.step(b.subtract(first, second))
        for bit, place in ((won, start), (b.affine(won, -1.0, 1.0), end)):
            before, after = place[1:], (down - place[1], abs(right) - place[2])
            padded = b.pad(bit, ((0, 0), (before[0], after[0]), (before[1], after[1])), 1.0)
            total = b.add(total, padded) if total else padded
    skipped = sum(down >= height or abs(right) >= width for down, right in offsets)
    return total, 2 * (len(offsets) - skipped)


def _largest(b: GraphBuilder, values: str) -> str:
    """The largest element, shape (1, 1, 1)."""
    count = elements(b.shape(values))
    rest = b.reshape(values, (count,))
    while count > 1:
        half, odd = divmod(count, 2)
        first, second = (b.apply(ops.Slice((start,), (half,), (1,)), rest) for start in (0, half))
        difference = b.subtract(first, second)
        larger = b.add(second, b.multiply(b.step(difference), difference))
        rest = b.concat(larger, b.apply(ops.Slice((2 * half,), (1,), (1,)), rest)) if odd else larger
        count = half + odd
    return b.reshape(rest, (1, 1, 1))
