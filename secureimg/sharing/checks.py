"""A public program may come from another machine: every shape in it is computed again and compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from secureimg.errors import CompileError, GraphError
from secureimg.graph.ops.windows import window_count
from secureimg.sharing import text
from secureimg.sharing.ring import LIMIT_BITS
from secureimg.sharing.widths import assign_widths

if TYPE_CHECKING:
    from secureimg.sharing.program import PublicProgram

__all__ = ["MAX_ELEMENTS", "MAX_STEPS", "check_program"]

MAX_STEPS = 4096
MAX_ELEMENTS = 2**26
_MAX_WORK = 2**44
_MAX_WEIGHTS = 2**30
_MAX_KERNEL = 2**16


def _fail(step: text.Step, what: str) -> None:
    raise CompileError(f"step {step.name!r} ({type(step).__name__}): {what}")


def check_program(program: PublicProgram) -> None:
    """Raise `CompileError` if a step reads a register that is not there yet, or shapes, widths and sizes do not fit."""
    registers, steps = program.registers, program.steps
    if not registers or len(steps) > MAX_STEPS or len(registers) > 2 * MAX_STEPS:
        raise CompileError(
            f"a program of {len(steps)} steps and {len(registers)} registers; the limit is {MAX_STEPS} steps"
        )
    for number, register in enumerate(registers):
        if math.prod(register.shape) > MAX_ELEMENTS or not (math.isfinite(register.factor) and register.factor > 0):
            raise CompileError(
                f"register {number}: shape {register.shape} or factor {register.factor} is out of bounds"
            )
    low, high = program.input_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CompileError(f"the input range ({low}, {high}) is not two finite numbers, the lower first")
    if max(abs(low), abs(high)) * 2.0 ** registers[0].scale >= 2.0**LIMIT_BITS:
        raise CompileError(
            f"inputs of up to {max(abs(low), abs(high)):.4g} with {registers[0].scale} fractional bits do not stay below "
            f"2^{LIMIT_BITS}"
        )
    if registers[0].shape != program.input_shape:
        raise CompileError(f"register 0 has shape {registers[0].shape}, the input {program.input_shape}")
    ready = {0}
    work = weights = 0
    for step in steps:
        for source in text.sources_of(step):
            if source not in ready:
                _fail(step, f"reads register {source} before it is written")
        outs = [step.out] + ([step.whole] if isinstance(step, text.Relu) and step.whole is not None else [])
        for out in outs:
            if out >= len(registers) or out in ready:
                _fail(step, f"writes register {out}, which is not there or written already")
            ready.add(out)
        shapes = [registers[source].shape for source in text.sources_of(step)]
        found = _shape(step, shapes, registers[step.out].shape)
        if found != registers[step.out].shape:
            _fail(step, f"gives shape {found}, its register has {registers[step.out].shape}")
        if isinstance(step, text.Relu | text.Decide | text.Truncate | text.MaxPool | text.Best):
            read = step.drop + step.bits - (step.code if isinstance(step, text.Best) else 0)
            if read > 64:
                _fail(step, f"reads {read} bits of a share, which has 64")
        if isinstance(step, text.Relu | text.Truncate) and step.width < step.bits:
            _fail(step, f"its result has {step.width} bits, fewer than the {step.bits} it is computed in")
        if isinstance(step, text.MaxPool | text.Best) and registers[step.out].width > step.bits:
            _fail(step, f"{registers[step.out].width} bits of its result are read, it has {step.bits}")
        if isinstance(step, text.Linear | text.SharedLinear):
            work += step.geometry.multiplications
            weights += step.geometry.weights
    if program.output not in ready or work > _MAX_WORK or weights > _MAX_WEIGHTS:
        raise CompileError(
            f"the output register {program.output} is never written, or {work} products or {weights} weights are above the "
            f"limits of {_MAX_WORK} and {_MAX_WEIGHTS}"
        )
    _check_hidden(program)
    _check_result(program)
    if assign_widths(list(registers), list(steps), program.output, registers[program.output].width) != (
        registers,
        steps,
    ):
        raise CompileError("the widths of the registers are not those that the steps need")


def _check_hidden(program: PublicProgram) -> None:
    """Weights that party 0 must not know meet blinded values only."""
    blinds = {step.out: step.width for step in program.steps if isinstance(step, text.Blind)}
    for step in program.steps:
        if isinstance(step, text.SharedLinear) and program.weights != "shared":
            _fail(step, f"its weights are shared in a program whose weights are known to {program.weights!r}")
        if not isinstance(step, text.Linear):
            continue
        if program.weights == "shared":
            _fail(step, "its weights are not shared as those of the program are")
        if step.hidden != (program.weights == "party 1"):
            _fail(step, f"hidden is {step.hidden} in a program whose weights are known to {program.weights!r}")
        if step.hidden and step.width > blinds.get(step.source, 0):
            _fail(
                step, f"its weights are hidden, but register {step.source} is not a blinded value of {step.width} bits"
            )


def _check_result(program: PublicProgram) -> None:
    """What is revealed is what the last step gives, and the owner's ops fit the output."""
    scores = program.output_shape
    try:
        for op in program.tail:
            scores = op.infer(scores)
    except GraphError as error:
        raise CompileError(f"what the owner does with the output does not fit it: {error}") from None
    shape = program.registers[program.output].shape
    if program.reveal in ("scores", "shares"):
        if program.code or shape != program.output_shape:
            raise CompileError(
                f"the result has shape {shape} and code {program.code}, the output {program.output_shape}"
            )
        return
    last = next((step for step in program.steps if step.out == program.output), None)
    size = max(2, math.prod(program.output_shape))
    if (
        not isinstance(last, text.Best)
        or (last.code, last.count) != (program.code, program.top)
        or program.registers[last.source].shape != (size,)
        or (program.reveal == "label" and program.top != 1)
    ):
        raise CompileError(f"the last step does not find the {program.reveal} of {size} outputs (top {program.top})")


