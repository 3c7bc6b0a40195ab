"""Noise for metric privacy under the Euclidean distance: drawn jointly, not by coordinate."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.sharing.streams import Stream, fresh_seed

__all__ = ["MAX_DIMENSION", "metric_grid", "metric_noise", "on_grid"]

Array = NDArray[np.float64]

MAX_DIMENSION: Final = 1 << 16
_CHUNK: Final = 1 << 15
_LEAST, _MOST = 2.0**-20, 2.0**20
_FINE: Final = 16
_ROOM: Final = 32  # 53 bits of a float less 20, and one for the sum with the noise


def metric_noise(k: int, epsilon: float, count: int, stream: Stream | None = None) -> Array:
    """Draw vectors x of R^k with density proportional to exp(-epsilon ||x||_2).

    Parameters
    ----------
    k : int
        Dimension, 1 to 65,536.
    epsilon : float
        2^-20 to 2^20: privacy loss for each unit of distance.
    count : int
        Draws.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    (count, k) float64
        Not rounded: add it, then put the sum `on_grid`.

    Raises
    ------
    PublishingError
        If a parameter is out of range.

    Notes
    -----
    The radius is Gamma(k, 1 / epsilon), a sum of k exponentials, and the direction is uniform on the sphere, a normal vector
    over its length; for k = 1 this is the Laplace distribution. Independent Laplace noise on each coordinate has density
    exp(-epsilon ||x||_1): another mechanism, whose level sets are no spheres.

    Uniform numbers have 64 bits of the stream, so no exponential exceeds 65 ln 2 = 45. The arithmetic is floating point with
    53 bits: the density is this one but for relative errors of about 2^-45 and the cut tail (2^-65 an exponential).

    Source: Fan, ICME 2019; Chatzikokolakis et al., PETS 2013; Hardt and Talwar, STOC 2010 (the norm mechanism). Cost: about
    60 ns a coordinate.
    """
    if not 1 <= k <= MAX_DIMENSION:
        raise PublishingError(f"metric noise of {k} dimensions: 1 to {MAX_DIMENSION} are possible")
    if not _LEAST <= epsilon <= _MOST:
        raise PublishingError(f"metric noise of epsilon {epsilon}: a number from 2^-20 to 2^20 is needed")
    if count < 0:
        raise PublishingError(f"{count} draws of noise: ask for 0 or more")
    if stream is None:
        stream = Stream(fresh_seed(), "metric noise")
    out: Array = np.empty((count, k), dtype=np.float64)
    rows = max(1, _CHUNK // k)
    for start in range(0, count, rows):
        part = out[start : start + rows]
        radius = _exponentials(stream, len(part), k).sum(axis=1) / epsilon
        length = np.zeros(len(part))
        while (again := length == 0.0).any():  # a normal vector of no length has no direction: never seen
            part[again] = _normals(stream, int(again.sum()), k)
            length = np.sqrt(np.einsum("ij,ij->i", part, part))
        part *= (radius / length)[:, None]
    return out


def metric_grid(k: int, epsilon: float, largest: float = 1.0) -> float:
    """Return the power of two that values with metric noise are rounded to.

    Parameters
    ----------
    k, epsilon
        Of the noise.
    largest : float
        A public bound on the size of the values, above 0.

    Returns
    -------
    float
        At least 2^-17 of the noise's mean radius, and 2^20 times or more as coarse as floats of that size or of `largest`
        are. It depends on public numbers only.
    """
    return math.ldexp(1.0, max(math.frexp(k / epsilon)[1] - 1 - _FINE, math.frexp(largest)[1] - _ROOM))


def on_grid(values: Array, grid: float) -> Array:
    """Round to multiples of a grid.

    What it gives: which floats can come out no longer depends on the value under the noise, so that a set of possible
    low bits tells nothing (Mironov, CCS 2012). What it does not give: an exact distribution. The probability of each
    multiple is that of the mechanism up to the errors in the Notes of `metric_noise`; they are estimated, not proved, unlike
    those of the discrete samplers.
    """
    return np.rint(values / grid) * grid


def _uniforms(stream: Stream, rows: int, columns: int) -> Array:
    """In (0, 1]: the middles of 2^64 equal parts, as floats."""
    return (stream.words(rows * columns).reshape(rows, columns).astype(np.float64) + 0.5) * 2.0**-64


def _exponentials(stream: Stream, rows: int, columns: int) -> Array:
    found = _uniforms(stream, rows, columns)
    np.log(found, out=found)
    return np.negative(found, out=found)


def _normals(stream: Stream, rows: int, columns: int) -> Array:
    """Box and Muller: two of a pair of uniforms."""
    half = (columns + 1) // 2
    radius = np.sqrt(2.0 * _exponentials(stream, rows, half))
    angle = 2.0 * np.pi * _uniforms(stream, rows, half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :columns]
