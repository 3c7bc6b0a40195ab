"""Importers of nodes that add, multiply and contract: Add, Sub, Mul, Div, Gemm, MatMul, BatchNormalization, ..."""

from __future__ import annotations

import numpy as np

from secureimg.errors import GraphError
from secureimg.graph.onnx_import.values import (
    Array,
    Const,
    Emitter,
    Handler,
    NodeView,
    Refused,
    Result,
    Value,
    across_batch,
    as_float,
)
from secureimg.graph.ops import (
    Add,
    Affine,
    Dense,
    Divide,
    FloatArray,
    Multiply,
    Reciprocal,
    Shape,
    Square,
    Subtract,
    Transpose,
)

__all__ = ["HANDLERS"]


def _broadcast(node: NodeView, *shapes: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise GraphError(f"node {node.label!r} ({node.kind}): shapes {list(shapes)} do not broadcast") from None


def _against(node: NodeView, out: Emitter, value: Value, array: Array) -> tuple[Value, FloatArray, Shape]:
    """Line a constant up with a value: the value, the constant without the batch axis, the shape of the result."""
    full = _broadcast(node, value.full, array.shape)
    if len(full) > len(value.full):
        value = out.reshape(node, value, (1,) * (len(full) - len(value.full)) + value.full)
    numbers = as_float(array)
    if value.lead and numbers.ndim == len(full):
        if numbers.shape[0] != 1:
            raise across_batch()
        numbers = numbers[0]
    return value, numbers, full


def _expanded(node: NodeView, out: Emitter, value: Value, full: Shape) -> Value:
    """Repeat a value along axes of 1 so that it has the shape `full`."""
    if value.full == full:
        return value
    value = out.reshape(node, value, (1,) * (len(full) - len(value.full)) + value.full)
    if value.full == full:
        return value
    if value.lead and full[0] != 1:
        raise across_batch()
    target = Value("", full).image
    return out.emit(node, Affine(np.ones(target), np.zeros(())), (value,), full)


def _two(node: NodeView, out: Emitter) -> tuple[Value, Value, Shape]:
    left, right = node.value(0), node.value(1)
    full = _broadcast(node, left.full, right.full)
    return _expanded(node, out, left, full), _expanded(node, out, right, full), full


def _fold_guard(node: NodeView) -> tuple[Const | Value, Const | Value]:
    return node.operand(0), node.operand(1)


def _add(node: NodeView, out: Emitter) -> Result:
    left, right = _fold_guard(node)
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(left, Value) and isinstance(right, Const):
        value, numbers, full = _against(node, out, left, right.array)
        return out.emit(node, Affine(np.ones(()), numbers), (value,), full)
    if left == right and isinstance(left, Value):
        return out.emit(node, Affine(np.full((), 2.0), np.zeros(())), (left,), left.full)
    first, second, full = _two(node, out)
    return out.emit(node, Add(), (first, second), full)


def _sub(node: NodeView, out: Emitter) -> Result:
    left, right = _fold_guard(node)
    if isinstance(left, Value) and isinstance(right, Const):
        value, numbers, full = _against(node, out, left, right.array)
        return out.emit(node, Affine(np.ones(()), -numbers), (value,), full)
    if isinstance(left, Const) and isinstance(right, Value):
        value, numbers, full = _against(node, out, right, left.array)
        return out.emit(node, Affine(np.full((), -1.0), numbers), (value,), full)
    first, second, full = _two(node, out)
    return out.emit(node, Subtract(), (first, second), full)


def _mul(node: NodeView, out: Emitter) -> Result:
    left, right = _fold_guard(node)
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(left, Value) and isinstance(right, Const):
        value, numbers, full = _against(node, out, left, right.array)
        return out.emit(node, Affine(numbers, np.zeros(())), (value,), full)
    if left == right and isinstance(left, Value):
        return out.emit(node, Square(), (left,), left.full)
    first, second, full = _two(node, out)
    return out.emit(node, Multiply(), (first, second), full)


def _div(node: NodeView, out: Emitter) -> Result:
    left, right = _fold_guard(node)
    if isinstance(right, Value):
        if isinstance(left, Const):
            inverse = out.emit(node, Reciprocal(), (right,), right.full)
            value, numbers, full = _against(node, out, inverse, left.array)
            return out.emit(node, Affine(numbers, np.zeros(())), (value,), full)
        first, second, full = _two(node, out)
        return out.emit(node, Divide(), (first, second), full)
    if isinstance(left, Const):  # both constant: folded before; kept for safety
        raise Refused("both its inputs are constants", "re-export the model")
    value, numbers, full = _against(node, out, left, right.array)
    if not numbers.all():
        raise GraphError(f"node {node.label!r} (Div): divides by a constant that holds 0")
    return out.emit(node, Affine(1.0 / numbers, np.zeros(())), (value,), full)


def _neg(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    return out.emit(node, Affine(np.full((), -1.0), np.zeros(())), (value,), value.full)


def _sum(node: NodeView, out: Emitter) -> Result:
    """N-ary sum, one pair after the other."""
    total: Const | Value = node.operand(0)
    for index in range(1, len(node.inputs)):
        pair = NodeView(node.label, node.kind, node.output, node.version, [total, node.operand(index)], {})
        if isinstance(pair.inputs[0], Const) and isinstance(pair.inputs[1], Const):
            total = Const(pair.inputs[0].array + pair.inputs[1].array)
            continue
        result = _add(pair, out)
        assert isinstance(result, Value)
        total = result
    return total


def _batch_normalization(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    scale, shift, mean, variance = (as_float(node.const(i, "parameters")) for i in range(1, 5))
    epsilon = node.number("epsilon", 1e-5)
    node.number("momentum", 0.9)
    if node.integer("training_mode", 0):
        raise Refused("it is in training mode", "export the model after model.eval()")
    if not node.integer("spatial", 1):
        raise Refused("it normalizes each pixel on its own (spatial=0)", "use one mean for each channel")
    if value.lead != 1 or len(value.full) < 2:
        raise Refused(f"its input has shape {value.full} for one image", "it needs (1, C, ...)")
    channels = value.image[0]
    if any(a.shape != (channels,) for a in (scale, shift, mean, variance)):
        raise GraphError(f"node {node.label!r} (BatchNormalization): its parameters must have shape ({channels},)")
    if (variance + epsilon <= 0).any():
        raise GraphError(f"node {node.label!r} (BatchNormalization): a variance plus epsilon is not above 0")
    factor = scale / np.sqrt(variance + epsilon)
    tail = (1,) * (len(value.image) - 1)
    op = Affine(factor.reshape(-1, *tail), (shift - mean * factor).reshape(-1, *tail))
    return out.emit(node, op, (value,), value.full)


def _contract(node: NodeView, out: Emitter, value: Value, weight: FloatArray, bias: FloatArray | None) -> Value:
    """``value @ weight.T + bias`` along the last axis; `value` may not contract its batch axis."""
    if not value.image:  # the last axis has one element and was taken for the batch axis
        value = Value(value.name, (1, *value.full))
        if not value.image:
            raise Refused("it contracts a scalar", "multiply by a constant instead")
    if value.image[-1] != weight.shape[1]:
        raise GraphError(
            f"node {node.label!r} ({node.kind}): {value.full} and a weight for {weight.shape[1]} inputs do not fit"
        )
    return out.emit(node, Dense(weight, bias), (value,), (*value.full[:-1], weight.shape[0]))


def _gemm(node: NodeView, out: Emitter) -> Result:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    trans_a, trans_b = node.integer("transA", 0), node.integer("transB", 0)
    node.integer("broadcast", 0)
    value = node.value(0)
    weight = as_float(node.const(1, "weight"))
    if trans_a:
        raise Refused("it transposes the image's side (transA)", "export with the batch as first axis")
    if len(value.full) != 2 or weight.ndim != 2:
        raise Refused(f"its inputs have shapes {value.full} and {weight.shape}", "it needs two matrices: flatten first")
    weight = alpha * (weight if trans_b else weight.T)
    full = (value.full[0], weight.shape[0])
    if not node.has(2) or beta == 0.0:
        return _contract(node, out, value, weight, None)
    added = node.operand(2)
    if isinstance(added, Value):
        product = _contract(node, out, value, weight, None)
        if beta != 1.0:
            added = out.emit(node, Affine(np.full((), beta), np.zeros(())), (added,), added.full)
        return out.emit(node, Add(), (product, _expanded(node, out, added, full)), full)
    bias = beta * as_float(added.array)
    if _broadcast(node, bias.shape, full) != full:
        raise GraphError(f"node {node.label!r} (Gemm): a bias of shape {bias.shape} does not fit {full}")
    if bias.ndim < 2 or bias.shape[0] == 1:
        return _contract(node, out, value, weight, np.broadcast_to(bias.reshape(bias.shape[-1:]), full[1:]))
    product = _contract(node, out, value, weight, None)
    return out.emit(node, Affine(np.ones(()), bias), (product,), full)


def _matmul(node: NodeView, out: Emitter) -> Result:
    left, right = node.operand(0), node.operand(1)
    if isinstance(left, Value) and isinstance(right, Value):
        raise Refused("both factors are computed from the image (attention)", "one factor must be a constant")
    if isinstance(left, Value) and isinstance(right, Const):
        weight = _matrix(node, right.array, len(left.full))
        result = _contract(node, out, left, weight.reshape(weight.shape[0], -1).T, None)
        return result if weight.ndim == 2 else out.reshape(node, result, left.full[:-1])
    assert isinstance(left, Const)
    value = node.value(1)
    weight = _matrix(node, left.array, len(value.full))
    rank = len(value.full)
    if rank < 2 or weight.ndim != 2:
        raise Refused(f"its inputs have shapes {left.array.shape} and {value.full}", "put the constant on the right")
    if value.lead and rank == 2:
        raise across_batch()
    swap = (*range(len(value.image) - 2), len(value.image) - 1, len(value.image) - 2)
    turned = out.emit(node, Transpose(swap), (value,), (*value.full[:-2], value.full[-1], value.full[-2]))
    if turned.lead != value.lead:
        raise Refused(f"its inputs have shapes {left.array.shape} and {value.full}", "put the constant on the right")
    product = _contract(node, out, turned, weight, None)
    return out.emit(node, Transpose(swap), (product,), (*value.full[:-2], weight.shape[0], value.full[-1]))


def _matrix(node: NodeView, array: Array, rank: int) -> FloatArray:
    """A constant factor of a MatMul as a matrix or a vector."""
    if array.ndim > 2 and array.ndim <= max(rank, 2) and all(side == 1 for side in array.shape[:-2]):
        array = array.reshape(array.shape[-2:])
    if array.ndim not in (1, 2):
        raise Refused(f"its constant has shape {array.shape}", "only matrices and vectors are known")
    return as_float(array)


def _expand(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    shape = node.const_integers(1, "shape")
    return _expanded(node, out, value, _broadcast(node, value.full, shape))


HANDLERS: dict[str, Handler] = {
    "Add": _add,
    "BatchNormalization": _batch_normalization,
    "Div": _div,
    "Expand": _expand,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": _sub,
    "Sum": _sum,
}
