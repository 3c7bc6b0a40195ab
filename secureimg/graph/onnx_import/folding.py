"""Nodes whose inputs are all known: the arithmetic on shapes and weights that exporters leave in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from secureimg.errors import GraphError
from secureimg.graph.onnx_import.shaping import reshaped, slice_plan, squeezed, unsqueezed
from secureimg.graph.onnx_import.values import Array, Const, NodeView, Refused, Value
from secureimg.graph.ops import MAX_ELEMENTS, elements

__all__ = ["FOLDED", "fold", "shape_of"]

Folder = Callable[[NodeView, list[Array]], Array]

_TYPES: dict[int, Any] = {
    1: np.float64, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float64, 11: np.float64, 12: np.uint32, 13: np.uint64, 16: np.float64,
}  # fmt: skip


def _cap(node: NodeView, shape: tuple[int, ...]) -> None:
    if any(side < 0 for side in shape) or elements(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"node {node.label!r} ({node.kind}): a constant of shape {shape[:8]} is above the limit of "
            f"{MAX_ELEMENTS} elements"
        )


def shape_of(node: NodeView) -> Const:
    """Shape or Size of any tensor, for a batch of one image."""
    operand = node.operand(0)
    full = operand.full if isinstance(operand, Value) else operand.array.shape
    if node.kind == "Size":
        return Const(np.asarray(elements(full), dtype=np.int64))
    start, end = node.integer("start", 0), node.integer("end", len(full))
    return Const(np.asarray(full[slice(start, end)], dtype=np.int64))


def fold(node: NodeView) -> Const | tuple[Const, ...] | None:
    """Compute a node of known inputs; None if it is not of a kind this knows.

    Raises
    ------
    GraphError
        If the inputs do not fit the node or the result is above the cap on elements.
    """
    if node.kind not in FOLDED:
        return None
    arrays = [operand.array for operand in node.inputs if isinstance(operand, Const)]
    try:
        with np.errstate(all="ignore"):
            if node.kind == "Split":
                return tuple(Const(part) for part in _split(node, arrays[0]))
            return Const(np.asarray(FOLDED[node.kind](node, arrays)))
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        raise GraphError(f"node {node.label!r} ({node.kind}): its constant inputs do not fit: {error}") from None


def _elementwise(function: Callable[..., Any]) -> Folder:
    def run(node: NodeView, arrays: list[Array]) -> Array:
        _cap(node, np.broadcast_shapes(*(a.shape for a in arrays)))
        result = function(*arrays)
        return np.asarray(result)

    return run


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        if not right.all():
            raise ZeroDivisionError("division of integers by 0")
        return np.asarray(np.trunc(left / right)).astype(left.dtype)
    return np.asarray(left / right)


def _power(left: Array, right: Array) -> Array:
    return np.asarray(np.power(left.astype(np.float64), right.astype(np.float64))).astype(left.dtype)


def _cast(node: NodeView, arrays: list[Array]) -> Array:
    target = node.integer("to", 0)
    if target not in _TYPES:
        raise Refused(f"it converts to the type number {target}", "use float, integer or boolean types")
    node.integer("saturate", 1)
    return arrays[0].astype(_TYPES[target])


def _gather(node: NodeView, arrays: list[Array]) -> Array:
    axis = node.integer("axis", 0)
    source, index = arrays
    node.normal_axes((axis,), source.ndim)
    _cap(node, (*index.shape, *(side for i, side in enumerate(source.shape) if i != axis % source.ndim)))
    return np.take(source, index.astype(np.int64), axis=axis)


def _concat(node: NodeView, arrays: list[Array]) -> Array:
    _cap(node, (sum(a.size for a in arrays),))
    return np.concatenate(arrays, axis=node.integer("axis", 1))


def _reshape(node: NodeView, arrays: list[Array]) -> Array:
    target = tuple(int(v) for v in arrays[1].reshape(-1)) if len(arrays) > 1 else node.integers("shape") or ()
    return arrays[0].reshape(reshaped(node, arrays[0].shape, target, bool(node.integer("allowzero", 0))))


def _flatten(node: NodeView, arrays: list[Array]) -> Array:
    axis, shape = node.integer("axis", 1), arrays[0].shape
    axis = axis + len(shape) if axis < 0 else axis
    return arrays[0].reshape(elements(shape[:axis]), elements(shape[axis:]))


def _transpose(node: NodeView, arrays: list[Array]) -> Array:
    return np.ascontiguousarray(arrays[0].transpose(node.integers("perm")))


def _squeeze(node: NodeView, arrays: list[Array]) -> Array:
    return arrays[0].reshape(squeezed(node, arrays[0].shape, node.axes(13)))


def _unsqueeze(node: NodeView, arrays: list[Array]) -> Array:
    return arrays[0].reshape(unsqueezed(node, arrays[0].shape, node.axes(13) or ()))


def _slice(node: NodeView, arrays: list[Array]) -> Array:
    result = arrays[0]
    for axis, (start, count, step) in enumerate(slice_plan(node, arrays[0].shape)):
        result = np.take(result, start + step * np.arange(count), axis=axis)
    return result


def _split(node: NodeView, array: Array) -> list[Array]:
    axis = node.integer("axis", 0)
    node.integer("num_outputs", node.outputs)
    sizes = node.integers("split")
    if sizes is None and node.has(1):
        sizes = node.const_integers(1, "sizes")
    if sizes is None:
        step = -(-array.shape[axis] // node.outputs)
        sizes = (step,) * (node.outputs - 1) + (array.shape[axis] - step * (node.outputs - 1),)
    return np.split(array, np.cumsum(sizes)[:-1], axis=axis)


def _constant_of_shape(node: NodeView, arrays: list[Array]) -> Array:
    shape = tuple(int(v) for v in arrays[0].reshape(-1))
    _cap(node, shape)
    value = node.attribute("value", np.zeros(1))
    return np.full(shape, np.asarray(value).reshape(-1)[0])


def _expand(node: NodeView, arrays: list[Array]) -> Array:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(int(v) for v in arrays[1].reshape(-1)))
    _cap(node, shape)
    return np.broadcast_to(arrays[0], shape).copy()


def _tile(node: NodeView, arrays: list[Array]) -> Array:
    repeats = [int(v) for v in arrays[1].reshape(-1)]
    _cap(node, tuple(side * r for side, r in zip(arrays[0].shape, repeats, strict=True)))
    return np.tile(arrays[0], repeats)


def _range(node: NodeView, arrays: list[Array]) -> Array:
    start, limit, delta = (a.reshape(-1)[0] for a in arrays)
    _cap(node, (max(0, int(np.ceil((limit - start) / delta))),))
    return np.arange(start, limit, delta)


def _matmul(node: NodeView, arrays: list[Array]) -> Array:
    left, right = arrays
    if left.ndim > 2 or right.ndim > 2:
        raise Refused("it multiplies constants of more than two axes", "fold constants before the export")
    _cap(node, (*left.shape[:-1], *right.shape[1:]))
    return np.asarray(left @ right)


def _where(condition: Array, left: Array, right: Array) -> Array:
    return np.where(condition, left, right)


def _reduction(function: Callable[..., Any], since: int) -> Folder:
    def run(node: NodeView, arrays: list[Array]) -> Array:
        axes = node.axes(since)
        keepdims, noop = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes", 0))
        if not axes and noop:
            return arrays[0]
        return np.asarray(function(arrays[0], axis=axes or None, keepdims=keepdims))

    return run


def _first(node: NodeView, arrays: list[Array]) -> Array:
    for name in ("ratio", "seed"):
        node.attribute(name, 0)
    return arrays[0]


FOLDED: dict[str, Folder] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "CastLike": lambda node, arrays: arrays[0].astype(arrays[1].dtype),
    "Ceil": _elementwise(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Dropout": _first,
    "Equal": _elementwise(np.equal),
    "Exp": _elementwise(np.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Identity": _first,
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Log": _elementwise(np.log),
    "MatMul": _matmul,
    "Max": _elementwise(lambda *arrays: np.maximum.reduce(np.broadcast_arrays(*arrays))),
    "Min": _elementwise(lambda *arrays: np.minimum.reduce(np.broadcast_arrays(*arrays))),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Pow": _elementwise(_power),
    "Range": _range,
    "Reciprocal": _elementwise(lambda x: 1.0 / x),
    "ReduceMax": _reduction(np.max, 18),
    "ReduceMean": _reduction(np.mean, 18),
    "ReduceMin": _reduction(np.min, 18),
    "ReduceProd": _reduction(np.prod, 18),
    "ReduceSum": _reduction(np.sum, 13),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": lambda node, arrays: arrays[0],
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(_where),
}
