"""How large values get: pictures to try a program on, and what they show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.lowering import Lowered

__all__ = ["Ranges", "measure_ranges", "test_pictures"]

Array = NDArray[np.float64]

_HEADROOM = 1.5


def test_pictures(shape: tuple[int, ...], low: float, high: float, count: int = 48) -> Array:
    """Pictures of many kinds, shape (count + 3, *shape): noise, smooth fields, strokes, half-dark ones, and constants.

    They are computed, not drawn at random: the same shape and range give the same pictures on every machine.
    """
    size = int(np.prod(shape))
    index = np.arange(size, dtype=np.float64)
    rows = shape[-2] if len(shape) >= 2 else 1
    columns = shape[-1]
    y, x = index // columns % rows / max(rows, 1), index % columns / columns
    channel = index // (rows * columns)
    made = []
    for number in range(count):
        seed = number + 1.0
        noise = np.modf(np.abs(np.sin(index * 12.9898 + seed * 78.233) * 43758.5453))[0]
        waves = np.zeros(size)
        for wave in range(1, 4):
            angle = math.sin(seed * wave * 1.7) * wave * 9 * x + math.cos(seed * wave * 2.3) * wave * 9 * y
            waves += np.cos(angle + seed * wave + channel * seed) / wave
        smooth = (waves - waves.min()) / (np.ptp(waves) or 1.0)
        kind = number % 6
        if kind == 0:
            picture = noise
        elif kind == 1:
            picture = smooth
        elif kind == 2:
            picture = (np.abs(smooth - 0.5) < 0.08).astype(np.float64)
        elif kind == 3:
            picture = (smooth > 0.5) * (0.7 + 0.3 * noise)
        elif kind == 4:
            picture = (noise > 0.5).astype(np.float64)
        else:
            picture = np.clip(smooth * 0.8 + 0.2 * noise, 0, 1)
        made.append(picture)
    made += [np.zeros(size), np.ones(size), np.full(size, 0.5)]
    return low + (high - low) * np.stack(made).reshape(len(made), *shape)


class Ranges:
    """What was measured of every value.

    Attributes
    ----------
    exponents : dict of str to int
        Least e with |v| <= 2^e for every value v, with headroom.
    squares : dict of str to array
        Largest mean over a kind of pictures of v^2 for every element, shape (n,).
    bounds : dict of str to float
        Largest |v| seen, with headroom.
    """

    def __init__(self, lowered: Lowered, pictures: Array, low: float, high: float) -> None:
        values = lowered.run(pictures)
        self.bounds: dict[str, float] = {}
        self.exponents: dict[str, int] = {}
        self.squares: dict[str, Array] = {}
        for name, value in values.items():
            bound = max(abs(low), abs(high)) if name == lowered.input else _HEADROOM * float(np.abs(value).max())
            self.bounds[name] = max(bound, 2.0**-20)
            self.exponents[name] = math.ceil(math.log2(self.bounds[name]))
            self.squares[name] = np.maximum(np.mean(value**2, axis=0), 1e-3 * float(np.max(value**2)))


def measure_ranges(lowered: Lowered, low: float, high: float, samples: Array | None = None) -> Ranges:
    """Ranges of every value on the given samples, shape (N, *input_shape), and on `test_pictures`."""
    pictures = test_pictures(lowered.input_shape, low, high)
    if samples is not None:
        pictures = np.concatenate([pictures, np.asarray(samples, dtype=np.float64).reshape(-1, *lowered.input_shape)])
    return Ranges(lowered, pictures, low, high)
