"""How the owner lays its picture into slots.

The owner packs in the clear, so any copy or shift of a pixel is free for the server. For a first layer that is a
convolution of stride s, block (c, v) of the packing holds the samples `x[c, s y + v_y, s x + v_x]` on a small grid; kernel
taps that are multiples of s apart reach each other by shifting the grid, all others have a block of their own. Taking the
grid shifts away altogether (a = b = 1) is the classic im2col packing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from secureimg.ckks.layout import Layout

__all__ = ["InputPacking", "convolution_packings", "plain_packing", "power_of_two", "stride_of"]

Indices = NDArray[np.int64]

_MOST_TAPS = 1024
_MOST_STRIDE = 8


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << max(count - 1, 0).bit_length()


@dataclass(frozen=True, eq=False)
class InputPacking:
    """Virtual elements, where they sit, and which input element (or -1: zero) each one copies.

    `matrix` is the first linear map rewritten to read the virtual elements, of shape `shape`.
    """

    layout: Layout
    gather: Indices
    shape: tuple[int, ...]
    matrix: sparse.csr_array | None
    label: str


def _blocks(slots: int, channels: int, pitch: int) -> tuple[Indices, Indices, int, int]:
    """Ciphertext and first slot of each channel block, number of ciphertexts, and period."""
    fit = max(slots // pitch, 1)
    index = np.arange(channels)
    ciphertexts = -(-channels // fit)
    period = min(power_of_two(channels) * pitch, slots) if slots % pitch == 0 else slots
    return index // fit, index % fit * pitch, ciphertexts, period


def plain_packing(shape: tuple[int, ...], slots: int) -> InputPacking:
    """Elements in their own order: a block per channel where there are channels, else one after the other."""
    size = int(np.prod(shape))
    if len(shape) == 3 and shape[1] * shape[2] <= slots:
        channels, height, width = shape
        pitch = power_of_two(height * width)
        block, base, ciphertexts, period = _blocks(slots, channels, pitch)
        inside = np.arange(height * width)
        place = np.repeat(block, height * width), (base[:, None] + inside).reshape(-1)
        layout = Layout(slots, ciphertexts, place[0], place[1], period, (width, 1))
    else:
        index = np.arange(size)
        period = min(power_of_two(size), slots)
        layout = Layout(slots, -(-size // slots), index // slots, index % slots, period)
    return InputPacking(layout, np.arange(size), shape, None, "plain")


@dataclass(frozen=True)
class _Axis:
    """One axis of a convolution-like map: taps `low ... low + taps - 1`, stride, and how many grid shifts are used."""

    size: int
    outputs: int
    low: int
    taps: int
    stride: int
    shifts: int

    @property
    def starts(self) -> list[int]:
        found = []
        for residue in range(min(self.stride, self.taps)):
            units = -(-len(range(residue, self.taps, self.stride)) // self.shifts)
            found += [self.low + residue + self.stride * self.shifts * unit for unit in range(units)]
        return found

    @property
    def grid(self) -> int:
        return self.outputs + self.shifts - 1

    def locate(self, tap: Indices) -> tuple[Indices, Indices]:
        """Index into `starts`, and grid shift, of each tap."""
        residue, step = (tap - self.low) % self.stride, (tap - self.low) // self.stride
        start = self.low + residue + self.stride * self.shifts * (step // self.shifts)
        order = np.argsort(self.starts)
        return order[np.searchsorted(np.array(self.starts)[order], start)], step % self.shifts

    def samples(self) -> Indices:
        """Input coordinate of (start, grid position), -1 outside."""
        found = np.array(self.starts)[:, None] + self.stride * np.arange(self.grid)
        return np.where((found >= 0) & (found < self.size), found, -1)


def stride_of(out: Indices, position: Indices) -> tuple[int, int, int]:
    """Stride, lowest tap and tap count that explain one axis with the fewest taps."""
    best = (1, 0, 1 << 30)
    for stride in range(1, _MOST_STRIDE + 1):
        tap = position - stride * out
        low, count = int(tap.min()), int(tap.max() - tap.min()) + 1
        if count < best[2]:
            best = (stride, low, count)
    return best


def convolution_packings(
    matrix: sparse.csr_array, shape: tuple[int, ...], out_shape: tuple[int, int, int], slots: int
) -> Iterator[InputPacking]:
    """Packings for a first map that looks like a convolution from (C, H, W) to `out_shape`; none if it does not."""
    if len(shape) != 3 or matrix.nnz == 0:
        return
    channels, height, width = shape
    _, rows_out, columns_out = out_shape
    coordinates = matrix.tocoo()
    row, column = (index.astype(np.int64) for index in coordinates.coords)
    out_y, out_x = row // columns_out % rows_out, row % columns_out
    channel, in_y, in_x = column // (height * width), column // width % height, column % width
    stride_y, low_y, taps_y = stride_of(out_y, in_y)
    stride_x, low_x, taps_x = stride_of(out_x, in_x)
    if taps_y * taps_x > _MOST_TAPS or taps_y >= height or taps_x >= width:
        return
    for shifts_y in range(1, -(-taps_y // stride_y) + 1):
        for shifts_x in range(1, -(-taps_x // stride_x) + 1):
            axis_y = _Axis(height, rows_out, low_y, taps_y, stride_y, shifts_y)
            axis_x = _Axis(width, columns_out, low_x, taps_x, stride_x, shifts_x)
            blocks = (len(axis_y.starts), len(axis_x.starts))
            virtual = (channels * blocks[0] * blocks[1], axis_y.grid, axis_x.grid)
            area = virtual[1] * virtual[2]
            if area > slots:
                continue
            start_y, move_y = axis_y.locate(in_y - stride_y * out_y)
            start_x, move_x = axis_x.locate(in_x - stride_x * out_x)
            target = (channel * blocks[0] + start_y) * blocks[1] + start_x
            target = (target * axis_y.grid + out_y + move_y) * axis_x.grid + out_x + move_x
            rewritten = sparse.csr_array(
                (coordinates.data, (row, target)), shape=(matrix.shape[0], int(np.prod(virtual)))
            )
            sample_y, sample_x = axis_y.samples(), axis_x.samples()
            flat = sample_y[:, None, :, None] * width + sample_x[None, :, None, :]
            flat = np.where((sample_y[:, None, :, None] < 0) | (sample_x[None, :, None, :] < 0), -1, flat)
            gather = np.where(flat < 0, -1, flat + np.arange(channels)[:, None, None, None, None] * height * width)
            for pitch in {power_of_two(area), area}:
                block, base, ciphertexts, period = _blocks(slots, virtual[0], pitch)
                if ciphertexts > 16:
                    continue
                inside = np.arange(area)
                layout = Layout(
                    slots,
                    ciphertexts,
                    np.repeat(block, area),
                    (base[:, None] + inside).reshape(-1),
                    period,
                    (axis_x.grid, 1),
                )
                label = f"{virtual[0]} blocks of {virtual[1]}x{virtual[2]}"
                yield InputPacking(layout, gather.reshape(-1), virtual, rewritten, label)
