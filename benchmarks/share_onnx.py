"""A graph as an ONNX file, so that a party process can load it like anybody's model."""

from __future__ import annotations

from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from secureimg.graph import Graph, Node, ops

__all__ = ["save_onnx"]

_OPSET = 17
_IR_VERSION = 8


def save_onnx(graph: Graph, path: Path) -> None:
    """Write a graph with one image a batch and weights in single precision, as exporters do.

    Parameters
    ----------
    graph : Graph
        Of Add, Affine, AveragePool, Concat, Conv, Dense, MaxPool, Mean, Multiply, Relu, Reshape, Slice and Square.
    path : Path
        The .onnx file.

    Raises
    ------
    NotImplementedError
        If the graph has another op; names it.
    """
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.write(node.op, node)
    given = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, (1, *graph.input_shape))
    result = helper.make_tensor_value_info(graph.output, TensorProto.FLOAT, (1, *graph.output_shape))
    body = helper.make_graph(writer.nodes, graph.name, [given], [result], writer.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.save(model, str(path))


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant{len(self.weights)}"
        stored = array.astype(np.float32) if array.dtype == np.float64 else array
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(stored), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    @singledispatchmethod
    def write(self, op: ops.Op, node: Node) -> None:
        raise NotImplementedError(f"node {node.name!r}: {op.kind} has no writer here; add one")

    @write.register
    def _(self, op: ops.Conv, node: Node) -> None:
        inputs = [*node.inputs, self.constant(op.weight), *([] if op.bias is None else [self.constant(op.bias)])]
        self.add(
            "Conv", inputs, node.name, strides=op.strides, pads=op.pads, dilations=op.dilations, group=op.groups,
            kernel_shape=op.weight.shape[2:],
        )  # fmt: skip

    @write.register
    def _(self, op: ops.Dense, node: Node) -> None:
        bias = [] if op.bias is None else [self.constant(op.bias)]
        if len(self.graph.shapes[node.inputs[0]]) == 1:
            self.add("Gemm", [*node.inputs, self.constant(op.weight), *bias], node.name, transB=1)
            return
        product = f"{node.name}_product" if bias else node.name
        self.add("MatMul", [*node.inputs, self.constant(op.weight.T)], product)
        if bias:
            self.add("Add", [product, *bias], node.name)

    @write.register
    def _(self, op: ops.Affine, node: Node) -> None:
        scaled = self.add("Mul", [*node.inputs, self.constant(op.scale)], f"{node.name}_scaled")
        self.add("Add", [scaled, self.constant(op.shift)], node.name)

    @write.register
    def _(self, op: ops.Relu | ops.Add | ops.Multiply, node: Node) -> None:
        kinds: dict[type[ops.Op], str] = {ops.Relu: "Relu", ops.Add: "Add", ops.Multiply: "Mul"}
        self.add(kinds[type(op)], list(node.inputs), node.name)

    @write.register
    def _(self, op: ops.Square, node: Node) -> None:
        self.add("Mul", [*node.inputs, *node.inputs], node.name)

    @write.register
    def _(self, op: ops.AveragePool, node: Node) -> None:
        self.add("AveragePool", list(node.inputs), node.name, kernel_shape=op.kernel, strides=op.strides, pads=op.pads,
                 ceil_mode=int(op.ceil_mode), count_include_pad=int(op.count_include_pad))  # fmt: skip

    @write.register
    def _(self, op: ops.MaxPool, node: Node) -> None:
        self.add("MaxPool", list(node.inputs), node.name, kernel_shape=op.kernel, strides=op.strides, pads=op.pads,
                 dilations=op.dilations, ceil_mode=int(op.ceil_mode))  # fmt: skip

    @write.register
    def _(self, op: ops.Mean, node: Node) -> None:
        axes = [axis % len(self.graph.shapes[node.inputs[0]]) + 1 for axis in op.axes]
        self.add("ReduceMean", list(node.inputs), node.name, axes=axes, keepdims=int(op.keepdims))

    @write.register
    def _(self, op: ops.Concat, node: Node) -> None:
        axis = op.axis % len(self.graph.shapes[node.name]) + 1
        self.add("Concat", list(node.inputs), node.name, axis=axis)

    @write.register
    def _(self, op: ops.Reshape, node: Node) -> None:
        shape = np.array((1, *self.graph.shapes[node.name]), dtype=np.int64)
        self.add("Reshape", [*node.inputs, self.constant(shape)], node.name)

    @write.register
    def _(self, op: ops.Slice, node: Node) -> None:
        starts = np.array(op.starts, dtype=np.int64)
        steps = np.array(op.steps, dtype=np.int64)
        if (steps < 1).any():
            raise NotImplementedError(f"node {node.name!r}: a slice that runs backwards has no writer here")
        ends = starts + (np.array(op.counts) - 1) * steps + 1
        axes = np.arange(1, len(starts) + 1)
        self.add("Slice", [*node.inputs, *map(self.constant, (starts, ends, axes, steps))], node.name)
