"""Maxima as levels of pairs: all pairs of a level go through one gate.

A level takes one vector of words and gives the next; the gates in it are known from public shapes alone, so dealer,
cost report and parties walk the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing import text
from secureimg.sharing.gate import Gate
from secureimg.sharing.ring import Words

__all__ = ["Compare", "best_gates", "find_best", "pool", "pool_gates"]

Places = NDArray[np.intp]

Compare = Callable[[Gate, Words], Words]
"""Runs one gate on shares of differences a - b and returns shares of max(a - b, 0)."""


def _gate(step: text.MaxPool | text.Best, count: int) -> Gate:
    return Gate(count, 0, step.bits, step.digit, step.bits)


def _levels(terms: int) -> Iterator[tuple[int, int]]:
    """Pairs and what is left over, level by level, of a tournament."""
    while terms > 1:
        yield terms // 2, terms % 2
        terms = terms // 2 + terms % 2


def pool_gates(step: text.MaxPool, shape: text.Shape, result: text.Shape, images: int) -> list[Gate]:
    """Gates of a max pool: along rows first, then along columns."""
    height = shape[1] + step.pads[0] + step.pads[2]
    across, down = images * shape[0] * height * result[2], images * shape[0] * result[1] * result[2]
    gates = [_gate(step, pairs * across) for pairs, _ in _levels(step.kernel[1])]
    return gates + [_gate(step, pairs * down) for pairs, _ in _levels(step.kernel[0])]


def pool(step: text.MaxPool, values: Words, result: text.Shape, first: bool, compare: Compare) -> Words:
    """Largest of each window; values (N, C, H, W) are already in the ring of `step.bits` bits."""
    top, left, bottom, right = step.pads
    if any(step.pads):
        # lower than any value, and no further from the highest than the ring allows
        least = np.uint64((-(1 << (step.bits - 2))) % 2**64 if first else 0)
        values = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=least)
    for axis, size in ((1, result[2]), (0, result[1])):
        stride, dilation = step.strides[axis], step.dilations[axis]
        span = (size - 1) * stride + 1
        parts = []
        for tap in range(step.kernel[axis]):
            start = tap * dilation
            places = slice(start, start + span, stride)
            parts.append(values[:, :, :, places] if axis else values[:, :, places])
        values = _knock_out(step, parts, compare)
    return values


def _knock_out(step: text.MaxPool, parts: list[Words], compare: Compare) -> Words:
    while len(parts) > 1:
        pairs = len(parts) // 2
        size = parts[0].size
        differences = np.empty((pairs, *parts[0].shape), dtype=np.uint64)
        for number in range(pairs):
            np.subtract(parts[2 * number], parts[2 * number + 1], out=differences[number])
        gained = compare(_gate(step, pairs * size), differences.reshape(-1)).reshape(differences.shape)
        winners = [gained[number] + parts[2 * number + 1] for number in range(pairs)]
        parts = winners + parts[2 * pairs :]
    return np.ascontiguousarray(parts[0])


def _network(size: int, count: int) -> Iterator[tuple[Places, Places]]:
    """Levels of compare-exchanges (i, j), the larger goes to i, after which the first `count` places are in order.

    A single winner is a plain tournament; more are found by a bitonic sort of the padded vector.
    """
    if count == 1:
        live = np.arange(size)
        while live.size > 1:
            pairs = live.size // 2
            yield live[: 2 * pairs : 2], live[1 : 2 * pairs : 2]
            live = live[::2]
        return
    padded = 1 << (size - 1).bit_length()
    places = np.arange(padded)
    block = 2
    while block <= padded:
        gap = block // 2
        while gap:
            near = places[(places & gap) == 0]
            falling = (near & block == 0) | (block == padded)
            yield np.where(falling, near, near ^ gap), np.where(falling, near ^ gap, near)
            gap //= 2
        block *= 2


def best_gates(step: text.Best, size: int, images: int) -> list[Gate]:
    """Gates that find the best `step.count` of `size` values."""
    return [_gate(step, images * high.size) for high, _ in _network(size, step.count)]


def find_best(step: text.Best, values: Words, first: bool, compare: Compare) -> Words:
    """The largest `step.count` of each row of values (N, n), in order, each with its place in its low bits."""
    images, size = values.shape
    packed = np.empty((images, 1 << (size - 1).bit_length()), dtype=np.uint64)
    packed[:] = np.uint64((-(1 << (step.bits - 2))) % 2**64 if first else 0)
    np.left_shift(values, np.uint64(step.code), out=packed[:, :size])
    if first:  # of equal values the earlier one wins
        packed[:, :size] += np.uint64((1 << step.code) - 1) - np.arange(size, dtype=np.uint64)
    for high, low in _network(size, step.count):
        left, right = packed[:, high], packed[:, low]
        gained = compare(_gate(step, images * high.size), (left - right).reshape(-1)).reshape(left.shape)
        if step.count > 1:
            packed[:, low] = left - gained
        packed[:, high] = right + gained
    return np.ascontiguousarray(packed[:, : step.count])
