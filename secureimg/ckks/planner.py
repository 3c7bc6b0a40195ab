"""Choosing the packing of the picture and the layout of every value: a beam search over priced candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from secureimg.ckks.costs import CostModel
from secureimg.ckks.diagonals import Operand, Placement, Split, best_split
from secureimg.ckks.layout import Layout
from secureimg.ckks.lowering import LinearStep, Lowered
from secureimg.ckks.packing import InputPacking, convolution_packings, plain_packing
from secureimg.ckks.placements import placements
from secureimg.ckks.pooling import Presum, cells_of, presum
from secureimg.errors import CompileError

__all__ = ["LinearPlan", "Plan", "plan", "throughput_plan"]

_BEAM = 3
_KEPT = 6
_WORTH = 1.6
_MOST_ENTRIES = 40_000_000


@dataclass(frozen=True, eq=False)
class LinearPlan:
    """How one linear step runs: sums of neighbours first, then diagonals, then the fold."""

    step: LinearStep
    presums: tuple[Presum | None, ...]
    operands: tuple[Operand, ...]
    placement: Placement
    splits: tuple[Split, ...]
    price: float


@dataclass(frozen=True, eq=False)
class Plan:
    """Layouts of all values, and the plan of every linear step by name."""

    packing: InputPacking
    layouts: dict[str, Layout] = field(default_factory=dict)
    linear: dict[str, LinearPlan] = field(default_factory=dict)
    price: float = 0.0

    def with_layout(self, name: str, layout: Layout) -> Plan:
        """A copy in which a value has a layout."""
        return replace(self, layouts={**self.layouts, name: layout})

    def with_linear(self, name: str, plan: LinearPlan) -> Plan:
        """A copy that runs a linear step by a plan."""
        layouts = {**self.layouts, name: plan.placement.layout}
        return replace(self, layouts=layouts, linear={**self.linear, name: plan}, price=self.price + plan.price)


def _candidates(
    step: LinearStep,
    matrices: tuple[sparse.csr_array, ...],
    sources: list[tuple[Layout, tuple[int, ...]]],
    primes: list[int],
    cells: list[tuple[int, int]],
    slots: int,
    final: bool,
    imposed: Layout | None,
    costs: CostModel,
) -> list[LinearPlan]:
    """Priced plans of one step, cheapest first, one for each output layout."""
    level = min(primes)
    variants: list[tuple[list[Presum | None], list[Operand], list[tuple[int, ...]], float]] = []
    direct = [Operand.of(m, layout, level) for m, (layout, _) in zip(matrices, sources, strict=True)]
    variants.append(([None] * len(direct), direct, [shape for _, shape in sources], 0.0))
    if len(matrices) == 1:
        summed = presum(matrices[0], sources[0][0], sources[0][1])
        if summed is not None:
            price = summed.rotations * summed.layout.ciphertexts * costs.rotation(level)
            operand = Operand.of(summed.matrix, summed.layout, level)
            variants.append(([summed], [operand], [summed.shape], price))
    best: dict[tuple[int, int, bytes], LinearPlan] = {}
    for presums, operands, shapes, extra in variants:
        for placement in placements(operands, shapes, step.shape, cells, slots, final):
            if imposed is not None and placement.layout.key() != imposed.key():
                continue
            key = placement.layout.key()
            cheapest = min((item.price for item in best.values()), default=math.inf)
            limit = min(best[key].price if key in best else math.inf, _WORTH * cheapest) - extra
            priced = best_split(operands, placement, costs, limit)
            if priced is not None and priced[0] < limit:
                price, splits = priced
                best[key] = LinearPlan(step, tuple(presums), tuple(operands), placement, tuple(splits), price + extra)
    return sorted(best.values(), key=lambda item: item.price)[:_KEPT]


def _packings(lowered: Lowered, slots: int, cells: dict[str, list[tuple[int, int]]]) -> list[InputPacking]:
    """Ways the owner may pack the picture."""
    readers = lowered.consumers(lowered.input)
    found = [plain_packing(lowered.input_shape, slots)]
    if len(readers) == 1 and isinstance(readers[0], LinearStep) and len(readers[0].inputs) == 1:
        step = readers[0]
        if len(step.shape) == 3:
            channels, height, width = step.shape
            found.extend(convolution_packings(step.matrices[0], lowered.input_shape, (channels, height, width), slots))
            for cell_y, cell_x in cells[step.name]:
                if height % cell_y or width % cell_x:
                    continue
                order = np.arange(channels * height * width).reshape(
                    channels, height // cell_y, cell_y, width // cell_x, cell_x
                )
                order = order.transpose(0, 2, 4, 1, 3).reshape(-1)
                shape = (channels * cell_y * cell_x, height // cell_y, width // cell_x)
                for packing in convolution_packings(step.matrices[0][order], lowered.input_shape, shape, slots):
                    assert packing.matrix is not None
                    back = sparse.csr_array(packing.matrix[np.argsort(order)])
                    found.append(replace(packing, matrix=back))
    return found


def throughput_plan(lowered: Lowered) -> Plan:
    """The plan of the throughput layout: a ciphertext for each element, a slot for each image."""
    sizes = {lowered.input: int(np.prod(lowered.input_shape))}
    for step in lowered.steps:
        sizes[step.name] = step.bias.size if isinstance(step, LinearStep) else sizes[step.inputs[0]]
    layouts = {
        name: Layout(1, size, np.arange(size), np.zeros(size, dtype=np.int64), 1) for name, size in sizes.items()
    }
    size = sizes[lowered.input]
    packing = InputPacking(layouts[lowered.input], np.arange(size), lowered.input_shape, None, "an image a slot")
    return Plan(packing, layouts)


def plan(lowered: Lowered, slots: int, primes: dict[str, int], costs: CostModel) -> Plan:
    """The cheapest plan found.

    Parameters
    ----------
    lowered : Lowered
        The steps.
    slots : int
        Slots one image may use in a ciphertext.
    primes : dict of str to int
        Data primes left in each value.
    costs : CostModel
        Prices.

    Raises
    ------
    CompileError
        If a linear map is too large.
    """
    for step in lowered.steps:
        if isinstance(step, LinearStep) and sum(matrix.nnz for matrix in step.matrices) > _MOST_ENTRIES:
            raise CompileError(
                f"layer {step.name} has {sum(m.nnz for m in step.matrices):,} products, above the limit of "
                f"{_MOST_ENTRIES:,} for one CKKS layer: use a smaller model or the sharing executor"
            )
    cells = {
        step.name: sorted({cell for reader in lowered.consumers(step.name) for cell in _cells(lowered, reader.name)})
        for step in lowered.steps
    }
    first = costs.ciphertext(primes[lowered.input])
    beam = [
        Plan(packing, {lowered.input: packing.layout}, {}, packing.layout.ciphertexts * first)
        for packing in _packings(lowered, slots, cells)
    ]
    for step in lowered.steps:
        grown: list[Plan] = []
        known: dict[tuple[object, ...], list[LinearPlan]] = {}
        for state in beam:
            if not isinstance(step, LinearStep):
                grown.append(state.with_layout(step.name, state.layouts[step.inputs[0]]))
                continue
            matrices, shapes = step.matrices, list(step.input_shapes)
            if step.inputs == (lowered.input,) and state.packing.matrix is not None:
                matrices, shapes = (state.packing.matrix,), [state.packing.shape]
            sources = list(zip((state.layouts[name] for name in step.inputs), shapes, strict=True))
            imposed = None
            for reader in lowered.consumers(step.name):
                if not isinstance(reader, LinearStep) and len(reader.inputs) == 2 and reader.inputs[1] == step.name:
                    imposed = state.layouts[reader.inputs[0]]
            key = (*(layout.key() for layout, _ in sources), *shapes, imposed.key() if imposed else None)
            if key not in known:
                known[key] = _candidates(
                    step,
                    matrices,
                    sources,
                    [primes[name] for name in step.inputs],
                    cells[step.name],
                    slots,
                    step.name == lowered.output,
                    imposed,
                    costs,
                )
            grown.extend(state.with_linear(step.name, item) for item in known[key])
        beam = _prune(grown)
        if not beam:
            raise CompileError(f"no layout found for layer {step.name}: split it, or use the sharing executor")
    return beam[0]


def _cells(lowered: Lowered, reader: str) -> list[tuple[int, int]]:
    """Neighbourhoods that the linear maps behind a value sum before anything else."""
    found = []
    for step in lowered.steps:
        if step.name != reader:
            continue
        if isinstance(step, LinearStep):
            found += [
                cell for m, shape in zip(step.matrices, step.input_shapes, strict=True) for cell in cells_of(m, shape)
            ]
        else:
            for later in lowered.consumers(step.name):
                found += _cells(lowered, later.name)
    return found


def _prune(states: list[Plan]) -> list[Plan]:
    """The cheapest states, few for each input packing so that late savings can show."""
    kept: list[Plan] = []
    seen: dict[str, int] = {}
    for state in sorted(states, key=lambda item: item.price):
        label = state.packing.label
        if seen.get(label, 0) < _BEAM and len(kept) < 4 * _BEAM:
            kept.append(state)
            seen[label] = seen.get(label, 0) + 1
    return kept
