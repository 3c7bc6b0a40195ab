"""Linear ops as sparse matrices, and every linear region of a graph as one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node
from secureimg.graph.ops import FloatArray, LinearMap, Op, Shape, elements
from secureimg.graph.plain import pool_divisors, run_op

__all__ = ["MAX_ENTRIES", "as_linear_map", "fuse_linear"]

_Indices = NDArray[np.int64]

MAX_ENTRIES = 2**26
"""Most entries other than zero one matrix may have (about 800 MB)."""


def as_linear_map(op: Op, *shapes: Shape) -> LinearMap:
    """The matrix form of one linear op on inputs of the given per-image shapes.

    Raises
    ------
    GraphError
        If the op is not linear, or a matrix would have more than `MAX_ENTRIES` entries.
    """
    shape = op.infer(*shapes)
    if not op.linear:
        raise GraphError(f"{op.kind} is not linear: it has no matrix")
    if isinstance(op, LinearMap):
        return op
    matrices = tuple(_matrices(op, shapes, shape))
    bias = _bias(op, shapes, shape)
    return LinearMap(matrices, bias, shape)


def _bias(op: Op, shapes: tuple[Shape, ...], shape: Shape) -> FloatArray:
    """What a linear op gives for zeros."""
    if isinstance(op, ops.Conv):
        bias = np.zeros(shape[0]) if op.bias is None else op.bias
        return np.repeat(bias, shape[1] * shape[2])
    if isinstance(op, (ops.Dense, ops.Affine, ops.Pad)):
        return run_op(op, *(np.zeros((1, *s)) for s in shapes)).reshape(-1)
    return np.zeros(elements(shape))


def _guard(entries: int, op: Op) -> None:
    if entries > MAX_ENTRIES:
        raise GraphError(
            f"{op.kind}: its matrix would have {entries} entries, the limit is {MAX_ENTRIES}; use smaller images"
        )


def _coo(values: FloatArray, rows: _Indices, cols: _Indices, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array(sp.coo_array((values, (rows, cols)), shape=shape))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


@singledispatch
def _matrices(op: Op, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    """One matrix for each input. For ops that only move elements: run the op on element numbers."""
    columns = np.arange(1, elements(shapes[0]) + 1, dtype=np.float64).reshape(1, *shapes[0])
    moved = np.rint(run_op(op, columns).reshape(-1)).astype(np.int64)
    return [_selection(moved - 1, elements(shapes[0]))]


def _selection(columns: _Indices, width: int) -> sp.csr_array:
    """Row r picks element ``columns[r]``; -1 picks nothing."""
    rows = np.flatnonzero(columns >= 0)
    return _coo(np.ones(rows.size), rows, columns[rows], (columns.size, width))


@_matrices.register
def _(op: ops.Pad, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    columns = np.arange(1, elements(shapes[0]) + 1, dtype=np.float64).reshape(1, *shapes[0])
    moved = np.rint(run_op(ops.Pad(op.pads, 0.0), columns).reshape(-1)).astype(np.int64)
    return [_selection(moved - 1, elements(shapes[0]))]


def _positions(
    size: int, kernel: int, stride: int, before: int, dilation: int, count: int
) -> tuple[_Indices, NDArray[np.bool_]]:
    """For kernel offset k and window w: where it reads (kernel, count), and whether that is inside."""
    where: _Indices = np.arange(count)[None, :] * stride - before + dilation * np.arange(kernel)[:, None]
    return where, (where >= 0) & (where < size)


@_matrices.register
def _(op: ops.Conv, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    (channels, height, width), (out, rows, cols) = shapes[0], shape
    _, per_group, kh, kw = op.weight.shape
    _guard(op.weight.size * rows * cols, op)
    y, y_in = _positions(height, kh, op.strides[0], op.pads[0], op.dilations[0], rows)
    x, x_in = _positions(width, kw, op.strides[1], op.pads[1], op.dilations[1], cols)
    # axes of every array below: out channel, in channel of the group, kernel row, kernel column, row, column
    inside = (y_in[:, None, :, None] & x_in[None, :, None, :])[None, None]
    pixel = (y[:, None, :, None] * width + x[None, :, None, :])[None, None]
    group = np.arange(out) // (out // op.groups)
    channel = group[:, None] * per_group + np.arange(per_group)
    full = (out, per_group, kh, kw, rows, cols)
    keep = np.broadcast_to(inside, full) & (op.weight != 0)[..., None, None]
    column = np.broadcast_to(channel[..., None, None, None, None] * (height * width) + pixel, full)[keep]
    window = np.arange(rows)[:, None] * cols + np.arange(cols)
    row = np.broadcast_to(np.arange(out)[:, None, None, None, None, None] * (rows * cols) + window, full)[keep]
    value = np.broadcast_to(op.weight[..., None, None], full)[keep]
    return [_coo(value, row, column, (elements(shape), channels * height * width))]


@_matrices.register
def _(op: ops.AveragePool, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    (channels, height, width), (_, rows, cols) = shapes[0], shape
    kh, kw = op.kernel
    _guard(elements(shape) * kh * kw, op)
    y, y_in = _positions(height, kh, op.strides[0], op.pads[0], 1, rows)
    x, x_in = _positions(width, kw, op.strides[1], op.pads[1], 1, cols)
    inside = y_in[:, None, :, None] & x_in[None, :, None, :]
    column = (y[:, None, :, None] * width + x[None, :, None, :])[inside]
    window = np.arange(rows)[:, None] * cols + np.arange(cols)
    row = np.broadcast_to(window, (kh, kw, rows, cols))[inside]
    value = (1.0 / pool_divisors(op, shapes[0])).reshape(-1)[row]
    plane = _coo(value, row, column, (rows * cols, height * width))
    return [sp.csr_array(sp.kron(sp.eye_array(channels), plane, format="csr"))]


@_matrices.register
def _(op: ops.Dense, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    count = elements(shapes[0][:-1])
    _guard(op.weight.size * count, op)
    return [sp.csr_array(sp.kron(sp.eye_array(count), sp.csr_array(op.weight), format="csr"))]


@_matrices.register
def _(op: ops.Affine, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    source = np.broadcast_to(np.arange(elements(shapes[0])).reshape(shapes[0]), shape).reshape(-1)
    scale = np.broadcast_to(op.scale, shape).reshape(-1)
    return [_coo(scale, np.arange(scale.size), source, (scale.size, elements(shapes[0])))]


@_matrices.register
def _(op: ops.Mean, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    source = shapes[0]
    axes = {axis % len(source) for axis in op.axes}
    kept = tuple(1 if i in axes else side for i, side in enumerate(source))
    row = np.broadcast_to(np.arange(elements(kept)).reshape(kept), source).reshape(-1)
    share = elements(kept) / elements(source)
    return [_coo(np.full(row.size, share), row, np.arange(row.size), (elements(kept), elements(source)))]


@_matrices.register
def _(op: ops.Add, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    eye = sp.csr_array(sp.eye_array(elements(shape)))
    return [eye, eye.copy()]


@_matrices.register
def _(op: ops.Subtract, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    eye = sp.csr_array(sp.eye_array(elements(shape)))
    return [eye, -eye]


@_matrices.register
def _(op: ops.Concat, shapes: tuple[Shape, ...], shape: Shape) -> list[sp.csr_array]:
    axis = op.axis % len(shape)
    numbers = np.arange(elements(shape)).reshape(shape)
    result, start = [], 0
    for source in shapes:
        pick = (slice(None),) * axis + (slice(start, start + source[axis]),)
        row = numbers[pick].reshape(-1)
        result.append(_coo(np.ones(row.size), row, np.arange(row.size), (elements(shape), row.size)))
        start += source[axis]
    return result


@dataclass
class _Expression:
    """A value as a sum of matrices times values that stay, plus a constant."""

    terms: dict[str, sp.csr_array]
    bias: FloatArray
    shape: Shape


def fuse_linear(graph: Graph) -> Graph:
    """Make every maximal linear region one `LinearMap` node.

    Its inputs are the graph's input or results of ops that are not linear. A linear value that several ops need is
    computed once, as one node. Names and shapes of the values that stay are kept.

    Returns
    -------
    Graph
        With the same output up to rounding; its nodes are `LinearMap` and ops that are not linear.

    Raises
    ------
    GraphError
        If a matrix would have more than `MAX_ENTRIES` entries.
    """
    values: dict[str, _Expression] = {graph.input: _itself(graph.input, graph.input_shape)}
    nodes: list[Node] = []
    written = {graph.input}
    needed = _needed(graph)

    def write(name: str) -> None:
        """Emit the linear map of a value that must stand in the fused graph."""
        if name in written:
            return
        expression = values[name]
        if not expression.terms:  # a constant result still needs an input to stand on
            width = elements(graph.input_shape)
            expression.terms[graph.input] = sp.csr_array((expression.bias.size, width))
        op = LinearMap(tuple(expression.terms.values()), expression.bias, expression.shape)
        nodes.append(Node(name, op, tuple(expression.terms)))
        written.add(name)

    for node in graph.nodes:
        if node.name not in needed:
            continue
        if node.op.linear:
            values[node.name] = _compose(node, values)
            continue
        for source in node.inputs:
            write(source)
        nodes.append(node)
        written.add(node.name)
        values[node.name] = _itself(node.name, graph.shapes[node.name])
    write(graph.output)
    return graph.replace(nodes=tuple(nodes))


def _itself(name: str, shape: Shape) -> _Expression:
    size = elements(shape)
    return _Expression({name: sp.csr_array(sp.eye_array(size))}, np.zeros(size), shape)


def _needed(graph: Graph) -> set[str]:
    """Names of the values the output depends on."""
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return needed


def _compose(node: Node, values: dict[str, _Expression]) -> _Expression:
    sources = [values[name] for name in node.inputs]
    step = as_linear_map(node.op, *(source.shape for source in sources))
    bias = step.bias.copy()
    terms: dict[str, sp.csr_array] = {}
    for matrix, source in zip(step.matrices, sources, strict=True):
        bias += matrix @ source.bias
        for name, inner in source.terms.items():
            product = sp.csr_array(matrix @ inner)
            terms[name] = sp.csr_array(terms[name] + product) if name in terms else product
    for name, matrix in list(terms.items()):
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        _guard(int(matrix.nnz), node.op)
        if not matrix.nnz and len(terms) > 1:
            del terms[name]
    return _Expression(terms, bias, step.shape)