def _shape(step: text.Step, shapes: list[text.Shape], claimed: text.Shape) -> text.Shape:
    """Shape of a step's result. Raises if it cannot be computed."""
    first = shapes[0]
    if isinstance(step, text.Linear | text.SharedLinear):
        found = _linear(step, first)
        if found != step.geometry.out_shape or (step.geometry.groups > 1 and step.geometry.kind != "conv"):
            _fail(step, f"gives shape {found} in {step.geometry.groups} group(s), not {step.geometry.out_shape}")
        return found
    if isinstance(step, text.MaxPool | text.SumPool):
        if len(first) != 3:
            _fail(step, f"needs (C, H, W), got {first}")
        dilations = step.dilations if isinstance(step, text.MaxPool) else (1, 1)
        top, left, bottom, right = step.pads
        _check_padded(step, first, step.pads)
        rows = window_count(first[1], step.kernel[0], step.strides[0], top, bottom, dilations[0], False)
        columns = window_count(first[2], step.kernel[1], step.strides[1], left, right, dilations[1], False)
        taken = first[0] * columns * max(step.kernel[1] * (first[1] + top + bottom), step.kernel[0] * rows)
        if math.prod(step.kernel) > _MAX_KERNEL or taken > MAX_ELEMENTS:
            _fail(step, f"a kernel of {step.kernel} takes {taken} values at a time, the limits are {_MAX_KERNEL} and "
                  f"{MAX_ELEMENTS}")  # fmt: skip
        return first[0], rows, columns
    if isinstance(step, text.Best):
        if (
            len(first) != 1
            or step.count > first[0]
            or (first[0] - 1).bit_length() > step.code
            or step.code >= step.bits
        ):
            _fail(step, f"takes a vector of at most 2^{step.code} elements, got {first}")
        return (step.count,)
    if isinstance(step, text.Combine):
        if len(step.sources) != len(step.factors) or len(set(shapes)) != 1:
            _fail(step, f"takes values of one shape and a factor for each, got {shapes}")
        return first
    if isinstance(step, text.Spread):
        return (len(step.constants), *first)
    if isinstance(step, text.Weigh):
        if not first or len(step.factors) != first[0]:
            _fail(step, f"has {len(step.factors)} factors for a first axis of {first[:1]}")
        return first[1:]
    if isinstance(step, text.Multiply):
        if shapes[0] != shapes[1]:
            _fail(step, f"takes values of one shape, got {shapes}")
        return first
    if isinstance(step, text.Sum):
        if any(axis >= len(first) for axis in step.axes) or len(set(step.axes)) != len(step.axes):
            _fail(step, f"axes {step.axes} are not all in {first}, or named twice")
        kept = tuple(1 if i in step.axes else side for i, side in enumerate(first))
        dropped = tuple(side for i, side in enumerate(first) if i not in step.axes)
        return kept if claimed == kept else dropped
    if isinstance(step, text.PublicScale):
        if math.prod(step.shape) != len(step.factors):
            _fail(step, f"has {len(step.factors)} factors for shape {step.shape}")
        return _broadcast(step, first, step.shape) if len(step.shape) <= len(first) else step.shape
    if isinstance(step, text.Concat):
        if step.axis >= min(map(len, shapes)) or len({(*s[: step.axis], *s[step.axis + 1 :]) for s in shapes}) != 1:
            _fail(step, f"cannot join {shapes} along axis {step.axis}")
        return (*first[: step.axis], sum(s[step.axis] for s in shapes), *first[step.axis + 1 :])
    if isinstance(step, text.Rearrange):
        return _rearranged(step, first, claimed)
    return first


