"""The discrete Gaussian: its distribution, its bounds, its independence of buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from secureimg.errors import PublishingError
from secureimg.privacy import add_discrete_gaussian, coins, discrete_gaussian
from secureimg.sharing.streams import Stream

MILLION = 1_000_000


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of noise", *tag)


@pytest.mark.parametrize("sigma", [1, 2, 3, 7, 64, 100])
def test_a_million_draws_have_the_probabilities_of_the_discrete_gaussian(sigma: int) -> None:
    draws = discrete_gaussian(sigma, MILLION, stream(sigma))
    most = 8 * sigma
    places = np.arange(-most, most + 1)
    weights = np.exp(-(places**2) / (2.0 * sigma**2))
    expected = MILLION * weights / weights.sum()
    seen = np.bincount(np.clip(draws, -most, most) + most, minlength=places.size)
    body = expected >= 10.0
    expected = np.array([*expected[body], expected[~body].sum()])
    seen = np.array([*seen[body], seen[~body].sum()])
    assert stats.chisquare(seen, expected * MILLION / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("sigma", [1 << 20, (1 << 27) - 1])
def test_at_a_large_sigma_it_is_the_normal_distribution(sigma: int) -> None:
    draws = discrete_gaussian(sigma, MILLION, stream(sigma))
    assert stats.kstest(draws / sigma, "norm").pvalue > 1e-3
    low = np.bincount(draws & 255, minlength=256)
    assert stats.chisquare(low).pvalue > 1e-3


def test_another_sigma_by_one_percent_is_told_apart() -> None:
    """The tests above would fail a sampler that is a little off."""
    draws = discrete_gaussian(101, MILLION, stream("off"))
    assert stats.kstest((draws + 0.5) / 100, "norm").pvalue < 1e-6


def test_draws_do_not_depend_on_the_size_of_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw that runs over the buffer's end starts again with the same words: nothing is dropped, so nothing is biased."""
    whole = discrete_gaussian(9, 20_000, stream("buffers"))
    monkeypatch.setattr(coins, "_MOST", 512)
    np.testing.assert_array_equal(discrete_gaussian(9, 20_000, stream("buffers")), whole)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_noise_is_added_to_elements_of_a_ring(dtype: Any) -> None:
    values = np.arange(1000).astype(dtype)
    values[0] = np.iinfo(dtype).max
    before = values.copy()
    add_discrete_gaussian(50, values, stream("ring"))
    noise = discrete_gaussian(50, 1000, stream("ring"))
    np.testing.assert_array_equal(values, before + noise.astype(dtype))
    assert np.ptp(noise) > 100


@pytest.mark.parametrize("sigma", [0, -3, 1 << 27])
def test_a_sigma_out_of_range_is_refused(sigma: int) -> None:
    with pytest.raises(PublishingError, match=str(sigma)):
        discrete_gaussian(sigma, 1, stream())


def test_no_draws_and_wrong_arrays() -> None:
    assert discrete_gaussian(3, 0, stream()).shape == (0,)
    with pytest.raises(PublishingError, match="-1 draws"):
        discrete_gaussian(3, -1, stream())
    with pytest.raises(PublishingError, match="float64"):
        add_discrete_gaussian(3, np.zeros(3), stream())
    with pytest.raises(PublishingError, match="flat contiguous"):
        add_discrete_gaussian(3, np.zeros(6, np.int64)[::2], stream())
