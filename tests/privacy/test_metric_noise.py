"""The joint sampler of metric privacy, and that noise by coordinate is told from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from secureimg.errors import PublishingError
from secureimg.privacy import laplace_noise, metric_grid, metric_noise, on_grid
from secureimg.sharing.streams import Stream

MILLION = 1_000_000
EPSILON = 0.7


def stream(*tag: str | int) -> Stream:
    return Stream(bytes(32), "tests of metric noise", *tag)


def fits(draws: NDArray[np.float64], epsilon: float) -> dict[str, float]:
    """P values of what density exp(-epsilon ||x||) means: Gamma radius, uniform direction, and no link between the two."""
    k = draws.shape[1]
    radius = np.linalg.norm(draws, axis=1)
    found = {"radius": stats.kstest(radius, stats.gamma(k, scale=1 / epsilon).cdf).pvalue}
    signs = (draws > 0) @ (1 << np.arange(k))
    found["signs"] = stats.chisquare(np.bincount(signs, minlength=1 << k)).pvalue
    if k == 1:
        return found
    unit = draws / radius[:, None]
    shape = (k - 1) / 2
    for place in range(k):
        found[f"direction {place}"] = stats.kstest((unit[:, place] + 1) / 2, stats.beta(shape, shape).cdf).pvalue
    peak = np.abs(unit).max(axis=1)
    cells: list[Any] = [np.searchsorted(np.quantile(value, np.arange(1, 8) / 8), value) for value in (radius, peak)]
    table = np.bincount(cells[0] * 8 + cells[1], minlength=64).reshape(8, 8)
    found["link"] = stats.chi2_contingency(table).pvalue
    return found


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_million_draws_have_the_joint_density(k: int) -> None:
    found = fits(metric_noise(k, EPSILON, MILLION, stream(k)), EPSILON)
    assert min(found.values()) > 1e-3 / len(found), found


def test_the_density_on_cells_of_the_plane_is_the_stated_one() -> None:
    """For k = 2 the probability of a square is an integral, which does not go by way of radius and direction."""
    draws = metric_noise(2, EPSILON, MILLION, stream("plane"))
    edges = np.linspace(-4.0, 4.0, 17)
    seen, *_ = np.histogram2d(draws[:, 0], draws[:, 1], bins=[edges, edges])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    middle, half = (edges[1:] + edges[:-1]) / 2, 0.25
    points, mass = (middle[:, None] + half * nodes).ravel(), np.tile(half * weights, 16)
    density = EPSILON**2 / (2 * np.pi) * np.exp(-EPSILON * np.hypot(points[:, None], points))
    cells = (density * mass[:, None] * mass).reshape(16, 40, 16, 40).sum(axis=(1, 3))
    expected = np.append(cells.ravel(), 1 - cells.sum()) * MILLION
    assert stats.chisquare(np.append(seen.ravel(), MILLION - seen.sum()), expected).pvalue > 1e-3


@pytest.mark.parametrize("k", [2, 4])
def test_noise_by_coordinate_fails_the_same_tests(k: int) -> None:
    """Also with its radius made right: the direction of Laplace noise by coordinate is not uniform."""
    by_coordinate = laplace_noise(1 / EPSILON, MILLION * k, stream("wrong", k)).reshape(MILLION, k)
    found = fits(by_coordinate, EPSILON)
    assert found["radius"] < 1e-9
    assert found["direction 0"] < 1e-9
    radius = np.linalg.norm(metric_noise(k, EPSILON, MILLION, stream("radius", k)), axis=1)
    mended = by_coordinate * (radius / np.linalg.norm(by_coordinate, axis=1))[:, None]
    found = fits(mended, EPSILON)
    assert found["radius"] > 1e-4
    assert found["direction 0"] < 1e-9


def test_draws_go_on_over_chunks_and_are_those_of_the_stream() -> None:
    draws = metric_noise(7, 1.0, 20_000, stream("chunks"))
    assert np.unique(draws).size == draws.size
    np.testing.assert_array_equal(draws, metric_noise(7, 1.0, 20_000, stream("chunks")))
    assert metric_noise(3, 1.0, 0).shape == (0, 3)
    assert (metric_noise(3, 1.0, 5) != metric_noise(3, 1.0, 5)).all()


@pytest.mark.parametrize(("k", "epsilon"), [(1, 1.0), (64, 0.01), (300, 900.0), (1, 1000.0)])
@pytest.mark.parametrize("largest", [0.5, 4000.0])
def test_the_grid_is_far_coarser_than_floats_and_far_finer_than_the_noise(
    k: int, epsilon: float, largest: float
) -> None:
    grid, radius = metric_grid(k, epsilon, largest), k / epsilon
    assert np.spacing(largest + 2.0**6 * radius) * 2**20 <= grid
    assert grid <= max(radius * 2.0**-16, largest * 2.0**-31)
    values = on_grid(metric_noise(k, epsilon, 50, stream("grid")) + largest, grid)
    np.testing.assert_array_equal(values / grid, np.rint(values / grid))


@pytest.mark.parametrize(
    ("k", "epsilon", "count"), [(0, 1.0, 1), (1 << 17, 1.0, 1), (2, 0.0, 1), (2, float("nan"), 1), (2, 1.0, -1)]
)
def test_numbers_out_of_range_are_refused(k: int, epsilon: float, count: int) -> None:
    with pytest.raises(PublishingError):
        metric_noise(k, epsilon, count, stream())
