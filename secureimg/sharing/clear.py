"""The cleartext twin: a program's text on whole ring values.

It runs the same steps as the two parties. Their result differs from it only where a truncation rounds up (one unit in
the last place), and where a sign is taken of a value inside the window's blind spot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.sharing import text
from secureimg.sharing.gate import Gate
from secureimg.sharing.local import local_step
from secureimg.sharing.ownership import check_images, decode_result
from secureimg.sharing.products import Factor, apply_linear, small_factor
from secureimg.sharing.program import Program
from secureimg.sharing.ring import Words, encode, signed
from secureimg.sharing.tournament import find_best, pool

__all__ = ["run_clear", "run_clear_all"]


def run_clear(program: Program, images: ArrayLike) -> NDArray[np.float64]:
    """What a program reveals for a batch of images, shape (N, *result_shape), computed without shares."""
    words = run_clear_all(program, images)[program.public.output]
    return decode_result(program.public, words)


def run_clear_all(program: Program, images: ArrayLike) -> dict[int, Words]:
    """Every register of a program for a batch of images, as integers modulo 2^64."""
    public = program.public
    values: dict[int, Words] = {0: encode(check_images(public, images), public.registers[0].scale)}
    for number, step in enumerate(public.steps):
        sources = [values[source] for source in text.sources_of(step)]
        register = public.registers[step.out]
        if isinstance(step, text.Linear | text.SharedLinear):
            weights, bias = program.weights[number]
            values[step.out] = _linear(small_factor(step.geometry, weights), step, sources[0], bias)
        elif isinstance(step, text.Blind):
            values[step.out] = sources[0]
        elif isinstance(step, text.Multiply):
            values[step.out] = sources[0] * sources[1]
        elif isinstance(step, text.Relu | text.Decide | text.Truncate | text.MaxPool | text.Best):
            kept = (signed(sources[0], 64) >> np.int64(step.drop)).view(np.uint64)
            if isinstance(step, text.Truncate):
                values[step.out] = kept
            elif isinstance(step, text.Decide):
                values[step.out] = (kept.view(np.int64) >= 0).astype(np.uint64)
            elif isinstance(step, text.Relu):
                values[step.out] = np.maximum(kept.view(np.int64), 0).view(np.uint64)
                if step.whole is not None:
                    values[step.whole] = kept
            elif isinstance(step, text.MaxPool):
                values[step.out] = pool(step, kept, register.shape, True, _compare)
            else:
                values[step.out] = find_best(step, kept, True, _compare)
        else:
            values[step.out] = local_step(step, sources, register, True)
    return values


def _linear(factor: Factor, step: text.Linear | text.SharedLinear, values: Words, bias: Words | None) -> Words:
    out = apply_linear(step.geometry, factor, values, 64)
    if bias is not None:
        out += bias
    return out


def _compare(gate: Gate, differences: Words) -> Words:
    return np.maximum(differences.view(np.int64), 0).view(np.uint64)
