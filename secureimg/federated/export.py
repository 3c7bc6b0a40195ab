"""A trained network as an ONNX file, and as a graph for the executors."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from secureimg.federated.layers import AveragePool, Convolution, Dense, Square
from secureimg.federated.networks import Array, Network
from secureimg.graph import Graph, Preprocessing, load_onnx

__all__ = ["network_graph", "to_onnx"]

_OPSET = 13
_IR_VERSION = 8


def to_onnx(network: Network, weights: Array, name: str) -> bytes:
    """A network as an ONNX file of plain operators: input ``image`` (N, C, H, W), output ``logits`` (N, classes).

    Parameters
    ----------
    network : Network
    weights : (parameters,) float32
    name : str
        Of the graph.

    Returns
    -------
    bytes
        Equal for equal weights.
    """
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    value = "image"

    def add(operator: str, kind: str, inputs: list[str], **attributes: Any) -> str:
        result = f"{kind}{sum(node.name.startswith(kind) for node in nodes) + 1}"
        nodes.append(helper.make_node(operator, inputs, [result], name=result, **attributes))
        return result

    for number, (layer, parts) in enumerate(zip(network.layers, network.split(weights), strict=True)):
        names = [f"layer{number + 1}.{part}" for part in ("weight", "bias")[: len(parts)]]
        tensors += [numpy_helper.from_array(part, part_name) for part, part_name in zip(parts, names, strict=True)]
        if isinstance(layer, Convolution):
            sides, strides = [layer.kernel] * 2, [layer.stride] * 2
            value = add("Conv", "conv", [value, *names], kernel_shape=sides, strides=strides, pads=[0, 0, 0, 0])
        elif isinstance(layer, Square):
            value = add("Mul", "square", [value, value])
        elif isinstance(layer, AveragePool):
            value = add("AveragePool", "pool", [value], kernel_shape=[layer.side] * 2, strides=[layer.side] * 2)
        else:
            assert isinstance(layer, Dense)
            if len(network.shapes[number]) > 1:
                value = add("Flatten", "flatten", [value], axis=1)
            value = add("Gemm", "dense", [value, *names], transB=1)
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *network.input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", network.classes])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="secureimg federated",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def network_graph(
    network: Network,
    weights: Array,
    name: str,
    *,
    preprocessing: Preprocessing | None = None,
    labels: tuple[str, ...] | None = None,
) -> Graph:
    """The graph that the ONNX file holds, with what it wants from a picture and the names of its classes."""
    return load_onnx(to_onnx(network, weights, name)).replace(name=name, preprocessing=preprocessing, labels=labels)
