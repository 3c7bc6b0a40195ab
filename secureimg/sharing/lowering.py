"""Which steps each op of a graph becomes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import singledispatch

import numpy as np

from secureimg.errors import CompileError
from secureimg.graph import Node, ops
from secureimg.graph.plain import pool_divisors
from secureimg.sharing import text
from secureimg.sharing.bounds import Bound
from secureimg.sharing.builder import Builder, Value
from secureimg.sharing.functions import lower_function

__all__ = ["lower"]


@singledispatch
def lower(op: ops.Op, builder: Builder, node: Node, *values: Value) -> Value:
    """Emit the steps of an op.

    Raises
    ------
    CompileError
        If the op has no protocol, or its values do not fit.
    """
    raise CompileError(f"layer {node.name!r}: {op.kind} has no protocol on shares; rewrite it with ops that have one")


@lower.register
def _(op: ops.Conv, builder: Builder, node: Node, value: Value) -> Value:
    geometry = text.Geometry(
        kind="conv", in_shape=builder.register(value).shape, out_shape=builder.graph.shapes[node.name],
        weight_shape=op.weight.shape, strides=op.strides, pads=op.pads, dilations=op.dilations, groups=op.groups,
    )  # fmt: skip
    bias = None if op.bias is None else op.bias[:, None, None]
    return builder.linear(value, geometry, op.weight, bias, builder.bounds[node.name])


@lower.register
def _(op: ops.Dense, builder: Builder, node: Node, value: Value) -> Value:
    geometry = text.Geometry(kind="dense", in_shape=builder.register(value).shape,
                             out_shape=builder.graph.shapes[node.name], weight_shape=op.weight.shape)  # fmt: skip
    return builder.linear(value, geometry, op.weight, op.bias, builder.bounds[node.name])


@lower.register
def _(op: ops.Affine, builder: Builder, node: Node, value: Value) -> Value:
    shape = builder.register(value).shape
    geometry = text.Geometry(kind="scale", in_shape=shape, out_shape=builder.graph.shapes[node.name],
                             weight_shape=op.scale.shape)  # fmt: skip
    return builder.linear(value, geometry, op.scale, op.shift, builder.bounds[node.name])


@lower.register
def _(op: ops.LinearMap, builder: Builder, node: Node, *values: Value) -> Value:
    bound, terms = builder.bounds[node.name], []
    for number, (matrix, value) in enumerate(zip(op.matrices, values, strict=True)):
        geometry = text.Geometry(
            kind="sparse", in_shape=builder.register(value).shape, out_shape=op.shape, weight_shape=(max(matrix.nnz, 1),),
            places=matrix.indices.astype("<i4").tobytes(), row_ends=matrix.indptr.astype("<i4").tobytes(),
        )  # fmt: skip
        bias = None if number else op.bias.reshape(op.shape)
        terms.append((builder.linear(value, geometry, matrix.data if matrix.nnz else np.zeros(1), bias, bound), 1.0))
    return terms[0][0] if len(terms) == 1 else builder.combine(terms, bound)


@lower.register
def _(op: ops.Relu, builder: Builder, node: Node, value: Value) -> Value:
    return builder.relu(value, builder.bounds[node.name])[0]


@lower.register
def _(op: ops.Step, builder: Builder, node: Node, value: Value) -> Value:
    return builder.decide(value)


@lower.register
def _(op: ops.LeakyRelu, builder: Builder, node: Node, value: Value) -> Value:
    positive, whole = builder.relu(value, value.bound, both=True)
    assert whole is not None
    terms = [(positive, 1.0 - op.alpha)] + ([(whole, op.alpha)] if op.alpha else [])
    return builder.combine(terms, builder.bounds[node.name])


@lower.register
def _(
    op: ops.Abs
    | ops.Clip
    | ops.Divide
    | ops.Exp
    | ops.InverseSqrt
    | ops.Reciprocal
    | ops.Sigmoid
    | ops.Sqrt
    | ops.Tanh,
    builder: Builder,
    node: Node,
    *values: Value,
) -> Value:
    return lower_function(op, builder, node, *values)


@lower.register
def _(op: ops.MaxPool, builder: Builder, node: Node, value: Value) -> Value:
    old, drop = builder.register(value), builder.drop(value)
    bits = builder.bits(value, drop, 2)
    digit = builder.digit(value, drop, bits - 1)
    out = builder.new(builder.graph.shapes[node.name], old.scale - drop, old.factor, value.bound, bits)
    builder.emit(text.MaxPool(
        name=builder.name, out=out.number, source=value.number, drop=drop, bits=bits, digit=digit, kernel=op.kernel,
        strides=op.strides, pads=_covering(op, old.shape, builder.graph.shapes[node.name]), dilations=op.dilations,
    ))  # fmt: skip
    return out


@lower.register
def _(op: ops.AveragePool, builder: Builder, node: Node, value: Value) -> Value:
    divisors, shape = pool_divisors(op, builder.register(value).shape), builder.graph.shapes[node.name]
    area, usual = op.kernel[0] * op.kernel[1], builder.bounds[node.name]
    even = bool((divisors == divisors.flat[0]).all())
    value = builder.wide(value) if even else builder.truncated(value)  # uneven ones need more fractional bits
    old = builder.register(value)
    factor = old.factor / (float(divisors.flat[0]) if even else 1.0)
    summed = usual if even else Bound(usual.most * area, usual.usual * area)
    out = builder.new(shape, old.scale, factor, summed)
    pads = _covering(op, old.shape, shape)
    builder.emit(text.SumPool(name=builder.name, out=out.number, source=value.number, kernel=op.kernel, strides=op.strides,
                           pads=pads))  # fmt: skip
    if even:
        return out
    scaled = builder.new(shape, old.scale + builder.fraction, old.factor, usual)
    factors = np.rint(2.0**builder.fraction / divisors).astype(np.int64)
    builder.emit(text.PublicScale(name=builder.name, out=scaled.number, source=out.number, shape=factors.shape,
                               factors=tuple(factors.reshape(-1).tolist())))  # fmt: skip
    return scaled


@lower.register
def _(op: ops.Mean, builder: Builder, node: Node, value: Value) -> Value:
    value = builder.wide(value)
    old = builder.register(value)
    axes = tuple(sorted(axis % len(old.shape) for axis in op.axes))
    count = math.prod(old.shape[axis] for axis in axes)
    out = builder.new(builder.graph.shapes[node.name], old.scale, old.factor / count, builder.bounds[node.name])
    builder.emit(text.Sum(name=builder.name, out=out.number, source=value.number, axes=axes))
    return out


@lower.register
def _(op: ops.Add, builder: Builder, node: Node, left: Value, right: Value) -> Value:
    return builder.combine([(left, 1.0), (right, 1.0)], builder.bounds[node.name])


@lower.register
def _(op: ops.Subtract, builder: Builder, node: Node, left: Value, right: Value) -> Value:
    return builder.combine([(left, 1.0), (right, -1.0)], builder.bounds[node.name])


@lower.register
def _(op: ops.Multiply, builder: Builder, node: Node, left: Value, right: Value) -> Value:
    return builder.multiply(left, right, builder.bounds[node.name])


@lower.register
def _(op: ops.Square, builder: Builder, node: Node, value: Value) -> Value:
    return builder.multiply(value, value, builder.bounds[node.name])


@lower.register
def _(op: ops.Polynomial, builder: Builder, node: Node, value: Value) -> Value:
    """Horner: a product and a truncation for each degree."""
    value = builder.truncated(value)
    *lower, leading = op.coefficients[: op.degree + 1]
    largest = max(value.bound.most, 1.0)  # on the way coefficients stand at lower powers than in the end
    most = sum(abs(c) * largest**power for power, c in enumerate(op.coefficients))
    bound = Bound(most, max(builder.bounds[node.name].usual, 2.0**-12))
    total = builder.combine([(value, leading)], bound, lower.pop())
    while lower:
        product = builder.multiply(total, value, bound)
        total = builder.combine([(product, 1.0)], bound if len(lower) > 1 else builder.bounds[node.name], lower.pop())
    return total


@lower.register
def _(op: ops.Concat, builder: Builder, node: Node, *values: Value) -> Value:
    bound = builder.bounds[node.name]
    parts = [builder.wide(value) for value in values]
    if len({(builder.register(part).scale, builder.register(part).factor) for part in parts}) > 1:
        parts = [builder.truncated(builder.leveled(part)) for part in parts]
        parts = [builder.finer(part, max(builder.register(each).scale for each in parts)) for part in parts]
    first = builder.register(parts[0])
    out = builder.new(builder.graph.shapes[node.name], first.scale, first.factor, bound)
    axis = op.axis % len(first.shape)
    builder.emit(text.Concat(name=builder.name, out=out.number, sources=tuple(p.number for p in parts), axis=axis))
    return out


@lower.register
def _(op: ops.Reshape, builder: Builder, node: Node, value: Value) -> Value:
    return builder.rearranged(value, "reshape", builder.graph.shapes[node.name])


@lower.register
def _(op: ops.Transpose, builder: Builder, node: Node, value: Value) -> Value:
    return builder.rearranged(value, "transpose", builder.graph.shapes[node.name], (op.perm,))


@lower.register
def _(op: ops.Slice, builder: Builder, node: Node, value: Value) -> Value:
    return builder.rearranged(value, "slice", builder.graph.shapes[node.name], (op.starts, op.counts, op.steps))


@lower.register
def _(op: ops.Pad, builder: Builder, node: Node, value: Value) -> Value:
    if op.value:  # the fill may be larger than what it surrounds
        value = replace(builder.wide(value), bound=builder.bounds[node.name])
        if not float(op.value / builder.register(value).factor * 2.0 ** builder.register(value).scale).is_integer():
            value = builder.finer(value, builder.fraction)
    old = builder.register(value)
    fill = round(op.value / old.factor * 2.0**old.scale)
    return builder.rearranged(value, "pad", builder.graph.shapes[node.name], op.pads, fill)


def _covering(op: ops.MaxPool | ops.AveragePool, shape: text.Shape, result: text.Shape) -> tuple[int, int, int, int]:
    """Padding after which every window lies inside: the op's own, or what a last partial window needs."""
    dilations = getattr(op, "dilations", (1, 1))
    top, left = op.pads[:2]
    span = [d * (k - 1) + 1 for d, k in zip(dilations, op.kernel, strict=True)]
    rows = (result[1] - 1) * op.strides[0] + span[0] - shape[1] - top
    columns = (result[2] - 1) * op.strides[1] + span[1] - shape[2] - left
    return top, left, max(rows, 0), max(columns, 0)
