"""Histograms with differential privacy."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy import Charge, add_discrete_laplace, laplace_scale
from secureimg.publishing.obfuscation import checked_picture
from secureimg.publishing.private_release import (
    Neighbours,
    PrivateValues,
    changed,
    checked_epsilon,
    noise_stream,
    promise,
)
from secureimg.sharing.streams import Stream

__all__ = ["dp_histogram", "histogram_draws"]

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def dp_histogram(
    image: Array, epsilon: float, *, neighbours: Neighbours, bins: int = 256, stream: Stream | None = None
) -> PrivateValues:
    """Count the pixels of each brightness, with noise: epsilon-differential privacy.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    epsilon : float
    neighbours : int or "whole image"
        How many pixels m neighbours may differ in, in any way.
    bins : int
        Of equal width over [0, 1], 1 to 65,536; 1 counts in the last.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    PrivateValues
        `values` is (bins,) int64, or (3, bins) for colour: counts with noise, which may be negative; clipping them at 0 is
        allowed and makes their mean too large. `noise` is the scale, ``2 C m / epsilon`` pixels.

    Raises
    ------
    PublishingError
        If the array is no picture, a parameter is out of range or the noise exceeds 55 bits.

    Notes
    -----
    A pixel that changes leaves one bin and enters another, in each of C channels: ``sum |h - h'| <= 2 C m``. Counts get
    discrete Laplace noise of scale ``2 C m / epsilon``, drawn exactly. The shape, so the sum of the true counts, is public.

    Source: Dwork, McSherry, Nissim and Smith, TCC 2006, section 3.2 (with replacement: twice the sensitivity). Cost: one
    pass over the pixels and 0.1 us a bin.
    """
    image, scale, charge = _prepared(image, epsilon, neighbours, bins)
    values = _released(image, bins, scale, 1, noise_stream(stream))[0]
    shape = (bins,) if image.ndim == 2 else (3, bins)
    return PrivateValues(
        values.reshape(shape), promise(neighbours, image, charge.epsilon, 0.0), charge, scale[0] / scale[1]
    )


def histogram_draws(
    image: Array, epsilon: float, count: int, stream: Stream, *, neighbours: Neighbours, bins: int = 256
) -> Counts:
    """Return the counts of `count` independent releases of `dp_histogram`, (count, channels * bins), for tests of it."""
    image, scale, _ = _prepared(image, epsilon, neighbours, bins)
    return _released(image, bins, scale, count, stream)


def _prepared(image: Array, epsilon: float, neighbours: Neighbours, bins: int) -> tuple[Array, tuple[int, int], Charge]:
    image, epsilon = checked_picture(image), checked_epsilon(epsilon)
    if type(bins) is not int or not 1 <= bins <= 1 << 16:
        raise PublishingError(f"a histogram of {bins} bins: use a whole number from 1 to 65536")
    colours = 1 if image.ndim == 2 else 3
    scale = laplace_scale(2 * colours * changed(neighbours, image), epsilon)
    return image, scale, Charge("dp_histogram", neighbours, epsilon=epsilon)


def _released(image: Array, bins: int, scale: tuple[int, int], count: int, stream: Stream) -> Counts:
    pixels = np.ascontiguousarray(image.reshape(image.shape[0] * image.shape[1], -1))
    counts = np.zeros((pixels.shape[1], bins), dtype=np.int64)
    _counted(pixels, counts)
    noisy: Counts = np.empty((count, counts.size), dtype=np.int64)
    noisy[:] = counts.reshape(-1)
    add_discrete_laplace(*scale, noisy.reshape(-1), stream)
    return noisy


@numba.njit(cache=True, nogil=True)
def _counted(pixels: Array, counts: Counts) -> None:
    bins = counts.shape[1]
    for place in range(pixels.shape[0]):
        for colour in range(pixels.shape[1]):
            counts[colour, min(bins - 1, int(pixels[place, colour] * bins))] += 1
