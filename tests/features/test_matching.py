"""Rule: distances are scipy's on every executor; decisions are those that scipy's distances give, and reveal no score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from skimage import data

from secureimg import ckks, sharing
from secureimg.errors import CompileError, GraphError
from secureimg.features.matching import (
    OwnGallery,
    best_match,
    cosine,
    hamming,
    ranking,
    squared_euclidean,
    threshold_match,
)
from secureimg.features.projection import fit_pca, pca_projection
from secureimg.graph import Graph, run_plain

METRICS = ["cosine", "sqeuclidean", "hamming"]
COUNT, SIZE = 24, 32


def faces() -> np.ndarray:
    """Eigenface coordinates of 100 faces, shape (100, 32)."""
    pictures = data.lfw_subset()[:100]
    found = fit_pca(pictures, SIZE)
    return run_plain(pca_projection((25, 25), found.components, found.mean), pictures[:, None]) / 4


def vectors(kind: str, rng: np.random.Generator, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A gallery and three probes that are like some of it."""
    every = rng.normal(size=(COUNT, SIZE)) / 2 if kind == "random" else faces()[:COUNT]
    chosen = every[rng.integers(0, COUNT, 3)]
    probes = chosen + rng.normal(size=chosen.shape) * 0.3 * every.std()
    if metric == "hamming":
        return (every > 0).astype(float), (probes > 0).astype(float)
    if metric == "cosine":
        return unit(every), unit(probes)
    return every, probes


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(probes: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """Scipy's distances: cosine as a similarity, Hamming as a count."""
    found = cdist(probes, gallery, metric)
    return 1 - found if metric == "cosine" else found * SIZE if metric == "hamming" else found


def likeness(probes: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """The same, larger for more alike ones."""
    return reference(probes, gallery, metric) * (1 if metric == "cosine" else -1)


def measure(gallery: Any, metric: str) -> Graph:
    return {"cosine": cosine, "sqeuclidean": squared_euclidean, "hamming": hamming}[metric](gallery)


def in_one(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.stack([np.concatenate([probe[None], gallery]) for probe in probes])


def on_ciphertexts(graph: Graph, inputs: np.ndarray, **options: Any) -> np.ndarray:
    program = ckks.compile(graph, **options)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program) as evaluator:
        return keys.decrypt(evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(inputs)), len(inputs))


@pytest.mark.parametrize("kind", ["random", "faces"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("own", [False, True])
def test_distances(rng: np.random.Generator, metric: str, kind: str, own: bool) -> None:
    """In the clear, on shares (whoever knows the gallery), and on ciphertexts to the precision asked for."""
    gallery, probes = vectors(kind, rng, metric)
    wanted = reference(probes, gallery, metric)
    graph = measure(OwnGallery(COUNT, SIZE) if own else gallery, metric)
    inputs, ends = in_one(probes, gallery) if own else probes, (0, 1) if metric == "hamming" else (-4, 4)
    np.testing.assert_allclose(run_plain(graph, inputs), wanted, atol=1e-12)
    for weights in ("public",) if own else ("public", "party 1", "shared"):
        shares = sharing.run_together(sharing.compile(graph, input_range=ends, weights=weights), inputs)
        assert np.abs(shares - wanted).max() <= (0 if metric == "hamming" else 3e-4)
    found = on_ciphertexts(graph, inputs[:1], input_range=ends, samples=inputs, precision=2.0**-10)
    assert np.abs(found - wanted[:1]).max() <= 2.0**-10 * np.abs(wanted).max()


@pytest.mark.parametrize("own", [False, True])
def test_vectors_are_normalised_on_shares(rng: np.random.Generator, own: bool) -> None:
    """Probes from 1/8 to 8 times as long as a template have the same cosines."""
    gallery = faces()[:COUNT]
    lengths = np.array([0.125, 1.0, 8.0])[:, None]
    probes = unit(gallery[[3, 8, 20]] + rng.normal(size=(3, SIZE)) / 8) * lengths
    wanted = 1 - cdist(probes, gallery, "cosine")
    templates = unit(gallery) if own else gallery
    graph = cosine(OwnGallery(COUNT, SIZE) if own else gallery, normalized=False, lengths=(0.125, 8.0))
    inputs = in_one(probes, templates) if own else probes
    np.testing.assert_allclose(run_plain(graph, inputs), wanted, atol=1e-12)
    program = sharing.compile(graph, input_range=(-8, 8), bounds="proved")
    assert np.abs(sharing.run_together(program, inputs) - wanted).max() < 2e-3
    with pytest.raises(CompileError, match="InverseSqrt"):
        ckks.compile(graph)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("own", [False, True])
def test_the_best_and_the_best_few(rng: np.random.Generator, metric: str, own: bool) -> None:
    """Places alone are revealed, and they are the clear's (Hamming distances tie: any of the nearest)."""
    gallery, probes = vectors("random", rng, metric)
    alike = likeness(probes, gallery, metric)
    given, inputs = (OwnGallery(COUNT, SIZE), in_one(probes, gallery)) if own else (gallery, probes)
    ends = (0, 1) if metric == "hamming" else (-4, 4)
    graph = best_match(given, metric)
    rows = np.arange(3)
    assert np.array_equal(alike[rows, run_plain(graph, inputs).astype(int)], alike.max(axis=1))
    best = sharing.run_together(sharing.compile(graph, input_range=ends, reveal="label"), inputs)
    assert best.shape == (3, 1)
    assert np.array_equal(alike[rows, best[:, 0].astype(int)], alike.max(axis=1))
    few = sharing.compile(ranking(given, metric), input_range=ends, reveal="top-k", top=4)
    found = np.take_along_axis(alike, sharing.run_together(few, inputs).astype(int), axis=1)
    np.testing.assert_array_equal(found, -np.sort(-alike, axis=1)[:, :4])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("own", [False, True])
def test_nobody_is_near_enough(rng: np.random.Generator, metric: str, own: bool) -> None:
    """With a threshold, a stranger has the place behind the last template; a known one keeps its own."""
    gallery, probes = vectors("random", rng, metric)
    stranger = {"hamming": 1 - gallery[:1], "cosine": -unit(gallery.sum(axis=0)[None]), "sqeuclidean": -3 * gallery[:1]}
    probes = np.concatenate([probes, stranger[metric]])
    alike = likeness(probes, gallery, metric)
    limit = float((alike[:3].max(axis=1).min() + alike[3].max()) / 2)
    assert alike[3].max() < limit
    threshold = limit if metric == "cosine" else -limit
    given, inputs = (OwnGallery(COUNT, SIZE), in_one(probes, gallery)) if own else (gallery, probes)
    graph = best_match(given, metric, threshold=threshold, labels=tuple(f"person {n}" for n in range(COUNT)))
    assert graph.labels is not None
    assert graph.labels[-1] == "none"
    program = sharing.compile(graph, input_range=(0, 1) if metric == "hamming" else (-6, 6), reveal="label")
    for found in (run_plain(graph, inputs), sharing.run_together(program, inputs)[:, 0]):
        assert found[3] == COUNT
        assert np.array_equal(alike[np.arange(3), found[:3].astype(int)], alike[:3].max(axis=1))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("own", [False, True])
def test_a_bit_for_each_template(rng: np.random.Generator, metric: str, own: bool) -> None:
    """Bits are right but for scores within 1e-3 of the threshold; the owner sees 0 and 1 and nothing else."""
    gallery, probes = vectors("faces", rng, metric)
    alike = likeness(probes, gallery, metric)
    limit = float(np.quantile(alike, 0.7))
    threshold = limit if metric == "cosine" else -limit
    given, inputs = (OwnGallery(COUNT, SIZE), in_one(probes, gallery)) if own else (gallery, probes)
    graph = threshold_match(given, metric, threshold=threshold)
    clear = metric == "hamming" or np.abs(alike - limit) > 1e-3
    wanted = alike >= limit
    assert wanted.any()
    assert not wanted.all()
    assert np.mean(clear) > 0.9
    assert not ((run_plain(graph, inputs) != wanted) & (np.abs(alike - limit) > 1e-9)).any()
    program = sharing.compile(graph, input_range=(0, 1) if metric == "hamming" else (-4, 4))
    found = sharing.run_together(program, inputs)
    assert set(np.unique(found)) == {0.0, 1.0}
    assert not ((found != wanted) & clear).any()
    with pytest.raises(CompileError, match="Step"):
        ckks.compile(graph)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), size=st.integers(1, 70), threshold=st.floats(0, 70))
def test_hamming_thresholds_are_exact(seed: int, count: int, size: int, threshold: float) -> None:
    """A distance equal to the threshold is a match, one more is none."""
    rng = np.random.default_rng(seed)
    gallery, probes = rng.integers(0, 2, (count, size)), rng.integers(0, 2, (4, size))
    wanted = cdist(probes, gallery, "cityblock") <= threshold
    graph = threshold_match(gallery, "hamming", threshold=threshold)
    np.testing.assert_array_equal(run_plain(graph, probes), wanted)
    np.testing.assert_array_equal(sharing.run_together(sharing.compile(graph), probes), wanted)


def test_verification(rng: np.random.Generator) -> None:
    """One template: a bit that says whether it is the same face."""
    known = faces()
    probes = known[[5, 6]] + rng.normal(size=(2, SIZE)) * 0.05 * known.std()
    graph = threshold_match(known[5:6], threshold=0.9, normalized=False, lengths=(0.05, 3.0))
    program = sharing.compile(graph, input_range=(-3, 3), bounds="proved")
    for found in (run_plain(graph, probes), sharing.run_together(program, probes)):
        np.testing.assert_array_equal(found, [[1.0], [0.0]])


def test_a_gallery_of_ten_thousand_is_one_small_pass_on_ciphertexts(rng: np.random.Generator) -> None:
    """One ciphertext up, an answer below 300 kB, one level."""
    gallery = unit(rng.normal(size=(10_000, 128)))
    program = ckks.compile(cosine(gallery), input_range=(-1, 1), samples=gallery[:20])
    assert program.public.body.packing.ciphertexts == 1
    assert (program.cost.levels, program.cost.rotations < 64) == (1, True)
    assert program.cost.output_bytes < 300_000
    assert program.cost.input_bytes < 100_000
    probe = unit(gallery[77:78] + rng.normal(size=(1, 128)) / 40)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program) as evaluator:
        found = keys.decrypt(evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(probe)), 1)
    assert np.abs(found - (1 - cdist(probe, gallery, "cosine"))).max() < 1e-3
    assert found.argmax() == 77


