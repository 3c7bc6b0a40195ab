"""Conversions of zero-concentrated differential privacy."""

from __future__ import annotations

import math

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from secureimg.errors import PublishingError
from secureimg.privacy import gaussian_epsilon, gaussian_rho, rho_for, rho_to_epsilon


def by_the_formula(rho: float, delta: float) -> float:
    """Canonne, Kamath and Steinke 2020, corollary 13: the least epsilon over orders alpha."""

    def at(log: float) -> float:
        a = 1 + math.exp(log)
        return a * rho + math.log(1 / (a * delta)) / (a - 1) + math.log1p(-1 / a)

    return max(0.0, float(optimize.minimize_scalar(at, bounds=(-8, 25), method="bounded", options={"xatol": 1e-9}).fun))


@pytest.mark.parametrize("rho", [1e-6, 1e-3, 0.045, 1.0, 30.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-3])
def test_the_conversion_is_that_of_the_paper(rho: float, delta: float) -> None:
    assert rho_to_epsilon(rho, delta) == pytest.approx(by_the_formula(rho, delta), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("sigma", "rounds"), [(2.0, 1), (10.0, 50), (100.0, 1)])
def test_it_is_above_what_the_gaussian_mechanism_truly_has(sigma: float, rounds: int) -> None:
    """Balle and Wang 2018, theorem 8, is exact for one continuous Gaussian, which `rounds` of them are as good as."""
    epsilon, delta = gaussian_epsilon(sigma, 1.0, rounds, 1e-6), 1e-6
    mu = math.sqrt(rounds) / sigma
    true = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
    assert delta / 100 < true < delta


def test_opendps_mechanism_counts_the_same() -> None:
    dp.enable_features("contrib")
    theirs = dp.m.make_gaussian(dp.atom_domain(T=int), dp.absolute_distance(T=int), scale=7.0)
    assert gaussian_rho(7.0, 3.0) == pytest.approx(theirs.map(3), rel=1e-12)
    assert gaussian_rho(7.0, 3.0, 20) == pytest.approx(20 * theirs.map(3), rel=1e-12)


@settings(deadline=None, max_examples=12)
@given(st.floats(1e-4, 1000.0), st.floats(1e-12, 0.01))
def test_a_calibrated_rho_is_just_below_epsilon(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert rho_to_epsilon(rho, delta) <= epsilon
    assert rho_to_epsilon(rho * 1.001 + 2.0**-59, delta) > epsilon * (1 - 1e-6)


@given(st.floats(0.0, 1e6), st.floats(5e-324, 1.0, exclude_max=True))
@settings(deadline=None)
def test_every_rho_and_delta_converts_to_a_number(rho: float, delta: float) -> None:
    epsilon = rho_to_epsilon(rho, delta)
    assert 0.0 <= epsilon <= 1.01 * (rho + 2 * math.sqrt(rho * -math.log(delta))) + 6.0


def test_numbers_out_of_range_are_refused() -> None:
    for sigma, sensitivity, rounds in ((0.0, 1.0, 1), (math.nan, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, -1)):
        with pytest.raises(PublishingError):
            gaussian_rho(sigma, sensitivity, rounds)
    for rho, delta in ((-1.0, 0.1), (math.inf, 0.1), (1.0, 0.0), (1.0, 1.0)):
        with pytest.raises(PublishingError):
            rho_to_epsilon(rho, delta)
    for epsilon, delta in ((0.0, 0.1), (1e4, 0.1), (1.0, 0.0)):
        with pytest.raises(PublishingError):
            rho_for(epsilon, delta)
