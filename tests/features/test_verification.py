"""Face verification on shares decides as in the clear: the same scores, so the same ROC, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import lfw_subset
from sklearn.metrics import roc_auc_score, roc_curve

from secureimg import sharing
from secureimg.features import cosine, fit_pca, pca_projection, threshold_match
from secureimg.graph import Graph, GraphBuilder, chain, run_plain

FACES = lfw_subset()[:100]
SIDE = FACES.shape[1]


def jittered(seed: int) -> np.ndarray:
    """Faces moved, in another light, noisy; (100, 1, 25, 25)."""
    random = np.random.default_rng(seed)
    moved = np.stack([np.roll(face, tuple(random.integers(-2, 3, 2)), (0, 1)) for face in FACES])
    moved = moved * random.uniform(0.7, 1.2, (100, 1, 1)) + random.normal(0, 0.05, moved.shape)
    return np.clip(moved, 0, 1)[:, None]


def relu_network() -> Graph:
    """A convolution, ReLU, max pool and a dense layer, all random; outputs centred, else all cosines are near 1."""
    random = np.random.default_rng(5)
    b = GraphBuilder("relu network", (1, SIDE, SIDE))
    x = b.conv(b.input, random.normal(0, 0.2, (8, 1, 5, 5)), random.normal(0, 0.1, 8), strides=(2, 2))
    x = b.flatten(b.max_pool(b.relu(x), (2, 2)))
    weight = random.normal(0, b.shape(x)[0] ** -0.5, (32, b.shape(x)[0]))
    centre = run_plain(b.build(x), jittered(9)).mean(axis=0)
    return b.build(b.dense(x, weight, -weight @ centre))


def eigenfaces() -> Graph:
    found = fit_pca(jittered(9), 32)
    return pca_projection((SIDE, SIDE), found.components, found.mean)


@pytest.mark.parametrize("weights", ["public", "party 1"])
@pytest.mark.parametrize("network", [relu_network(), eigenfaces()], ids=lambda graph: graph.name)
def test_verification_on_shares_is_verification_in_the_clear(network: Graph, weights: sharing.compiler.Weights) -> None:
    enrolled, probes = FACES[:, None].astype(float), np.concatenate([jittered(1), jittered(2)])
    gallery = run_plain(network, enrolled)
    sizes = np.linalg.norm(run_plain(network, probes), axis=1)
    lengths = float(sizes.min()) / 2, float(sizes.max()) * 2
    same = np.tile(np.eye(100, dtype=bool), (2, 1))
    scoring = chain(network, cosine(gallery, normalized=False, lengths=lengths))
    wanted = run_plain(scoring, probes)
    found = sharing.run_together(sharing.compile(scoring, weights=weights, samples=enrolled), probes)
    assert np.abs(found - wanted).max() < 1e-3
    truth = same.ravel()
    assert abs(roc_auc_score(truth, found.ravel()) - roc_auc_score(truth, wanted.ravel())) <= 2e-3
    for rate in (0.001, 0.01, 0.1):
        threshold = np.quantile(wanted[~same], 1 - rate)  # a true positive rate may differ by a score that is on it
        near = np.abs(wanted[same] - threshold) < 1e-3
        differ = (found[same] >= threshold) != (wanted[same] >= threshold)
        assert not (differ & ~near).any()
        assert near.mean() < 0.03
    curves = [np.interp(np.linspace(0, 1, 101), *roc_curve(truth, scores.ravel())[:2]) for scores in (wanted, found)]
    assert np.abs(curves[0] - curves[1]).mean() <= 2e-3

    threshold = float(np.quantile(wanted[~same], 0.99))
    deciding = chain(network, threshold_match(gallery, threshold=threshold, normalized=False, lengths=lengths))
    bits = sharing.run_together(sharing.compile(deciding, weights=weights, samples=enrolled), probes)
    clear_of_ties = np.abs(wanted - threshold) > 1e-3
    assert clear_of_ties.mean() > 0.98
    assert np.array_equal(bits[clear_of_ties] > 0.5, wanted[clear_of_ties] >= threshold)
