"""Functions of one variable as piecewise linear curves, with the error stated.

A curve is ``start + sum_j slopes[j] * max(x - knots[j], 0)``: constant left of the first knot, and right of the last one
if the slopes sum up to 0. All knots of all elements go through one gate together, so a curve costs the rounds of a ReLU.
Between two knots the error is at most ``h^2 / 8 * max |f''|``; knots are set where that is even everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "exp_curve", "fit_curve", "sigmoid_curve", "tanh_curve"]

Array = NDArray[np.float64]

_GRID: Final = 1 << 16


@dataclass(frozen=True)
class Curve:
    """A piecewise linear function.

    Attributes
    ----------
    knots : tuple of float
    slopes : tuple of float
        By how much the slope changes at each knot.
    start : float
        Value left of the first knot.
    error : float
        Largest distance to the function it stands for, over the stated range.
    """

    knots: tuple[float, ...]
    slopes: tuple[float, ...]
    start: float
    error: float

    def __call__(self, x: Array) -> Array:
        """The curve itself, in floating point."""
        bent = np.maximum(np.asarray(x)[..., None] - np.array(self.knots), 0.0)
        return np.asarray(self.start + bent @ np.array(self.slopes))


def fit_curve(function: Callable[[Array], Array], low: float, high: float, knots: int) -> Curve:
    """A curve through `function` on [low, high] with `knots` knots, flat outside.

    Knots are spaced so that each piece has an equal share of the integral of ``|f''|^(1/2)``.
    """
    grid = np.linspace(low, high, _GRID)
    values = function(grid)
    bend = np.sqrt(np.abs(np.gradient(np.gradient(values, grid), grid)))
    share = np.concatenate([[0.0], np.cumsum((bend[1:] + bend[:-1]) / 2 + 1e-9)])
    places = np.interp(np.linspace(0, share[-1], knots), share, grid)
    places[0], places[-1] = low, high
    heights = function(places)
    slopes = np.concatenate([[0.0], np.diff(heights) / np.diff(places), [0.0]])
    curve = Curve(tuple(places.tolist()), tuple(np.diff(slopes).tolist()), float(heights[0]), 0.0)
    error = float(np.abs(curve(grid[:: _GRID // 4096]) - function(grid[:: _GRID // 4096])).max())
    return Curve(curve.knots, curve.slopes, curve.start, error)


def sigmoid_curve() -> Curve:
    """``1 / (1 + exp(-x))`` for every x, error at most 6e-4."""
    return fit_curve(lambda x: 1 / (1 + np.exp(-x)), -8.0, 8.0, 48)


def tanh_curve() -> Curve:
    """``tanh(x)`` for every x, error at most 1.2e-3."""
    return fit_curve(np.tanh, -4.0, 4.0, 48)


def exp_curve() -> Curve:
    """``exp(x)`` for x at most 0, error at most 4e-4 (below -8 it is 0.0003)."""
    return fit_curve(np.exp, -8.0, 0.0, 48)
