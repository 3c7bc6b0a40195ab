"""DP-Pix and DP-Blur: sensitivity, noise, and what they say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from secureimg.errors import PublishingError
from secureimg.privacy import Charge, Ledger
from secureimg.publishing import blur_draws, dp_blur, dp_pixelate, pixelation_draws
from secureimg.publishing.private_pixels import _summed
from secureimg.sharing.streams import Stream

GREY = 32768 / 65535  # in the middle, and a whole number of the steps that pixels are counted in


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of pixels", *tag)


def picture(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(shape)


def sums(image: NDArray[np.float64], cell: int) -> NDArray[np.int64]:
    flat = np.ascontiguousarray(image.reshape(*image.shape[:2], -1))
    out = np.zeros((-(-image.shape[0] // cell), -(-image.shape[1] // cell), flat.shape[2]), np.int64)
    _summed(flat, cell, out)
    return out


@pytest.mark.parametrize("shape", [(32, 48), (37, 53), (37, 53, 3), (5, 64)])
def test_with_little_noise_it_is_the_mean_of_each_cell(shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    found = dp_pixelate(image, 1e6, neighbours=1, cell=16, stream=stream("means")).image
    size = (16, 16, 1)[: len(shape)]
    ones = block_reduce(np.ones(shape), size, np.sum)
    means = block_reduce(image, size, np.sum) / ones
    large = means.repeat(16, 0).repeat(16, 1)[: shape[0], : shape[1]]
    np.testing.assert_allclose(found, large, atol=2e-5 + 1e-5)


def test_a_million_cells_have_laplace_noise_of_the_scale_in_the_paper() -> None:
    """Fan 2018: 255 m / (b^2 epsilon) on 8-bit values."""
    epsilon, m, b = 0.9, 3, 16
    draws = pixelation_draws(np.full((16, 16), GREY), epsilon, 1_000_000, stream("fit"), neighbours=m, cell=b).ravel()
    assert draws.min() > 0.0
    assert draws.max() < 1.0
    noise = 255 * (draws - GREY)
    scale = 255 * m / (b**2 * epsilon)
    assert stats.kstest(noise, stats.laplace(scale=scale).cdf).pvalue > 1e-3
    assert stats.kstest(noise, stats.laplace(scale=1.02 * scale).cdf).pvalue < 1e-9
    assert dp_pixelate(np.full((16, 16), GREY), epsilon, neighbours=m, cell=b).noise == pytest.approx(
        scale / 255, rel=1e-6
    )


def test_noise_of_cells_and_channels_is_independent_and_smaller_cells_get_more() -> None:
    image = np.full((20, 20, 3), GREY)
    draws = pixelation_draws(image, 30.0, 100_000, stream("colour"), neighbours=1, cell=16) - GREY
    together = np.corrcoef(draws.reshape(len(draws), -1), rowvar=False)
    assert np.abs(together - np.eye(12)).max() < 0.02
    for row, tall in enumerate((16, 4)):
        for column, wide in enumerate((16, 4)):
            for colour in range(3):
                law = stats.laplace(scale=3 / (tall * wide * 30.0))
                inside = np.abs(draws[:, row, column, colour]) < 0.49
                assert inside.mean() > 0.98
                assert stats.kstest(draws[inside, row, column, colour], law.cdf).pvalue > 1e-4


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 2**32), st.data()
)
def test_no_change_of_m_pixels_moves_the_sums_by_more_than_the_noise_covers(
    height: int, width: int, cell: int, colours: int, seed: int, data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, height * width))
    rng = np.random.default_rng(seed)
    image = rng.choice([0.0, 1.0, 0.3, rng.random()], (height, width, colours))
    other = image.reshape(-1, colours).copy()
    other[rng.choice(height * width, m, replace=False)] = rng.choice([0.0, 1.0], (m, colours))
    moved = np.abs(sums(image, cell) - sums(other.reshape(image.shape), cell)).sum()
    assert moved <= 65535 * colours * m


def test_the_bound_on_sums_is_reached() -> None:
    assert sums(np.ones((5, 7, 3)), 4).sum() - sums(np.zeros((5, 7, 3)), 4).sum() == 65535 * 3 * 35


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3), (9, 4)])
@pytest.mark.parametrize("sigma", [0.4, 2.3, 30.0])
def test_blur_is_scipys_filter_on_the_pixelated_picture(shape: tuple[int, ...], sigma: float) -> None:
    settings: dict[str, Any] = {"neighbours": 2, "cell": 7}
    pixelated = dp_pixelate(picture(*shape), 3.0, stream=stream("same"), **settings).image
    blurred = dp_blur(picture(*shape), 3.0, sigma=sigma, stream=stream("same"), **settings).image
    np.testing.assert_allclose(blurred, gaussian_filter(pixelated, sigma, mode="nearest", axes=(0, 1)), atol=1e-12)
    draw = blur_draws(picture(*shape), 3.0, 1, stream("same"), sigma=sigma, **settings)
    np.testing.assert_array_equal(draw.reshape(shape), blurred)


def test_releases_are_pictures_and_no_two_are_alike() -> None:
    image = picture(40, 30, 3)
    for method in (dp_pixelate, dp_blur):
        first, second = (method(image, 0.5, neighbours="whole image", cell=8) for _ in range(2))
        assert first.image.shape == image.shape
        assert first.image.dtype == np.float64
        assert first.image.min() >= 0.0
        assert first.image.max() <= 1.0
        assert (first.image != second.image).any()
        assert method(image, 0.5, neighbours="whole image", cell=40).image.shape == image.shape


def test_the_guarantee_says_what_m_means_for_this_picture() -> None:
    image = picture(112, 92)
    found = dp_pixelate(image, 0.5, neighbours=16)
    assert found.guarantee.kind == "differential privacy"
    assert (found.guarantee.epsilon, found.guarantee.delta) == (0.5, 0.0)
    assert "at most 16 of 10,304 pixels (0.155 %)" in found.guarantee.neighbours
    assert "the whole picture has 322" in found.guarantee.neighbours
    assert "the whole picture is protected" in dp_blur(image, 0.5, neighbours="whole image").guarantee.neighbours
    assert found.charge == Charge("dp_pixelate", 16, epsilon=0.5)
    assert Ledger("album", 1.0, unit=16).spend(found.charge).left() == 0.5


@pytest.mark.parametrize(("given", "match"), [
    ({"epsilon": 0.0}, "epsilon"), ({"epsilon": float("nan")}, "epsilon"), ({"epsilon": -1.0}, "epsilon"),
    ({"epsilon": 1e-9}, "larger epsilon"), ({"cell": 0}, "cell of 0"), ({"cell": 93}, "cell of 93"),
    ({"cell": 2.5}, r"cell of 2\.5"), ({"neighbours": 0}, "0 pixels of 8464"), ({"neighbours": 8465}, "8465 pixels"),
    ({"neighbours": "one"}, "'one'"), ({"neighbours": True}, "True"), ({"image": np.full((3, 3), 1.1)}, r"\[0, 1\]"),
    ({"image": np.zeros((3, 3), np.uint8)}, "uint8"), ({"image": np.zeros((3, 3, 4))}, "3, 3, 4"),
    ({"image": np.full((3, 3), np.nan)}, r"\[0, 1\]"), ({"image": np.zeros((0, 3))}, "0, 3"),
])  # fmt: skip
def test_what_is_out_of_range_is_refused(given: dict[str, Any], match: str) -> None:
    asked = {"image": picture(92, 92), "epsilon": 1.0, "neighbours": "whole image", "cell": 2, **given}
    for method in (dp_pixelate, dp_blur):
        with pytest.raises(PublishingError, match=match):
            method(**asked)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), 1e4])
def test_a_blur_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(PublishingError, match="blur of sigma"):
        dp_blur(picture(9, 9), 1.0, neighbours=1, cell=3, sigma=sigma)


def test_more_epsilon_is_nearer_to_the_picture() -> None:
    image = picture(64, 64)
    exact = dp_pixelate(image, 1e6, neighbours=1).image
    errors = [
        np.abs(dp_pixelate(image, epsilon, neighbours=16, stream=stream("near")).image - exact).mean()
        for epsilon in (0.05, 0.5, 5.0, 50.0)
    ]
    assert all(far > 2 * near for far, near in pairwise(errors))
