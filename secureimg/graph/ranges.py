"""Ranges of values: bounds that hold for every image, and measured ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import singledispatch

import numpy as np
from numpy.typing import ArrayLike

from secureimg.errors import GraphError
from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node
from secureimg.graph.ops import FloatArray, Op, elements
from secureimg.graph.plain import run_in_order, run_op

__all__ = ["calibrate", "propagate_ranges", "ranges_in_order"]

Bounds = tuple[FloatArray, FloatArray]

_SLACK = 1e-12  # relative widening that covers the rounding of the bounds themselves
_CHUNK = 64
_MOST_VALUES = 2**22  # of one layer at a time
_LARGEST_EXPONENT = 700.0  # what float64 can hold


def propagate_ranges(graph: Graph, low: ArrayLike, high: ArrayLike) -> dict[str, Bounds]:
    """Bounds of every element of every value, for every input between `low` and `high` (interval arithmetic).

    Bounds through several linear ops are wider than through one: `fuse_linear` first for tighter ones.

    Parameters
    ----------
    graph : Graph
    low, high : float or array_like
        Of the input; broadcast to its per-image shape.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Lowest and highest value of each element, by name of the value, per-image shape.

    Raises
    ------
    GraphError
        If the bounds are not finite, do not fit the input, `low` is above `high`, or a divisor without a stated range can
        be 0.
    """
    return dict(ranges_in_order(graph, low, high))


def ranges_in_order(graph: Graph, low: ArrayLike, high: ArrayLike) -> Iterator[tuple[str, Bounds]]:
    """The same one by one, forgetting those that no later node takes."""
    try:
        lows = np.broadcast_to(np.asarray(low, dtype=np.float64), graph.input_shape)
        highs = np.broadcast_to(np.asarray(high, dtype=np.float64), graph.input_shape)
    except ValueError:
        raise GraphError(f"graph {graph.name!r}: the input's bounds do not fit its shape {graph.input_shape}") from None
    if not (np.isfinite(lows).all() and np.isfinite(highs).all() and (lows <= highs).all()):
        raise GraphError(f"graph {graph.name!r}: the input's bounds must be finite and low never above high")
    return graph.walk((lows, highs), _node_bounds)


def _node_bounds(node: Node, *inputs: Bounds) -> Bounds:
    squared = isinstance(node.op, ops.Multiply) and node.inputs[0] == node.inputs[1]
    try:
        return _bounds(ops.Square(), inputs[0]) if squared else _bounds(node.op, *inputs)
    except GraphError as error:
        raise GraphError(f"layer {node.name!r}: {error}") from None


def calibrate(graph: Graph, samples: ArrayLike, margin: float = 0.1) -> dict[str, tuple[float, float]]:
    """Range of every value measured on sample inputs, widened on both sides.

    Parameters
    ----------
    graph : Graph
    samples : array_like, shape (N, *graph.input_shape)
        N at least 1.
    margin : float
        Share of the measured width that is added on each side.

    Returns
    -------
    dict of str to (float, float)
        Lowest and highest element by name of the value.

    Raises
    ------
    GraphError
        If there are no samples, they do not fit, or the margin is negative.
    """
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim == 0 or array.shape[0] == 0:
        raise GraphError("calibrate: needs at least 1 sample, got none")
    if not (math.isfinite(margin) and margin >= 0):
        raise GraphError(f"calibrate: the margin must be 0 or more, got {margin}")
    found: dict[str, tuple[float, float]] = {}
    largest = max(elements(shape) for shape in graph.shapes.values())
    chunk = max(1, min(_CHUNK, _MOST_VALUES // largest))
    for start in range(0, array.shape[0], chunk):
        for name, values in run_in_order(graph, array[start : start + chunk]):
            low, high = float(values.min()), float(values.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise GraphError(f"calibrate: value {name!r} overflows or is undefined on the samples")
            before = found.get(name, (low, high))
            found[name] = (min(before[0], low), max(before[1], high))
    return {name: (lo - margin * (hi - lo), hi + margin * (hi - lo)) for name, (lo, hi) in found.items()}


def _run(op: Op, *inputs: FloatArray) -> FloatArray:
    return np.asarray(run_op(op, *(x[None] for x in inputs))[0])


def _magnitude(op: Op) -> Op:
    """The linear op with the absolute values of its factors and without what it adds."""
    if isinstance(op, ops.Conv):
        return ops.Conv(np.abs(op.weight), None, op.strides, op.pads, op.dilations, op.groups)
    if isinstance(op, ops.Dense):
        return ops.Dense(np.abs(op.weight))
    if isinstance(op, ops.Affine):
        return ops.Affine(np.abs(op.scale), np.zeros(op.shift.shape))
    if isinstance(op, ops.LinearMap):
        return ops.LinearMap(tuple(abs(matrix) for matrix in op.matrices), np.zeros(op.bias.size), op.shape)
    if isinstance(op, ops.Pad):
        return ops.Pad(op.pads, 0.0)
    return ops.Add() if isinstance(op, ops.Subtract) else op


@singledispatch
def _bounds(op: Op, *inputs: Bounds) -> Bounds:
    """Linear ops: the middle goes through the op, the half width through its absolute values."""
    if not op.linear:
        raise GraphError(f"ranges of the op {op.kind} are not known")
    middles = [low + (high - low) / 2 for low, high in inputs]
    halves = [(high - low) / 2 for low, high in inputs]
    magnitude = _magnitude(op)
    middle, half = _run(op, *middles), _run(magnitude, *halves)
    size = np.abs(middle) + half + _run(magnitude, *(np.abs(m) for m in middles))
    half = half + _SLACK * size
    return middle - half, middle + half


def _monotone(op: Op, bounds: Bounds) -> Bounds:
    return _run(op, bounds[0]), _run(op, bounds[1])


for _kind in (ops.Relu, ops.Step, ops.Clip, ops.Sigmoid, ops.Tanh, ops.MaxPool):
    _bounds.register(_kind, _monotone)


def _with_candidates(op: Op, bounds: Bounds, turning: list[float]) -> Bounds:
    """Extremes at the ends and at the points where the function may turn."""
    low, high = bounds
    ends = _run(op, low), _run(op, high)
    least, most = np.minimum(*ends), np.maximum(*ends)
    for point in turning:
        value = _run(op, np.clip(point, low, high))
        least, most = np.minimum(least, value), np.maximum(most, value)
    slack = _SLACK * np.maximum(np.abs(least), np.abs(most))
    return least - slack, most + slack


@_bounds.register
def _(op: ops.LeakyRelu, bounds: Bounds) -> Bounds:
    return _with_candidates(op, bounds, [0.0])


@_bounds.register
def _(op: ops.Square, bounds: Bounds) -> Bounds:
    low, high = bounds
    least = np.clip(0.0, low, high) ** 2
    return least, np.maximum(low * low, high * high)


@_bounds.register
def _(op: ops.Polynomial, bounds: Bounds) -> Bounds:
    slope = np.polynomial.Polynomial(op.coefficients).deriv().trim()
    turning = slope.roots() if slope.degree() > 0 else np.zeros(0)
    roots = [complex(root) for root in turning]
    points = [root.real for root in roots if abs(root.imag) <= 1e-6 * (1.0 + abs(root))]
    return _with_candidates(op, bounds, points)


@_bounds.register
def _(op: ops.Multiply, left: Bounds, right: Bounds) -> Bounds:
    products = [x * y for x in left for y in right]
    return np.minimum.reduce(products), np.maximum.reduce(products)


def _domain(op: ops.Divide | ops.InverseSqrt | ops.Reciprocal | ops.Sqrt, bounds: Bounds) -> Bounds:
    """The bounds inside of what the op is defined on: its stated range, or what is above 0."""
    if op.low is not None:
        return np.clip(bounds[0], op.low, op.high), np.clip(bounds[1], op.low, op.high)
    least, most = float(bounds[0].min()), float(bounds[1].max())
    root = isinstance(op, ops.Sqrt)
    if least < -1e-9 * most or (least <= 0 and not root):  # bounds of a sum of squares may lie a little below 0
        raise GraphError(
            f"{op.kind} of values between {least:.4g} and {most:.4g}, which must be {'at least' if root else 'above'} 0: "
            "clip them first, or state the op's range (low, high)"
        )
    return np.maximum(bounds[0], 0.0), bounds[1]


@_bounds.register
def _(op: ops.Exp, bounds: Bounds) -> Bounds:
    if op.low is not None:
        bounds = np.clip(bounds[0], op.low, op.high), np.clip(bounds[1], op.low, op.high)
    if bounds[1].max() > _LARGEST_EXPONENT:
        raise GraphError(
            f"Exp of values up to {bounds[1].max():.4g}, the limit is {_LARGEST_EXPONENT:g}: clip them first, or state the "
            "op's range (low, high)"
        )
    return _with_candidates(op, bounds, [])


@_bounds.register
def _(op: ops.InverseSqrt | ops.Reciprocal | ops.Sqrt, bounds: Bounds) -> Bounds:
    return _with_candidates(op, _domain(op, bounds), [])


@_bounds.register
def _(op: ops.Divide, left: Bounds, right: Bounds) -> Bounds:
    low, high = _domain(op, right)
    quotients = [x / y for x in left for y in (low, high)]
    return np.minimum.reduce(quotients), np.maximum.reduce(quotients)


@_bounds.register
def _(op: ops.Abs, bounds: Bounds) -> Bounds:
    return _with_candidates(op, bounds, [0.0])


@_bounds.register
def _(op: ops.Softmax, bounds: Bounds) -> Bounds:
    low, high = bounds
    count = low.shape[op.axis]
    if not op.log:
        return np.zeros(low.shape), np.ones(low.shape)
    worst = low - high.max(axis=op.axis, keepdims=True) - math.log(count)
    return np.minimum(worst, 0.0), np.zeros(low.shape)


@_bounds.register
def _(op: ops.ArgMax, bounds: Bounds) -> Bounds:
    shape = op.infer(bounds[0].shape)
    return np.zeros(shape), np.full(shape, float(bounds[0].shape[op.axis] - 1))
