"""Moments of pictures: raw, central, normalized, and Hu's invariants.

Follows `skimage.measure` 0.26 and Hu, IRE Transactions on Information Theory 1962. Coordinates are scaled to [-1, 1] or
[0, 1] inside of a graph; what makes the results those of scikit-image is a last public factor of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import along, picture_shape
from secureimg.features.octaves import power_and_root
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder, ops

__all__ = ["moments", "moments_central", "moments_hu", "moments_normalized"]

Array = NDArray[np.floating]
Spacing = tuple[float, float]

_MOST_ORDER: Final = 8
_SIZE: Final = 256.0  # that sums are brought to before they are divided
_OCTAVES: Final = 18  # from a white picture down to a mean of 1 / 2^18
_ERROR: Final = 2.0**-14
_REACH: Final = 4.0  # of scaled coordinates: the higher the order, the more bits a moment needs
_EXACT_BITS: Final = 25  # of factors that are powers of two and whole on shares
_BLACK: Final = 0.25  # what is below it, of values between 1/2 and 1, was 0 or nearly so
_HU_ROOM: Final = 64.0  # of normalized moments times 4^n
_DENSITY: Final = 4.0  # normalized moments of order n are held times 4^n


def moments(shape: tuple[int, ...], order: int = 3, *, spacing: Spacing | None = None) -> Graph:
    """Raw moments: sums of pixels times powers of their row and column.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    order : int
        Largest sum of the two powers, 1 to 8.
    spacing : (float, float), optional
        Of rows and columns; 1 if not given.

    Returns
    -------
    Graph
        To (C, order + 1, order + 1): for each channel the result of `skimage.measure.moments`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: one level; errors are relative to the largest moment, so take a spacing of (1 / H, 1 / W), which brings all to
    one size. Shares: public weights only, 2 rounds. With a spacing of 1 moments of order 3 fit for pictures up to
    512x512; for larger ones or higher orders compiling refuses: take a smaller spacing. Leaks nothing but shapes.
    Deviations: moments whose two powers add up to more than `order` are 0.
    """
    return moments_central(shape, (0.0, 0.0), order, spacing=spacing).replace(name="moments")


def moments_central(
    shape: tuple[int, ...],
    center: tuple[float, float] | None = None,
    order: int = 3,
    *,
    spacing: Spacing | None = None,
) -> Graph:
    """Central moments: about a given center, or about the centroid of each channel.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture; values in [0, 1] if the centroid is to be found.
    center : (float, float), optional
        Row and column, in units of the spacing; the centroid if not given.
    order, spacing
        As of `moments`.

    Returns
    -------
    Graph
        To (C, order + 1, order + 1): for each channel the result of `skimage.measure.moments_central`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: with a `center` only, as `moments`. Shares: with a `center` as `moments`; without one some 30 rounds on a few
    numbers for each channel, off by some 3e-4 of the largest on photographs, by 1.3e-3 where all that is bright lies in a
    corner. Leaks nothing but shapes. Deviations: as `moments`; all are 0 for a channel that is black (scikit-image: NaN),
    and on shares wrong for one with a mean below 2^-17.
    """
    b, axes = _begin("moments_central", shape, order, spacing)
    pairs = _pairs(order)
    if center is None:
        central, total, units = _about_centroid(b, axes, order)
        value = b.multiply(b.affine(total, np.ones((1, len(pairs)))), central)
        return b.build(_spread(b, value, pairs, _products(units, pairs), order))
    if not all(math.isfinite(c) for c in center):
        raise GraphError(f"moments_central: center {center} is not two finite numbers")
    deltas = [axis - c for axis, c in zip(axes, center, strict=True)]
    most = 2.0 ** (_EXACT_BITS // order)
    units = [min(_unit(delta), most) for delta in deltas]
    value = _sums(b, [delta / unit for delta, unit in zip(deltas, units, strict=True)], order)
    return b.build(_spread(b, value, pairs, _products(units, pairs), order))


def moments_normalized(shape: tuple[int, ...], order: int = 3, *, spacing: Spacing | None = None) -> Graph:
    """Normalized central moments, which neither place nor size of what is seen changes.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].
    order : int
        Largest sum of the two powers, 2 to 8.
    spacing
        As of `moments`.

    Returns
    -------
    Graph
        From the picture to (C, order + 1, order + 1): for each channel the result of `skimage.measure.moments_normalized` of
        its central moments.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: not possible (divisions). Shares: some 40 rounds on a few numbers for each channel. Errors grow where what is seen
    is small beside its distance from the middle of the picture (a dot of 1 / 20 of the width in a corner is wrong), and for
    means below 1 / 64: crop first. Leaks nothing but shapes. Deviations: takes the picture, not its moments; moments whose
    two powers add up to more than `order`, or to less than 2 (scikit-image: NaN), are 0.
    """
    if order < 2:
        raise GraphError(f"moments_normalized: order {order} is outside 2 to {_MOST_ORDER}")
    b, axes = _begin("moments_normalized", shape, order, spacing)
    value, pairs = _normalized(b, axes, order)
    least = min(spacing or (1.0, 1.0))
    factors = np.array([(_DENSITY * least) ** -(p + q) for p, q in pairs])
    return b.build(_spread(b, value, pairs, np.append(factors, _DENSITY**-2), order))


def moments_hu(shape: tuple[int, ...]) -> Graph:
    """Hu's seven moments, which neither place, size nor direction of what is seen changes.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].

    Returns
    -------
    Graph
        From the picture to (C, 7): for each channel the result of `skimage.measure.moments_hu` of its normalized moments.

    Raises
    ------
    GraphError
        If the shape is no picture's.

    Notes
    -----
    As `moments_normalized`, and some 10 rounds more. On shares wrong where normalized moments of order 3 exceed 2, as those
    of pale pictures do (mean below 1 / 16): raise the contrast first. Deviations: takes the picture, not its moments.
    """
    b, axes = _begin("moments_hu", shape, 3, None)
    nu, pairs = _normalized(b, axes, 3)
    nu = b.apply(ops.Slice((0, 0), (b.shape(nu)[0], len(pairs)), (1, 1)), nu)
    rows = (
        {(2, 0): 1, (0, 2): -1}, {(1, 1): 2}, {(3, 0): 1, (1, 2): 1}, {(2, 1): 1, (0, 3): 1},
        {(3, 0): 1, (1, 2): -3}, {(2, 1): 3, (0, 3): -1}, {(2, 0): 1, (0, 2): 1},
    )  # fmt: skip
    parts = b.dense(nu, np.array([[float(row.get(pair, 0)) for pair in pairs] for row in rows]))
    # d, n, s, t, u, v, sum; the last element of every factor says how large the others can be, see `_shifted`
    values = b.pad(parts, ((0, 0), (0, 1)), _HU_ROOM)
    second = _chosen(b, values, (0, 1, 2, 3, 4, 5, 2, 7), values, (0, 1, 2, 3, 4, 5, 3, 7))
    curls = np.zeros((5, 8))  # ss - 3 tt, 3 ss - tt, ss - tt, 2 st
    curls[0, [2, 3]], curls[1, [2, 3]], curls[2, [2, 3]], curls[3, 6], curls[4, 7] = (1, -3), (3, -1), (1, -1), 2, 1
    third = _chosen(b, values, (2, 3, 0, 1, 7), b.dense(second, curls), range(5))
    fourth = _chosen(b, values, (4, 5, 5, 4, 7), third, (0, 1, 0, 1, 4))
    seven = np.zeros((8, 26))  # of the values, then their products of two, three and four
    seven[0, 6] = seven[1, [8, 9]] = seven[2, [12, 13]] = seven[3, [10, 11]] = 1
    seven[4, [21, 22]] = seven[5, [18, 19]] = seven[6, 23] = 1
    seven[6, 24], seven[7, 25] = -1, 1
    value = b.dense(b.concat(values, second, third, fourth, axis=1), seven)
    exponents = np.log2(_DENSITY) * np.array([2, 4, 6, 6, 12, 8, 12, 20 / 3])
    last = np.minimum(exponents, 16)  # factors that are exact on shares, a few bits at a time: the smallest are tiny
    for part in (np.ceil((exponents - last) / 2), np.floor((exponents - last) / 2), last):
        value = b.apply(along(b.shape(value), 1, sp.csr_array(np.diag(2.0**-part))), value)
    return b.build(b.apply(ops.Slice((0, 0), (b.shape(value)[0], 7), (1, 1)), value))


def _chosen(b: GraphBuilder, left: str, of_left: Iterable[int], right: str, of_right: Iterable[int]) -> str:
    """Products of some elements of (C, n) and (C, m)."""
    picked = [
        b.apply(along(b.shape(value), 1, _picking(list(places), b.shape(value)[1])), value)
        for value, places in ((left, of_left), (right, of_right))
    ]
    return b.multiply(*picked)


# ------------------------------------------------------------------------------------------------------------ the parts


def _begin(
    name: str, shape: tuple[int, ...], order: int, spacing: Spacing | None
) -> tuple[GraphBuilder, tuple[Array, Array]]:
    """A builder, and where rows and columns lie."""
    full = picture_shape(shape, name)
    if not 1 <= order <= _MOST_ORDER:
        raise GraphError(f"{name}: order {order} is outside 1 to {_MOST_ORDER}")
    steps = (1.0, 1.0) if spacing is None else tuple(spacing)
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise GraphError(f"{name}: spacing {spacing} is not two numbers (rows, columns) above 0")
    return PublicGraphBuilder(name, full), (np.arange(full[1]) * steps[0], np.arange(full[2]) * steps[1])


def _pairs(order: int) -> list[tuple[int, int]]:
    return [(p, q) for p in range(order + 1) for q in range(order + 1 - p)]


def _unit(delta: Array) -> float:
    """A power of two that is at least as large as every one of them."""
    return float(2.0 ** math.ceil(math.log2(max(float(np.abs(delta).max()), 2.0**-40))))


def _products(units: list[float], pairs: list[tuple[int, int]]) -> Array:
    return np.array([units[0] ** p * units[1] ** q for p, q in pairs])


def _sums(b: GraphBuilder, places: list[Array], order: int) -> str:
    """Sums of the picture times powers of scaled coordinates: (C, pairs)."""
    value = b.input
    for axis in (2, 1):
        powers = sp.csr_array(places[axis - 1][None, :] ** np.arange(order + 1)[:, None])
        value = b.apply(along(b.shape(value), axis, powers), value)
    pairs, side = _pairs(order), order + 1
    flat = b.reshape(value, (b.shape(value)[0], side * side))
    return b.apply(along(b.shape(flat), 1, _picking([p * side + q for p, q in pairs], side * side)), flat)


def _picking(places: list[int], width: int) -> sp.csr_array:
    """Row r is 1 at ``places[r]``."""
    return sp.csr_array((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), width))


def _spread(b: GraphBuilder, value: str, pairs: list[tuple[int, int]], factors: Array, order: int) -> str:
    """Each of (C, pairs) times its factor, at its place in (C, order + 1, order + 1); elements behind them go."""
    side = order + 1
    places = [p * side + q for p, q in pairs] + list(range(side * side, side * side + factors.size - len(pairs)))
    height = side * side + factors.size - len(pairs)
    matrix = sp.csr_array((factors, (places, np.arange(factors.size))), shape=(height, factors.size))
    spread = b.apply(along(b.shape(value), 1, matrix), value)
    channels = b.shape(value)[0]
    return b.reshape(b.apply(ops.Slice((0, 0), (channels, side * side), (1, 1)), spread), (channels, side, side))


def _column(b: GraphBuilder, value: str, number: int = 0) -> str:
    return b.apply(ops.Slice((0, number), (b.shape(value)[0], 1), (1, 1)), value)


def _means(b: GraphBuilder, axes: tuple[Array, Array], order: int) -> tuple[str, str, str, str, list[float]]:
    """Sums over scaled coordinates divided by that of the pixels; it; it brought to one size, root of that power; units.

    Coordinates are within plus and minus 4 around the middle of the picture.
    """
    deltas = [axis - axis.mean() for axis in axes]
    units = [_unit(delta / _REACH) for delta in deltas]
    sums = _sums(b, [delta / unit for delta, unit in zip(deltas, units, strict=True)], order)
    total = _column(b, sums)
    least = _SIZE * 2.0 ** -math.ceil(math.log2(axes[0].size * axes[1].size))
    power, root = power_and_root(b, total, _SIZE, _OCTAVES, least)
    count = b.shape(sums)[1]
    even = b.multiply(b.affine(power, np.ones((1, count))), sums)
    size = b.apply(ops.Clip(_BLACK), b.affine(_column(b, even), 1 / _SIZE))
    inverse = b.reciprocal(size, 0.49, 1.02, error=_ERROR)
    means = b.affine(b.multiply(even, b.affine(inverse, np.ones((1, count)))), 1 / _SIZE)
    return means, total, size, root, units


def _about_centroid(b: GraphBuilder, axes: tuple[Array, Array], order: int) -> tuple[str, str, list[float]]:
    means, total, _, _, units = _means(b, axes, order)
    return _shifted(b, means, order), total, units


def _shifted(b: GraphBuilder, means: str, order: int) -> str:
    """Means about the centroid from means about the middle: ``sum_i binomial(p, i) (-c)^(p - i) mean_i``, axis by axis.

    A last element of each factor says how large the others can be: ranges are measured on pictures with few extremes.
    """
    pairs = _pairs(order)
    width = len(pairs)
    first = np.array([float(pair != (0, 0)) for pair in pairs])
    means = b.affine(means, first, 1.0 - first)  # of the pixels alone: 1 by definition
    centroid = np.zeros((2, width))
    centroid[0, pairs.index((1, 0))] = centroid[1, pairs.index((0, 1))] = -1.0
    step = b.pad(b.dense(means, centroid), ((0, 0), (0, 1)), _REACH)
    powers = [step]
    for _ in range(order - 1):
        powers.append(b.multiply(powers[-1], step))
    every = b.concat(*powers, axis=1)
    for axis in (0, 1):
        terms = [(pair, i) for pair in pairs for i in range(pair[axis])]
        sources = [pairs.index((i, pair[1]) if axis == 0 else (pair[0], i)) for pair, i in terms]
        shifts = [3 * (pair[axis] - i - 1) + axis for pair, i in terms]
        product = _chosen(b, every, [*shifts, 3 * order - 1], means, [*sources, 0])
        sums = np.zeros((width, len(terms) + 1))
        for number, (pair, i) in enumerate(terms):
            sums[pairs.index(pair), number] = math.comb(pair[axis], i)
        means = b.add(means, b.dense(product, sums))
    return means


def _normalized(b: GraphBuilder, axes: tuple[Array, Array], order: int) -> tuple[str, list[tuple[int, int]]]:
    """Normalized moments of order n >= 2 times 4^n and which; a last element says how large they can be."""
    means, _, size, root, units = _means(b, axes, order)
    central = _shifted(b, means, order)
    pixels = axes[0].size * axes[1].size
    inverse = b.inverse_sqrt(size, 0.49, 1.02, error=_ERROR)
    density = b.affine(b.multiply(root, inverse), math.sqrt(pixels / _SIZE) / 2)
    all_pairs = _pairs(order)
    pairs = [pair for pair in all_pairs if sum(pair) >= 2]
    kept = _picking([all_pairs.index(pair) for pair in pairs], len(all_pairs))
    every = b.apply(along(b.shape(central), 1, kept), central)
    value = b.pad(every, ((0, 0), (0, 1)), _REACH**2)  # see `_shifted`
    for number in range(1, order + 1):
        more = np.array([float(sum(pair) >= number) for pair in pairs] + [0.0])
        room = 1.0 - more + np.eye(len(pairs) + 1)[-1] * (_DENSITY - 1.0) * (number <= 2)
        factor = b.affine(density, more[None], room[None])
        value = b.multiply(value, factor)
    ratios = [2 * unit * _DENSITY / math.sqrt(pixels) for unit in units]
    factors = np.append(_products(ratios, pairs), 1.0)
    return b.apply(along(b.shape(value), 1, sp.csr_array(np.diag(factors))), value), pairs
