"""Private HOG and PCA vectors: sensitivity, noise, and what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from skimage.feature import hog
from sklearn.decomposition import PCA

from secureimg.errors import PublishingError
from secureimg.privacy import WHOLE_IMAGE, rho_to_epsilon
from secureimg.publishing import dp_hog, dp_pca, hog_draws, pca_draws
from secureimg.publishing.private_features import _hog_query, _pca_query
from secureimg.sharing.streams import Stream

SMALL: dict[str, Any] = {"orientations": 6, "pixels_per_cell": (4, 4), "cells_per_block": (2, 2)}


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of features", *tag)


def picture(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).integers(0, 256, shape) / 255.0


def public_basis(k: int, pixels: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(k).normal(size=(pixels, k)))[0].T.copy()


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3)])
def test_with_little_noise_it_is_scikit_images_hog(shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    found = dp_hog(image, 1e6, neighbours=1, stream=stream("hog"), **SMALL)
    wanted = hog(image, block_norm="L2-Hys", channel_axis=2 if len(shape) == 3 else None, **SMALL)
    np.testing.assert_allclose(found.values, wanted, atol=2e-3)


def test_with_little_noise_and_a_wide_clip_it_is_scikit_learns_projection() -> None:
    public = np.random.default_rng(3).random((40, 63))
    fitted = PCA(5).fit(public)
    image = picture(9, 7)
    found = dp_pca(image, 1e6, basis=fitted.components_, mean=fitted.mean_, clip=50.0, stream=stream("pca"))
    np.testing.assert_allclose(found.values, fitted.transform(image.reshape(1, -1))[0], atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(0, 2**32),
    st.sampled_from([(4, 4), (1, 1), (2, 3)]),
    st.sampled_from([(2, 2), (1, 3)]),
)
def test_no_change_of_m_pixels_moves_hog_by_more_than_the_noise_covers(
    m: int, seed: int, cell: tuple[int, int], block: tuple[int, int]
) -> None:
    """Flat pictures are the hard ones: a single pixel there decides a whole block."""
    rng = np.random.default_rng(seed)
    image = np.full((16, 18), rng.choice([0.0, 0.5])) if seed % 2 else rng.random((16, 18))
    other = image.ravel().copy()
    other[rng.choice(image.size, m, replace=False)] = rng.random(m)
    one, two = (_hog_query(each, m, 4, cell, block) for each in (image, other.reshape(image.shape)))
    assert one.values.min() >= 0
    assert np.square(one.values.reshape(-1, block[0] * block[1] * 4)).sum(axis=1).max() <= 2**32
    difference = (one.values - two.values).tolist()
    assert sum(map(abs, difference)) <= one.l1
    assert sum(value * value for value in difference) <= one.l2_squared


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(1e-3, 100.0), st.sampled_from([0.0, 1e-6]), st.integers(1, 8))
def test_no_two_pictures_are_farther_apart_than_the_noise_covers(seed: int, clip: float, delta: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    basis, mean = rng.normal(size=(k, 12)), rng.random(12)
    one, two = (_pca_query(rng.choice([0.0, 1.0], (3, 4)), basis, mean, clip, delta) for _ in range(2))
    for query in (one, two):
        assert sum(abs(value) ** (2 if delta else 1) for value in query.values.tolist()) <= (2**32 if delta else 2**16)
    difference = (one.values - two.values).tolist()
    assert sum(map(abs, difference)) <= one.l1 or delta
    assert sum(value * value for value in difference) <= one.l2_squared


def test_laplace_and_gaussian_noise_have_the_stated_scale() -> None:
    image, basis = picture(8, 8), public_basis(3, 64)
    given: dict[str, Any] = {"basis": basis, "mean": np.full(64, 0.5), "clip": 2.0}
    centre = pca_draws(image, 1e6, 1, stream("centre"), **given)[0]
    noise = pca_draws(image, 0.8, 100_000, stream("laplace"), **given) - centre
    assert stats.kstest(noise.ravel(), stats.laplace(scale=2 * 2.0 / 0.8).cdf).pvalue > 1e-3
    assert dp_pca(image, 0.8, **given).noise == pytest.approx(5.0)
    found = dp_pca(image, 0.8, delta=1e-6, **given)
    noise = pca_draws(image, 0.8, 100_000, stream("gaussian"), delta=1e-6, **given)
    assert stats.kstest((noise[:, 0] - noise[:, 0].mean()) / found.noise, "norm").pvalue > 1e-3
    assert found.charge.rho == pytest.approx((2 * 2.0 / found.noise) ** 2 / 2)
    assert 0.79 < rho_to_epsilon(found.charge.rho, 1e-6) <= 0.8
    assert (found.guarantee.epsilon, found.guarantee.delta) == (0.8, 1e-6)


def test_hog_is_calibrated_to_the_blocks_that_may_differ() -> None:
    image = picture(40, 40)
    few, all_ = (dp_hog(image, 1.0, neighbours=neighbours, **SMALL) for neighbours in (1, WHOLE_IMAGE))
    assert all_.noise == pytest.approx(81 * math.sqrt(2 * 24), rel=1e-3)
    assert few.noise == pytest.approx(9 * math.sqrt(2 * 24), rel=1e-3)
    gaussian = [dp_hog(image, 1.0, neighbours=neighbours, delta=1e-6, **SMALL) for neighbours in (1, WHOLE_IMAGE)]
    assert gaussian[1].noise == pytest.approx(3 * gaussian[0].noise, rel=1e-3)
    assert "whole picture is protected" in all_.guarantee.neighbours
    assert few.charge.unit == 1
    assert hog_draws(image, 1.0, 3, stream("draws"), neighbours=2, **SMALL).shape == (3, few.values.size)


@pytest.mark.parametrize("given", [
    {"epsilon": 0.0}, {"delta": 0.5}, {"delta": -1e-9}, {"neighbours": 0}, {"cells_per_block": (9, 9)}, {"orientations": 1},
    {"epsilon": 1e-4, "delta": 1e-9},
])  # fmt: skip
def test_hog_refuses_what_is_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(PublishingError):
        dp_hog(**{"image": picture(24, 24), "epsilon": 1.0, "neighbours": "whole image", **SMALL, **given})


@pytest.mark.parametrize("given", [
    {"basis": np.zeros((3, 5))}, {"basis": np.zeros((0, 9))}, {"mean": np.zeros(3)}, {"clip": 0.0}, {"clip": float("inf")},
    {"mean": np.full(9, np.nan)}, {"epsilon": float("inf")},
])  # fmt: skip
def test_pca_refuses_what_is_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(PublishingError):
        dp_pca(
            **{"image": picture(3, 3), "epsilon": 1.0, "basis": np.eye(2, 9), "mean": np.zeros(9), "clip": 1.0, **given}
        )
