"""Statistics of pictures: histograms, colour moments, gradient energy.

Histograms follow `numpy.histogram`; colour moments Stricker and Orengo, SPIE 1995, with the skewness of `scipy.stats.skew`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.features.borders import convolve
from secureimg.features.octaves import power_and_root
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = ["color_moments", "gradient_energy", "histogram"]

_MOST_BINS: Final = 256
_MOST_DEGREE: Final = 31
_GAIN: Final = 64.0  # of what is squared or cubed, so that small values keep some bits on shares
_TOP: Final = 1.01 * _GAIN**2 / 4
_OCTAVES: Final = 18
_FLAT: Final = 0.25  # what is below it, of values between 1/2 and 1, was 0 or nearly so
_ERROR: Final = 2.0**-14
_MOST_AT_ONCE: Final = 2**16
_NEAR: Final = 2.0**-15
_SOBEL: Final = np.outer([1.0, 0.0, -1.0], [1.0, 2.0, 1.0]) / 4


def histogram(
    shape: tuple[int, ...],
    bins: int = 10,
    range: tuple[float, float] = (0.0, 1.0),  # noqa: A002  # numpy's name
    *,
    degree: int = 0,
) -> Graph:
    """How many pixels of each channel lie in each of some bins of equal width.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].
    bins : int
        1 to 256.
    range : (float, float)
        Where the first bin begins and the last one ends; pixels outside count in none.
    degree : int
        0, or 2 to 31: of the polynomials that stand for the bins, see below.

    Returns
    -------
    Graph
        To (C, bins): the result of `numpy.histogram`; with a `degree` a soft one.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    Shares: ``bins - 1`` comparisons for each value (one more for each end that lies inside of [0, 1]), 3 rounds; equal to
    numpy's for pictures of 8 bits. CKKS: with a `degree` only.

    With a degree n the function of pixels that is 1 in a bin, else 0, is developed in Chebyshev polynomials of the pixel
    over [0, 1] and damped by Jackson's factors (Weisse et al., Reviews of Modern Physics 2006, equation 71): each edge
    becomes a slope of a width of about pi / (2 n) (less near 0 and 1), every pixel counts between 0 and 1, and the counts of
    a range that covers [0, 1] still add up to the number of pixels. Only sums of the polynomials are needed: CKKS takes a
    level for each doubling of n, whatever the number of bins; more bins than n / 2 show nothing more.

    Leaks nothing but shapes. Deviations: no `weights`, `density` or unequal bins. Edges that equal a pixel of 8 bits (0.6
    and 153 / 255) are moved by 2^-15 to where numpy's rounding has them.
    """
    full = picture_shape(shape, "histogram")
    low, high = range
    if not 1 <= bins <= _MOST_BINS:
        raise GraphError(f"histogram: {bins} bins, the limits are 1 and {_MOST_BINS}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise GraphError(f"histogram: the range {range} is not two finite numbers, the lower first")
    if degree and not 2 <= degree <= _MOST_DEGREE:
        raise GraphError(f"histogram: degree {degree} is neither 0 nor 2 to {_MOST_DEGREE}")
    edges = np.linspace(low, high, bins + 1)
    b = PublicGraphBuilder("histogram", full)
    return b.build(_soft(b, edges, degree) if degree else _exact(b, edges))


def _exact(b: GraphBuilder, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """Count what lies above each edge; a bin's count is the difference of two."""
    channels, height, width = b.shape(b.input)
    bins, pixels = edges.size - 1, height * width
    # a pixel at the upper end counts: there it is compared the other way round
    compared = [(j, 1.0) for j in np.arange(1, bins).tolist()]
    compared += [(0, 1.0)] * bool(edges[0] > 0) + [(bins, -1.0)] * bool(edges[-1] < 1)
    counts = np.zeros((bins, max(len(compared), 1)))
    constant = np.zeros(bins)
    constant[0] = pixels
    for column, (edge, sign) in enumerate(compared):
        if sign < 0:  # of all pixels those that are at most the end: the others are not in the last bin
            counts[-1, column] += pixels
            constant[-1] -= pixels
            continue
        counts[min(edge, bins - 1), column] += pixels
        if edge:
            counts[edge - 1, column] -= pixels
        else:
            constant[0] -= pixels
    signs = np.array([sign for _, sign in compared] or [1.0]).reshape(1, -1, 1, 1)
    limits = np.array([edges[edge] + _to_side(edges[edge], last=sign < 0) for edge, sign in compared] or [0.0])
    shifts = -signs * limits.reshape(1, -1, 1, 1)
    pixel = b.reshape(b.input, (channels, 1, height, width))
    above = b.step(b.affine(pixel, np.broadcast_to(signs, shifts.shape), shifts))
    return b.dense(b.mean(above, (2, 3), keepdims=False), counts, constant)


def _to_side(edge: float, *, last: bool) -> float:
    """What moves an edge off a pixel of 8 bits that equals it, to the side where numpy sees it; the last is in its bin."""
    pixel = round(edge * 255) / 255
    if abs(edge - pixel) >= _NEAR:
        return 0.0
    counts = pixel <= edge if last else pixel >= edge
    return _NEAR if counts == last else -_NEAR


