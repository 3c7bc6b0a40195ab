"""How large the values of a graph get: measured on pictures, or proved for every input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from secureimg.errors import CompileError, GraphError
from secureimg.graph import Graph, calibrate, ranges_in_order

__all__ = ["Bound", "Bounds", "value_bounds"]

Bounds = Literal["measured", "proved"]

_HEADROOM: Final = 8.0
_USUAL: Final = 1.0  # what a proof says nothing about: how large values are that matter
_MADE: Final = 8
_SLACK: Final = 2.0**-6
_SMALLEST: Final = 2.0**-12


@dataclass(frozen=True)
class Bound:
    """What is known of a value.

    Attributes
    ----------
    most : float
        Largest absolute value that a program makes room for.
    usual : float
        Largest absolute value that is usual.
    least : float
        Lowest value that a program makes room for.
    """

    most: float
    usual: float
    least: float = -math.inf


def value_bounds(
    graph: Graph, kind: Bounds, input_range: tuple[float, float], samples: ArrayLike | None
) -> dict[str, Bound]:
    """Bounds of every value of a graph.

    "measured": the largest value on the samples (without samples: on made pictures of many kinds) times 8, or what is
    proved where that is less. An input that exceeds it somewhere gives a wrong result. "proved": interval arithmetic over
    all inputs in the range; it holds always, and is far wider for deep networks. The lowest value has as much room: an
    eighth of it where it is above 0.

    Raises
    ------
    CompileError
        If a value can be, or is on the samples, infinite or undefined (a division by 0), or the samples do not fit.
    """
    low, high = input_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CompileError(f"the input range ({low}, {high}) is not two finite numbers, the lower first")
    try:
        found = _proved(graph, low, high) if kind == "proved" else _measured(graph, low, high, samples)
    except GraphError as error:
        raise CompileError(str(error)) from None
    return {name: bound if name == graph.input else _with_slack(bound) for name, bound in found.items()}


def _with_slack(bound: Bound) -> Bound:
    """Room for rounding and for the errors of curves: shares may exceed a little what the graph's values cannot."""
    least = bound.least if bound.least > 0 else bound.least * (1 + _SLACK)
    return replace(bound, most=bound.most * (1 + _SLACK), least=least)


def _proved(graph: Graph, low: float, high: float) -> dict[str, Bound]:
    found = {}
    for name, (lows, highs) in ranges_in_order(graph, low, high):
        most = max(float(np.abs(lows).max()), float(np.abs(highs).max()), _SMALLEST)
        found[name] = Bound(most, min(most, _USUAL), float(lows.min()))
    return found


def _measured(graph: Graph, low: float, high: float, samples: ArrayLike | None) -> dict[str, Bound]:
    given = made_pictures(graph.input_shape, low, high) if samples is None else np.asarray(samples, dtype=np.float64)
    try:
        proved = _proved(graph, low, high)
    except GraphError:  # a divisor that might be 0, as far as can be proved
        proved = {}
    found = {}
    for name, (least, largest) in calibrate(graph, given, margin=0.0).items():
        usual = max(abs(least), abs(largest), _SMALLEST)
        room = Bound(usual * _HEADROOM, usual, least / _HEADROOM if least > 0 else least * _HEADROOM)
        limit = proved.get(name, room)
        most = max(usual, min(room.most, limit.most))
        found[name] = Bound(most, usual, min(least, max(room.least, limit.least)))
    edge = max(abs(low), abs(high), _SMALLEST)
    found[graph.input] = Bound(max(edge, found[graph.input].usual), edge, low)
    return found


def made_pictures(shape: tuple[int, ...], low: float, high: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Pictures to try a graph on, shape (8, *shape): noise, gratings, edges, flat ones. Computed, so always the same."""
    size = math.prod(shape)
    index = np.arange(size, dtype=np.float64)
    rows, columns = (shape[-2] if len(shape) > 1 else 1), (shape[-1] if shape else 1)
    y, x = index // columns % rows / rows, index % columns / columns
    channel = index // (rows * columns)
    pictures = []
    for number in range(_MADE - 2):
        noise = np.modf(np.abs(np.sin(index * 12.9898 + (number + 1) * 78.233)) * 43758.5453)[0]
        wave = 0.5 + 0.5 * np.cos((2 + 3 * number) * x + (5 - number) * 4 * y + channel + number)
        pictures.append(
            (noise, wave, 0.5 * (noise + wave), (wave > 0.5) * 1.0, (noise > 0.5) * 1.0, wave * noise)[number]
        )
    pictures += [np.ones(size), np.where(x + y > 1, 1.0, 0.2)]
    return low + (high - low) * np.stack(pictures).reshape(_MADE, *shape)
