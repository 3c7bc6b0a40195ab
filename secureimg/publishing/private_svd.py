"""Metric privacy on singular values."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy import Charge, metric_grid, metric_noise, on_grid
from secureimg.publishing.guarantee import Guarantee
from secureimg.publishing.obfuscation import checked_picture
from secureimg.publishing.private_release import PrivateImage, checked_epsilon, noise_stream
from secureimg.sharing.streams import Stream

__all__ = ["SVD_UNIT", "dp_svd", "singular_values", "svd_draws"]

Array = NDArray[np.float64]

SVD_UNIT: Final = "a distance of 1 between the leading singular values"
"""The unit that a ledger for `dp_svd` counts."""

_LEAST, _MOST = 2.0**-10, 2.0**10


def dp_svd(image: Array, epsilon: float, k: int, *, stream: Stream | None = None) -> PrivateImage:
    """Keep k leading singular values, with noise on them: metric privacy of these values, and of nothing else.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    epsilon : float
        2^-10 to 2^10, for each unit of distance between vectors of singular values of pictures in [0, 1]. With pixels up to
        255, as in the paper, distances are 255 times as large: its epsilon is 1 / 255 of this one.
    k : int
        Values that are kept of each channel, 1 to the shorter side.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    PrivateImage
        Clipped to [0, 1]. `noise` is the mean length of the noise, ``C k / epsilon``, in units of singular values.

    Raises
    ------
    PublishingError
        If the array is no picture or a parameter is out of range.

    Notes
    -----
    With s the C k leading singular values (C channels, each with its own k), s + x is released, x with density proportional
    to ``exp(-epsilon ||x||)``. For two pictures with values s and t the densities of any outcome y differ by a factor of
    ``exp(epsilon (||y - t|| - ||y - s||)) <= exp(epsilon ||s - t||)`` by the triangle inequality: that is metric privacy for
    the Euclidean distance of singular values, which is at most that of the pictures (Mirsky 1960). Noise on each value by
    itself would give it for another distance. The sums are rounded to a grid that depends on k, epsilon and the shape; see
    `secureimg.privacy.on_grid` for what floating point leaves unproved.

    The singular vectors U and V, the picture's structure, are released as they are: an attacker may compare them with those
    of known pictures, and the guarantee says nothing about that.

    Source: Fan, ICME 2019. Cost: the singular value decomposition, cubic in the shorter side.
    """
    image, epsilon = _checked(image, epsilon, k)
    left, values, right = _decomposed(image, k)
    noisy = _noisy(values.reshape(-1), epsilon, 1, noise_stream(stream), image.size)[0].reshape(values.shape)
    planes = np.einsum("chk,ck,ckw->hwc", left, noisy, right, optimize=True)
    guarantee = Guarantee(
        "metric privacy",
        f"Whoever sees the picture finds no event more likely under one of two vectors of {values.size} leading singular "
        f"values than under another at distance d by more than a factor of e^({epsilon:g} d); what the singular "
        "vectors tell is not protected.",
        f"pictures with the same singular vectors, whose {values.size} leading singular values are a distance d apart "
        f"(Euclidean, pixels in [0, 1]): the loss is {epsilon:g} d, without a bound for the whole picture",
        epsilon,
        0.0,
        f"the {k} leading left and right singular vectors of each channel: shapes and edges, most of what is seen",
    )
    charge = Charge("dp_svd", SVD_UNIT, epsilon=epsilon)
    return PrivateImage(np.clip(planes, 0.0, 1.0).reshape(image.shape), guarantee, charge, values.size / epsilon)


def singular_values(image: Array, k: int) -> Array:
    """Return the values that `dp_svd` protects, (channels * k,)."""
    image, _ = _checked(image, 1.0, k)
    return _decomposed(image, k)[1].reshape(-1)


def svd_draws(image: Array, epsilon: float, count: int, stream: Stream, *, k: int) -> Array:
    """Return the noisy values of `count` independent releases of `dp_svd`, (count, channels * k), for tests of it."""
    image, epsilon = _checked(image, epsilon, k)
    return _noisy(_decomposed(image, k)[1].reshape(-1), epsilon, count, stream, image.size)


def _checked(image: Array, epsilon: float, k: int) -> tuple[Array, float]:
    image, epsilon = checked_picture(image), checked_epsilon(epsilon)
    if not _LEAST <= epsilon <= _MOST:
        raise PublishingError(
            f"dp_svd: epsilon is {epsilon:g} for each unit of distance, the limits are 2^-10 and 2^10"
        )
    most = min(image.shape[:2])
    if type(k) is not int or not 1 <= k <= most:
        raise PublishingError(
            f"dp_svd: {k} singular values of a picture with {most}: use a whole number from 1 to {most}"
        )
    return image, epsilon


def _decomposed(image: Array, k: int) -> tuple[Array, Array, Array]:
    """U (C, H, k), s (C, k), V (C, k, W)."""
    planes = np.moveaxis(image.reshape(*image.shape[:2], -1), 2, 0)
    left, values, right = np.linalg.svd(planes, full_matrices=False)
    return left[:, :, :k], values[:, :k], right[:, :k]


def _noisy(values: Array, epsilon: float, count: int, stream: Stream, size: int) -> Array:
    noise = metric_noise(values.size, epsilon, count, stream)
    largest = math.sqrt(size)  # of a singular value: the length of a picture of ones
    return on_grid(values + noise, metric_grid(values.size, epsilon, largest))
