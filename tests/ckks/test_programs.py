"""Compiled programs: the same results as the plain executor, in the clear and on ciphertexts, within the predicted error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.ckks import MAX_MODULUS_BITS, Evaluator, OwnerKeys, Parameters, PrimeBits, compile  # noqa: A004
from secureimg.ckks.clear import run_clear
from secureimg.ckks.diagonals import Fold, Split, rotation_tree
from secureimg.ckks.packing import convolution_packings
from secureimg.errors import CompileError, ParameterError
from secureimg.graph import Graph, GraphBuilder, fuse_linear, load_model, run_plain

from .graphs import random_graph, small_classifier


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), batch=st.sampled_from([1, 1, 2, 8]))
def test_the_cleartext_twin_gives_the_graphs_results(seed: int, batch: int) -> None:
    """Whatever layout, fold and split the planner picks: the program's text computes the graph, with room to spare."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    try:
        program = compile(graph, batch=batch)
    except CompileError as error:
        if "levels" in str(error) or "relative error" in str(error):
            return  # too deep, and refused for that
        raise
    image = rng.uniform(0, 1, graph.input_shape)
    result, headroom = run_clear(program, image)
    wanted = run_plain(graph, image[None])[0]
    np.testing.assert_allclose(result, wanted, rtol=1e-8, atol=1e-8 * max(1.0, float(np.abs(wanted).max())))
    assert headroom > 0


def _answers(graph: Graph, images: np.ndarray, workers: int = 1, **options: object) -> tuple[np.ndarray, float]:
    program = compile(graph, **options)  # type: ignore[arg-type]
    keys = OwnerKeys.generate(program.public)
    with Evaluator(program, workers) as evaluator:
        blob = evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(images))
    return keys.decrypt(blob, len(images)), program.public.error_bound


@pytest.mark.parametrize("workers", [1, 2])
def test_encrypted_results_stay_within_the_predicted_error(rng: np.random.Generator, workers: int) -> None:
    """Measured error below the prediction, and the prediction not absurd, with one process and with two."""
    graph = small_classifier(rng)
    images = rng.uniform(0, 1, (4, 1, 1, 12, 12))
    program = compile(graph)
    keys, bound = OwnerKeys.generate(program.public), program.public.error_bound
    evaluation_keys, errors = keys.evaluation_keys(), []
    with Evaluator(program, workers) as evaluator:
        for image in images:  # several, as the noise of three values may happen to be next to none
            found = keys.decrypt(evaluator.evaluate(evaluation_keys, keys.encrypt(image)), 1)
            errors.append(np.abs(found - run_plain(graph, image)).max())
    error = max(errors)
    assert error <= bound <= 1000 * error


@pytest.mark.parametrize("degree", [2, 3, 4, 5, 7])
def test_polynomials_of_any_degree(rng: np.random.Generator, degree: int) -> None:
    """Activations up to degree 7, all coefficients present."""
    b = GraphBuilder("poly", (1, 6, 6))
    x = b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3)) / 3)
    x = b.polynomial(x, tuple(float(v) for v in rng.normal(size=degree + 1) / 2))
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(3, 32)) / 6))
    images = rng.uniform(0, 1, (1, 1, 6, 6))
    found, bound = _answers(graph, images)
    assert np.abs(found - run_plain(graph, images)).max() <= bound


def test_residual_adds_and_products(rng: np.random.Generator) -> None:
    """Values of different levels meet: x + f(x)^2, and x times g(x)."""
    b = GraphBuilder("residual", (2, 6, 6))
    x = b.add(b.input, b.square(b.conv(b.input, weight=rng.normal(size=(2, 2, 3, 3)) / 4, pads=(1, 1, 1, 1))))
    x = b.multiply(x, b.conv(x, weight=rng.normal(size=(2, 2, 1, 1))))
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(3, 72)) / 8))
    images = rng.uniform(0, 1, (1, 2, 6, 6))
    found, bound = _answers(graph, images)
    assert np.abs(found - run_plain(graph, images)).max() <= bound


def test_tensors_larger_than_a_ciphertext(rng: np.random.Generator) -> None:
    """A picture of 3 x 64 x 64 takes several ciphertexts at N = 8192."""
    b = GraphBuilder("large", (3, 64, 64))
    x = b.conv(b.input, weight=rng.normal(size=(2, 3, 3, 3)) / 5, pads=(1, 1, 1, 1))
    graph = b.build(b.mean(b.square(x), (1, 2)))
    program = compile(graph, ring_degree=8192)
    assert len(program.text.inputs) > 1
    images = rng.uniform(0, 1, (1, 3, 64, 64))
    found, bound = _answers(graph, images, ring_degree=8192)
    assert np.abs(found - run_plain(graph, images)).max() <= bound


def test_a_batch_in_spare_slots(rng: np.random.Generator) -> None:
    """Eight images in one evaluation, a short batch too, each with its own answer."""
    graph = small_classifier(rng)
    for count in (8, 3):
        images = rng.uniform(0, 1, (count, 1, 12, 12))
        found, bound = _answers(graph, images, batch=8)
        assert np.abs(found - run_plain(graph, images)).max() <= bound


