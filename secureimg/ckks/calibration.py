"""How large values get: pictures to try a program on, and what they show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.lowering import Lowered
from secureimg.errors import CompileError

__all__ = ["Ranges", "measure_ranges", "trial_pictures"]

Array = NDArray[np.float64]

_HEADROOM = 1.5
_SMALLEST = 2.0**-20
_LARGEST = 1e150
_STRONG = 4
_KINDS, _SMOOTH, _STROKES = 6, 1, 2


def trial_pictures(shape: tuple[int, ...], low: float, high: float, count: int = 48) -> Array:
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
        kind = number % _KINDS
        if kind == 0:
            picture = noise
        elif kind == _SMOOTH:
            picture = smooth
        elif kind == _STROKES:
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
        e for every value v: pictures of the model's kind keep |v| below 2^e. Scales are chosen by it; larger values lose
        nothing but headroom.
    squares : dict of str to array
        Mean of v^2 for every element, shape (n,), with a floor: on the model's kind of pictures where that is `known`
        from samples, else on the kind of trial pictures where it is largest.
    bounds : dict of str to float
        Largest |v| seen on any picture, with headroom.
    typical : dict of str to float
        Largest |v| seen on pictures of the model's kind.
    strong : array of shape (k, *input_shape)
        The pictures with the largest results.
    """

    def __init__(self, lowered: Lowered, usual: Array, unusual: list[Array], largest_input: float, known: bool) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            values = lowered.run(np.concatenate([usual, *unusual]))
        for name, value in values.items():
            if not np.abs(value).max() <= _LARGEST:
                raise CompileError(
                    f"values of layer {name} pass {_LARGEST:.0e} on trial pictures, more than any parameters have levels "
                    "for: scale the weights down, use fewer squares, or the sharing executor"
                )
        ends = np.cumsum([len(usual), *(len(group) for group in unusual)])
        count = int(ends[0])
        self.bounds: dict[str, float] = {}
        self.typical: dict[str, float] = {}
        self.exponents: dict[str, int] = {}
        self.squares: dict[str, Array] = {}
        for name, value in values.items():
            bound = largest_input if name == lowered.input else _HEADROOM * float(np.abs(value).max())
            likely = largest_input if name == lowered.input else float(np.abs(value[:count]).max())
            self.bounds[name] = max(bound, _SMALLEST)
            self.typical[name] = max(likely, _SMALLEST)
            self.exponents[name] = math.ceil(math.log2(self.typical[name]))
            groups = np.split(value, ends[:-1])
            squares = [np.mean(group**2, axis=0) for group in (groups[:1] if known else groups)]
            self.squares[name] = np.maximum(np.max(squares, axis=0), 1e-3 * float(np.max(squares)))
        order = np.argsort(np.abs(values[lowered.output]).max(axis=1))
        self.strong = np.concatenate([usual, *unusual])[order[-_STRONG:]]


def measure_ranges(
    lowered: Lowered, low: float, high: float, samples: Array | None = None, cautious: bool = False
) -> Ranges:
    """Ranges of every value.

    Parameters
    ----------
    low, high : float
        Range of the inputs.
    samples : array of shape (N, *input_shape), optional
        Pictures of the model's kind. Default: the smooth fields and strokes among `trial_pictures`.
    cautious : bool
        Take every test picture for one of the model's kind.
    """
    made = trial_pictures(lowered.input_shape, low, high)
    kinds = np.arange(len(made)) % _KINDS
    usual = made[(kinds == _SMOOTH) | (kinds == _STROKES)]
    unusual = [made[kinds == kind] for kind in range(_KINDS) if kind not in (_SMOOTH, _STROKES)]
    if samples is not None:
        usual = np.asarray(samples, dtype=np.float64).reshape(-1, *lowered.input_shape)
        unusual = [made]
    if cautious:
        usual = np.concatenate([usual, *unusual])
    return Ranges(lowered, usual, unusual, max(abs(low), abs(high)), known=samples is not None and not cautious)
