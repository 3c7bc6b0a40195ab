"""Rewrites that keep what a graph computes and leave less to compute."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node
from secureimg.graph.ops import FloatArray, Op, Shape

__all__ = ["simplify"]

_MONOTONE = (ops.Relu, ops.Step, ops.LeakyRelu, ops.Clip, ops.Sigmoid, ops.Tanh)


def simplify(graph: Graph) -> Graph:
    """Rewrite until nothing changes.

    Nodes the output does not need and nodes that change nothing go; products of a value with itself become `Square`;
    chains of reshapes, transposes and affine maps become one; affine maps (batch normalization, scaling, biases) fold
    into the convolution or matrix next to them; a max pool moves before the activation in front of it, where there
    are fewer elements left.

    Returns
    -------
    Graph
        Same output up to rounding. If the last node changed nothing, the output has another name.
    """
    while True:
        changed = _drop_unused(graph)
        for step in (_forms, _skip, _merge, _swap):
            changed = step(changed)
        if changed is graph:
            return graph
        graph = changed


def _drop_unused(graph: Graph) -> Graph:
    kept = graph.needed(graph.output)
    return graph if len(kept) == len(graph.nodes) else graph.replace(nodes=kept)


def _form(node: Node) -> Op:
    """A simpler op for the same thing."""
    op = node.op
    if isinstance(op, ops.Multiply) and node.inputs[0] == node.inputs[1]:
        return ops.Square()
    if isinstance(op, ops.Clip) and op.low == 0.0 and op.high == math.inf:
        return ops.Relu()
    if isinstance(op, ops.LeakyRelu) and op.alpha == 0.0:
        return ops.Relu()
    if isinstance(op, ops.Polynomial):
        if op.degree <= 1:
            constant, slope, *_ = (*op.coefficients, 0.0)
            return ops.Affine(np.full((), slope), np.full((), constant))
        if op.degree == 2 and op.coefficients[:3] == (0.0, 0.0, 1.0):
            return ops.Square()
    return op


def _forms(graph: Graph) -> Graph:
    nodes = tuple(Node(n.name, op, n.inputs[:1] if isinstance(op, ops.Square) else n.inputs)
                  if (op := _form(n)) is not n.op else n for n in graph.nodes)  # fmt: skip
    return graph if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) else graph.replace(nodes=nodes)


def _changes_nothing(op: Op, shape: Shape, result: Shape) -> bool:
    if isinstance(op, ops.Reshape):
        return shape == result
    if isinstance(op, ops.Transpose):
        return op.perm == tuple(range(len(op.perm)))
    if isinstance(op, ops.Affine):
        return shape == result and bool((op.scale == 1.0).all()) and not op.shift.any()
    if isinstance(op, ops.Pad):
        return not any(any(pair) for pair in op.pads)
    if isinstance(op, ops.Slice):
        return shape == result and all(step == 1 for step in op.steps)
    if isinstance(op, ops.LeakyRelu):
        return op.alpha == 1.0
    if isinstance(op, ops.Clip):
        return op.low == -math.inf and op.high == math.inf
    return False


def _skip(graph: Graph) -> Graph:
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        single = isinstance(node.op, ops.Concat) and len(inputs) == 1
        if single or _changes_nothing(node.op, graph.shapes[node.inputs[0]], graph.shapes[node.name]):
            alias[node.name] = inputs[0]
        else:
            nodes.append(Node(node.name, node.op, inputs))
    if not alias:
        return graph
    return graph.replace(nodes=tuple(nodes), output=alias.get(graph.output, graph.output))


def _single(graph: Graph) -> Callable[[Node], Node | None]:
    """A lookup: the node in front of a node of one input, if nothing else needs that value."""
    by_name = {node.name: node for node in graph.nodes}
    consumers = graph.consumers()

    def before(node: Node) -> Node | None:
        source = node.inputs[0]
        alone = len(node.inputs) == 1 and len(consumers[source]) == 1 and source != graph.output
        return by_name.get(source) if alone else None

    return before


def _merge(graph: Graph) -> Graph:
    """Join the first pair of neighbours that can be one."""
    before = _single(graph)
    for node in graph.nodes:
        first = before(node)
        if first is None or len(first.inputs) != 1:
            continue
        shapes = graph.shapes[first.inputs[0]], graph.shapes[first.name], graph.shapes[node.name]
        joined = _join(first.op, node.op, shapes)
        if joined is not None:
            merged = Node(node.name, joined, first.inputs)
            nodes = tuple(merged if n is node else n for n in graph.nodes if n is not first)
            return graph.replace(nodes=nodes)
    return graph


def _join(first: Op, second: Op, shapes: tuple[Shape, Shape, Shape]) -> Op | None:
    if isinstance(second, ops.Reshape) and isinstance(first, ops.Reshape):
        return second
    if isinstance(second, ops.Transpose) and isinstance(first, ops.Transpose):
        return ops.Transpose(tuple(first.perm[axis] for axis in second.perm))
    if isinstance(second, ops.Affine) and shapes[1] == shapes[2]:
        if isinstance(first, ops.Affine):
            return ops.Affine(first.scale * second.scale, first.shift * second.scale + second.shift)
        if isinstance(first, ops.Conv):
            return _after_conv(first, second, shapes[1])
        if isinstance(first, ops.Dense):
            return _after_dense(first, second, shapes[1])
    if isinstance(first, ops.Affine) and shapes[0] == shapes[1]:
        if isinstance(second, ops.Conv):
            return _before_conv(first, second, shapes[1])
        if isinstance(second, ops.Dense):
            return _before_dense(first, second, shapes[1])
    return None


def _along(array: FloatArray, shape: Shape, axis: int) -> FloatArray | None:
    """The constant as one number for each position of `axis`, or None if it varies along another axis."""
    sides = (1,) * (len(shape) - array.ndim) + array.shape
    if any(side != 1 for i, side in enumerate(sides) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (shape[axis],))


def _after_conv(conv: ops.Conv, affine: ops.Affine, shape: Shape) -> Op | None:
    scale, shift = _along(affine.scale, shape, 0), _along(affine.shift, shape, 0)
    if scale is None or shift is None:
        return None
    bias = shift if conv.bias is None else conv.bias * scale + shift
    weight = conv.weight * scale[:, None, None, None]
    return ops.Conv(weight, bias, conv.strides, conv.pads, conv.dilations, conv.groups)


def _before_conv(affine: ops.Affine, conv: ops.Conv, shape: Shape) -> Op | None:
    scale, shift = _along(affine.scale, shape, 0), _along(affine.shift, shape, 0)
    if scale is None or shift is None or (any(conv.pads) and shift.any()):
        return None  # a shift does not reach the padding
    out, per_group = conv.weight.shape[:2]
    channel = (np.arange(out) // (out // conv.groups))[:, None] * per_group + np.arange(per_group)
    bias = np.zeros(out) if conv.bias is None else conv.bias
    bias = bias + (conv.weight.sum(axis=(2, 3)) * shift[channel]).sum(axis=1)
    weight = conv.weight * scale[channel][:, :, None, None]
    return ops.Conv(weight, bias, conv.strides, conv.pads, conv.dilations, conv.groups)


def _after_dense(dense: ops.Dense, affine: ops.Affine, shape: Shape) -> Op | None:
    scale, shift = _along(affine.scale, shape, len(shape) - 1), _along(affine.shift, shape, len(shape) - 1)
    if scale is None or shift is None:
        return None
    return ops.Dense(dense.weight * scale[:, None], shift if dense.bias is None else dense.bias * scale + shift)


def _before_dense(affine: ops.Affine, dense: ops.Dense, shape: Shape) -> Op | None:
    scale, shift = _along(affine.scale, shape, len(shape) - 1), _along(affine.shift, shape, len(shape) - 1)
    if scale is None or shift is None:
        return None
    bias = dense.weight @ shift
    return ops.Dense(dense.weight * scale, bias if dense.bias is None else dense.bias + bias)


def _swap(graph: Graph) -> Graph:
    """Max pool first, then the activation: exact for activations that never fall."""
    before = _single(graph)
    for node in graph.nodes:
        first = before(node)
        if first is None or not isinstance(node.op, ops.MaxPool) or node.op.dilations != (1, 1):
            continue  # a dilated window may see nothing but padding
        if not isinstance(first.op, _MONOTONE) or (isinstance(first.op, ops.LeakyRelu) and first.op.alpha < 0):
            continue
        name = f"{first.name}.pooled"
        while name in graph.shapes:
            name += "'"
        pooled = Node(name, node.op, first.inputs), Node(node.name, first.op, (name,))
        nodes: list[Node] = []
        for other in graph.nodes:
            if other is node:
                nodes.extend(pooled)
            elif other is not first:
                nodes.append(other)
        return graph.replace(nodes=tuple(nodes))
    return graph
