"""An empirical check of a claimed epsilon: how well can releases of two neighbouring images be told apart?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from secureimg.errors import PublishingError
from secureimg.publishing.private_release import noise_stream
from secureimg.sharing.streams import Stream

__all__ = ["Distinction", "Mechanism", "distinguishing_bound"]

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

Mechanism = Callable[[Any, int, Stream], NDArray[Any]]
"""Takes an image, a number of releases and a stream; returns that many independent releases, (count, ...)."""

_PILOT: Final = 4096
_PIECE: Final = 1 << 20
_THRESHOLDS: Final = 400
_CLEAR: Final = 4.0  # standard errors that a value's mean must move by to be looked at


@dataclass(frozen=True)
class Distinction:
    """What a distinguishing test found.

    Attributes
    ----------
    epsilon : float
        Lower bound on the mechanism's epsilon for these two images, 0 if nothing was found.
    confidence : float
        With which it holds.
    draws : int
        Of each image that the bound was computed on; as many were used to choose the event.
    likely, unlikely : int
        In how many of them the event took place, for the image that it is likely for and for the other one.
    """

    epsilon: float
    confidence: float
    draws: int
    likely: int
    unlikely: int


def distinguishing_bound(
    mechanism: Mechanism,
    image_a: Any,
    image_b: Any,
    *,
    draws: int = 200_000,
    confidence: float = 0.999,
    delta: float = 0.0,
    stream: Stream | None = None,
) -> Distinction:
    """Bound epsilon from below by telling releases of two images apart.

    Parameters
    ----------
    mechanism : callable
        `Mechanism`, such as ``lambda image, count, stream: pixelation_draws(image, 1.0, count, stream, neighbours=16)``.
    image_a, image_b
        Neighbours, as unlike as the mechanism's neighbours may be.
    draws : int
        Releases of each image, 20,000 or more; half of them to choose the event.
    confidence : float
        Above 0.5 and below 1: the chance, at least, that the bound is not above the true epsilon.
    delta : float
        Of the claim; 0 for pure differential privacy.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    Distinction
        A bound above the claimed epsilon refutes the claim. One below does not prove it: the event looked for is a
        half-space, and rare events are not seen.

    Raises
    ------
    PublishingError
        If a parameter is out of range or the releases are no numbers of equal shape.

    Notes
    -----
    4,096 releases of each image give a direction: differences of means over variances, of the values whose means clearly
    differ. Half of the draws, projected on it, choose the event "at least t" or "at most t", for one image or for the other,
    that bounds epsilon best. The other half, which the choice has not seen, gives the bound: epsilon >= ln((p - delta) / q),
    p the lower and q the upper limit of Clopper and Pearson (1934) for the event under either image, each at half of
    ``1 - confidence``.

    Source: Ding et al., CCS 2018; Jagielski et al., NeurIPS 2020. Cost: 2 (draws + 4096) releases; memory for 2^20 values.
    """
    if not 20_000 <= draws <= 10**9:
        raise PublishingError(f"{draws} draws tell nothing: take 20,000 to 10^9")
    if not 0.5 < confidence < 1.0 or not 0.0 <= delta < 1.0:
        raise PublishingError(
            f"a confidence of {confidence} and a delta of {delta}: the first lies between 0.5 and 1, the second is below 1"
        )
    stream = noise_stream(stream)
    pilots = [_released(mechanism, image, _PILOT, stream) for image in (image_a, image_b)]
    if pilots[0].shape != pilots[1].shape:
        raise PublishingError(
            f"releases of {pilots[0].shape[1]} and of {pilots[1].shape[1]} values are told apart by that"
        )
    direction = _direction(*pilots)
    half = draws // 2
    risk = (1.0 - confidence) / 2.0
    first = [_projected(mechanism, image, half, direction, stream) for image in (image_a, image_b)]
    side, order, threshold = _best_event(first, half, risk, delta)
    second = [_projected(mechanism, image, half, direction, stream) for image in (image_a, image_b)]
    likely, unlikely = (int((side * second[which] >= threshold).sum()) for which in (order, 1 - order))
    bound = float(_bounds(np.array([likely]), np.array([unlikely]), half, risk, delta)[0])
    return Distinction(max(0.0, bound), confidence, half, likely, unlikely)


def _released(mechanism: Mechanism, image: Any, count: int, stream: Stream) -> Array:
    found = np.asarray(mechanism(image, count, stream))
    if found.ndim < 1 or len(found) != count or found.dtype.kind not in "fiu" or found.size < count:
        raise PublishingError(
            f"a mechanism was asked for {count} releases and gave {found.dtype} of shape {found.shape}"
        )
    return found.reshape(count, -1).astype(np.float64, copy=False)


def _direction(a: Array, b: Array) -> Array:
    difference, variance = a.mean(axis=0) - b.mean(axis=0), (a.var(axis=0) + b.var(axis=0)) / 2.0
    error = np.sqrt(2.0 * variance / len(a))
    clear = np.abs(difference) > _CLEAR * error
    if not clear.any():
        clear[np.argmax(np.abs(difference) / np.where(error > 0.0, error, 1.0))] = True
    direction = np.where(clear, difference / np.where(variance > 0.0, variance, 1.0), 0.0)
    size = float(np.abs(direction).max())
    return direction / size if size > 0.0 else clear.astype(np.float64)


def _projected(mechanism: Mechanism, image: Any, count: int, direction: Array, stream: Stream) -> NDArray[np.float32]:
    # single precision: releases that are equal where it matters, as clipped ones are, stay equal whatever is added up first
    out = np.empty(count, dtype=np.float32)
    rows = max(1, _PIECE // direction.size)
    for start in range(0, count, rows):
        piece = _released(mechanism, image, min(rows, count - start), stream)
        out[start : start + rows] = piece @ direction
    return out


def _best_event(projected: list[NDArray[np.float32]], count: int, risk: float, delta: float) -> tuple[int, int, float]:
    """Return side (1 or -1), which image is likelier, and threshold: the event is ``side * value >= threshold``."""
    best = (-math.inf, 1, 0, 0.0)
    for side in (1, -1):
        ordered = [np.sort(side * values) for values in projected]
        pooled = np.concatenate(ordered)
        pooled.sort()
        ranks = np.unique(np.geomspace(1, pooled.size, _THRESHOLDS).astype(np.int64))
        levels = np.unique(pooled[pooled.size - ranks])
        counts = [count - np.searchsorted(values, levels, "left") for values in ordered]
        for order in (0, 1):
            bounds = _bounds(counts[order], counts[1 - order], count, risk, delta)
            place = int(np.argmax(bounds))
            if bounds[place] > best[0]:
                best = (float(bounds[place]), side, order, float(levels[place]))
    return best[1:]


def _bounds(likely: Counts, unlikely: Counts, count: int, risk: float, delta: float) -> Array:
    """Return lower bounds of epsilon; minus infinity where there is none."""
    low = np.where(likely > 0, betaincinv(np.maximum(likely, 1), count - likely + 1, risk), 0.0)
    high = np.where(unlikely < count, betaincinv(unlikely + 1, np.maximum(count - unlikely, 1), 1.0 - risk), 1.0)
    found: Array = np.full(low.shape, -math.inf)
    np.log(np.maximum(low - delta, 1e-300) / high, out=found, where=low > delta)
    return found
