"""A trained network as an ONNX file of plain operators, normalisation folded into the layers before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training.networks import Square

__all__ = ["OPSET", "folded", "to_onnx"]

OPSET = 13
_IR_VERSION = 8  # the one of opset 13's time: old readers take it


@torch.no_grad()
def folded(network: nn.Sequential) -> list[nn.Module]:
    """Return the layers without normalisation and dropout. Computed in float64, kept in float32."""
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layers[-1] = _fold(layers[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return layers


def _fold(linear: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    if not isinstance(linear, nn.Conv2d | nn.Linear) or linear.bias is None:
        raise TypeError(f"cannot fold a normalisation into {linear}")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    weight = linear.weight.double() * scale.reshape(-1, *[1] * (linear.weight.ndim - 1))
    bias = linear.bias.double() * scale + shift
    if isinstance(linear, nn.Linear):
        result: nn.Conv2d | nn.Linear = nn.Linear(linear.in_features, linear.out_features)
    else:
        height, width = linear.kernel_size
        result = nn.Conv2d(linear.in_channels, linear.out_channels, (height, width), linear.stride, linear.padding)
    assert result.bias is not None
    result.weight.copy_(weight)
    result.bias.copy_(bias)
    return result


def to_onnx(network: nn.Sequential, name: str, input_shape: tuple[int, ...], classes: int) -> bytes:
    """Return the ONNX file: input ``image`` (N, *input_shape), output ``logits`` (N, classes), float32."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    counts: dict[str, int] = {}
    value = "image"
    layers = folded(network)
    for layer in layers:
        kind = type(layer).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        node_name = {"conv2d": "conv", "linear": "dense", "avgpool2d": "pool"}.get(kind, kind) + str(counts[kind])
        result = "logits" if layer is layers[-1] else node_name
        operator, attributes, tensors = _operator(layer)
        inputs = [value, value] if isinstance(layer, Square) else [value]
        for suffix, tensor in tensors.items():
            weights.append(numpy_helper.from_array(tensor, f"{node_name}.{suffix}"))
            inputs.append(f"{node_name}.{suffix}")
        nodes.append(helper.make_node(operator, inputs, [result], name=node_name, **attributes))
        value = result
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="secureimg training",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _operator(layer: nn.Module) -> tuple[str, dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return a layer's operator, its attributes and its weights in the order of its inputs."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        assert layer.bias is not None
        tensors = {"weight": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}
        if isinstance(layer, nn.Linear):
            return "Gemm", {"transB": 1}, tensors
        pads = [int(side) for side in layer.padding] * 2
        return "Conv", {"kernel_shape": [*layer.kernel_size], "strides": [*layer.stride], "pads": pads}, tensors
    if isinstance(layer, Square):
        return "Mul", {}, {}
    if isinstance(layer, nn.Flatten):
        return "Flatten", {"axis": 1}, {}
    if isinstance(layer, nn.AvgPool2d):
        side = int(str(layer.kernel_size))
        return "AveragePool", {"kernel_shape": [side, side], "strides": [int(str(layer.stride))] * 2}, {}
    raise TypeError(f"no operator for {layer}")
