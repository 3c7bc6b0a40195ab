"""Functions of one variable as piecewise linear curves, with the error stated.

A curve is ``start + sum_j slopes[j] * max(x - knots[j], 0)``: constant left of the first knot, and right of the last one
if the slopes sum up to 0. All knots of all elements go through one gate together, so a curve costs the rounds of a ReLU
and a comparison for each knot and element.

Between two knots a chord is off by at most ``h^2 / 8 * max |f''|``, always to the same side; knots are set where that is
even everywhere, and the heights at the knots are moved so that half of it lies on each side of the function. So n knots
give an error of about ``(integral of sqrt(|f''| / size))^2 / (16 n^2)``, absolute (size 1) or relative (size ``|f|``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import CompileError

__all__ = ["MAX_KNOTS", "Curve", "curve_through", "curve_within", "fit_curve", "sigmoid_curve", "tanh_curve"]

Array = NDArray[np.float64]

MAX_KNOTS: Final = 256
"""More would cost several kilobytes of corrections an element."""

_GRID: Final = 1 << 14
_ACTIVATION_ERROR: Final = 8e-4


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
    relative : bool
        Whether the error is a share of the function's value.
    """

    knots: tuple[float, ...]
    slopes: tuple[float, ...]
    start: float
    error: float
    relative: bool = False

    def __call__(self, x: Array) -> Array:
        """The curve itself, in floating point."""
        bent = np.maximum(np.asarray(x)[..., None] - np.array(self.knots), 0.0)
        return np.asarray(self.start + bent @ np.array(self.slopes))

    @property
    def heights(self) -> Array:
        """Values at the knots."""
        pieces = np.diff(np.array(self.knots)) * np.cumsum(self.slopes)[:-1]
        return np.asarray(self.start + np.concatenate([[0.0], np.cumsum(pieces)]))


def fit_curve(
    function: Callable[[Array], Array], low: float, high: float, knots: int, *, relative: bool = False
) -> Curve:
    """A curve through `function` on [low, high] with `knots` knots, flat outside.

    Knots are spaced so that each piece has an equal share of the integral of ``|f''|^(1/2)``; of ``|f'' / f|^(1/2)`` for
    an error relative to the function, which then must be above 0, as must `low`.
    """
    grid, values, share = _shares(function, low, high, relative)
    size = np.abs(values) if relative else np.ones(_GRID)
    places = np.interp(np.linspace(0, share[-1], knots), share, grid)
    places[0], places[-1] = low, high
    heights = function(places)
    off = (np.interp(grid, places, heights) - values) / size
    starts = np.minimum(np.searchsorted(grid, places[:-1]), _GRID - 1)
    above, below = np.maximum.reduceat(off, starts), np.minimum.reduceat(off, starts)
    worst = np.where(above > -below, above, below)
    middle = np.concatenate([worst[:1], (worst[1:] + worst[:-1]) / 2, worst[-1:]]) / 2
    heights = heights - middle * (np.abs(heights) if relative else 1.0)
    error = float((np.abs(np.interp(grid, places, heights) - values) / size).max())
    return curve_through(places, heights, error, relative)


def curve_through(places: Array, heights: Array, error: float, relative: bool) -> Curve:
    """The curve with the given heights at its knots, flat outside."""
    gaps = np.diff(places)
    slopes = np.concatenate([[0.0], np.diff(heights) / np.where(gaps > 0, gaps, 1.0), [0.0]])
    return Curve(tuple(places.tolist()), tuple(np.diff(slopes).tolist()), float(heights[0]), error, relative)


def _shares(function: Callable[[Array], Array], low: float, high: float, relative: bool) -> tuple[Array, Array, Array]:
    """A grid, the function on it, and the integral that knots share, up to each place."""
    grid = np.geomspace(low, high, _GRID) if relative else np.linspace(low, high, _GRID)
    grid[0], grid[-1] = low, high
    values = function(grid)
    bend = np.abs(np.gradient(np.gradient(values, grid), grid))
    density = np.sqrt(bend / np.abs(values) if relative else bend)
    pieces = np.diff(grid) * ((density[1:] + density[:-1]) / 2 + 1e-9 / (high - low))
    return grid, values, np.concatenate([[0.0], np.cumsum(pieces)])


def curve_within(
    function: Callable[[Array], Array], low: float, high: float, error: float, *, relative: bool = False
) -> Curve:
    """The curve with the fewest knots that keeps `error` on [low, high].

    Raises
    ------
    CompileError
        If that takes more than `MAX_KNOTS`.
    """
    total = float(_shares(function, low, high, relative)[2][-1])
    least = max(3, math.floor(total / (4.5 * math.sqrt(error))))
    for knots in range(least, MAX_KNOTS + 1):
        curve = fit_curve(function, low, high, knots, relative=relative)
        if curve.error <= error:
            return curve
    raise CompileError(
        f"a curve on [{low:.4g}, {high:.4g}] with error {error:.2g} takes more than {MAX_KNOTS} knots: state a narrower "
        "range"
    )


@lru_cache
def sigmoid_curve() -> Curve:
    """``1 / (1 + exp(-x))`` for every x, error at most 8e-4; 26 knots."""
    return curve_within(lambda x: 1 / (1 + np.exp(-x)), -7.5, 7.5, _ACTIVATION_ERROR)


@lru_cache
def tanh_curve() -> Curve:
    """``tanh(x)`` for every x, error at most 8e-4; 36 knots."""
    return curve_within(np.tanh, -4.0, 4.0, _ACTIVATION_ERROR)
