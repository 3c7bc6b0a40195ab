"""Steps that each party does on its own share, without talking; the cleartext twin does the same on whole values.

`first` says whether public constants are added here: by party 0, and by the twin.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from secureimg.sharing import text
from secureimg.sharing.ring import Words

__all__ = ["local_step"]


def _word(value: int) -> np.uint64:
    return np.uint64(value % 2**64)


@singledispatch
def local_step(step: text.Step, sources: list[Words], register: text.Register, first: bool) -> Words:
    """The step's result for a batch; sources and result have shape (N, *shape)."""
    raise TypeError(f"{type(step).__name__} is not a local step")


@local_step.register
def _(step: text.Combine, sources: list[Words], register: text.Register, first: bool) -> Words:
    out = sources[0] * _word(step.factors[0]) if step.factors[0] != 1 else sources[0].copy()
    for value, factor in zip(sources[1:], step.factors[1:], strict=True):
        if factor == 1:
            out += value
        elif factor == -1:
            out -= value
        else:
            out += value * _word(factor)
    if first and step.constant:
        out += _word(step.constant)
    return out


@local_step.register
def _(step: text.Spread, sources: list[Words], register: text.Register, first: bool) -> Words:
    value = sources[0]
    out = np.empty((value.shape[0], len(step.constants), *value.shape[1:]), dtype=np.uint64)
    for number, constant in enumerate(step.constants):
        np.add(value, _word(constant if first else 0), out=out[:, number])
    return out


@local_step.register
def _(step: text.Weigh, sources: list[Words], register: text.Register, first: bool) -> Words:
    value = sources[0]
    out = np.full((value.shape[0], *value.shape[2:]), _word(step.constant if first else 0))
    for number, factor in enumerate(step.factors):
        out += value[:, number] * _word(factor)
    return out


@local_step.register
def _(step: text.Rearrange, sources: list[Words], register: text.Register, first: bool) -> Words:
    value = sources[0]
    if step.kind == "reshape":
        return value.reshape(value.shape[0], *register.shape)
    if step.kind == "transpose":
        return np.ascontiguousarray(value.transpose(0, *(axis + 1 for axis in step.numbers[0])))
    if step.kind == "slice":
        places = tuple(_range(*numbers) for numbers in zip(*step.numbers, strict=True))
        return np.ascontiguousarray(value[(slice(None), *places)])
    crop = tuple(
        slice(max(-b, 0), side - max(-a, 0)) for side, (b, a) in zip(value.shape[1:], step.numbers, strict=True)
    )
    grow = ((0, 0), *((max(b, 0), max(a, 0)) for b, a in step.numbers))
    return np.pad(value[(slice(None), *crop)], grow, constant_values=_word(step.value if first else 0))


def _range(start: int, count: int, step: int) -> slice:
    stop = start + count * step
    return slice(start, stop if stop >= 0 else None, step)


@local_step.register
def _(step: text.Concat, sources: list[Words], register: text.Register, first: bool) -> Words:
    return np.concatenate(sources, axis=step.axis + 1)


@local_step.register
def _(step: text.SumPool, sources: list[Words], register: text.Register, first: bool) -> Words:
    top, left, bottom, right = step.pads
    value = np.pad(sources[0], ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, rows, columns = register.shape
    out = np.zeros((value.shape[0], *register.shape), dtype=np.uint64)
    for y in range(step.kernel[0]):
        for x in range(step.kernel[1]):
            out += value[:, :, y : y + (rows - 1) * step.strides[0] + 1 : step.strides[0],
                         x : x + (columns - 1) * step.strides[1] + 1 : step.strides[1]]  # fmt: skip
    return out


@local_step.register
def _(step: text.Sum, sources: list[Words], register: text.Register, first: bool) -> Words:
    axes = tuple(axis + 1 for axis in step.axes)
    total: Words = sources[0].sum(axis=axes, dtype=np.uint64)
    return total.reshape(sources[0].shape[0], *register.shape)


@local_step.register
def _(step: text.PublicScale, sources: list[Words], register: text.Register, first: bool) -> Words:
    factors = np.array(step.factors, dtype=np.int64).view(np.uint64).reshape(step.shape)
    return np.ascontiguousarray(np.broadcast_to(sources[0] * factors, (sources[0].shape[0], *register.shape)))