def test_refused_galleries() -> None:
    """Errors name the value, the limit and the remedy."""
    rows = np.eye(4)
    refused: list[tuple[Any, str]] = [
        (lambda: cosine(np.ones(4)), r"shape \(N, D\), got \(4,\)"),
        (lambda: cosine(np.full((2, 4), np.nan)), "NaN"),
        (lambda: cosine(rows * [[1], [0], [1], [1]]), "template 1 is all 0"),
        (lambda: hamming(rows * 0.5), "0 and 1 only"),
        (lambda: cosine(rows, lengths=(1.0, 2.0)), "normalized=False"),
        (lambda: cosine(rows, normalized=False, lengths=(1.0, 100.0)), "at most 64 times"),
        (lambda: ranking(rows, "euclid"), "metric 'euclid' is none of 'cosine'"),  # type: ignore[arg-type]
        (lambda: best_match(rows[:1]), "pass a threshold, or take threshold_match"),
        (lambda: best_match(rows, labels=("a",)), "1 labels for 4 templates"),
        (lambda: threshold_match(rows, threshold=np.inf), "threshold inf is not finite"),
        (lambda: OwnGallery(0, 4), "0 templates of 4 values"),
    ]
    for make, said in refused:
        with pytest.raises(GraphError, match=said):
            make()
