"""Rule: graphs one after another are one program that gives what the libraries give one after another; so are programs that
hand shares on."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.spatial.distance import cdist
from skimage import data
from skimage.feature import hog as reference_hog
from skimage.filters import gaussian as reference_gaussian
from skimage.transform import resize as reference_resize
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC

from secureimg import ckks, features, sharing
from secureimg.errors import LocalProtocolError
from secureimg.features import embedding, gaussian, hog, resize
from secureimg.features.matching import best_match
from secureimg.features.polynomial_hog import hog_polynomial
from secureimg.graph import Graph, GraphBuilder, Slice, chain, load_model, run_plain

WEIGHTS = ["public", "party 1"]
HELD_OUT = slice(1, None, 4)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """100 faces and 100 other pictures, 25x25."""
    return data.lfw_subset().astype(np.float64), np.repeat([1, 0], 100)


def linear(model: LinearSVC, size: int) -> Graph:
    """Scikit-learn's scores as a graph."""
    b = GraphBuilder("linear svm", (size,))
    return b.build(b.dense(b.input, model.coef_, model.intercept_))


def trained(rows: np.ndarray, labels: np.ndarray) -> LinearSVC:
    """On every other picture."""
    return LinearSVC(C=1.0, random_state=0, max_iter=5000).fit(rows[::2], labels[::2])


def crop(shape: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Graph:
    """A part of a grey picture."""
    b = GraphBuilder("crop", (1, *shape))
    return b.build(b.apply(Slice((0, *corner), (1, *size), (1, 1, 1)), b.input))


# ------------------------------------------------------------------------------------ filter, resize, HOG, linear SVM


@cache
def hog_classifier() -> tuple[Graph, np.ndarray]:
    """The graph, and the scores that scikit-image and scikit-learn give its held-out pictures."""
    faces, labels = pictures()
    small = [reference_resize(reference_gaussian(face, 0.8), (32, 32), anti_aliasing=True) for face in faces]
    rows = np.stack([reference_hog(picture) for picture in small])
    model = trained(rows, labels)
    parts = gaussian((25, 25), sigma=0.8), resize((25, 25), (32, 32)), hog((32, 32)), linear(model, rows.shape[1])
    assert np.mean(model.predict(rows[HELD_OUT]) == labels[HELD_OUT]) > 0.9
    return chain(*parts, name="is it a face?"), model.decision_function(rows[HELD_OUT])


def near(found: np.ndarray, wanted: np.ndarray) -> None:
    """Scores of held-out pictures, but for single pixels of blurred ones, whose votes HOG's page says may be misplaced."""
    largest = np.abs(wanted).max()
    contrast = pictures()[0][HELD_OUT].std(axis=(1, 2)) > 0.02
    assert contrast.mean() > 0.85
    off = np.abs(found - wanted) / largest
    assert np.median(off) < 3e-3
    assert off[contrast].max() < 0.05
    sure = contrast & (np.abs(wanted) > 0.1 * largest)
    assert sure.mean() > 0.75
    np.testing.assert_array_equal((found > 0)[sure], (wanted > 0)[sure])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_filter_resize_hog_svm_on_shares(weights: Any) -> None:
    """Scores near the libraries', in the clear and whoever knows the weights; the label alone is the sign of the score."""
    graph, wanted = hog_classifier()
    faces = pictures()[0][HELD_OUT, None]
    near(run_plain(graph, faces)[:, 0], wanted)
    scores = sharing.run_together(sharing.compile(graph, weights=weights), faces)[:, 0]
    near(scores, wanted)
    labels = sharing.run_together(sharing.compile(graph, weights=weights, reveal="label"), faces)[:, 0]
    assert set(np.unique(labels)) == {0.0, 1.0}
    sure = np.abs(scores) > 1e-2
    np.testing.assert_array_equal(labels[sure], (scores > 0)[sure])


def test_hog_and_classifier_as_two_programs() -> None:
    """The parties keep their shares of the descriptor; the owner learns the score of the second program alone."""
    graph, wanted = hog_classifier()
    faces = pictures()[0][HELD_OUT, None]
    descriptor, classifier = cut(graph)
    first = sharing.compile(descriptor, weights="public", reveal="shares")
    second = sharing.compile(classifier, input_range=(0, 1), samples=run_plain(descriptor, faces))
    near(sharing.run_together(first, faces, second)[:, 0], wanted)


def cut(graph: Graph) -> tuple[Graph, Graph]:
    """All but the last node, and the last node."""
    last = graph.nodes[-1]
    b = GraphBuilder("classifier", graph.shapes[last.inputs[0]])
    return graph.replace(nodes=graph.nodes[:-1], output=last.inputs[0]), b.build(b.apply(last.op, b.input))


def test_polynomial_hog_and_svm_on_ciphertexts() -> None:
    """One CKKS program: what is decrypted is the score alone."""
    faces, labels = pictures()
    descriptor = hog_polynomial((25, 25), root=False)
    rows = run_plain(descriptor, faces[:, None]) * 20
    model = trained(rows, labels)
    model.coef_ *= 20
    graph = chain(descriptor, linear(model, rows.shape[1]))
    wanted = model.decision_function(rows / 20)
    program = ckks.compile(graph, samples=faces[::2, None])
    keys = ckks.OwnerKeys.generate(program.public)
    public_keys = keys.evaluation_keys()
    assert program.public.output_shape == (1,)
    with ckks.Evaluator(program) as evaluator:
        for place in (1, 101, 151):
            answer = evaluator.evaluate(public_keys, keys.encrypt(faces[place : place + 1, None]))
            assert abs(keys.decrypt(answer, 1)[0, 0] - wanted[place]) < 2.0**-7 * np.abs(wanted).max()


# ------------------------------------------------------------------------------------ crop, embedding, best match

CORNER, SIZE = (7, 5), (28, 28)
LAYER = "dense1"


def onnx_embedding(images: np.ndarray) -> np.ndarray:
    """What onnxruntime finds at the layer."""
    model = onnx.load_from_string(resources.files("secureimg.graph.models").joinpath("mnist-cnn.onnx").read_bytes())
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(LAYER))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: list[np.ndarray] = []
    for image in images:
        value = session.run([LAYER], {session.get_inputs()[0].name: image[None].astype(np.float32)})[0]
        found.append(np.asarray(value).reshape(-1))
    return np.stack(found).astype(np.float64)


@cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gallery of embeddings, probes as parts of larger pictures, and the place of each one's nearest template."""
    small = load_digits().images[:60] / 16
    large = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))[:, None]
    gallery, probes = onnx_embedding(large[:50]), large[50:]
    pictures = np.random.default_rng(3).random((10, 1, 40, 40))
    pictures[..., CORNER[0] : CORNER[0] + 28, CORNER[1] : CORNER[1] + 28] = probes
    distances = cdist(onnx_embedding(probes), gallery, "sqeuclidean")
    first, second = np.sort(distances, axis=1)[:, :2].T
    assert (second - first > 1e-3 * distances.max()).all()
    return gallery, pictures, distances.argmin(axis=1)


def crop_and_embedding() -> Graph:
    return chain(crop((40, 40), CORNER, SIZE), embedding(load_model("mnist-cnn"), LAYER))


def test_crop_embedding_match_on_shares() -> None:
    """One program: a picture goes in, the place of its nearest template comes out, and no distance."""
    gallery, images, wanted = digits()
    graph = chain(crop_and_embedding(), best_match(gallery, "sqeuclidean"))
    np.testing.assert_array_equal(run_plain(graph, images), wanted)
    program = sharing.compile(graph, reveal="label")
    found = sharing.run_together(program, images)
    assert found.shape == (10, 1)
    np.testing.assert_array_equal(found[:, 0], wanted)