def _soft(b: GraphBuilder, edges: np.ndarray[tuple[int], np.dtype[np.float64]], degree: int) -> str:
    """Means of Chebyshev polynomials of the pixels, then one matrix."""
    _, height, width = b.shape(b.input)
    order = np.arange(degree + 1)
    turn = np.pi / (degree + 2)
    damping = ((degree + 2 - order) * np.cos(turn * order) + np.sin(turn * order) / np.tan(turn)) / (degree + 2)
    angles = np.arccos(np.clip(2 * edges - 1, -1, 1))
    ends = np.stack([angles, *(2 * np.sin(n * angles) / n for n in order[1:])]) / np.pi
    weights = (ends[:, :-1] - ends[:, 1:]) * damping[:, None] * height * width
    value = b.affine(b.input, 2.0, -1.0)
    powers = {1: value}
    for n in order[2:].tolist():  # T_m+n = 2 T_m T_n - T_m-n, as few products deep as can be
        half = n // 2
        if n % 2:
            powers[n] = b.subtract(b.affine(b.multiply(powers[half + 1], powers[half]), 2.0), value)
        else:
            powers[n] = b.affine(b.square(powers[half]), 2.0, -1.0)
    every = b.concat(*(_mean(b, powers[n]) for n in order[1:].tolist()), axis=1)
    return b.dense(every, weights[1:].T, weights[0])


def color_moments(shape: tuple[int, ...], *, roots: bool = True) -> Graph:
    """Mean, standard deviation and skewness of each channel.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].
    roots : bool
        False: variance and third central moment in the place of the last two: polynomials, which CKKS can evaluate.

    Returns
    -------
    Graph
        To (C, 3): `numpy.mean`, `numpy.std`, `scipy.stats.skew`.

    Raises
    ------
    GraphError
        If the shape is no picture's.

    Notes
    -----
    CKKS: with ``roots=False`` only. Shares: two products for each value, and without ``roots=False`` some 25 rounds on a few
    numbers; for standard deviations above 1 / 1024, below it results are too small. Leaks nothing but shapes.
    Deviations: Stricker and Orengo take the third root of the third central moment, we its ratio to the third power of the
    standard deviation, as is usual; the skewness of a channel of one colour is 0 (scipy: NaN).
    """
    channels, height, width = picture_shape(shape, "color_moments")
    b = PublicGraphBuilder("color_moments", (channels, height, width))
    bright = b.affine(b.input, _GAIN)
    mean = _mean(b, bright)
    everywhere = b.affine(b.reshape(mean, (channels, 1, 1)), np.ones((1, height, width)))
    rest = b.subtract(bright, everywhere)
    square = b.square(rest)
    second, third = _mean(b, square), _mean(b, b.multiply(square, rest))
    if not roots:
        second, third = b.affine(second, _GAIN**-2), b.affine(third, _GAIN**-3)
    else:
        power, root = power_and_root(b, second, _TOP, _OCTAVES)
        even = b.apply(ops.Clip(_FLAT), b.affine(b.multiply(power, second), 1.0 / _TOP))
        inverse = b.affine(b.multiply(root, b.inverse_sqrt(even, 0.48, 1.02, error=_ERROR)), _TOP**-0.5)
        for _ in range(3):
            third = b.multiply(third, inverse)
        second = b.affine(b.multiply(second, inverse), 1.0 / _GAIN)
    parts = b.affine(mean, 1.0 / _GAIN), second, third
    placed = [b.dense(part, np.eye(3)[:, number : number + 1]) for number, part in enumerate(parts)]
    return b.build(b.add(b.add(placed[0], placed[1]), placed[2]))


def _mean(b: GraphBuilder, value: str) -> str:
    """Mean of each channel, (C, 1), by weights of many bits: values that are added later need them."""
    channels, height, width = b.shape(value)
    if height * width > _MOST_AT_ONCE:  # their weights are too small for one sum
        value = b.dense(b.reshape(value, (channels * height, width)), np.full((1, width), 1 / width))
        width = 1
    flat = b.reshape(value, (channels, height * width))
    return b.dense(flat, np.full((1, height * width), 1 / (height * width)))


def gradient_energy(shape: tuple[int, ...], cell: tuple[int, int] | None = None) -> Graph:
    """Mean of the squares of edge magnitudes: how much detail there is, or how sharp a picture is (Tenengrad).

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].
    cell : (int, int), optional
        Rows and columns of the parts to take means of; the whole picture if not given.

    Returns
    -------
    Graph
        To (C, H // rows, W // columns), a mean for each cell: of the squares of `skimage.filters.sobel`. Pixels beyond the
        last whole cell do not count.

    Raises
    ------
    GraphError
        If a cell is larger than the picture.

    Notes
    -----
    Krotkov, IJCV 1988. CKKS: two linear maps and a square. Shares: a square. Leaks nothing but shapes.
    Deviations: means, not sums.
    """
    channels, height, width = picture_shape(shape, "gradient_energy")
    rows, columns = cell or (height, width)
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise GraphError(f"gradient_energy: a cell of {rows}x{columns} does not fit into a picture of {height}x{width}")
    b = PublicGraphBuilder("gradient_energy", (channels, height, width))
    # sums of many squares must fit: what there is of a small one in a large picture is lost in its mean anyway
    gain = 2.0 ** min(6, (20 - (rows * columns).bit_length()) // 2 + 3)
    both = b.square(convolve(b, b.input, gain * np.stack([_SOBEL, _SOBEL.T]), "reflect"))
    mean = b.average_pool(both, (rows, columns)) if cell else b.mean(both, (1, 2))
    pair = np.full((channels, 2, 1, 1), 0.5 / gain**2)
    return b.build(b.conv(mean, pair, groups=channels))
