"""From a graph to a program: parameters, plan, text, error and range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.calibration import Ranges, measure_ranges
from secureimg.ckks.clear import run_clear
from secureimg.ckks.costs import CostModel
from secureimg.ckks.emit import Chain, Emitter, Value
from secureimg.ckks.layout import Layout
from secureimg.ckks.lowering import LinearStep, Lowered, lower
from secureimg.ckks.noise import NoiseModel
from secureimg.ckks.parameters import MAX_MODULUS_BITS, Parameters, PrimeBits
from secureimg.ckks.planner import Plan, plan, throughput_plan
from secureimg.ckks.program import OwnerOp, Program, PublicProgram, _Body, _Places
from secureimg.ckks.report import report
from secureimg.errors import CompileError, ParameterError
from secureimg.graph import ArgMax, Graph, Op, Softmax

__all__ = ["compile"]

Array = NDArray[np.float64]

_MARGIN_BITS = 3
_WIDTHS = range(20, 57)
_LARGEST_PRIME = 60
_CONFIDENCE = 10.0
_MODEL_SLACK = 2.5
"""The noise model leaves out chains of rotations and what unused slots hold: measured deviations reach twice its."""
_FINEST = 2.0**-24
_LATE_FOLD_SURPLUS = 32
"""Folding late costs three bits or so: only where the precision asked for is reached this many times over,"""
_LATE_FOLD_WORTH = 0.9
"""and where it saves a tenth of the time."""
_HOPELESS = 4.0


def compile(  # noqa: A001  the field's word; callers write ckks.compile
    graph: Graph,
    *,
    input_range: tuple[float, float] | None = None,
    samples: Array | None = None,
    precision: float = 2.0**-7,
    batch: int = 1,
    layout: str = "slots",
    ring_degree: int | None = None,
    speed: float = 1.0,
) -> Program:
    """Compile a graph into a CKKS program.

    Parameters
    ----------
    graph : Graph
        The computation; owner ops at its end (softmax, argmax) stay with the owner.
    input_range : (float, float), optional
        Smallest and largest input value; public. Default: what the graph's preprocessing gives, else (0, 1).
    samples : array of shape (N, *input_shape), optional
        Typical inputs, to measure ranges on in addition to the built-in test pictures. Default: the graph's own, if it has
        any.
    precision : float
        Largest acceptable predicted error, relative to the largest output on pictures of the model's kind. More is
        delivered where it costs nothing.
    batch : int
        Images in one evaluation, a power of two; they share the ciphertexts' spare slots.
    layout : "slots" or "throughput"
        `throughput` puts one image in each slot: no rotations, best for thousands of images.
    ring_degree : int, optional
        Fix N instead of taking the smallest that reaches the precision.
    speed : float
        Measured time of this machine over the built-in table, for the report's milliseconds (`measure_machine`).

    Returns
    -------
    Program

    Raises
    ------
    CompileError
        If an op cannot run on CKKS, or no parameter set with 128-bit security is deep or precise enough; the message
        names the layers and what to do.
    """
    if layout not in ("slots", "throughput"):
        raise CompileError(f"unknown layout {layout!r}: use 'slots' or 'throughput'")
    body, tail = graph.body_and_tail()
    samples = graph.samples if samples is None else samples
    low, high = _input_range(graph, input_range)
    lowered = lower(body)
    degrees = sorted(MAX_MODULUS_BITS) if ring_degree is None else [ring_degree]
    if ring_degree is not None and ring_degree not in MAX_MODULUS_BITS:
        raise CompileError(f"ring degree {ring_degree} is not supported: use one of {sorted(MAX_MODULUS_BITS)}")
    reached = math.inf
    for degree in degrees:
        if layout == "throughput":
            batch = degree // 2
        if batch < 1 or degree // 2 % batch:
            raise CompileError(f"batch {batch} must be a power of two, at most {max(degrees) // 2}")
        for cautious in (False, True):
            ranges = measure_ranges(lowered, low, high, samples, cautious)
            found = _choose(lowered, ranges, degree, batch, precision)
            if found is None:
                break
            reached = min(reached, found.error / ranges.typical[lowered.output])
            if found.error > precision * ranges.typical[lowered.output]:
                break
            program = _finish(graph, tail, lowered, ranges, found, (low, high), batch, layout, CostModel(degree, speed))
            if _holds(program, lowered, ranges):
                return program
    raise CompileError(_no_room(lowered, reached, precision, degrees))


def _input_range(graph: Graph, given: tuple[float, float] | None) -> tuple[float, float]:
    low, high = given if given is not None else graph.preprocessing.range if graph.preprocessing else (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CompileError(
            f"input range ({low}, {high}) is empty or not finite: give the smallest and largest input value"
        )
    return float(low), float(high)


def _no_room(lowered: Lowered, reached: float, precision: float, degrees: list[int]) -> str:
    depth = _depths(lowered)
    deepest = max(depth, key=lambda name: depth[name])
    if math.isfinite(reached):
        return (
            f"the best parameters reach a relative error of {reached:.1e}, {precision:.1e} was asked for: ask for less, "
            "or make the model shallower"
        )
    return (
        f"the model needs {depth[deepest]} levels (layer {deepest} runs out), more than a ring degree of {max(degrees)} has "
        "room for at 128-bit security: use fewer layers or lower polynomial degrees, or the sharing executor, where depth "
        "costs nothing"
    )


def _depths(lowered: Lowered) -> dict[str, int]:
    depth = {lowered.input: 0}
    for step in lowered.steps:
        cost = 1 if isinstance(step, LinearStep) or len(step.inputs) == 2 else (len(step.coefficients) - 2).bit_length()
        depth[step.name] = max(depth[name] for name in step.inputs) + cost
    return depth


@dataclass(frozen=True, eq=False)
class _Found:
    """A parameter set with the plan and text made for it, and the error predicted."""

    parameters: Parameters
    plan: Plan
    emitter: Emitter
    output: Value
    error: float

    def price(self, costs: CostModel) -> float:
        """Predicted milliseconds."""
        return report(self.emitter.text, self.parameters, costs, {}, {}).milliseconds


def _choose(lowered: Lowered, ranges: Ranges, degree: int, batch: int, precision: float) -> _Found | None:
    """Late folds where they save time worth having and precision is to spare, else early ones."""
    plans: dict[tuple[int, ...], Plan] = {}
    early = _Search(lowered, ranges, degree, batch, False, plans).run(precision)
    late = _Search(lowered, ranges, degree, batch, True, plans).run(precision / _LATE_FOLD_SURPLUS)
    wanted = precision / _LATE_FOLD_SURPLUS * ranges.typical[lowered.output]
    if early is None or late is None or late.error > wanted:
        return early
    costs = CostModel(degree)
    return late if late.price(costs) < _LATE_FOLD_WORTH * early.price(costs) else early


class _Search:
    """Tries working precisions at one ring degree."""

    def __init__(
        self,
        lowered: Lowered,
        ranges: Ranges,
        degree: int,
        batch: int,
        late_folds: bool,
        plans: dict[tuple[int, ...], Plan],
    ) -> None:
        self.lowered, self.ranges, self.degree, self.batch = lowered, ranges, degree, batch
        self.late_folds, self.plans = late_folds, plans

    def emitter(self, width: int, chain: Chain, noise: NoiseModel, chosen: Plan | None) -> Emitter:
        exponents, squares = self.ranges.exponents, self.ranges.squares
        return Emitter(self.lowered, exponents, squares, width, chain, noise, self.late_folds, chosen)

    def chain_bits(self, width: int) -> tuple[list[list[int]], PrimeBits] | None:
        """Prime sizes for a working precision: a group for each position, and the whole set; None if it does not fit."""
        chain = Chain()
        output = self.emitter(width, chain, NoiseModel(self.degree), None).run()
        low = math.ceil(math.log2(2 * self.degree)) + 9
        groups = []
        for bits in chain.needed:
            count = max(math.ceil(bits / _LARGEST_PRIME), 1)
            groups.append([max(math.ceil(bits / count), low)] * count)
        bound = math.log2(output.scale) + math.log2(self.ranges.bounds[self.lowered.output])
        last = math.ceil(bound) + _MARGIN_BITS + 1
        if last > _LARGEST_PRIME:
            return None
        data = (last, *(size for group in reversed(groups) for size in group))
        limit = MAX_MODULUS_BITS[self.degree]
        largest = max(data)
        special = min(_LARGEST_PRIME, largest + 4, limit - sum(data))
        if special < largest:
            return None
        return groups, PrimeBits(data, special)

    def widths(self) -> Iterator[int]:
        """Working precisions that fit."""
        return (width for width in _WIDTHS if self.chain_bits(width) is not None)

    def _shape(self, width: int) -> tuple[Parameters, Chain, tuple[int, ...], Emitter, Value]:
        """Parameters and chain of a working precision, and a run without layouts, which predicts the error well."""
        fitted = self.chain_bits(width)
        assert fitted is not None
        groups, bits = fitted
        parameters = Parameters(self.degree, bits)
        primes, start = parameters.primes, len(bits.data)
        chain_primes = []
        for group in groups:
            chain_primes.append(tuple(primes[start - len(group) : start]))
            start -= len(group)
        chain = Chain(tuple(chain_primes))
        emitter = self.emitter(width, chain, NoiseModel(self.degree, primes), None)
        return parameters, chain, tuple(len(group) for group in groups), emitter, emitter.run()

    def attempt(self, width: int) -> _Found:
        """Plan and emit at a working precision."""
        parameters, chain, counts, shape, _ = self._shape(width)
        if counts not in self.plans:
            left = {name: shape.primes_at(value.position) for name, value in shape.values.items()}
            slots = self.degree // 2 // self.batch
            self.plans[counts] = (
                throughput_plan(self.lowered) if slots == 1 else plan(self.lowered, slots, left, CostModel(self.degree))
            )
        chosen = self.plans[counts]
        emitter = self.emitter(width, chain, NoiseModel(self.degree, parameters.primes), chosen)
        output = emitter.run()
        return _Found(parameters, chosen, emitter, output, _error(output))

    def run(self, precision: float) -> _Found | None:
        """The finest attempt with the fewest primes; with more primes only if the precision asks for them."""
        widths = list(self.widths())
        if not widths:
            return None
        typical = self.ranges.typical[self.lowered.output]
        fewest = min(self._primes(width) for width in widths)
        low, high = 0, max(place for place, width in enumerate(widths) if self._primes(width) == fewest)
        while low < high:
            middle = (low + high) // 2
            if _error(self._shape(widths[middle])[-1]) <= typical * _FINEST:
                high = middle
            else:
                low = middle + 1
        if _error(self._shape(widths[-1])[-1]) > _HOPELESS * precision * typical:
            return None
        found = self.attempt(widths[low])
        while found.error > precision * typical and low < len(widths) - 1:
            low += 1
            found = self.attempt(widths[low])
        return found

    def _primes(self, width: int) -> int:
        fitted = self.chain_bits(width)
        return len(fitted[1].data) if fitted is not None else 0


def _holds(program: Program, lowered: Lowered, ranges: Ranges) -> bool:
    """Whether the cleartext twin, on the pictures with the largest results, has room and gives the graph's results.

    Raises
    ------
    CompileError
        If it gives others: that is a fault of the compiler, caught before any key exists.
    """
    wanted = lowered.run(ranges.strong)[lowered.output]
    for picture, right in zip(ranges.strong, wanted, strict=True):
        result, headroom = run_clear(program, picture)
        if headroom < 1:
            return False
        if np.abs(result.reshape(-1) - right).max() > 1e-6 * max(float(np.abs(right).max()), 1e-6):
            raise CompileError(
                "the compiled program does not give the model's results in the clear: this is a fault in secureimg, please "
                "report it with the model"
            )
    return True


def _error(output: Value) -> float:
    """Bound on the error of every result: ten standard deviations of the worst one, and slack for the model."""
    return _MODEL_SLACK * _CONFIDENCE * math.sqrt(float(output.variance.max()))


def _places(layout: Layout) -> _Places:
    return _Places(
        layout.slots,
        layout.ciphertexts,
        layout.period,
        layout.ciphertext.astype("<i4").tobytes(),
        layout.slot.astype("<i4").tobytes(),
    )


def _owner_op(op: Op) -> OwnerOp:
    if isinstance(op, Softmax):
        return OwnerOp("softmax", op.axis, log=op.log)
    if isinstance(op, ArgMax):
        return OwnerOp("argmax", op.axis, keepdims=op.keepdims)
    raise CompileError(f"{type(op).__name__} is not an op that the owner runs")


def _finish(
    graph: Graph,
    tail: tuple[Op, ...],
    lowered: Lowered,
    ranges: Ranges,
    found: _Found,
    input_range: tuple[float, float],
    batch: int,
    layout: str,
    costs: CostModel,
) -> Program:
    text, parameters, chosen = found.emitter.text, found.parameters, found.plan
    plans = {name: item.placement.label for name, item in chosen.linear.items()}
    plans[lowered.steps[0].name] = f"{chosen.packing.label}; {plans.get(lowered.steps[0].name, '')}"
    cost = report(text, parameters, costs, plans, ranges.exponents)
    body = _Body(
        name=graph.name,
        graph=graph.fingerprint,
        layout=layout,
        ring_degree=parameters.ring_degree,
        data_bits=parameters.bits.data,
        special_bits=parameters.bits.special,
        primes=parameters.primes,
        input_shape=lowered.input_shape,
        output_shape=lowered.output_shape,
        batch=batch,
        input_range=input_range,
        input_scale=found.emitter.values[lowered.input].scale,
        packing=_places(chosen.packing.layout),
        gather=chosen.packing.gather.astype("<i4").tobytes(),
        output_primes=found.emitter.primes_at(found.output.position),
        output_scale=found.output.scale,
        output=_places(chosen.layouts[lowered.output]),
        rotations=tuple(sorted((step * batch, primes) for step, primes in text.rotations().items())),
        relinearisation=text.relinearisation(),
        levels=cost.levels,
        rotation_count=cost.rotations,
        error_bound=found.error,
        output_bound=4 * ranges.bounds[lowered.output],
        owner_ops=tuple(_owner_op(op) for op in tail),
        labels=graph.labels,
    )
    public = PublicProgram(body)
    try:
        PublicProgram.from_bytes(public.to_bytes())
    except ParameterError as error:
        raise CompileError(str(error)) from None
    return Program(public, text, cost)
