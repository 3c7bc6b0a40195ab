"""How large the values of a graph get: measured on pictures, or proved for every input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from secureimg.errors import CompileError
from secureimg.graph import Graph, calibrate, propagate_ranges

__all__ = ["Bound", "Bounds", "value_bounds"]

Bounds = Literal["measured", "proved"]

_HEADROOM: Final = 8.0
_MADE: Final = 8
_SMALLEST: Final = 2.0**-12


@dataclass(frozen=True)
class Bound:
    """Largest absolute value that a program makes room for, and the largest one that is usual."""

    most: float
    usual: float


def value_bounds(
    graph: Graph, kind: Bounds, input_range: tuple[float, float], samples: ArrayLike | None
) -> dict[str, Bound]:
    """Bounds of every value of a graph.

    "measured": the largest value on the samples (without samples: on made pictures of many kinds) times 8. An input that
    exceeds it somewhere gives a wrong result. "proved": interval arithmetic over all inputs in the range; it holds
    always, and is far wider for deep networks.
    """
    low, high = input_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CompileError(f"the input range ({low}, {high}) is not two finite numbers, the lower first")
    if kind == "proved":
        ranges = propagate_ranges(graph, low, high)
        most = {name: max(float(np.abs(a).max()), float(np.abs(b).max())) for name, (a, b) in ranges.items()}
        return {name: Bound(max(value, _SMALLEST), max(value, _SMALLEST)) for name, value in most.items()}
    given = made_pictures(graph.input_shape, low, high) if samples is None else np.asarray(samples, dtype=np.float64)
    found = {}
    for name, (least, largest) in calibrate(graph, given, margin=0.0).items():
        usual = max(abs(least), abs(largest), _SMALLEST)
        found[name] = Bound(usual * _HEADROOM, usual)
    edge = max(abs(low), abs(high), _SMALLEST)
    found[graph.input] = Bound(max(edge, found[graph.input].usual), edge)
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
        pictures.append((noise, wave, 0.5 * (noise + wave), (wave > 0.5) * 1.0, (noise > 0.5) * 1.0, wave * noise)[number])
    pictures += [np.ones(size), np.where(x + y > 1, 1.0, 0.2)]
    return low + (high - low) * np.stack(pictures).reshape(_MADE, *shape)