def _check_padded(step: text.Step, shape: text.Shape, pads: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = pads
    size = shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right)
    if size > MAX_ELEMENTS:
        _fail(step, f"pads {pads} make {size} values, the limit is {MAX_ELEMENTS}")


def _broadcast(step: text.Step, *shapes: text.Shape) -> text.Shape:
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        _fail(step, f"shapes {shapes} do not broadcast")
        raise


def _linear(step: text.Linear | text.SharedLinear, shape: text.Shape) -> text.Shape:
    geometry = step.geometry
    if geometry.in_shape != shape:
        _fail(step, f"takes {geometry.in_shape}, got {shape}")
    if geometry.kind == "scale":
        return _broadcast(step, shape, geometry.weight_shape, geometry.out_shape)
    if geometry.kind == "sparse":
        if len(geometry.places) % 4 or len(geometry.row_ends) % 4:
            _fail(step, "its sparse matrix is malformed")
        starts, columns = geometry.starts, geometry.columns
        fits = starts.size == geometry.matrix_shape[0] + 1 and columns.size == int(starts[-1]) and starts[0] == 0
        inside = not columns.size or (columns.min() >= 0 and columns.max() < geometry.matrix_shape[1])
        if not fits or not inside or (np.diff(starts) < 0).any() or geometry.weight_shape != (max(columns.size, 1),):
            _fail(step, "its sparse matrix is malformed")
        return geometry.out_shape
    if geometry.kind == "dense":
        if len(geometry.weight_shape) != 2 or not shape or shape[-1] != geometry.weight_shape[1]:
            _fail(step, f"weights {geometry.weight_shape} do not fit {shape}")
        return (*shape[:-1], geometry.weight_shape[0])
    if len(shape) != 3 or len(geometry.weight_shape) != 4 or shape[0] != geometry.weight_shape[1] * geometry.groups:
        _fail(step, f"weights {geometry.weight_shape} with {geometry.groups} group(s) do not fit {shape}")
    if geometry.weight_shape[0] % geometry.groups:
        _fail(step, f"{geometry.weight_shape[0]} channels do not split into {geometry.groups} groups")
    top, left, bottom, right = geometry.pads
    _check_padded(step, shape, geometry.pads)
    _, _, kh, kw = geometry.weight_shape
    rows = window_count(shape[1], kh, geometry.strides[0], top, bottom, geometry.dilations[0], False)
    columns_ = window_count(shape[2], kw, geometry.strides[1], left, right, geometry.dilations[1], False)
    return geometry.weight_shape[0], rows, columns_


def _rearranged(step: text.Rearrange, shape: text.Shape, claimed: text.Shape) -> text.Shape:
    numbers = step.numbers
    if step.kind == "reshape":
        if math.prod(shape) != math.prod(claimed):
            _fail(step, f"cannot turn {shape} into {claimed}")
        return claimed
    if step.kind == "transpose":
        if len(numbers) != 1 or sorted(numbers[0]) != list(range(len(shape))):
            _fail(step, f"{numbers} is not an order of the axes of {shape}")
        return tuple(shape[axis] for axis in numbers[0])
    if step.kind == "slice":
        if len(numbers) != 3 or any(len(row) != len(shape) for row in numbers):
            _fail(step, f"needs start, count and step for each axis of {shape}")
        for side, start, count, stride in zip(shape, *numbers, strict=True):
            if count < 1 or stride == 0 or not (0 <= start < side and 0 <= start + (count - 1) * stride < side):
                _fail(step, f"start {start}, count {count}, step {stride} leaves an axis of {side}")
        return tuple(numbers[1])
    if len(numbers) != len(shape) or any(len(pair) != 2 for pair in numbers):
        _fail(step, f"needs (before, after) for each axis of {shape}")
    for side, (before, after) in zip(shape, numbers, strict=True):
        if max(-before, 0) + max(-after, 0) >= side:
            _fail(step, f"pads {numbers} crop an axis of {side} to nothing")
    return tuple(side + before + after for side, (before, after) in zip(shape, numbers, strict=True))
