"""Models: ONNX files of every operator that is imported, and the cards beside the shipped ones."""

from __future__ import annotations

import random
from importlib import resources
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzzing.targets import Target
from fuzzing.trees import json_codec
from secureimg.graph import load_onnx
from secureimg.graph.onnx_import import SUPPORTED
from secureimg.graph.shipped import read_card

__all__ = ["make_targets"]

_OPSET: Final = 17
_MOST_BYTES: Final = 1 << 20


def _model(nodes: list[Any], weights: dict[str, Any], shape: list[Any], functions: list[Any] | None = None) -> bytes:
    rng = np.random.default_rng(3)
    tensors = [
        numpy_helper.from_array(
            rng.normal(0, 0.5, value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value), name
        )
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", _OPSET), *([helper.make_opsetid("local", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions or [])
    return bytes(model.SerializeToString())


def _seeds() -> list[bytes]:
    node = helper.make_node
    integers = np.int64
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", _OPSET)]
    )
    return [
        _model(
            [
                node("Conv", ["x", "w1", "b1"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
                node("BatchNormalization", ["c", "s", "s2", "m", "v"], ["n"], epsilon=1e-5),
                node("Relu", ["n"], ["r"]),
                node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                node("Flatten", ["p"], ["f"], axis=1),
                node("Gemm", ["f", "w2", "b2"], ["g"], transB=1, alpha=0.5),
                node("Softmax", ["g"], ["y"], axis=1),
            ],
            {"w1": (2, 1, 3, 3), "b1": (2,), "s": (2,), "s2": (2,), "m": (2,), "v": np.ones(2, np.float32),
             "w2": (3, 18), "b2": (3,)},
            ["N", 1, 6, 6],
        ),
        _model(
            [
                node("Shape", ["x"], ["sh"]),
                node("Gather", ["sh", "zero"], ["n"], axis=0),
                node("Unsqueeze", ["n", "axis0"], ["n1"]),
                node("Concat", ["n1", "minus"], ["to"], axis=0),
                node("AveragePool", ["x"], ["a"], kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1),
                node("Reshape", ["a", "to"], ["f"]),
                node("MatMul", ["f", "w"], ["d"]),
                node("Mul", ["d", "d"], ["y"]),
            ],
            {"zero": np.array(0, integers), "axis0": np.array([0], integers), "minus": np.array([-1], integers),
             "w": (4, 2)},
            [1, 1, 4, 4],
        ),
        _model(
            [
                node("Pad", ["x", "pads"], ["p"], mode="constant"),
                node("Slice", ["p", "starts", "ends", "axes"], ["s"]),
                node("Transpose", ["s"], ["t"], perm=[0, 2, 3, 1]),
                node("ReduceMean", ["t"], ["m"], axes=[1, 2], keepdims=1),
                node("Sub", ["t", "m"], ["d"]),
                node("Clip", ["d", "low", "high"], ["c"]),
                node("Sqrt", ["four"], ["two"]),
                node("Div", ["c", "two"], ["q"]),
                node("Concat", ["q", "d"], ["y"], axis=3),
            ],
            {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], integers), "starts": np.array([1, 0], integers),
             "ends": np.array([5, 9], integers), "axes": np.array([2, 3], integers), "low": np.array(0.0, np.float32),
             "high": np.array(6.0, np.float32), "four": np.array([4.0], np.float32)},
            [1, 2, 5, 5],
        ),
        _model(
            [node("Twice", ["x"], ["t"], domain="local"), node("GlobalAveragePool", ["t"], ["y"])],
            {}, [1, 2, 3, 3], [function],
        ),
    ]  # fmt: skip


def _decode_onnx(data: bytes) -> object:
    graph = load_onnx(data, max_bytes=_MOST_BYTES)
    return graph.fingerprint


def _opset_again(data: bytes) -> bytes:
    """Nothing seals an ONNX file; half of the mutants get an opset and an output back that they may have lost."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        if not proto.opset_import:
            proto.opset_import.append(helper.make_opsetid("", _OPSET))
        for node in proto.graph.node[-1:]:
            proto.graph.output[0].name = node.output[0]
        return bytes(proto.SerializeToString())
    except Exception:  # noqa: BLE001 - it does not parse: it stays as it is
        return data


_KINDS: Final = tuple(kind for kind in SUPPORTED if kind != "Constant")
_NUMBERS: Final = (0, 1, -1, 2, 3, 4, 7, -7, 255, 65536, 2**31 - 1, -(2**31), 2**40, -(2**63), 2**63 - 1)


def _change_model(data: bytes, rng: random.Random) -> bytes:
    """A model that parses and is wrong in a place or two: other operators, wires, attributes, sizes."""
    proto = onnx.ModelProto()
    proto.ParseFromString(data)
    graph = proto.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)] + [t.name for t in graph.initializer]
    for _ in range(1 + int(rng.random() * 3)):
        node = graph.node[int(rng.random() * len(graph.node))]
        move = int(rng.random() * 9)
        if move == 0:
            node.op_type = rng.choice(_KINDS)
        elif move == 1 and node.input:
            node.input[int(rng.random() * len(node.input))] = rng.choice(names)
        elif move == 2:
            node.input.append(rng.choice(names))
        elif move == 3 and node.attribute:
            attribute = rng.choice(node.attribute)
            if attribute.ints:
                attribute.ints[int(rng.random() * len(attribute.ints))] = rng.choice(_NUMBERS)
            else:
                attribute.i, attribute.f = rng.choice(_NUMBERS), rng.choice((0.0, -1.0, 1e38, float("nan")))
        elif move == 4 and node.attribute:
            node.attribute[0].ints.append(rng.choice(_NUMBERS))
        elif move == 5 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims and rng.random() < 0.5:
                tensor.dims[int(rng.random() * len(tensor.dims))] = rng.choice(_NUMBERS)
            elif tensor.data_type == TensorProto.INT64 and tensor.raw_data:
                values = np.frombuffer(tensor.raw_data, dtype="<i8").copy()
                values[int(rng.random() * values.size)] = rng.choice(_NUMBERS)
                tensor.raw_data = values.tobytes()
            else:
                tensor.dims.append(1)
        elif move == 6:
            side = rng.choice(graph.input[0].type.tensor_type.shape.dim)
            side.dim_value = rng.choice((0, 1, 2, 3, 5, 8, 64, 2**20, -1, 2**40))
        elif move == 7 and rng.random() < 0.3:
            del graph.node[int(rng.random() * len(graph.node))]
            if not graph.node:
                break
        elif move == 8:
            graph.node.append(rng.choice(graph.node))
            graph.node[-1].output[:] = [f"again{len(graph.node)}"]
    return bytes(proto.SerializeToString())


def _cards() -> list[bytes]:
    folder = resources.files("secureimg.graph") / "models"
    return [
        entry.read_bytes() for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".json")
    ]


def make_targets() -> list[Target]:
    """Model files and cards."""
    return [
        Target("onnx", "an ONNX file", _decode_onnx, _seeds, _opset_again, _change_model, 5.0, 1 << 30),
        Target(
            "model-card",
            "the card of a shipped model",
            lambda data: read_card(data, "the card"),
            _cards,
            None,
            json_codec,
        ),
    ]
