"""What repeated Gaussian noise costs: zero-concentrated differential privacy, and (epsilon, delta)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from secureimg.errors import PublishingError

__all__ = ["gaussian_epsilon", "gaussian_rho", "rho_for", "rho_to_epsilon"]

_LEAST_CONVERTED, _MOST_CONVERTED = 2.0**-60, 1000.0


def gaussian_rho(sigma: float, sensitivity: float, rounds: int = 1) -> float:
    """Return rho of `rounds` releases with discrete Gaussian noise: ``rounds * sensitivity^2 / (2 sigma^2)``.

    Parameters
    ----------
    sigma : float
        Of the noise on each coordinate, in the same units as the sensitivity.
    sensitivity : float
        The most that neighbours may differ by in L2.
    rounds : int

    Raises
    ------
    PublishingError
        If a number is out of range.

    Notes
    -----
    Canonne, Kamath and Steinke, NeurIPS 2020, theorems 4 and 14 (one integer, vectors of them); zCDP adds up under
    composition (Bun and Steinke, TCC 2016). For noise on integers with exact sampling; for a sum of several owners' discrete
    Gaussians it holds up to an error that is bounded elsewhere (Kairouz, Liu and Steinke, ICML 2021).
    """
    if not (math.isfinite(sigma) and sigma > 0 and math.isfinite(sensitivity) and sensitivity >= 0 and rounds >= 0):
        raise PublishingError(
            f"{rounds} rounds of noise of sigma {sigma} for a sensitivity of {sensitivity}: sigma must be above 0, the "
            "others 0 or more, all finite"
        )
    return rounds * (sensitivity / sigma) ** 2 / 2.0


def rho_to_epsilon(rho: float, delta: float) -> float:
    """Return the least epsilon for which rho-zCDP gives (epsilon, delta)-differential privacy.

    Parameters
    ----------
    rho : float
        0 to 10^6.
    delta : float
        Above 0, below 1.

    Raises
    ------
    PublishingError
        If a number is out of range.

    Notes
    -----
    OpenDP's conversion (`make_zCDP_to_approxDP`), which is Canonne, Kamath and Steinke's corollary 13 rounded upwards; above
    a rho of 1000, where it overflows, ``rho + 2 sqrt(rho ln(1/delta))``. A rho below 2^-60 counts as that.
    Cost: 2 ms, and about a second for the first one in a process, which imports OpenDP and enables its feature "contrib".
    """
    if not (math.isfinite(rho) and 0.0 <= rho <= 1e6):
        raise PublishingError(f"rho is {rho}: a number from 0 to 10^6 is needed")
    if not 0.0 < delta < 1.0:
        raise PublishingError(f"delta is {delta}: a number above 0 and below 1 is needed")
    if rho == 0.0:
        return 0.0
    if rho > _MOST_CONVERTED:
        return (rho + 2.0 * math.sqrt(rho * -math.log(delta))) * (1 + 1e-14)
    return _converted(max(rho, _LEAST_CONVERTED), delta)


@lru_cache(maxsize=1024)
def _converted(rho: float, delta: float) -> float:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    scale = math.nextafter(math.sqrt(0.5 / rho), 0.0)
    gaussian: Any = dp.m.make_gaussian(dp.atom_domain(T=int), dp.absolute_distance(T=int), scale=scale)
    both: Any = dp.c.make_zCDP_to_approxDP(gaussian)
    return float(both.map(1).epsilon(delta))


def gaussian_epsilon(sigma: float, sensitivity: float, rounds: int, delta: float) -> float:
    """Return epsilon at `delta` of `rounds` releases with discrete Gaussian noise; see `gaussian_rho`, `rho_to_epsilon`."""
    return rho_to_epsilon(gaussian_rho(sigma, sensitivity, rounds), delta)


@lru_cache(maxsize=1024)
def rho_for(epsilon: float, delta: float) -> float:
    """Return the largest rho, to four digits, that gives (epsilon, delta)-differential privacy; never one too large.

    Raises
    ------
    PublishingError
        If epsilon is not above 0 and at most 1000, or delta is out of range.

    Notes
    -----
    Starts from ``rho + 2 sqrt(rho ln(1/delta)) = epsilon``, which is safe (Bun and Steinke, TCC 2016, proposition 1.3).
    Cost: 15 conversions.
    """
    if not 0.0 < epsilon <= 1000.0:
        raise PublishingError(f"epsilon is {epsilon}: a number above 0 and at most 1000 is needed")
    if not 0.0 < delta < 1.0:
        raise PublishingError(f"delta is {delta}: a number above 0 and below 1 is needed")
    log = math.log(1.0 / delta)
    low = (epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))) ** 2 * (1 - 1e-12)
    high = low
    while rho_to_epsilon(high, delta) <= epsilon and high < 1e5:
        low, high = high, 1.5 * high
    while high > low * (1 + 1e-4):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rho_to_epsilon(middle, delta) <= epsilon else (low, middle)
    return low
