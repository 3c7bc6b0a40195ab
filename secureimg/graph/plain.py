"""The graph in the clear, with numpy: what every other executor is compared with."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import singledispatch

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from secureimg.errors import GraphError
from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node
from secureimg.graph.ops import FloatArray, Op, Shape
from secureimg.graph.ops.windows import Pads, Pair

__all__ = ["run_in_order", "run_op", "run_plain", "run_plain_all"]

_CHUNK_BYTES = 2**24  # columns of a convolution are gathered a few images at a time, to stay near the cache


def run_plain(graph: Graph, x: ArrayLike) -> FloatArray:
    """Compute a graph on a batch of images.

    Parameters
    ----------
    graph : Graph
    x : array_like, shape (N, *graph.input_shape)
        Taken as float64; N may be 0 or more.

    Returns
    -------
    ndarray of float64, shape (N, *graph.output_shape)

    Raises
    ------
    GraphError
        If `x` has another shape.
    """
    [(_, found)] = deque(graph.walk(_batch(graph, x), _run_node, graph.needed(graph.output)), maxlen=1)
    return found


def run_plain_all(graph: Graph, x: ArrayLike) -> dict[str, FloatArray]:
    """Compute a graph on a batch and return every value by name, each of shape (N, *shape)."""
    return dict(run_in_order(graph, x))


def run_in_order(graph: Graph, x: ArrayLike) -> Iterator[tuple[str, FloatArray]]:
    """Compute a graph on a batch and yield every value with its name, forgetting those that no later node takes."""
    return graph.walk(_batch(graph, x), _run_node)


def _run_node(node: Node, *inputs: FloatArray) -> FloatArray:
    return run_op(node.op, *inputs)


def _batch(graph: Graph, x: ArrayLike) -> FloatArray:
    array = np.asarray(x, dtype=np.float64)
    if array.shape[1:] != graph.input_shape or array.ndim != len(graph.input_shape) + 1:
        raise GraphError(
            f"graph {graph.name!r}: wants a batch of shape (N, {', '.join(map(str, graph.input_shape))}), "
            f"got {array.shape}"
        )
    return array


@singledispatch
def run_op(op: Op, *inputs: FloatArray) -> FloatArray:
    """Compute one op on batches of shape (N, *shape)."""
    raise GraphError(f"the plain executor does not know the op {op.kind}")


def _padded(x: FloatArray, pads: Pads, value: float) -> FloatArray:
    if not any(pads):
        return x
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(x: FloatArray, kernel: Pair, strides: Pair, dilations: Pair, count: Pair) -> FloatArray:
    """View of shape (N, C, rows, cols, kh, kw); `x` is already padded far enough."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, reach, axis=(2, 3))
    view = view[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    return view[:, :, : count[0], : count[1]]


@run_op.register
def _(op: ops.Conv, x: FloatArray) -> FloatArray:
    out, rows, cols = op.infer(x.shape[1:])
    per_group, kh, kw = op.weight.shape[1:]
    padded = _padded(x, op.pads, 0.0)
    result = np.empty((x.shape[0], out, rows, cols))
    step = max(1, _CHUNK_BYTES // (8 * per_group * kh * kw * rows * cols))
    share = out // op.groups
    for start in range(0, x.shape[0], step):
        view = _windows(padded[start : start + step], (kh, kw), op.strides, op.dilations, (rows, cols))
        for group in range(op.groups):
            part = view[:, group * per_group : (group + 1) * per_group].transpose(0, 1, 4, 5, 2, 3)
            columns = part.reshape(part.shape[0], per_group * kh * kw, rows * cols)
            weight = op.weight[group * share : (group + 1) * share].reshape(share, -1)
            product = np.matmul(weight, columns).reshape(part.shape[0], share, rows, cols)
            result[start : start + step, group * share : (group + 1) * share] = product
    if op.bias is not None:
        result += op.bias[:, None, None]
    return result


def _pool_input(
    x: FloatArray, kernel: Pair, strides: Pair, pads: Pads, dilations: Pair, count: Pair, value: float
) -> FloatArray:
    """Pad `x` so far that each of `count` windows lies inside (partial ones of ceil_mode too)."""
    need = [(count[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    top, left = pads[0], pads[1]
    bottom, right = max(0, need[0] - top - x.shape[2]), max(0, need[1] - left - x.shape[3])
    return _padded(x, (top, left, bottom, right), value)


@run_op.register
def _(op: ops.MaxPool, x: FloatArray) -> FloatArray:
    _, rows, cols = op.infer(x.shape[1:])
    padded = _pool_input(x, op.kernel, op.strides, op.pads, op.dilations, (rows, cols), -np.inf)
    view = _windows(padded, op.kernel, op.strides, op.dilations, (rows, cols))
    result = view[..., 0, 0].copy()
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            np.maximum(result, view[..., i, j], out=result)
    return result


def pool_divisors(op: ops.AveragePool, shape: Shape) -> FloatArray:
    """How many elements each window's mean divides by, shape (rows, cols)."""
    _, rows, cols = op.infer(shape)
    top, left, bottom, right = op.pads
    sides = []
    for size, before, after, kernel, stride, count in (
        (shape[1], top, bottom, op.kernel[0], op.strides[0], rows),
        (shape[2], left, right, op.kernel[1], op.strides[1], cols),
    ):
        start = np.arange(count) * stride - before
        low, high = (-before, size + after) if op.count_include_pad else (0, size)
        sides.append(np.minimum(start + kernel, high) - np.maximum(start, low))
    return np.asarray(np.outer(sides[0], sides[1]), dtype=np.float64)


@run_op.register
def _(op: ops.AveragePool, x: FloatArray) -> FloatArray:
    _, rows, cols = op.infer(x.shape[1:])
    padded = _pool_input(x, op.kernel, op.strides, op.pads, (1, 1), (rows, cols), 0.0)
    view = _windows(padded, op.kernel, op.strides, (1, 1), (rows, cols))
    total = view[..., 0, 0].copy()
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            if i or j:
                total += view[..., i, j]
    total /= pool_divisors(op, x.shape[1:])
    return total


@run_op.register
def _(op: ops.Dense, x: FloatArray) -> FloatArray:
    y = x @ op.weight.T
    return y if op.bias is None else y + op.bias


@run_op.register
def _(op: ops.Affine, x: FloatArray) -> FloatArray:
    shape = op.infer(x.shape[1:])
    lead = (1,) * (len(shape) - (x.ndim - 1))
    x = x.reshape(x.shape[0], *lead, *x.shape[1:])
    return np.broadcast_to(x * op.scale + op.shift, (x.shape[0], *shape)).astype(np.float64, copy=True)


@run_op.register
def _(op: ops.Add, x: FloatArray, y: FloatArray) -> FloatArray:
    return x + y


@run_op.register
def _(op: ops.Subtract, x: FloatArray, y: FloatArray) -> FloatArray:
    return x - y


@run_op.register
def _(op: ops.Multiply, x: FloatArray, y: FloatArray) -> FloatArray:
    return x * y


@run_op.register
def _(op: ops.Square, x: FloatArray) -> FloatArray:
    return x * x


@run_op.register
def _(op: ops.Polynomial, x: FloatArray) -> FloatArray:
    result = np.full_like(x, op.coefficients[-1])
    for c in reversed(op.coefficients[:-1]):
        result *= x
        result += c
    return result


@run_op.register
def _(op: ops.Relu, x: FloatArray) -> FloatArray:
    return np.maximum(x, 0.0)


@run_op.register
def _(op: ops.Step, x: FloatArray) -> FloatArray:
    return (x >= 0.0).astype(np.float64)


@run_op.register
def _(op: ops.LeakyRelu, x: FloatArray) -> FloatArray:
    return np.where(x > 0, x, op.alpha * x)


@run_op.register
def _(op: ops.Clip, x: FloatArray) -> FloatArray:
    return np.clip(x, op.low, op.high)


@run_op.register
def _(op: ops.Sigmoid, x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=np.float64)


@run_op.register
def _(op: ops.Tanh, x: FloatArray) -> FloatArray:
    return np.tanh(x)


@run_op.register
def _(op: ops.Abs, x: FloatArray) -> FloatArray:
    return np.abs(x)


# Outside their domain these give what IEEE 754 gives: infinities and NaN, which calibration refuses by name.


@run_op.register
def _(op: ops.Exp, x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.exp(x)


@run_op.register
def _(op: ops.Reciprocal, x: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / x)


@run_op.register
def _(op: ops.Sqrt, x: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@run_op.register
def _(op: ops.InverseSqrt, x: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1.0 / np.sqrt(x))


@run_op.register
def _(op: ops.Divide, x: FloatArray, y: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(x / y)


@run_op.register
def _(op: ops.Mean, x: FloatArray) -> FloatArray:
    rank = x.ndim - 1
    axes = tuple(axis % rank + 1 for axis in op.axes)
    return np.asarray(x.mean(axis=axes, keepdims=op.keepdims))


@run_op.register
def _(op: ops.Pad, x: FloatArray) -> FloatArray:
    grow = [(0, 0), *((max(a, 0), max(b, 0)) for a, b in op.pads)]
    crop = tuple(slice(max(-a, 0), b if b < 0 else None) for a, b in op.pads)
    return np.pad(x[(slice(None), *crop)], grow, constant_values=op.value)


@run_op.register
def _(op: ops.Concat, *values: FloatArray) -> FloatArray:
    return np.concatenate(values, axis=op.axis % (values[0].ndim - 1) + 1)


@run_op.register
def _(op: ops.Reshape, x: FloatArray) -> FloatArray:
    return x.reshape(x.shape[0], *op.shape)


@run_op.register
def _(op: ops.Transpose, x: FloatArray) -> FloatArray:
    return x.transpose(0, *(axis + 1 for axis in op.perm))


@run_op.register
def _(op: ops.Slice, x: FloatArray) -> FloatArray:
    picks = [s + t * np.arange(n) for s, n, t in zip(op.starts, op.counts, op.steps, strict=True)]
    return x[np.ix_(np.arange(x.shape[0]), *picks)]


@run_op.register
def _(op: ops.LinearMap, *values: FloatArray) -> FloatArray:
    result = np.repeat(op.bias[None, :], values[0].shape[0], axis=0)
    for matrix, x in zip(op.matrices, values, strict=True):
        result += (matrix @ x.reshape(x.shape[0], -1).T).T
    return result.reshape(values[0].shape[0], *op.shape)


@run_op.register
def _(op: ops.Softmax, x: FloatArray) -> FloatArray:
    axis = op.axis % (x.ndim - 1) + 1
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if op.log else np.exp(shifted) / total)


@run_op.register
def _(op: ops.ArgMax, x: FloatArray) -> FloatArray:
    axis = op.axis % (x.ndim - 1) + 1
    return np.asarray(np.argmax(x, axis=axis, keepdims=op.keepdims), dtype=np.float64)
