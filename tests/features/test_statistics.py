"""Rule: histograms, colour moments and image moments equal numpy's, scipy's and scikit-image's.

In the clear to rounding, on both executors to 1e-3 of the largest value; histograms on shares are exact.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, filters, measure

from secureimg import features
from secureimg.errors import GraphError

from .executors import clear, on_ckks, on_shares, same

CAMERA = data.camera()[100:164, 200:264] / 255.0
COLOUR = data.astronaut()[100:164, 100:163].transpose(2, 0, 1) / 255.0
NOISE = np.random.default_rng(7).random((33, 47))
SHAPE = np.zeros((96, 128))  # an L in a corner: far from the middle and far from symmetric
SHAPE[0:70, 0:4] = 1.0
SHAPE[60:64, :40] = 0.5
PICTURES = {"camera": CAMERA, "colour": COLOUR, "noise": NOISE, "shape": SHAPE, "dim": 0.05 * CAMERA[:61, :55]}


def planes(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(-1, *picture.shape[-2:])


# ------------------------------------------------------------------------------------------------------------- histograms


def counts(picture: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.array([np.histogram(plane, edges)[0] for plane in planes(picture)])


BINS = [(10, (0.0, 1.0)), (256, (0.0, 1.0)), (7, (0.2, 0.7)), (1, (0.0, 1.0)), (16, (-0.5, 0.5)), (1, (0.3, 0.4))]


@pytest.mark.parametrize("picture", ["camera", "colour"])
@pytest.mark.parametrize(("bins", "ends"), BINS)
def test_histogram(picture: str, bins: int, ends: tuple[float, float]) -> None:
    """Every count is right, of pixels that equal an edge but for rounding, too."""
    values = PICTURES[picture]
    edges = np.linspace(*ends, bins + 1)
    graph = features.histogram(values.shape, bins, ends)
    same(clear(graph, values), counts(values, edges), 1e-12)
    assert np.array_equal(np.rint(on_shares(graph, values)), counts(values, edges))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.floats(-0.5, 0.9), st.floats(0.01, 1.5), st.integers(0, 99))
def test_histogram_of_any_range(bins: int, low: float, width: float, seed: int) -> None:
    values = np.random.default_rng(seed).random((9, 14))
    wanted = np.histogram(values, bins, (low, low + width))[0]
    assert np.array_equal(np.rint(clear(features.histogram(values.shape, bins, (low, low + width)), values))[0], wanted)


def test_soft_histogram() -> None:
    """Each pixel counts once in all, between 0 and 1 in a bin, and where its slope ends in its own bin only."""
    for degree in (2, 7, 15, 31):
        shades = np.linspace(0, 1, 101)
        graph = features.histogram((1, 1), 4, degree=degree)
        bumps = np.stack([clear(graph, np.array([[shade]]))[0] for shade in shades])
        assert np.abs(bumps.sum(axis=1) - 1).max() < 1e-12
        assert bumps.min() > -1e-12
        assert bumps.max() < 1 + 1e-12
        far = np.abs(shades[:, None] - np.array([0.25, 0.5, 0.75])).min(axis=1) > 2 * np.pi / degree
        hard = np.stack([np.histogram(shade, 4, (0, 1))[0] for shade in shades])
        assert np.abs(bumps - hard)[far].max(initial=0.0) < 0.05


def test_soft_histogram_on_ciphertexts() -> None:
    values = CAMERA[:16, :16]
    graph = features.histogram(values.shape, 4, degree=4)
    same(on_ckks(graph, values), clear(graph, values), 1e-3)


# ------------------------------------------------------------------------------------------------ colour moments, gradients


@pytest.mark.parametrize("picture", ["camera", "colour", "noise", "dim"])
def test_color_moments(picture: str) -> None:
    values = PICTURES[picture]
    for roots in (True, False):
        rows = [
            [p.mean(), *((np.std(p), scipy.stats.skew(p)) if roots else (np.var(p), scipy.stats.moment(p, 3)))]
            for p in planes(values).reshape(len(planes(values)), -1)
        ]
        wanted = np.array(rows)
        graph = features.color_moments(values.shape, roots=roots)
        same(clear(graph, values), wanted, 1e-10)
        same(on_shares(graph, values), wanted, 1e-3)


def test_one_colour_has_no_skewness() -> None:
    values = np.full((9, 8), 0.4)
    graph = features.color_moments(values.shape)
    for found in (clear(graph, values), on_shares(graph, values)):
        assert np.abs(found - [[0.4, 0.0, 0.0]]).max() < 1e-3


@pytest.mark.parametrize("picture", PICTURES)
def test_gradient_energy(picture: str) -> None:
    values = PICTURES[picture]
    squares = np.array([filters.sobel(p) ** 2 for p in planes(values)])
    whole = squares.mean(axis=(1, 2), keepdims=True)
    rows, columns = squares.shape[1] // 5, squares.shape[2] // 7
    cells = squares[:, : rows * 5, : columns * 7].reshape(-1, rows, 5, columns, 7).mean(axis=(2, 4))
    for cell, wanted in ((None, whole), ((5, 7), cells)):
        graph = features.gradient_energy(values.shape, cell)
        same(clear(graph, values), wanted, 1e-10)
        same(on_shares(graph, values), wanted, 1e-3)


def test_polynomials_on_ciphertexts() -> None:
    values = CAMERA[:16, :16]
    for graph in (features.color_moments(values.shape, roots=False), features.gradient_energy(values.shape)):
        wanted = clear(graph, values)
        assert np.abs(on_ckks(graph, values) - wanted).max() <= 1e-3 * np.abs(wanted).max() + 2e-5


# ---------------------------------------------------------------------------------------------------------------- moments


def kept(values: np.ndarray, order: int, least: int = 0) -> np.ndarray:
    """Those whose powers add up to `least` to `order`; 0 for the others."""
    total = np.add.outer(np.arange(order + 1), np.arange(order + 1))
    return np.where((total <= order) & (total >= least), values, 0.0)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("order", "spacing"), [(3, None), (2, (0.5, 0.3)), (1, None), (4, (1 / 64, 1 / 64))])
def test_moments(picture: str, order: int, spacing: tuple[float, float] | None) -> None:
    values = PICTURES[picture]
    raw = np.array([kept(measure.moments(p, order, spacing=spacing), order) for p in planes(values)])
    central = np.array([kept(measure.moments_central(p, None, order, spacing=spacing), order) for p in planes(values)])
    about = np.array(
        [kept(measure.moments_central(p, (3, 4.5), order, spacing=spacing), order) for p in planes(values)]
    )
    for graph, wanted in (
        (features.moments(values.shape, order, spacing=spacing), raw),
        (features.moments_central(values.shape, None, order, spacing=spacing), central),
        (features.moments_central(values.shape, (3, 4.5), order, spacing=spacing), about),
    ):
        same(clear(graph, values), wanted, 1e-10)
        # central moments of what lies far from the middle are small differences of large ones: their page says so
        same(on_shares(graph, values), wanted, 3e-3 if picture == "shape" and wanted is central else 1e-3)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("order", "spacing"), [(3, None), (2, (0.5, 0.3))])
def test_normalized_moments(picture: str, order: int, spacing: tuple[float, float] | None) -> None:
    values = PICTURES[picture]
    central = [measure.moments_central(p, None, order, spacing=spacing) for p in planes(values)]
    wanted = np.array([kept(measure.moments_normalized(mu, order, spacing), order, 2) for mu in central])
    graph = features.moments_normalized(values.shape, order, spacing=spacing)
    same(clear(graph, values), wanted, 1e-10)
    same(on_shares(graph, values), wanted, 1e-3)


@pytest.mark.parametrize("picture", ["camera", "colour", "noise", "shape"])
def test_hu_moments(picture: str) -> None:
    values = PICTURES[picture]
    central = [measure.moments_central(p) for p in planes(values)]
    wanted = np.array([measure.moments_hu(measure.moments_normalized(mu)) for mu in central])
    graph = features.moments_hu(values.shape)
    same(clear(graph, values), wanted, 1e-10)
    same(on_shares(graph, values), wanted, 1e-3)


def test_moments_on_ciphertexts() -> None:
    """With a spacing that brings them to one size each is right for itself."""
    values = CAMERA[:32, :32]
    spacing = (1 / 32, 1 / 32)
    for graph, wanted in (
        (features.moments(values.shape, spacing=spacing), measure.moments(values, spacing=spacing)),
        (features.moments_central(values.shape, (0.5, 0.5), spacing=spacing),
         measure.moments_central(values, (0.5, 0.5), spacing=spacing)),
    ):  # fmt: skip
        same(on_ckks(graph, values)[0], kept(wanted, 3), 1e-3)


# --------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("call", "message"), [
    (lambda: features.histogram((8, 8), 0), "0 bins, the limits are 1 and 256"),
    (lambda: features.histogram((8, 8), 4, (1.0, 0.0)), "the lower first"),
    (lambda: features.histogram((8, 8), 4, degree=1), "degree 1 is neither 0 nor 2 to 31"),
    (lambda: features.gradient_energy((8, 8), (9, 2)), "a cell of 9x2"),
    (lambda: features.moments((8, 8), 9), "order 9 is outside 1 to 8"),
    (lambda: features.moments((8, 8), spacing=(1.0, 0.0)), "spacing"),
    (lambda: features.moments_central((8, 8), (float("nan"), 0.0)), "center"),
    (lambda: features.moments_normalized((8, 8), 1), "order 1 is outside 2 to 8"),
])  # fmt: skip
def test_refusals(call, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()
