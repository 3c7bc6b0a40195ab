"""Importers of nodes that move elements: Pad, Concat, Flatten, Reshape, Transpose, Squeeze, Slice, ReduceMean, ..."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from secureimg.errors import GraphError
from secureimg.graph.onnx_import.values import (
    Const,
    Emitter,
    Handler,
    NodeView,
    Refused,
    Result,
    Value,
    across_batch,
)
from secureimg.graph.ops import Affine, Concat, Mean, Pad, Shape, Slice, Transpose, elements

__all__ = ["HANDLERS", "reshaped", "slice_plan", "squeezed", "unsqueezed"]


def reshaped(node: NodeView, full: Shape, target: tuple[int, ...], allow_zero: bool, batch: int = 1) -> Shape:
    """The shape a Reshape node asks for: 0 copies a side, one -1 is worked out; `batch` in front is read as 1."""
    sides = list(target)
    if not allow_zero:
        if any(side == 0 and i >= len(full) for i, side in enumerate(sides)):
            raise GraphError(f"node {node.label!r} ({node.kind}): shape {target} copies a side that is not there")
        sides = [full[i] if side == 0 else side for i, side in enumerate(sides)]
    if batch > 1 and sides and sides[0] == batch and full and full[0] == 1:
        sides[0] = 1
    known = elements(tuple(side for side in sides if side != -1))
    if sides.count(-1) == 1 and known > 0 and elements(full) % known == 0:
        sides[sides.index(-1)] = elements(full) // known
    if any(side < 0 for side in sides) or elements(tuple(sides)) != elements(full):
        raise GraphError(f"node {node.label!r} ({node.kind}): {full} (one image) does not fit the shape {target}")
    return tuple(sides)


def squeezed(node: NodeView, full: Shape, axes: tuple[int, ...] | None) -> Shape:
    """Shape without the named axes of 1; without all of them where none is named."""
    if axes is None:
        return tuple(side for side in full if side != 1)
    gone = node.normal_axes(axes, len(full))
    if any(full[axis] != 1 for axis in gone):
        raise GraphError(f"node {node.label!r} ({node.kind}): axes {axes} of {full} are not all 1")
    return tuple(side for i, side in enumerate(full) if i not in gone)


def unsqueezed(node: NodeView, full: Shape, axes: tuple[int, ...]) -> Shape:
    """Shape with axes of 1 put in."""
    rank = len(full) + len(axes)
    new = node.normal_axes(axes, rank)
    rest = iter(full)
    return tuple(1 if i in new else next(rest) for i in range(rank))


def slice_plan(node: NodeView, full: Shape) -> list[tuple[int, int, int]]:
    """Start, count and step of a Slice node along each axis; the limits must be constants."""
    if node.version < 10:
        starts, ends, axes = node.integers("starts"), node.integers("ends"), node.integers("axes")
        steps: tuple[int, ...] | None = None
    else:
        starts, ends = node.const_integers(1, "start"), node.const_integers(2, "end")
        axes = node.const_integers(3, "axes") if node.has(3) else None
        steps = node.const_integers(4, "steps") if node.has(4) else None
    if starts is None or ends is None:
        raise GraphError(f"node {node.label!r} (Slice): starts or ends are missing")
    axes = tuple(range(len(starts))) if axes is None else node.normal_axes(axes, len(full))
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) <= len(full) or 0 in steps:
        raise GraphError(f"node {node.label!r} (Slice): starts, ends, axes and steps do not fit each other")
    plan = [(0, side, 1) for side in full]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picked = range(*slice(start, end if step > 0 or end >= -full[axis] else None, step).indices(full[axis]))
        plan[axis] = (picked.start, len(picked), step)
    return plan


def _reshape(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    allow_zero = bool(node.integer("allowzero", 0))
    target = node.const_integers(1, "shape")
    return out.reshape(node, value, reshaped(node, value.full, target, allow_zero, out.batch))


def _flatten(node: NodeView, out: Emitter) -> Result:
    value, axis = node.value(0), node.integer("axis", 1)
    rank = len(value.full)
    if not -rank <= axis <= rank:
        raise GraphError(f"node {node.label!r} (Flatten): axis {axis} is outside a tensor of {rank} axes")
    axis = axis + rank if axis < 0 else axis
    return out.reshape(node, value, (elements(value.full[:axis]), elements(value.full[axis:])))


def _squeeze(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    return out.reshape(node, value, squeezed(node, value.full, node.axes(13)))


def _unsqueeze(node: NodeView, out: Emitter) -> Result:
    value, axes = node.value(0), node.axes(13)
    if axes is None:
        raise GraphError(f"node {node.label!r} (Unsqueeze): its axes are missing")
    return out.reshape(node, value, unsqueezed(node, value.full, axes))


def _transpose(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    perm = node.integers("perm") or tuple(reversed(range(len(value.full))))
    if sorted(perm) != list(range(len(value.full))):
        raise GraphError(
            f"node {node.label!r} (Transpose): perm {perm} does not fit a tensor of {len(value.full)} axes"
        )
    full = tuple(value.full[axis] for axis in perm)
    image = tuple(axis - value.lead for axis in perm if axis >= value.lead)
    if image == tuple(range(len(image))):
        return out.reshape(node, value, full)
    return out.emit(node, Transpose(image), (value,), full)


def _pad(node: NodeView, out: Emitter) -> Result:
    value, rank = node.value(0), len(node.value(0).full)
    mode = node.attribute("mode", "constant")
    if mode != "constant":
        raise Refused(f"it pads in {mode!r} mode", "pad with a constant")
    if node.version < 11:
        pads, fill = node.integers("pads"), node.number("value", 0.0)
    else:
        pads = node.const_integers(1, "pads")
        fill = float(node.const(2, "value").reshape(-1)[0]) if node.has(2) else 0.0
    axes = node.const_integers(3, "axes") if node.version >= 18 and node.has(3) else tuple(range(rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise GraphError(f"node {node.label!r} (Pad): pads {pads} do not fit {len(axes)} axes")
    full = [(0, 0)] * rank
    for i, axis in enumerate(node.normal_axes(axes, rank)):
        full[axis] = (pads[i], pads[i + len(axes)])
    if value.lead and full[0] != (0, 0):
        raise across_batch()
    if not any(any(pair) for pair in full):
        return value
    return out.emit(node, Pad(tuple(full[value.lead :]), fill), (value,))


def _concat(node: NodeView, out: Emitter) -> Result:
    if any(isinstance(operand, Const) for operand in node.inputs):
        raise Refused("one of its inputs is a constant", "concatenate computed values only")
    values = tuple(node.value(i) for i in range(len(node.inputs)))
    axis = values[0].axis(node.integer("axis", 1))
    if len({value.lead for value in values}) != 1:
        raise across_batch()
    return values[0] if len(values) == 1 else out.emit(node, Concat(axis), values)


def _reduce(node: NodeView, out: Emitter) -> Result:
    """ReduceMean; ReduceSum as a mean times the number of elements."""
    value = node.value(0)
    keepdims, noop = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes", 0))
    axes = node.axes(18 if node.kind == "ReduceMean" else 13)
    if not axes:
        if noop:
            return value
        axes = tuple(range(value.lead, len(value.full)))
        if value.lead and not keepdims:
            raise Refused("it averages over the batch axis too", "name the axes of the image")
    picked = tuple(value.axis(axis) for axis in axes)
    op = Mean(picked, keepdims)
    result = out.emit(node, op, (value,), (1,) * value.lead + op.infer(value.image))
    if node.kind == "ReduceMean":
        return result
    count = elements(tuple(value.image[axis] for axis in picked))
    return out.emit(node, Affine(np.full((), float(count)), np.zeros(())), (result,), result.full)


def _cut(node: NodeView, out: Emitter, value: Value, plan: list[tuple[int, int, int]]) -> Value:
    if value.lead and plan[0] != (0, 1, 1):
        if plan[0][1] != 1:
            raise across_batch()
        plan = [(0, 1, 1), *plan[1:]]
    full = tuple(count for _, count, _ in plan)
    if 0 in full:
        raise GraphError(f"node {node.label!r} ({node.kind}): nothing is left of {value.full}")
    if full == value.full and all(step == 1 for _, _, step in plan):
        return value
    starts, counts, steps = zip(*plan[value.lead :], strict=True)
    return out.emit(node, Slice(starts, counts, steps), (value,), full)


def _slice(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    return _cut(node, out, value, slice_plan(node, value.full))


def _split(node: NodeView, out: Emitter) -> Result:
    value, rank = node.value(0), len(node.value(0).full)
    (axis,) = node.normal_axes((node.integer("axis", 0),), rank)
    node.integer("num_outputs", node.outputs)
    sizes = node.integers("split")
    if sizes is None and node.version >= 13 and node.has(1):
        sizes = node.const_integers(1, "sizes")
    if sizes is None:
        step = -(-value.full[axis] // node.outputs)
        sizes = tuple(min(step, value.full[axis] - i * step) for i in range(node.outputs))
    if sum(sizes) != value.full[axis] or len(sizes) != node.outputs or min(sizes) < 1:
        raise GraphError(f"node {node.label!r} (Split): sizes {sizes} do not add up to {value.full[axis]}")
    if axis < value.lead:
        raise across_batch()
    parts, start = [], 0
    for size in sizes:
        plan = [(0, side, 1) for side in value.full]
        plan[axis] = (start, size, 1)
        parts.append(_cut(node, out, value, plan))
        start += size
    return tuple(parts)


def _gather(node: NodeView, out: Emitter) -> Result:
    """One index, or indices that run in equal steps, along an axis of the image."""
    value, index = node.value(0), node.const(1, "index")
    (axis,) = node.normal_axes((node.integer("axis", 0),), len(value.full))
    picked = [int(i) + value.full[axis] * (int(i) < 0) for i in index.reshape(-1)]
    steps = {b - a for a, b in pairwise(picked)}
    if index.ndim > 1 or not picked or len(steps) > 1 or 0 in steps:
        raise Refused("its indices do not run in equal steps", "use a slice")
    if min(picked) < 0 or max(picked) >= value.full[axis]:
        raise GraphError(f"node {node.label!r} (Gather): an index is outside an axis of {value.full[axis]}")
    plan = [(0, side, 1) for side in value.full]
    plan[axis] = (picked[0], len(picked), steps.pop() if steps else 1)
    result = _cut(node, out, value, plan)
    if index.ndim == 1:
        return result
    return out.reshape(node, result, result.full[:axis] + result.full[axis + 1 :])


HANDLERS: dict[str, Handler] = {
    "Concat": _concat,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
