"""Untrusted bytes to a checked list of nodes in topological order, with caps before any allocation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.inliner
import onnx.numpy_helper
from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]  # protobuf has no types

from secureimg.errors import GraphError
from secureimg.graph.onnx_import.values import Array
from secureimg.graph.ops import MAX_ELEMENTS

__all__ = ["MAX_BYTES", "MAX_NODES", "Foreign", "Model", "decode_tensor", "read_model"]

MAX_BYTES = 256 * 2**20
"""Largest ONNX file read, in bytes."""

MAX_NODES = 20_000
"""Most nodes a file may have, after its local functions are put in place."""

OLDEST_OPSET = 7

_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16}  # TensorProto types with plain numbers


class Foreign(Exception):  # never leaves the importer
    """A tensor of the file that is not read: external data, strings, exotic number types."""


@dataclass(frozen=True, eq=False)
class Model:
    """A parsed file whose names and order are checked.

    Attributes
    ----------
    graph : onnx.GraphProto
    label : str
        How messages call the file.
    opset : int
        Version of the standard operators.
    nodes : list of onnx.NodeProto
        The ones the output needs, each after its inputs.
    tensors : dict of str to onnx.TensorProto
        Initializers by name.
    """

    proto: onnx.ModelProto
    label: str
    opset: int
    nodes: list[onnx.NodeProto]
    tensors: dict[str, onnx.TensorProto]

    @property
    def graph(self) -> onnx.GraphProto:
        """The file's graph."""
        return self.proto.graph


def read_model(source: str | Path | bytes, max_bytes: int) -> Model:
    """Read a file or its bytes.

    Raises
    ------
    GraphError
        If it is missing, larger than `max_bytes`, not ONNX, of an opset outside the range, cyclic, or uses a name
        twice or without defining it.
    """
    label, data = _bytes(source, max_bytes)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (ProtobufError, ValueError, RuntimeError):
        raise GraphError(
            f"{label}: is not an ONNX model (its {len(data)} bytes do not parse); export it again"
        ) from None
    if not proto.HasField("graph") or not proto.graph.output:
        raise GraphError(f"{label}: holds no ONNX graph; export it again")
    opset = _opset(proto, label)
    if proto.functions:
        proto = _inlined(proto, label)
    graph = proto.graph
    if len(graph.node) > MAX_NODES:
        raise GraphError(f"{label}: has {len(graph.node)} nodes, the limit is {MAX_NODES}")
    if not _is_text(graph):
        raise GraphError(f"{label}: holds names that are not UTF-8 text; export it again")
    tensors: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        if tensor.name in tensors:
            raise GraphError(f"{label}: two initializers are named {tensor.name[:200]!r}")
        tensors[tensor.name] = tensor
    return Model(proto, label, opset, _ordered(graph, set(tensors), label), tensors)


def _bytes(source: str | Path | bytes, max_bytes: int) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        label, data = "the ONNX model", source
    else:
        path = Path(source)
        label = f"model file {str(path)!r}"
        try:
            with path.open("rb") as file:
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise GraphError(f"{label}: cannot be read: {error.strerror or type(error).__name__}") from None
    if len(data) > max_bytes:
        raise GraphError(f"{label}: is larger than the limit of {max_bytes} bytes; raise max_bytes if you trust it")
    return label, data


def _opset(proto: onnx.ModelProto, label: str) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise GraphError(f"{label}: does not say which ONNX opset it uses; export it again with opset 17")
    if not OLDEST_OPSET <= max(versions) <= newest:
        raise GraphError(
            f"{label}: uses ONNX opset {max(versions)}, opsets {OLDEST_OPSET} to {newest} are known; export it with "
            "one of those, for example 17"
        )
    return int(max(versions))


def _inlined(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """Put local functions in place of their calls, after counting how many nodes that makes."""
    bodies = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    active: set[tuple[str, str]] = set()

    def size(nodes: Any) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key not in bodies:
                total += 1
            else:
                if key not in sizes:
                    if key in active or len(active) > 100:
                        raise GraphError(f"{label}: its function {node.op_type[:200]!r} calls itself or nests too deep")
                    active.add(key)
                    sizes[key] = size(bodies[key].node)
                    active.discard(key)
                total += sizes[key]
            if total > MAX_NODES:
                raise GraphError(f"{label}: has more than {MAX_NODES} nodes once its functions are put in place")
        return total

    size(proto.graph.node)
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception:  # noqa: BLE001 - the inliner raises types of its own, some of them bare exceptions
        raise GraphError(f"{label}: its local functions cannot be put in place; export without functions") from None


def _is_text(graph: onnx.GraphProto) -> bool:
    """Whether all names are text: protobuf gives bytes for what is not UTF-8."""
    names: list[Any] = [graph.name]
    for node in graph.node:
        names += (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
    for entries in (graph.input, graph.output, graph.initializer):
        names += (entry.name for entry in entries)
    names += (tensor.values.name for tensor in graph.sparse_initializer)
    return all(isinstance(name, str) for name in names)


def _ordered(graph: onnx.GraphProto, tensors: set[str], label: str) -> list[onnx.NodeProto]:
    """Nodes the first output needs, in topological order; names checked."""
    maker: dict[str, int] = {}
    known = tensors | {entry.name for entry in graph.input}
    if len({entry.name for entry in graph.input}) != len(graph.input):
        raise GraphError(f"{label}: two inputs have one name")
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker or name in known:
                raise GraphError(f"{label}: the name {name[:200]!r} is used for two values")
            maker[name] = index
    order: list[int] = []
    state: dict[int, int] = {}  # 1 while its inputs are being placed, 2 once placed
    stack: list[tuple[int, bool]] = []

    def visit(name: str, wanted_by: str) -> None:
        if name in known or not name:
            return
        if name not in maker:
            raise GraphError(f"{label}: {wanted_by[:200]!r} needs {name[:200]!r}, which nothing computes")
        index = maker[name]
        if state.get(index) == 1:
            raise GraphError(f"{label}: its nodes form a cycle through {name[:200]!r}")
        if index not in state:
            stack.append((index, False))

    for entry in graph.output:
        visit(entry.name, "the output")
        while stack:
            index, done = stack.pop()
            if done:
                state[index] = 2
                order.append(index)
                continue
            if index in state:
                continue
            state[index] = 1
            stack.append((index, True))
            for name in graph.node[index].input:
                visit(name, graph.node[index].name or graph.node[index].output[0])
    return [graph.node[index] for index in order]


def decode_tensor(tensor: onnx.TensorProto, label: str) -> Array:
    """Numbers of a tensor stored in the file itself; floating-point ones as float64.

    Raises
    ------
    Foreign
        For external data and types that are not plain numbers.
    GraphError
        If its size does not fit its shape, or is above the cap.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise Foreign("its numbers are in another file, which is never opened")
    if tensor.data_type not in _NUMBERS:
        raise Foreign(f"its type number {tensor.data_type} is not one of the float, integer and boolean types")
    if any(side < 0 for side in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise GraphError(f"{label}: shape {tuple(tensor.dims)[:8]} is negative or above {MAX_ELEMENTS} elements")
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        raise GraphError(
            f"{label}: its data does not fit its shape {tuple(tensor.dims)}; export the model again"
        ) from None
    if tensor.data_type in (1, 10, 11, 16):
        array = array.astype(np.float64)
        if np.isnan(array).any():
            raise GraphError(f"{label}: holds NaN; retrain or re-export the model")
    return array
