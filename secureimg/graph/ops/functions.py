"""Division, roots, exponential and absolute value of each element.

All but `Abs` may state the range [low, high] of their input. The plain executor computes the true function everywhere; an
executor that approximates keeps its error bound on the range. Without one, it takes what was measured or proved. Roots
and reciprocals say how large their error may be, relative to the result; a smaller one costs more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from secureimg.errors import GraphError
from secureimg.graph.ops.pointwise import _Binary, _Pointwise

__all__ = ["USUAL_ERROR", "Abs", "Divide", "Exp", "InverseSqrt", "Reciprocal", "Sqrt"]

USUAL_ERROR: Final = 2.0**-9
"""Largest relative error of a division, root or exponential on shares, unless another is asked for."""

LEAST_ERROR: Final = 2.0**-14


@dataclass(frozen=True, eq=False)
class Abs(_Pointwise):
    """Absolute value of each element."""


def _check(kind: str, low: float | None, high: float | None, least: float, within: bool) -> None:
    """Refuse half a range, an empty one, or one below `least` (`within`: which itself is in it)."""
    if (low is None) != (high is None):
        raise GraphError(f"{kind}: gives one end of its range, low {low} and high {high}; give both or none")
    if low is None or high is None:
        return
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise GraphError(f"{kind}: low {low} and high {high} must be finite, low below high")
    if low < least or (low == least and not within):
        raise GraphError(f"{kind}: low is {low}, it must be {'at least' if within else 'above'} {least:g}; raise it")


def _check_error(kind: str, error: float) -> None:
    if not LEAST_ERROR <= error <= 0.25:
        raise GraphError(f"{kind}: error {error} is outside {LEAST_ERROR:.2g} to 0.25")


@dataclass(frozen=True, eq=False)
class Exp(_Pointwise):
    """``exp(x)`` of each element; the range is any two numbers."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check(self.kind, self.low, self.high, -math.inf, False)


@dataclass(frozen=True, eq=False)
class Reciprocal(_Pointwise):
    """``1 / x`` of each element; the range is above 0."""

    low: float | None = None
    high: float | None = None
    error: float = USUAL_ERROR

    def __post_init__(self) -> None:
        _check(self.kind, self.low, self.high, 0.0, False)
        _check_error(self.kind, self.error)


@dataclass(frozen=True, eq=False)
class Sqrt(_Pointwise):
    """Square root of each element; the range may begin at 0."""

    low: float | None = None
    high: float | None = None
    error: float = USUAL_ERROR

    def __post_init__(self) -> None:
        _check(self.kind, self.low, self.high, 0.0, True)
        _check_error(self.kind, self.error)


@dataclass(frozen=True, eq=False)
class InverseSqrt(_Pointwise):
    """``1 / sqrt(x)`` of each element; the range is above 0."""

    low: float | None = None
    high: float | None = None
    error: float = USUAL_ERROR

    def __post_init__(self) -> None:
        _check(self.kind, self.low, self.high, 0.0, False)
        _check_error(self.kind, self.error)


@dataclass(frozen=True, eq=False)
class Divide(_Binary):
    """First value by second, element by element, of one shape; the range is the divisor's, above 0."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check(self.kind, self.low, self.high, 0.0, False)
