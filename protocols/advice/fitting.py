"""Times of small kernels turned into a price for each kind of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["Prices", "Work", "fit", "price"]

Work: TypeAlias = Mapping[str, float]
"""How much of each kind of work something takes."""

Prices: TypeAlias = dict[str, float]
"""Seconds for one unit of each kind of work."""


def fit(kernels: Sequence[tuple[Work, float]]) -> Prices:
    """Return the prices, none below 0, that explain measured kernels with the smallest relative errors.

    Parameters
    ----------
    kernels : sequence of (work, seconds)

    Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, on rows divided by their times.
    """
    names = sorted({name for work, _ in kernels for name in work})
    if not names:
        return {}
    rows = np.array([[work.get(name, 0.0) for name in names] for work, _ in kernels], dtype=np.float64)
    seconds = np.maximum(np.array([value for _, value in kernels], dtype=np.float64), 1e-9)
    rows /= seconds[:, None]
    largest = np.maximum(rows.max(axis=0), 1e-300)  # units differ by ten orders of magnitude
    from scipy.optimize import nnls  # takes a third of a second to load, which other commands need not wait for

    found, _ = nnls(rows / largest, np.ones(len(kernels)))
    return dict(zip(names, (found / largest).tolist(), strict=True))


def price(work: Work, prices: Mapping[str, float]) -> float:
    """Return the seconds that work takes; a kind without a price is free."""
    return sum(amount * prices.get(name, 0.0) for name, amount in work.items())