@pytest.mark.parametrize("weights", ["party 1", "shared"])
def test_embedding_and_match_as_two_programs(weights: Any) -> None:
    """The network's owner and the gallery's may differ: the second program goes on with the parties' shares."""
    gallery, images, wanted = digits()
    ends = float(np.abs(gallery).max()) * 2
    first = sharing.compile(crop_and_embedding(), reveal="shares")
    match = best_match(gallery, "sqeuclidean")
    second = sharing.compile(match, reveal="label", weights=weights, input_range=(-ends, ends), samples=gallery)
    np.testing.assert_array_equal(sharing.run_together(first, images, second)[:, 0], wanted)


# ------------------------------------------------------------------------------------ handing shares on


def scaled(shape: tuple[int, ...], factor: float) -> Graph:
    b = GraphBuilder(f"times {factor}", shape)
    return b.build(b.affine(b.relu(b.input), factor))


def pooled(shape: tuple[int, ...]) -> Graph:
    """A result with a factor: sums that stand for means of six."""
    b = GraphBuilder("pooled", shape)
    return b.build(b.average_pool(b.input, (2, 3)))


def steps(shape: tuple[int, ...]) -> Graph:
    """A result with fewer fractional places than the usual ones."""
    b = GraphBuilder("steps", shape)
    return b.build(b.step(b.affine(b.input, 1.0, -0.5)))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_many_programs_in_turn(rng: np.random.Generator, weights: Any) -> None:
    """Whatever form a value has at the end of a program, the next one finds it as it was."""
    images = rng.normal(size=(3, 2, 8, 12))
    images[np.abs(images - 0.5) < 1e-3] = 0.0
    for graphs in (
        [scaled((2, 8, 12), 0.3), pooled((2, 8, 12)), scaled((2, 4, 4), -7.0)],
        [pooled((2, 8, 12)), steps((2, 4, 4)), scaled((2, 4, 4), 2.5)],
    ):
        programs = [
            sharing.compile(g, weights=weights, input_range=(-8, 8), reveal="scores" if g is graphs[-1] else "shares")
            for g in graphs
        ]
        found = sharing.run_together(programs[0], images, *programs[1:])
        assert np.abs(found - run_plain(chain(graphs[0], *graphs[1:]), images)).max() < 1e-3


def test_shares_that_do_not_fit_the_next_program() -> None:
    """A program that reveals, another shape, other places, another number of images: refused before anything is computed."""
    first = sharing.compile(scaled((6,), 2.0), reveal="shares").public
    share = np.zeros(first.result_bytes(2), dtype=np.uint8)
    fits = sharing.compile(scaled((6,), 1.5)).public
    assert sharing.hand_on(first, fits, share, 2).data.size == fits.share_bytes(2)
    with pytest.raises(LocalProtocolError, match="compile it with reveal='shares'"):
        sharing.hand_on(fits, fits, share, 2)
    with pytest.raises(LocalProtocolError, match=r"gives \(6,\), 'times 3.0' takes \(7,\)"):
        sharing.hand_on(first, sharing.compile(scaled((7,), 3.0)).public, share, 2)
    with pytest.raises(LocalProtocolError, match=r"has 16 fractional bits, 'times 1\.5' has 12"):
        sharing.hand_on(first, sharing.compile(scaled((6,), 1.5), fraction_bits=12).public, share, 2)
    with pytest.raises(LocalProtocolError, match="a share of 96 bytes"):
        sharing.hand_on(first, fits, share, 3)


def test_a_chain_is_public_if_both_parts_are() -> None:
    """Only then are its constants no secret, and compiled as such without being asked."""
    part = features.hog((64, 64))
    assert chain(features.gaussian((64, 64)), part).public
    flat = GraphBuilder("secret", part.output_shape)
    mixed = chain(part, flat.build(flat.dense(flat.input, np.ones((2, part.output_shape[0])))))
    assert not mixed.public
    assert sharing.compile(part).public.weights == "public"
    assert sharing.compile(mixed).public.weights == "party 1"
