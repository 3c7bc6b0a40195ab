"""Metric-private singular values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from secureimg.errors import PublishingError
from secureimg.privacy import Ledger, metric_grid
from secureimg.publishing import SVD_UNIT, dp_svd, singular_values, svd_draws
from secureimg.sharing.streams import Stream


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of singular values", *tag)


def picture(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("shape", [(12, 9), (9, 12, 3)])
def test_with_little_noise_it_is_the_best_approximation_of_rank_k(shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    for k in (1, 3, 9):
        planes = np.moveaxis(image.reshape(*shape[:2], -1), 2, 0)
        u, s, v = np.linalg.svd(planes)
        low = np.clip((u[:, :, :k] * s[:, None, :k]) @ v[:, :k], 0, 1)
        found = dp_svd(image, 1000.0, k, stream=stream("little")).image
        assert np.abs(found - np.moveaxis(low, 0, 2).reshape(shape)).max() < 0.2
        np.testing.assert_allclose(singular_values(image, k), s[:, :k].ravel())


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_the_noise_is_joint_over_values_and_channels(shape: tuple[int, ...]) -> None:
    image, epsilon = picture(*shape), 0.4
    noise = svd_draws(image, epsilon, 200_000, stream("joint", len(shape)), k=2) - singular_values(image, 2)
    count = noise.shape[1]
    assert count == (2 if len(shape) == 2 else 6)
    radius = np.linalg.norm(noise, axis=1)
    assert stats.kstest(radius, stats.gamma(count, scale=1 / epsilon).cdf).pvalue > 1e-3
    shape_of = (count - 1) / 2
    for place in range(count):
        assert stats.kstest((noise[:, place] / radius + 1) / 2, stats.beta(shape_of, shape_of).cdf).pvalue > 1e-4


def test_released_values_are_on_a_grid_that_no_picture_changes() -> None:
    draws = [svd_draws(picture(8, 8, seed=seed), 0.3, 100, stream(seed), k=3) for seed in range(2)]
    grid = metric_grid(3, 0.3, 8.0)
    for values in draws:
        np.testing.assert_array_equal(np.rint(values / grid) * grid, values)


def test_distances_of_singular_values_are_at_most_those_of_pictures() -> None:
    for seed in range(20):
        a, b = picture(10, 7, seed=seed), picture(10, 7, seed=seed + 100)
        assert np.linalg.norm(singular_values(a, 4) - singular_values(b, 4)) <= np.linalg.norm(a - b)


def test_it_says_what_is_released_in_the_clear() -> None:
    found = dp_svd(picture(20, 30), 2.0, 5)
    assert found.guarantee.kind == "metric privacy"
    assert "singular vectors" in found.guarantee.in_the_clear
    assert "not protected" in found.guarantee.statement
    assert "without a bound for the whole picture" in found.guarantee.neighbours
    assert found.noise == 2.5
    assert Ledger("album", 2.0, unit=SVD_UNIT).spend(found.charge).left() == 0.0
    with pytest.raises(PublishingError, match="keep another ledger"):
        Ledger("album", 9.0, unit=16).spend(found.charge)


@pytest.mark.parametrize(
    ("epsilon", "k"), [(0.0, 2), (float("nan"), 2), (1e-4, 2), (2000.0, 2), (1.0, 0), (1.0, 8), (1.0, 1.5)]
)
def test_what_is_out_of_range_is_refused(epsilon: float, k: int) -> None:
    with pytest.raises(PublishingError):
        dp_svd(picture(7, 9), epsilon, k)
