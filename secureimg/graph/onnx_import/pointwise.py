"""Importers of activations, powers and the owner's softmax and argmax."""

from __future__ import annotations

import math

from secureimg.errors import GraphError
from secureimg.graph.onnx_import.values import Const, Emitter, Handler, NodeView, Refused, Result, Value
from secureimg.graph.ops import (
    Abs,
    ArgMax,
    Clip,
    Exp,
    InverseSqrt,
    LeakyRelu,
    Op,
    Polynomial,
    Reciprocal,
    Relu,
    Sigmoid,
    Softmax,
    Sqrt,
    Square,
    Tanh,
)

__all__ = ["HANDLERS"]

_MAX_POWER = 8
_ROOTS: dict[float, type[Op]] = {0.5: Sqrt, -0.5: InverseSqrt, -1.0: Reciprocal}
_FLOAT_MAX = 3.4e38  # exporters write "no limit" as the largest float32


def _apply(node: NodeView, out: Emitter, op: Op) -> Value:
    value = node.value(0)
    return out.emit(node, op, (value,), value.full)


def _relu(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Relu())


def _leaky_relu(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, LeakyRelu(node.number("alpha", 0.01)))


def _prelu(node: NodeView, out: Emitter) -> Result:
    slope = node.const(1, "slope")
    if slope.size == 0 or (slope != slope.flat[0]).any():
        raise Refused("its slope differs from channel to channel", "use one slope for the layer")
    return _apply(node, out, LeakyRelu(float(slope.flat[0])))


def _sigmoid(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Sigmoid())


def _tanh(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Tanh())


def _abs(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Abs())


def _exp(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Exp())


def _reciprocal(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Reciprocal())


def _sqrt(node: NodeView, out: Emitter) -> Result:
    return _apply(node, out, Sqrt())


def _scalar(node: NodeView, index: int, what: str) -> float:
    array = node.const(index, what)
    if array.size != 1:
        raise Refused(f"its {what} has shape {array.shape}", "use one number for the layer")
    return float(array.reshape(-1)[0])


def _limited(node: NodeView, out: Emitter, low: float, high: float) -> Result:
    low = -math.inf if low <= -_FLOAT_MAX else low
    high = math.inf if high >= _FLOAT_MAX else high
    value = node.value(0)
    if math.isnan(low) or math.isnan(high):
        raise GraphError(f"node {node.label!r} ({node.kind}): a limit is NaN")
    if low > high:
        raise Refused(f"its low limit {low} is above its high limit {high}", "swap them")
    if low == -math.inf and high == math.inf:
        return value
    op = Relu() if low == 0.0 and high == math.inf else Clip(low, high)
    return out.emit(node, op, (value,), value.full)


def _clip(node: NodeView, out: Emitter) -> Result:
    low, high = node.number("min", -math.inf), node.number("max", math.inf)
    if node.version >= 11:
        low = _scalar(node, 1, "low limit") if node.has(1) else low
        high = _scalar(node, 2, "high limit") if node.has(2) else high
    return _limited(node, out, low, high)


def _with_limit(node: NodeView) -> tuple[Value, float]:
    """The two inputs of a Min or Max of a value and a number, in either order."""
    if len(node.inputs) != 2:
        raise Refused(f"it has {len(node.inputs)} inputs", "use it with one value and one number, as a limit")
    first, second = (0, 1) if isinstance(node.operand(0), Value) else (1, 0)
    value = node.value(first)
    if isinstance(node.operand(second), Value):
        raise Refused("it compares two computed values", "use it with one value and one number, as a limit")
    limit = _scalar(node, second, "limit")
    node.inputs = [value, None]
    return value, limit


def _max(node: NodeView, out: Emitter) -> Result:
    return _limited(node, out, _with_limit(node)[1], math.inf)


def _min(node: NodeView, out: Emitter) -> Result:
    return _limited(node, out, -math.inf, _with_limit(node)[1])


def _pow(node: NodeView, out: Emitter) -> Result:
    exponent = node.const(1, "exponent")
    if exponent.size == 0 or (exponent != exponent.flat[0]).any():
        raise Refused("its exponent differs from element to element", "use one exponent for the layer")
    power = float(exponent.flat[0])
    if power in _ROOTS:
        return _apply(node, out, _ROOTS[power]())
    if power not in range(1, _MAX_POWER + 1):
        raise Refused(f"its exponent is {power}", f"use a whole number from 1 to {_MAX_POWER}, -1, 0.5 or -0.5")
    if power == 1:
        return node.value(0)
    if power == 2:
        return _apply(node, out, Square())
    return _apply(node, out, Polynomial((*(0.0 for _ in range(int(power))), 1.0)))


def _softmax_axis(node: NodeView, value: Value) -> int:
    """The per-image axis; before opset 13 everything from the axis on was one long axis."""
    if node.version >= 13:
        return value.axis(node.integer("axis", -1))
    axis = node.integer("axis", 1)
    rank = len(value.full)
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} is outside a tensor of {rank} axes", "re-export the model")
    wide = [i for i in range(axis % rank, rank) if value.full[i] != 1]
    if len(wide) > 1:
        raise Refused(f"it normalizes over several axes of {value.full} at once", "flatten before it")
    return value.axis(wide[0] if wide else rank - 1)


def _softmax(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    op = Softmax(_softmax_axis(node, value), node.kind == "LogSoftmax")
    return out.emit(node, op, (value,), value.full)


def _argmax(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    axis = value.axis(node.integer("axis", 0))
    keepdims = bool(node.integer("keepdims", 1))
    if node.integer("select_last_index", 0):
        raise Refused("it picks the last of equal elements (select_last_index)", "pick the first")
    op = ArgMax(axis, keepdims)
    return out.emit(node, op, (value,), (1,) * value.lead + op.infer(value.image))


def _same(node: NodeView, out: Emitter) -> Result:
    """Nodes that pass their input on."""
    return node.operand(0)


def _dropout(node: NodeView, out: Emitter) -> Result:
    node.number("ratio", 0.5)
    node.integer("seed", 0)
    training = node.inputs[2] if node.version >= 12 and node.has(2) else None
    if isinstance(training, Value) or (isinstance(training, Const) and bool(training.array.any())):
        raise Refused("it is in training mode", "export the model after model.eval()")
    return node.operand(0)


_FLOAT_TYPES = (1, 10, 11, 16)  # FLOAT, FLOAT16, DOUBLE, BFLOAT16 of onnx.TensorProto.DataType


def _cast(node: NodeView, out: Emitter) -> Result:
    target = node.integer("to", 0)
    node.integer("saturate", 1)
    node.attribute("round_mode", "up")
    if target not in _FLOAT_TYPES:
        raise Refused(f"it converts to the type number {target}", "keep what is computed from the image as float")
    return node.value(0)


HANDLERS: dict[str, Handler] = {
    "Abs": _abs,
    "ArgMax": _argmax,
    "Cast": _cast,
    "Clip": _clip,
    "Dropout": _dropout,
    "Exp": _exp,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax,
    "Max": _max,
    "Min": _min,
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _reciprocal,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Sqrt": _sqrt,
    "Tanh": _tanh,
}
