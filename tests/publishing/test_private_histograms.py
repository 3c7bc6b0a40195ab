"""Histograms with discrete Laplace noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secureimg.errors import PublishingError
from secureimg.publishing import dp_histogram, histogram_draws
from secureimg.sharing.streams import Stream


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of histograms", *tag)


@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 3)])
@pytest.mark.parametrize("bins", [1, 8, 256])
def test_with_little_noise_it_is_numpys_histogram(shape: tuple[int, ...], bins: int) -> None:
    image = np.random.default_rng(bins).integers(0, 256, shape) / 255.0
    found = dp_histogram(image, 1e5, neighbours=1, bins=bins, stream=stream("little"))
    planes = np.moveaxis(image.reshape(*shape[:2], -1), 2, 0)
    counts = np.stack([np.histogram(plane, bins, (0.0, 1.0))[0] for plane in planes])
    np.testing.assert_array_equal(found.values, counts.reshape(found.values.shape))
    assert found.values.dtype == np.int64


@pytest.mark.parametrize(("colours", "m", "epsilon"), [(1, 4, 1.0), (3, 2, 0.7)])
def test_a_million_counts_have_the_stated_noise(colours: int, m: int, epsilon: float) -> None:
    image = np.zeros((4, 4) if colours == 1 else (4, 4, 3))
    draws = histogram_draws(image, epsilon, 1_000_000 // colours, stream(colours), neighbours=m, bins=1).ravel() - 16
    places = np.arange(-60, 61)
    expected = stats.dlaplace.pmf(places, epsilon / (2 * colours * m)) * draws.size
    inner = np.bincount(draws[np.abs(draws) <= 60] + 60, minlength=121)
    seen, expected = np.append(inner, draws.size - inner.sum()), np.append(expected, draws.size - expected.sum())
    body = expected > 10
    seen, expected = np.append(seen[body], seen[~body].sum()), np.append(expected[body], expected[~body].sum())
    if expected[-1] < 1:
        seen, expected = seen[:-1], expected[:-1] * seen[:-1].sum() / expected[:-1].sum()
    assert stats.chisquare(seen, expected).pvalue > 1e-3
    released = dp_histogram(image, epsilon, neighbours=m, bins=1)
    assert released.noise == pytest.approx(2 * colours * m / epsilon, rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.integers(1, 16), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_m_pixels_move_counts_by_at_most_twice_m_a_channel(m: int, bins: int, colours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((5, 6, 3) if colours == 3 else (5, 6))
    other = image.reshape(30, colours).copy()
    other[rng.choice(30, m, replace=False)] = rng.random((m, colours))
    exact: Any = {"neighbours": 1, "bins": bins}
    counts = [
        histogram_draws(picture, 1e6, 1, stream("m"), **exact)[0] for picture in (image, other.reshape(image.shape))
    ]
    assert np.abs(counts[0] - counts[1]).sum() <= 2 * m * colours


def test_it_says_what_is_protected() -> None:
    found = dp_histogram(np.zeros((10, 10)), 0.5, neighbours=3)
    assert "at most 3 of 100 pixels" in found.guarantee.neighbours
    assert (found.charge.unit, found.charge.epsilon) == (3, 0.5)
    assert found.values.shape == (256,)
    assert dp_histogram(np.zeros((10, 10, 3)), 0.5, neighbours="whole image", bins=7).values.shape == (3, 7)


@pytest.mark.parametrize(
    "given", [{"bins": 0}, {"bins": 1 << 17}, {"epsilon": 0.0}, {"neighbours": 101}, {"bins": 2.0}]
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(PublishingError):
        dp_histogram(**{"image": np.zeros((10, 10)), "epsilon": 1.0, "neighbours": 1, **given})
