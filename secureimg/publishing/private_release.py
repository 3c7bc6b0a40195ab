"""What every private release has: neighbours in words, a guarantee, a charge for the ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy import WHOLE_IMAGE, Charge
from secureimg.publishing.guarantee import Guarantee
from secureimg.sharing.streams import Stream, fresh_seed

__all__ = [
    "Neighbours",
    "PrivateImage",
    "PrivateValues",
    "changed",
    "checked_epsilon",
    "in_words",
    "noise_stream",
    "promise",
]

Neighbours = int | Literal["whole image"]
"""What a release hides: a change of at most so many pixels, or any other picture of the same shape."""


@dataclass(frozen=True)
class PrivateImage:
    """A picture with noise.

    Attributes
    ----------
    image : (H, W) or (H, W, 3) float64
        In [0, 1].
    guarantee : Guarantee
    charge : Charge
        For a `secureimg.privacy.Ledger`: charge it before the picture leaves.
    noise : float
        Scale of the noise, in the units that the method states.
    """

    image: NDArray[np.float64]
    guarantee: Guarantee
    charge: Charge
    noise: float


@dataclass(frozen=True)
class PrivateValues:
    """Numbers with noise.

    Attributes
    ----------
    values : ndarray
    guarantee : Guarantee
    charge : Charge
        For a `secureimg.privacy.Ledger`: charge it before the numbers leave.
    noise : float
        Scale of the noise (its standard deviation if it is Gaussian), in units of the values.
    """

    values: NDArray[Any]
    guarantee: Guarantee
    charge: Charge
    noise: float


def changed(neighbours: Neighbours, image: NDArray[Any]) -> int:
    """Return how many pixels neighbours of an image may differ in.

    Raises
    ------
    PublishingError
        If that is not a number of pixels of the image.
    """
    pixels = int(image.shape[0]) * int(image.shape[1])
    if neighbours == WHOLE_IMAGE:
        return pixels
    if type(neighbours) is not int or not 1 <= neighbours <= pixels:
        raise PublishingError(
            f"neighbours that differ in {neighbours!r} pixels of {pixels}: name a number from 1 to {pixels}, or "
            f"{WHOLE_IMAGE!r}"
        )
    return neighbours


def checked_epsilon(epsilon: float) -> float:
    """Return epsilon, or refuse what is no positive number."""
    if not (math.isfinite(epsilon) and 0.0 < epsilon <= 1e6):
        raise PublishingError(f"epsilon is {epsilon}: a number above 0 and at most 10^6 is needed")
    return float(epsilon)


def in_words(neighbours: Neighbours, image: NDArray[Any], epsilon: float) -> str:
    """Say what neighbours are, and what that means for this picture."""
    height, width = image.shape[:2]
    pixels = height * width
    if neighbours == WHOLE_IMAGE:
        return f"any two pictures of {width} x {height}: the whole picture is protected"
    count = changed(neighbours, image)
    whole = epsilon * -(-pixels // count)
    return (
        f"pictures of {width} x {height} that differ in at most {count:,} of {pixels:,} pixels "
        f"({100 * count / pixels:.3g} %), wherever they are. What covers more pixels, as a face mostly does, is "
        f"protected less: {2 * count:,} pixels have epsilon {2 * epsilon:g}, the whole picture has {whole:g}"
    )


def promise(neighbours: Neighbours, image: NDArray[Any], epsilon: float, delta: float, clear: str = "") -> Guarantee:
    """Return the guarantee of a release with differential privacy."""
    slack = f" and the addition of {delta:g}" if delta else ""
    return Guarantee(
        "differential privacy",
        f"Whoever sees the result, whatever else they know, finds no event more likely under one of two neighbours than "
        f"under the other by more than a factor of e^{epsilon:g} = {_factor(epsilon)}{slack}, as long as AES-128 is a "
        "pseudo-random permutation.",
        in_words(neighbours, image, epsilon),
        epsilon,
        delta,
        clear,
    )


def noise_stream(stream: Stream | None) -> Stream:
    """Return the stream given, or a fresh one."""
    return Stream(fresh_seed(), "noise of a published image") if stream is None else stream


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):.4g}" if epsilon < 100 else f"10^{epsilon / math.log(10):.0f}"
