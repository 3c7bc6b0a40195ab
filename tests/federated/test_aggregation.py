"""Secure aggregation: what is opened is the sum of clipped updates, what travels is noise, what is too long stays out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from secureimg.errors import BudgetError, ParameterError, RemoteProtocolError
from secureimg.federated import (
    TOO_LONG,
    Sketch,
    Tally,
    Terms,
    aggregate_together,
    check_program,
    open_sum,
    quantise,
    seed_stream,
    share_update,
    sum_shares,
)
from secureimg.sharing import cost_of

LONG = 20_000  # longer than a sketch


def terms(parameters: int, **changes: object) -> Terms:
    return Terms(**{"parameters": parameters, "clip": 1.0, "owners": 10, "least": 2, "weighted": False, **changes})


def clipped(update: np.ndarray, clip: float = 1.0) -> np.ndarray:
    """What the plain sum has of an update."""
    exact = update.astype(np.float64)
    return exact * min(1.0, clip / max(float(np.linalg.norm(exact)), 1e-300))


def whole(values: np.ndarray) -> np.ndarray:
    """Units of any size, modulo 2^32, as an owner that does not follow the rules may share them."""
    return np.rint(values).astype(np.int64).astype(np.uint32)


# --------------------------------------------------------------------------------------------------------------- the sum


@pytest.mark.parametrize("length", [1, 7, 2559, 2560, 2561, LONG])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_sum_is_that_of_the_clipped_and_weighted_updates(
    length: int, weighted: bool, rng: np.random.Generator
) -> None:
    t = terms(length, weighted=weighted, clip=3.0)
    updates = [rng.normal(0, scale / math.sqrt(length), length) for scale in (0.1, 1, 3, 10, 1000)]
    weights = [0.2, 1.0, 0.5, 0.01, 0.7] if weighted else [1.0] * 5
    opened = aggregate_together(t, updates, weights)
    exact = sum(w * clipped(u, 3.0) for u, w in zip(updates, weights, strict=True))
    unit = t.clip / t.unit
    assert np.abs(opened.total - exact).max() <= 5 * unit * (0.5 + 1e-3) + 1e-7
    assert opened.weight == pytest.approx(sum(weights), abs=5 / t.unit)
    assert opened.owners == ("0", "1", "2", "3", "4")
    assert not opened.left_out


@given(
    update=arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e30, 1e30, allow_subnormal=False)),
    weight=st.floats(0.001, 1.0),
)
def test_no_input_makes_an_honest_update_longer_than_the_bound(update: np.ndarray, weight: float) -> None:
    t = terms(update.size, weighted=True)
    units = quantise(t, update, weight).view(np.int32).astype(np.float64)
    assert float(units @ units) <= t.bound**2
    assert float(units[:-1] @ units[:-1]) <= (t.unit * weight) ** 2 + 1


@given(owners=st.integers(2, 4096), noise=st.floats(0, 50), weighted=st.booleans())
def test_the_ring_has_room_for_all_owners_and_both_noises(owners: int, noise: float, weighted: bool) -> None:
    try:
        t = terms(5, owners=owners, noise=noise, weighted=weighted)
    except ParameterError as error:
        assert "lower the noise" in str(error)  # noqa: PT017
        return
    largest = owners * t.bound * 4 / 3 + 12 * math.sqrt(2) * t.sigma
    assert largest < 2**31
    assert t.unit >= 2**16
    assert t.sigma >= noise * t.bound


def test_updates_in_one_direction_do_not_wrap_around() -> None:
    t = terms(3, owners=10)
    opened = aggregate_together(t, [np.array([0.0, -50.0, 0.0])] * 10)
    assert opened.total == pytest.approx([0, -10, 0], abs=1e-6)


def test_a_mean_of_noise_alone_stays_finite() -> None:
    t = terms(2, weighted=True)
    opened = open_sum(t, np.zeros(3, np.uint32), np.zeros(3, np.uint32), (), {})
    assert np.isfinite(opened.mean()).all()


def test_shares_of_two_different_sums_are_noticed(rng: np.random.Generator) -> None:
    t = terms(4, weighted=True)
    shares = share_update(quantise(t, rng.normal(size=4), 0.5))
    own = np.empty(5, np.uint32)
    seed_stream(shares.seed).fill(own)
    for weight in (-0.5, 3.0):  # of one owner
        with pytest.raises(RemoteProtocolError, match="different owners"):
            open_sum(t, own, whole(np.array([0, 0, 0, 0, weight * t.unit])) - own, ("a",), {})
    with pytest.raises(RemoteProtocolError, match="coordinates"):
        open_sum(t, own[:3], own, ("a",), {})


# ----------------------------------------------------------------------------------------------------- what a party sees


def test_a_share_alone_is_uniform_whatever_the_update() -> None:
    t = terms(200_000)
    for update in (np.zeros(200_000), np.full(200_000, 1.0)):
        words = share_update(quantise(t, update)).words
        counts = np.bincount((words >> np.uint32(24)).astype(np.int64), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
        counts = np.bincount((words & np.uint32(255)).astype(np.int64), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6


def test_both_shares_together_are_the_units_and_never_the_same_twice(rng: np.random.Generator) -> None:
    t = terms(1000)
    units = quantise(t, rng.normal(size=1000))
    first, second = share_update(units.copy()), share_update(units.copy())
    assert first.seed != second.seed
    assert not (first.words == second.words).all()
    mask = np.empty(1000, np.uint32)
    seed_stream(first.seed).fill(mask)
    assert (mask + first.words == units).all()
    assert first.seed.hex() not in repr(first)
    assert repr(first) == "Shares(…)"


# ------------------------------------------------------------------------------------------------------------ the check


def test_a_sketch_is_linear_and_keeps_lengths(rng: np.random.Generator) -> None:
    sketch, values = Sketch(bytes(32), LONG), Sketch.values(LONG)

    def of(units: np.ndarray) -> np.ndarray:
        out = np.zeros(values, np.uint32)
        for start in range(0, LONG, 4096):  # in pieces, as a party reads them
            sketch.add(units[start : start + 4096], start, out)
        return out

    a, b = (rng.integers(0, 2**32, LONG, dtype=np.uint32) for _ in range(2))
    assert (of(a + b) == of(a) + of(b)).all()
    for concentration in (1, 40, LONG):
        x = np.zeros(LONG)
        x[rng.choice(LONG, concentration, replace=False)] = rng.normal(size=concentration)
        x *= 1e6 / np.linalg.norm(x)
        s = of(whole(x)).view(np.int32).astype(np.float64)
        assert float(s @ s) / Sketch.rows(LONG) == pytest.approx(1e12, rel=0.25)


def adversaries(t: Terms, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Shares' contents of owners that break the rules in different ways."""
    n, ball = t.length, rng.normal(size=t.length)
    ball *= t.bound / np.linalg.norm(ball)
    one, pair, top = (np.zeros(n) for _ in range(3))
    one[n // 2], top[3] = 1.4 * t.bound, 2**31 - 1
    pair[:2] = -(2.0**31)
    return {
        "a third too long": whole(ball * 1.34), "twice too long": whole(ball * 2), "a thousand times": whole(ball * 1000),
        "one coordinate": whole(one), "largest number": whole(top), "two that cancel": whole(pair),
        "all at 2^31": np.full(n, 2**31, np.uint32), "noise": rng.integers(0, 2**32, n, dtype=np.uint32),
        "just out of reach": whole(one / one.max() * (2 * t.bound + 2)),
    }  # fmt: skip


@pytest.mark.parametrize("length", [100, LONG])
@pytest.mark.parametrize("owners", [11, 4000])
def test_an_update_beyond_the_bound_stays_out_and_the_others_stay_in(
    length: int, owners: int, rng: np.random.Generator
) -> None:
    t = terms(length, owners=owners)
    honest = [rng.normal(size=length) for _ in range(2)]
    bad = adversaries(t, rng)
    shares = [share_update(units) for units in (*(quantise(t, update) for update in honest), *bad.values())]
    opened = sum_shares(t, shares)
    assert opened.left_out == {str(place): TOO_LONG for place in range(2, 2 + len(bad))}, list(bad)
    exact = sum(clipped(update) for update in honest)
    assert np.abs(opened.total - exact).max() <= 2 * 0.51 / t.unit + 1e-7


@pytest.mark.parametrize("length", [50, LONG])
def test_honest_updates_at_the_bound_always_pass(length: int, rng: np.random.Generator) -> None:
    t = terms(length, owners=200)
    updates = [rng.normal(size=length) ** power for power in (1, 3, 5, 9) for _ in range(10)]
    spike = np.zeros(length)
    spike[-1] = -7.0
    opened = aggregate_together(t, [*updates, spike, np.ones(length)])
    assert not opened.left_out


@pytest.mark.parametrize("owners", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_few_owners_with_large_units_pass_and_too_long_ones_do_not(
    owners: int, weighted: bool, rng: np.random.Generator
) -> None:
    t = terms(60, owners=owners, weighted=weighted)
    spike = np.zeros(60)
    spike[7] = -5.0
    honest = [share_update(quantise(t, update)) for update in (rng.normal(size=60), spike)[:owners]]
    assert not sum_shares(t, honest).left_out
    if owners > 2:
        for bad in (1.4 * t.bound, 2.0 * t.bound, 2.0**30, 2.0**31 - 1):
            units = np.zeros(t.length)
            units[7] = bad
            assert sum_shares(t, [*honest, share_update(whole(units))]).left_out == {"2": TOO_LONG}


def test_the_check_costs_what_its_page_says() -> None:
    cost = cost_of(check_program(terms(10**6)).public)
    assert cost.rounds == 11
    assert 50_000 < cost.online_bytes < 150_000
    assert 90_000 < cost.offline_bytes < 120_000


def test_the_sum_of_too_few_is_not_opened(rng: np.random.Generator) -> None:
    t = terms(100, least=3)
    good = [share_update(quantise(t, rng.normal(size=100))) for _ in range(2)]
    with pytest.raises(BudgetError, match="at least 3"):
        sum_shares(t, good)
    bad = share_update(rng.integers(0, 2**32, 100, dtype=np.uint32))
    with pytest.raises(BudgetError, match="2 of 3 owners pass"):
        sum_shares(t, [*good, bad])


# ------------------------------------------------------------------------------------------------------------- the noise


def test_each_party_adds_the_whole_noise_and_the_same_again_for_the_same_seed() -> None:
    t = terms(50_000, noise=2.0)
    first = Tally(t, bytes(32)).finish(b"a" * 32)
    again = Tally(t, bytes(32)).finish(b"a" * 32)
    other = Tally(t, bytes(32)).finish(b"b" * 32)
    assert (first == again).all()
    assert not (first == other).all()
    for noise in (first, other):
        values = noise.view(np.int32) / t.sigma
        assert stats.kstest(values, stats.norm.cdf).pvalue > 1e-4
        assert values.std() == pytest.approx(1.0, rel=0.02)
    assert abs(np.corrcoef(first.view(np.int32), other.view(np.int32))[0, 1]) < 0.02


def test_noise_is_all_that_hides_in_the_sum(rng: np.random.Generator) -> None:
    t = terms(5000, noise=0.5)
    updates = [rng.normal(size=5000) for _ in range(3)]
    opened = aggregate_together(t, updates)
    error = (opened.total - sum(clipped(u) for u in updates)) * t.unit / (t.sigma * math.sqrt(2))
    assert stats.kstest(error, stats.norm.cdf).pvalue > 1e-4


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip": 0.0}, "clip"), ({"clip": math.inf}, "clip"), ({"noise": -1.0}, "noise"), ({"noise": math.nan}, "noise"),
        ({"least": 1}, "least"), ({"least": 11}, "least"), ({"owners": 4097}, "owners"), ({"parameters": 0}, "parameters"),
        ({"parameters": 2**26 + 1}, "parameters"), ({"noise": 9999.0}, "lower the noise"),
    ],
)  # fmt: skip
def test_terms_that_do_not_fit_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        terms(**{"parameters": 5, **change})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda t: quantise(t, np.zeros(4)), "shape"),
        (lambda t: quantise(t, np.array([1.0, np.nan, 0.0])), "not finite"),
        (lambda t: quantise(t, np.array([1.0, np.inf, 0.0])), "not finite"),
        (lambda t: quantise(t, np.zeros(3), 0.0), "weight"),
        (lambda t: quantise(t, np.zeros(3), 0.5), "the round has none"),
        (lambda t: quantise(t, np.array(["a", "b", "c"])), "real numbers"),
        (lambda t: quantise(t, np.zeros(3, complex)), "real numbers"),
    ],
)
def test_updates_that_do_not_fit_are_refused(make: Callable[[Terms], object], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        make(terms(3))
