"""Maps that begin by summing neighbours, and how rotations do that without spending a level.

An average pool in front of a layer makes the columns of the merged matrix equal within each cell. Such a map factors into
the plain sum over cells, which needs a few rotations and no product, and a map on one element of each cell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from secureimg.ckks.layout import Layout
from secureimg.ckks.packing import power_of_two

__all__ = ["Axis", "Presum", "cells_of", "presum"]

_CELLS = (8, 7, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True)
class Axis:
    """Sum of `count` copies at distance `step`."""

    step: int
    count: int

    @property
    def doubling(self) -> bool:
        """Whether doubling does it: log2(count) rotations, else count - 1 with one key."""
        return self.count == power_of_two(self.count)

    @property
    def rotations(self) -> int:
        """Rotations of the sum."""
        return (self.count - 1).bit_length() if self.doubling else self.count - 1


@dataclass(frozen=True, eq=False)
class Presum:
    """Sums along `axes`, then `matrix` on the cells, which sit by `layout` and have shape `shape`."""

    axes: tuple[Axis, ...]
    matrix: sparse.csr_array
    layout: Layout
    shape: tuple[int, int, int]

    @property
    def rotations(self) -> int:
        """Rotations for each ciphertext."""
        return sum(axis.rotations for axis in self.axes)


def cells_of(matrix: sparse.csr_array, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """The largest cell (kh, kw), if any, whose columns are equal: at most one entry."""
    if len(shape) != 3 or matrix.nnz == 0:
        return []
    _, height, width = shape
    sizes = [
        (kh, kw)
        for kh in {*(size for size in _CELLS if height % size == 0), height}
        for kw in {*(size for size in _CELLS if width % size == 0), width}
        if kh * kw > 1
    ]
    columns = sparse.csc_array(matrix)
    rng = np.arange(1, matrix.shape[0] + 1, dtype=np.float64)
    mark = np.sin(rng * 12.9898) @ columns
    marks = np.asarray(mark).reshape(shape)
    scale = float(np.abs(marks).max()) or 1.0
    for kh, kw in sorted(sizes, key=lambda size: -size[0] * size[1]):
        cells = marks.reshape(shape[0], height // kh, kh, width // kw, kw)
        if np.ptp(cells, axis=(2, 4)).max() > 1e-9 * scale:
            continue
        anchor = _anchors(shape, (kh, kw))
        index = np.arange(int(np.prod(shape))).reshape(shape[0], height // kh, kh, width // kw, kw)
        first = columns[:, anchor]
        members = [index[:, :, y, :, x].reshape(-1) for y in range(kh) for x in range(kw)]
        if all(abs(first - columns[:, member]).max() <= 1e-9 * scale for member in members[1:]):
            return [(kh, kw)]
    return []


def _anchors(shape: tuple[int, ...], cell: tuple[int, int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    channels, height, width = shape
    index = np.arange(channels * height * width).reshape(channels, height, width)
    return np.ascontiguousarray(index[:, :: cell[0], :: cell[1]]).reshape(-1)


def presum(matrix: sparse.csr_array, layout: Layout, shape: tuple[int, ...]) -> Presum | None:
    """The factored form of a map, if it has one that suits the layout of its input."""
    for kh, kw in cells_of(matrix, shape):
        channels, height, width = shape
        index = np.arange(channels * height * width).reshape(channels, height // kh, kh, width // kw, kw)
        steps = []
        for member, count in ((index[:, :, 1 % kh, :, 0], kh), (index[:, :, 0, :, 1 % kw], kw)):
            distance = (layout.slot[member.reshape(-1)] - layout.slot[index[:, :, 0, :, 0].reshape(-1)]) % layout.period
            same = layout.ciphertext[member.reshape(-1)] == layout.ciphertext[index[:, :, 0, :, 0].reshape(-1)]
            if np.ptp(distance) or not same.all():
                return None
            if count > 1:
                steps.append(Axis(int(distance[0]), count))
        if not _regular(layout, index, steps, (kh, kw)):
            return None
        anchor = _anchors(shape, (kh, kw))
        slot, period, cell_ct = layout.slot[anchor], layout.period, layout.ciphertext[anchor]
        for axis in sorted(steps, key=lambda item: -item.step):
            if axis.step * axis.count == period and np.unique(cell_ct * period + slot % axis.step).size == slot.size:
                period = axis.step
                slot = slot % axis.step
        pitch = (layout.pitch[0] * kh, layout.pitch[1] * kw)
        reduced = replace(layout, ciphertext=layout.ciphertext[anchor], slot=slot, period=period)
        rows, columns = height // kh, width // kw
        grid = slot.reshape(channels, rows, columns)
        if rows > 1 and columns > 1:
            pitch = (int(grid[0, 1, 0] - grid[0, 0, 0]), int(grid[0, 0, 1] - grid[0, 0, 0]))
        reduced = replace(reduced, pitch=pitch)
        return Presum(tuple(steps), sparse.csr_array(matrix[:, anchor]), reduced, (channels, rows, columns))
    return None


def _regular(
    layout: Layout, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]], steps: list[Axis], cell: tuple[int, int]
) -> bool:
    """Whether every member of every cell is where the axes say."""
    base = layout.slot[index[:, :, 0, :, 0].reshape(-1)]
    along = iter(steps)
    step_y = next(along).step if cell[0] > 1 else 0
    step_x = next(along).step if cell[1] > 1 else 0
    for y in range(cell[0]):
        for x in range(cell[1]):
            member = layout.slot[index[:, :, y, :, x].reshape(-1)]
            if np.any((member - base - y * step_y - x * step_x) % layout.period):
                return False
    return True
