"""Candidate places for the outputs of a linear map.

None of the candidates knows what the map is: each only proposes a layout and a fold, and the price of the diagonals that
come out decides. *Grid* placements keep neighbours apart by a fixed pitch, as convolutions like it; *dense* and *cyclic*
placements suit matrices without structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.diagonals import Fold, Operand, Placement
from secureimg.ckks.layout import Layout
from secureimg.ckks.packing import power_of_two, stride_of

__all__ = ["GridShape", "placements"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class GridShape:
    """Output (C, H, W), seen as (C kh kw, H / kh, W / kw) where the next map first sums kh x kw neighbours."""

    shape: tuple[int, int, int]
    cell: tuple[int, int] = (1, 1)

    def coordinates(self, phase_first: bool) -> tuple[Indices, Indices, Indices, int]:
        """Channel, row and column of every output in the cell view, and the number of channels."""
        channels, height, width = self.shape
        cell_y, cell_x = self.cell
        index = np.arange(channels * height * width)
        channel, y, x = index // (height * width), index // width % height, index % width
        phase = y % cell_y * cell_x + x % cell_x
        phases = cell_y * cell_x
        block = phase * power_of_two(channels) + channel if phase_first else channel * phases + phase
        count = phases * (power_of_two(channels) if phase_first else channels)
        return block, y // cell_y, x // cell_x, count if phases > 1 else channels


def _unique(layout: Layout) -> bool:
    place = layout.ciphertext * layout.period + layout.slot
    return bool(layout.slot.max() < layout.period) and np.unique(place).size == place.size


def _grid(
    operand: Operand, in_shape: tuple[int, ...], grid: GridShape, slots: int, phase_first: bool
) -> Iterator[Placement]:
    """Outputs on the grid of the inputs: pitch multiplied by the stride, channels in blocks and in the gaps."""
    block, y, x, channels = grid.coordinates(phase_first)
    sample = slice(None, None, max(operand.rows.size // 20_000, 1))
    row, column = operand.rows[sample], operand.columns[sample]
    area = in_shape[1] * in_shape[2]
    stride = stride_of(y[row], column % area // in_shape[2])[0], stride_of(x[row], column % in_shape[2])[0]
    pitch_in = operand.layout.pitch
    pitch = pitch_in[0] * stride[0], pitch_in[1] * stride[1]
    inside = y * pitch[0] + x * pitch[1]
    extent = (in_shape[1] - 1) * pitch_in[0] + (in_shape[2] - 1) * pitch_in[1] + 1
    extent = max(extent, int(inside.max()) + 1)
    taken = np.unique(inside % extent)
    gaps = [0]
    for offset in (dy * pitch_in[0] + dx * pitch_in[1] for dy in range(stride[0]) for dx in range(stride[1])):
        if offset and np.intersect1d((taken + offset), np.concatenate([taken + gap for gap in gaps])).size == 0:
            gaps.append(offset)
    compact = int(inside.max()) + 1
    for space in sorted({power_of_two(extent), power_of_two(compact), extent, compact}):
        if space > slots:
            continue
        fit = slots // space
        for use in sorted({1, len(gaps)}):
            capacity = fit * use
            ciphertexts = -(-channels // capacity)
            local = block % capacity
            base = local // use * space + np.array(gaps)[local % use]
            slot = base + inside
            layout = Layout(slots, ciphertexts, block // capacity, slot, slots, pitch)
            pitches = (space, pitch_in[0], pitch_in[0] * 2, pitch_in[0] * 4, 2 * space, 4 * space, pitch[0])
            label = f"grid, pitch {pitch}, block {space}, {use} a gap"
            if not _unique(layout):
                continue
            yield Placement(layout, Fold(slots, 1), label, pitches)
            yield from _spread(operand, layout, block // use, np.array(gaps)[block % use] + inside, space, pitches)
            if ciphertexts > 1:
                continue
            span = int(slot.max()) + 1
            count = 2
            while slots % count == 0 and slots // count >= span:
                folded = replace(layout, period=slots // count)
                yield Placement(folded, Fold(slots // count, count), label + f", folded {count} times", pitches)
                count *= 2
            step = space * -(-(int(local.max()) + 1) // use)
            count = power_of_two(-(-int(operand.layout.slot.max() + 1) // step))
            if count > 1 and step * count <= slots and slots % (step * count):
                yield Placement(layout, Fold(step, count), label + f", summed {count} times", pitches)


def _spread(
    operand: Operand, layout: Layout, block: Indices, inside: Indices, space: int, pitches: tuple[int, ...]
) -> Iterator[Placement]:
    """A few channels in each copy of the inputs, summed over the copy: every copy meets other inputs."""
    period, slots = operand.layout.period, layout.slots
    width = space
    while width < period < slots:
        few = width // space
        slot = block // few * period + block % few * space + inside
        if period % width == 0 and int(block.max()) // few < slots // period:
            placed = replace(layout, ciphertexts=1, ciphertext=np.zeros_like(slot), slot=slot, period=slots)
            if _unique(placed) and int((inside + block % few * space).max()) < width:
                yield Placement(placed, Fold(width, period // width), f"grid, {few} channels a copy", pitches)
        width *= 2


def _dense(outputs: int, period: int, slots: int) -> Iterator[Placement]:
    """`width` outputs in each copy of the inputs, summed over the copy."""
    index = np.arange(outputs)
    copies = slots // period
    width = 1
    while width <= period:
        per = copies * width
        ciphertexts = -(-outputs // per)
        if ciphertexts <= 8:
            local = index % per
            place = local // width * period + local % width
            layout = Layout(slots, ciphertexts, index // per, place, slots if copies > 1 else width)
            yield Placement(layout, Fold(width, period // width), f"dense, {width} a copy")
        width *= 2


def _cyclic(outputs: int, slots: int) -> Iterator[Placement]:
    """Outputs one after the other, summed over all multiples of the period: every slot ends as a copy."""
    period = power_of_two(outputs)
    index = np.arange(outputs)
    while period <= slots:
        layout = Layout(slots, 1, np.zeros(outputs, dtype=np.int64), index, period)
        yield Placement(layout, Fold(period, slots // period), f"cyclic, period {period}")
        period *= 2
    if outputs > slots:
        layout = Layout(slots, -(-outputs // slots), index // slots, index % slots, slots)
        yield Placement(layout, Fold(slots, 1), "one after the other")


def placements(
    operands: list[Operand],
    in_shapes: list[tuple[int, ...]],
    out_shape: tuple[int, ...],
    cells: list[tuple[int, int]],
    slots: int,
    final: bool,
) -> Iterator[Placement]:
    """Candidates for one linear map; with `final`, only those that write no slot but results and their copies."""
    outputs = int(np.prod(out_shape))
    period = max(operand.layout.period for operand in operands)
    found: list[Placement] = []
    for operand, in_shape in zip(operands, in_shapes, strict=True):
        if int(np.prod(in_shape)) == outputs:
            kept = operand.layout
            if any(kept.period % other.layout.period for other in operands):
                kept = replace(kept, period=slots)
            found.append(Placement(kept, Fold(slots, 1), "in place"))
        if len(in_shape) == 3 and len(out_shape) == 3:
            shape = (out_shape[0], out_shape[1], out_shape[2])
            found.extend(_grid(operand, in_shape, GridShape(shape), slots, False))
            for cell in cells:
                if shape[1] % cell[0] == 0 and shape[2] % cell[1] == 0:
                    for phase_first in (True, False):
                        found.extend(_grid(operand, in_shape, GridShape(shape, cell), slots, phase_first))
    found.extend(_dense(outputs, period, slots))
    found.extend(_cyclic(outputs, slots))
    for placement in found:
        if not final or placement.fold.step * placement.fold.count == slots:
            yield placement
