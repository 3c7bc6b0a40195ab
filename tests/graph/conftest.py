"""Small ONNX models made on the spot, and onnxruntime as the judge of what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from secureimg.graph import Graph, fuse_linear, load_onnx, run_plain, simplify


def _model(
    nodes: Sequence[onnx.NodeProto],
    input_shape: Sequence[int | str],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    output: str = "y",
    output_type: int = TensorProto.FLOAT,
    list_constants_as_inputs: bool = False,
    batch: int | str = "N",
) -> bytes:
    """A model with the input `x` of shape (batch, *input_shape) and the output `y`."""
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *input_shape])]
    if list_constants_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info(output, output_type, None)]
    graph = helper.make_graph(list(nodes), "test", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8 if opset <= 20 else 10
    return model.SerializeToString()


def _reference(data: bytes, x: np.ndarray) -> np.ndarray:
    """What onnxruntime computes, one image at a time; (images, *shape of one answer without a batch axis of 1)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    answers = [session.run(None, {name: image[None].astype(np.float32)})[0] for image in x]
    return np.stack([a[0] if a.ndim and a.shape[0] == 1 else a for a in answers])


def _check(data: bytes, *, low: float = -2.0, high: float = 2.0, images: int = 2, seed: int = 0) -> Graph:
    """Assert that import, plain executor, simplify and fuse_linear agree with onnxruntime; return the graph."""
    graph = load_onnx(data)
    x = np.random.default_rng(seed).uniform(low, high, size=(images, *graph.input_shape)).astype(np.float32)
    wanted = _reference(data, x)
    got = run_plain(graph, x)
    assert got.shape == wanted.shape
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-3)
    assert np.abs(got - wanted).max(initial=0.0) <= 1e-4 * scale
    body, tail = graph.body_and_tail()
    answer = run_plain(body, x)
    for other in (simplify(body), fuse_linear(body), fuse_linear(simplify(body))):
        assert other.output_shape == body.output_shape
        again = run_plain(other, x)
        assert np.abs(again - answer).max(initial=0.0) <= 1e-9 * max(1.0, float(np.abs(answer).max(initial=0.0)))
    assert all(op.owner for op in tail)
    return graph


@pytest.fixture(scope="session")
def model() -> Callable[..., bytes]:
    return _model


@pytest.fixture(scope="session")
def check() -> Callable[..., Graph]:
    return _check


@pytest.fixture(scope="session")
def reference() -> Callable[..., Any]:
    return _reference
