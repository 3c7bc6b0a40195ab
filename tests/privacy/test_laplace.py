"""Discrete Laplace noise, and Laplace noise on a grid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secureimg.errors import PublishingError
from secureimg.privacy import (
    add_discrete_laplace,
    coins,
    discrete_laplace,
    laplace_grid,
    laplace_noise,
    laplace_scale,
)
from secureimg.sharing.streams import Stream

MILLION = 1_000_000


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of noise", *tag)


@pytest.mark.parametrize("scale", [(1, 3), (1, 1), (7, 2), (50, 1), (2**40 + 1, 2**38)])
def test_a_million_draws_have_the_probabilities_of_the_discrete_laplace(scale: tuple[int, int]) -> None:
    draws = discrete_laplace(*scale, MILLION, stream(*scale))
    most = 40 * (scale[0] // scale[1] + 1)
    places = np.arange(-most, most + 1)
    expected = MILLION * stats.dlaplace.pmf(places, scale[1] / scale[0])
    seen = np.bincount(np.clip(draws, -most, most) + most, minlength=places.size)
    body = expected >= 10.0
    expected = np.array([*expected[body], expected[~body].sum()])
    seen = np.array([*seen[body], seen[~body].sum()])
    assert stats.chisquare(seen, expected * MILLION / expected.sum()).pvalue > 1e-3


def test_at_the_largest_scale_nothing_wraps() -> None:
    scale = 2.0**56 - 1
    draws = discrete_laplace((1 << 56) - 1, 1, MILLION, stream("large"))
    assert stats.kstest(draws / scale, "laplace").pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws & 255, minlength=256)).pvalue > 1e-3


def test_draws_do_not_depend_on_the_size_of_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = discrete_laplace(29, 3, 20_000, stream("buffers"))
    monkeypatch.setattr(coins, "_MOST", 512)
    np.testing.assert_array_equal(discrete_laplace(29, 3, 20_000, stream("buffers")), whole)


@given(st.integers(1, 10**12), st.floats(1e-3, 1e3))
def test_a_scale_is_never_below_what_epsilon_needs(sensitivity: int, epsilon: float) -> None:
    numerator, denominator = laplace_scale(sensitivity, epsilon)
    needed = Fraction(sensitivity) / Fraction(epsilon)
    assert needed <= Fraction(numerator, denominator) <= needed * (1 + Fraction(1, 2**30)) + Fraction(1, 2**20)
    assert numerator < 1 << 56


@pytest.mark.parametrize("scale", [0.37, 1e-9, 12345.678])
def test_laplace_noise_has_the_continuous_law_on_a_grid_of_powers_of_two(scale: float) -> None:
    draws = laplace_noise(scale, MILLION, stream(str(scale)))
    assert stats.kstest(draws, stats.laplace(scale=scale).cdf).pvalue > 1e-3
    grid = laplace_grid(scale)
    np.testing.assert_array_equal(np.rint(draws / grid) * grid, draws)
    assert grid <= scale * 2.0**-24
    assert np.frexp(grid)[0] == 0.5


def test_it_has_the_law_of_opendps_mechanism() -> None:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.l1_distance(T=float)
    theirs = np.array(dp.m.make_laplace(*space, scale=0.5)([0.0] * 20_000))
    ours = laplace_noise(0.5, 200_000, stream("opendp"))
    # theirs has no seed: the level is one that chance misses once in 10^9 runs
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-9
    assert stats.ks_2samp(1.25 * ours, theirs).pvalue < 1e-9


def test_a_fresh_stream_is_drawn_if_none_is_given() -> None:
    assert (laplace_noise(1.0, 50) != laplace_noise(1.0, 50)).any()


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 0), (1 << 56, 1), (1, 1 << 56), (-3, 2)])
def test_a_scale_out_of_range_is_refused(numerator: int, denominator: int) -> None:
    with pytest.raises(PublishingError, match="of a scale is"):
        discrete_laplace(numerator, denominator, 1, stream())


def test_other_numbers_out_of_range_are_refused() -> None:
    for epsilon in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PublishingError, match="epsilon"):
            laplace_scale(1, epsilon)
    with pytest.raises(PublishingError, match="larger epsilon"):
        laplace_scale(10**12, 1e-9)
    with pytest.raises(PublishingError, match="sensitivity of 0"):
        laplace_scale(0, 1.0)
    with pytest.raises(PublishingError, match="scale nan"):
        laplace_noise(float("nan"), 1)
    with pytest.raises(PublishingError, match="-1 draws"):
        discrete_laplace(1, 1, -1, stream())
    with pytest.raises(PublishingError, match="uint32"):
        add_discrete_laplace(1, 1, np.zeros(3, np.uint32), stream())