def test_the_throughput_layout(rng: np.random.Generator) -> None:
    """An image a slot: thousands of images, no rotation keys."""
    b = GraphBuilder("tiny", (1, 4, 4))
    x = b.square(b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3)) / 3, strides=(2, 2)))
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(3, 2)), rng.normal(size=3)))
    program = compile(graph, layout="throughput")
    assert program.public.rotations == 0
    images = rng.uniform(0, 1, (program.public.batch, 1, 4, 4))
    found, bound = _answers(graph, images, layout="throughput")
    assert np.abs(found - run_plain(graph, images)).max() <= bound


def test_compiling_is_deterministic(rng: np.random.Generator) -> None:
    """Owner and server may compile apart: the same model gives the same program, in another process too."""
    code = (
        "from secureimg.ckks import compile; from secureimg.graph import load_model;"
        "print(compile(load_model('mnist-cnn')).public.fingerprint)"
    )
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(found) == 1


def test_what_ckks_cannot_do_is_named_with_both_ways_out(rng: np.random.Generator) -> None:
    """Every offending layer at once, and the two remedies."""
    b = GraphBuilder("relu", (1, 8, 8))
    x = b.relu(b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3))), name="first")
    graph = b.build(b.relu(b.dense(b.flatten(x), rng.normal(size=(3, 72))), name="second"))
    with pytest.raises(CompileError, match=r"first.*second.*replace_activations.*sharing"):
        compile(graph)


def test_a_model_that_is_too_deep_names_the_layer(rng: np.random.Generator) -> None:
    """Twenty squares do not fit 881 bits."""
    b = GraphBuilder("deep", (4,))
    x = b.input
    for _ in range(20):
        x = b.square(b.dense(x, rng.normal(size=(4, 4))))
    with pytest.raises(CompileError, match="levels"):
        compile(b.build(x))


@pytest.mark.parametrize("degree", sorted(MAX_MODULUS_BITS))
def test_parameters_above_the_standard_are_refused(degree: int) -> None:
    """Our own table refuses one bit too many; SEAL takes what the table takes."""
    limit = MAX_MODULUS_BITS[degree]
    count = limit // 55 + 1
    small, larger = divmod(limit, count)
    *sizes, rest = [small] * (count - larger) + [small + 1] * larger
    with pytest.raises(ParameterError, match="128-bit"):
        Parameters(degree, PrimeBits(tuple(sizes), rest + 1))
    assert Parameters(degree, PrimeBits(tuple(sizes), rest)).context.parameters_set()


def test_a_small_special_prime_is_refused() -> None:
    """Key switching needs a special prime as large as every data prime."""
    with pytest.raises(ParameterError, match="special prime"):
        Parameters(8192, PrimeBits((50, 50), 40))


@given(st.sets(st.integers(-200, 200), min_size=1, max_size=40))
def test_a_rotation_tree_reaches_every_offset(offsets: set[int]) -> None:
    """Parents first, one rotation for each offset other than zero."""
    reached = {0}
    edges = rotation_tree(offsets, 512)
    for parent, child, step in edges:
        assert parent in reached
        assert (parent + step) % 512 == child
        reached.add(child)
    assert reached == {0, *(offset % 512 for offset in offsets)}
    assert len(edges) == len(reached) - 1


@given(st.lists(st.integers(0, 511), min_size=1), st.integers(0, 511), st.integers(1, 64), st.integers(0, 32))
def test_baby_and_giant_steps_add_up(diagonals: list[int], low: int, width: int, baby_low: int) -> None:
    """d = b + g modulo the diagonal's modulus."""
    array = np.array(diagonals)
    baby, giant = Split(512, low, width, baby_low).apply(array)
    assert np.all((baby + giant - array) % 512 == 0)


def test_a_fold_doubles() -> None:
    """Sixteen copies in four rotations."""
    assert Fold(8, 16).steps == (8, 16, 32, 64)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(7, 11))
def test_packings_gather_what_a_convolution_reads(channels: int, kernel: int, stride: int, pad: int, size: int) -> None:
    """Each packing's rewritten matrix on the packed pixels equals the layer on the picture."""
    rng = np.random.default_rng(kernel)
    b = GraphBuilder("conv", (channels, size, size))
    weight = rng.normal(size=(2, channels, kernel, kernel))
    graph = b.build(b.conv(b.input, weight=weight, strides=(stride, stride), pads=(pad,) * 4))
    op = fuse_linear(graph).nodes[0].op
    matrix = op.matrices[0]  # type: ignore[attr-defined]
    image = rng.normal(size=channels * size * size)
    _, height, width = graph.output_shape
    for packing in convolution_packings(matrix, graph.input_shape, (2, height, width), 4096):
        assert packing.matrix is not None
        virtual = np.append(image, 0.0)[packing.gather]
        np.testing.assert_allclose(packing.matrix @ virtual, matrix @ image, atol=1e-9)


def test_shipped_models_are_precise_without_samples_of_the_users() -> None:
    """A predicted error that is small beside the answers: else a label may come out wrong."""
    model = load_model("xray-pneumonia")
    program = compile(model)
    assert model.samples is not None
    answers = run_plain(model.body_and_tail()[0], model.samples)
    margins = np.abs(answers[:, 0] - answers[:, 1])
    assert 4 * program.public.error_bound < np.median(margins)
