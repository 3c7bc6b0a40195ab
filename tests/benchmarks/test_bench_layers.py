"""Every layer is timed on every executor, and what it moves adds up to what the program says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_layers import CkksLayers, PlainLayers, ShareLayers
from benchmarks.share_onnx import save_onnx
from protocols.cli.options import ModelOptions, ShareOptions
from secureimg import sharing
from secureimg.graph import GraphBuilder

IMAGES = np.random.default_rng(1).uniform(size=(2, 1, 6, 6))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelOptions:
    rng = np.random.default_rng(1)
    b = GraphBuilder("tiny", (1, 6, 6))
    x = b.average_pool(b.square(b.conv(b.input, rng.normal(size=(2, 1, 3, 3)) / 3)), (2, 2))
    path = tmp_path_factory.mktemp("bench") / "tiny.onnx"
    save_onnx(b.build(b.dense(b.flatten(x), rng.normal(size=(3, 8)) / 3)), path)
    return ModelOptions(str(path))


def test_the_clear_times_every_node(model):
    found = PlainLayers(model).measure(IMAGES)
    assert [layer.kind for layer in found] == ["Conv", "Square", "AveragePool", "Reshape", "Dense"]
    assert all(0 < layer.seconds.min <= layer.seconds.median and layer.seconds.count == 2 for layer in found)


def test_ciphertexts_are_timed_and_counted_as_the_compiler_counts(model):
    found = CkksLayers(model).measure(IMAGES)
    program, _ = model.compile(model.load().graph)
    assert [layer.name for layer in found] == [cost.name for cost in program.cost.layers]
    assert sum(layer.rotations or 0 for layer in found) == program.cost.rotations
    assert all(layer.seconds.min > 0 and (layer.predicted or 0) > 0 for layer in found)


def test_shares_are_timed_step_by_step_and_bytes_are_all_accounted_for(model):
    found = ShareLayers(model, ShareOptions()).measure(IMAGES)
    cost = sharing.cost_of(ShareOptions().compile(model).public)
    assert sum(layer.rounds or 0 for layer in found) == cost.rounds
    assert sum(layer.sent or 0 for layer in found) == cost.online_bytes
    assert sum(layer.dealt or 0 for layer in found) == cost.offline_bytes
    assert all(layer.seconds.min > 0 for layer in found)


def test_a_watcher_hears_of_every_step_in_order(model):
    program = ShareOptions().compile(model)
    heard: list[int] = []
    sharing.run_on_shares(program, 1, sharing.share_images(program.public, IMAGES[:1]), watch=heard.append)
    assert heard == list(range(-1, len(program.public.steps)))
