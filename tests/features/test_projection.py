"""Rule: projections equal scikit-learn's PCA; an embedding is the network's own value at the layer."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from sklearn.decomposition import PCA

from secureimg import ckks, sharing
from secureimg.errors import GraphError
from secureimg.features.matching import best_match
from secureimg.features.projection import embedding, fit_pca, pca_projection
from secureimg.graph import Graph, GraphBuilder, chain, load_model, run_plain, run_plain_all

FACES = data.lfw_subset()[:100]


def on_ciphertexts(graph: Graph, images: np.ndarray) -> np.ndarray:
    program = ckks.compile(graph, precision=2.0**-10)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program) as evaluator:
        given = keys.evaluation_keys()
        found = [keys.decrypt(evaluator.evaluate(given, keys.encrypt(x[None])), 1) for x in images]
    return np.concatenate(found)


@pytest.mark.parametrize("shape", [(100, 625), (12, 40), (40, 12)])
def test_components_are_scikit_learns(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    """Of faces, and of fewer and of more pictures than elements: components with their signs, means, variances."""
    vectors = FACES.reshape(shape) if shape == (100, 625) else rng.normal(size=shape) * np.arange(1, shape[1] + 1)
    count = min(10, min(shape) - 1)
    wanted = PCA(count, svd_solver="full").fit(vectors)
    found = fit_pca(vectors, count)
    np.testing.assert_allclose(found.components, wanted.components_, atol=1e-9)
    np.testing.assert_allclose(found.mean, wanted.mean_, atol=1e-12)
    np.testing.assert_allclose(found.variances, wanted.explained_variance_, rtol=1e-9)


@pytest.mark.parametrize("whiten", [False, True])
def test_eigenfaces(whiten: bool) -> None:
    """Coordinates of faces that were not among the training pictures, on every executor."""
    train, other = FACES[:80], FACES[80:84]
    found = fit_pca(train, 16)
    reference = PCA(16, svd_solver="full", whiten=whiten).fit(train.reshape(80, -1))
    wanted = reference.transform(other.reshape(4, -1))
    graph = pca_projection((25, 25), found.components, found.mean, whiten, variances=found.variances)
    images = other[:, None]
    np.testing.assert_allclose(run_plain(graph, images), wanted, atol=1e-9)
    for weights in ("public", "party 1"):
        shares = sharing.run_together(sharing.compile(graph, weights=weights), images)
        assert np.abs(shares - wanted).max() < 1e-3 * np.abs(wanted).max()
    cipher = on_ciphertexts(graph, images[:2])
    assert np.abs(cipher - wanted[:2]).max() <= 2.0**-10 * np.abs(wanted).max()


@pytest.mark.parametrize("shape", [(12,), (3, 4), (3, 2, 2)])
def test_of_vectors_and_of_colour_pictures(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """The projection takes elements in the order of `reshape`."""
    images = rng.normal(size=(30, *shape))
    found = fit_pca(images, 5)
    graph = pca_projection(shape, found.components, found.mean.reshape(shape))
    wanted = PCA(5, svd_solver="full").fit_transform(images.reshape(30, 12))
    np.testing.assert_allclose(run_plain(graph, images.reshape(30, *graph.input_shape)), wanted, atol=1e-12)


def test_refused_projections() -> None:
    """Errors name what does not fit, the limit and the remedy."""
    with pytest.raises(GraphError, match=r"5 components of 5 pictures of 9 elements, the limits are 1 and 4"):
        fit_pca(np.eye(9)[:5].reshape(5, 3, 3), 5)
    with pytest.raises(GraphError, match="NaN"):
        fit_pca(np.full((5, 3, 3), np.nan), 2)
    with pytest.raises(GraphError, match=r"got shape \(9,\)"):
        fit_pca(np.ones(9), 1)
    with pytest.raises(GraphError, match=r"must be \(K, 9\) and \(9,\)"):
        pca_projection((3, 3), np.ones((2, 8)), np.ones(9))
    with pytest.raises(GraphError, match="pass variances="):
        pca_projection((3, 3), np.ones((2, 9)), np.ones(9), whiten=True)
    with pytest.raises(GraphError, match="one above 0 for each of the 2"):
        pca_projection((3, 3), np.ones((2, 9)), np.ones(9), whiten=True, variances=[1.0, 0.0])
    with pytest.raises(GraphError, match="is none of"):
        pca_projection((3, 3, 3, 3), np.ones((2, 81)), np.ones(81))


@pytest.mark.parametrize("layer", ["conv1", "square1", "flatten1", "dense1", "square2", "logits"])
def test_a_network_cut_anywhere(layer: str) -> None:
    """The shipped network's own value there, as a vector or as it is; nothing behind it is left."""
    network = load_model("mnist-cnn")
    images = FACES[:2, None].repeat(2, axis=2).repeat(2, axis=3)[:, :, :28, :28]
    wanted = run_plain_all(network, images)[layer]
    whole, flat = embedding(network, layer, flatten=False), embedding(network, layer)
    np.testing.assert_array_equal(run_plain(whole, images), wanted)
    np.testing.assert_array_equal(run_plain(flat, images), wanted.reshape(2, -1))
    assert whole.nodes[-1].name == layer
    assert whole.labels is None
    assert whole.preprocessing == network.preprocessing


def test_branches_that_the_layer_does_not_need_go() -> None:
    """Only what the layer is computed from stays."""
    b = GraphBuilder("branches", (4,))
    left = b.square(b.input, name="left")
    graph = b.build(b.softmax(b.add(left, b.relu(b.input, name="right"), name="sum"), name="end"))
    assert [node.name for node in embedding(graph, "left").nodes] == ["left"]
    with pytest.raises(GraphError, match=r"'end'.* is a Softmax, which the owner computes in the clear: cut at 'sum'"):
        embedding(graph, "end")


def test_a_layer_that_does_not_exist() -> None:
    """The error names those that sound like it."""
    network = load_model("mnist-cnn")
    with pytest.raises(GraphError, match=r"'dense_1' of .* does not exist; near it: dense1"):
        embedding(network, "dense_1")
    with pytest.raises(GraphError, match=r"'image' of .* is the input"):
        embedding(network, "image")


def test_face_identification_on_shares() -> None:
    """Eigenfaces and a gallery of them as one program: the place alone is revealed, and it is the one in the clear."""
    found = fit_pca(FACES, 32)
    projection = pca_projection((25, 25), found.components, found.mean)
    gallery = run_plain(projection, FACES[:, None])
    probes = np.clip(FACES[10:14] + np.random.default_rng(1).normal(size=(4, 25, 25)) * 0.05, 0, 1)[:, None]
    graph = chain(projection, best_match(gallery, "sqeuclidean"))
    np.testing.assert_array_equal(run_plain(graph, probes), [10, 11, 12, 13])
    program = sharing.compile(graph, reveal="label", samples=FACES[:, None])
    np.testing.assert_array_equal(sharing.run_together(program, probes)[:, 0], [10, 11, 12, 13])
