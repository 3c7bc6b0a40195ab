"""What is measured is the graph that was built: a file that we write computes the same when it is loaded."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.share_nets import lenet_relu, minionn, random_images, resnet18, squeezenet
from benchmarks.share_onnx import save_onnx
from benchmarks.share_rows import WORKS
from secureimg.graph import GraphBuilder, Slice, load_model, run_plain

SMALL = {
    "minionn": minionn,
    "lenet5": lenet_relu,
    "resnet18": lambda: resnet18(32),
    "squeezenet": lambda: squeezenet(48),
}


def reloaded(graph, path):
    save_onnx(graph, path)
    return load_model(path)


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_a_network_read_back_from_the_file_gives_the_same_answers(make, tmp_path):
    graph = make()
    images = random_images(graph, 2)
    want = run_plain(graph, images)
    got = run_plain(reloaded(graph, tmp_path / "net.onnx"), images)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_every_row_of_a_single_operation_can_be_written_and_keeps_its_shapes(tmp_path):
    rows = [work for work in WORKS if "at " not in work.name and "M" not in work.name]
    assert len(rows) > 4
    for work in rows:
        graph = work.make()
        again = reloaded(graph, tmp_path / "op.onnx")
        assert (again.input_shape, again.output_shape) == (graph.input_shape, graph.output_shape)


def test_a_matrix_product_with_bias_and_a_strided_slice_survive(tmp_path):
    rng = np.random.default_rng(3)
    b = GraphBuilder("both", (6, 5))
    cut = b.apply(Slice((1, 0), (3, 5), (2, 1)), b.input)
    graph = b.build(b.dense(cut, rng.normal(size=(4, 5)), rng.normal(size=4)))
    values = rng.normal(size=(2, 6, 5))
    np.testing.assert_allclose(
        run_plain(reloaded(graph, tmp_path / "g.onnx"), values), run_plain(graph, values), atol=1e-5
    )


def test_an_op_without_a_writer_is_named(tmp_path):
    b = GraphBuilder("exp", (3,))
    with pytest.raises(NotImplementedError, match="Exp"):
        save_onnx(b.build(b.exp(b.input, -1.0, 1.0)), tmp_path / "g.onnx")


def test_two_pictures_of_a_row_change_the_answer_of_its_network():
    graph = resnet18(32)
    one, two = run_plain(graph, random_images(graph, 2))
    assert np.abs(one - two).max() > 0.05 * np.abs(one).max()
