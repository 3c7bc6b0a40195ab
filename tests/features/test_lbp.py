"""Rule: codes equal scikit-image's on pictures of whole numbers, but for points exactly as bright as the pixel."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.feature import local_binary_pattern as reference

from secureimg import features, sharing
from secureimg.errors import GraphError
from secureimg.graph import run_plain

PICTURES = {"camera": data.camera()[:90, :120], "coins": data.coins()[:64, :64], "moon": data.moon()[60:140, 30:90]}
CASES = [(8, 1.0), (8, 2.0), (16, 2.0), (24, 3.0), (5, 1.5)]


@pytest.mark.parametrize("method", ["default", "uniform"])
@pytest.mark.parametrize(("points", "radius"), CASES)
@pytest.mark.parametrize("name", PICTURES)
def test_in_the_clear_and_on_shares(name: str, points: int, radius: float, method: str) -> None:
    """At least 99.5 % of codes (the rest are ties), 99.9 % of the nearest neighbours'; shares and the clear agree."""
    picture = PICTURES[name]
    graph = features.local_binary_pattern(picture.shape, points, radius, method)
    clear = run_plain(graph, picture[None, None].astype(float))[0, 0]
    wanted = reference(picture, points, radius, method)
    assert np.mean(clear == wanted) >= (0.999 if (points, radius) == (8, 1.0) else 0.995)
    program = sharing.compile(graph, weights="public")
    found = sharing.run_together(program, picture[None, None].astype(float))[0, 0]
    assert np.array_equal(np.rint(found), clear)


@pytest.mark.parametrize(("points", "radius"), [(8, 2.0), (16, 2.0)])
def test_codes_differ_at_ties_only(points: int, radius: float) -> None:
    """Where a code differs, some point is as bright as the pixel to within what floating point can tell."""
    picture = PICTURES["camera"]
    clear = run_plain(features.local_binary_pattern(picture.shape, points, radius), picture[None, None].astype(float))
    wanted = reference(picture, points, radius)
    for row, column in np.argwhere(clear[0, 0] != wanted):
        different = int(clear[0, 0, row, column]) ^ int(wanted[row, column])
        for point in range(points):
            if different >> point & 1:
                assert abs(difference(picture, row, column, point, points, radius)) < Fraction(1, 100)


def difference(picture: np.ndarray, row: int, column: int, point: int, points: int, radius: float) -> Fraction:
    """Point minus pixel, exactly."""
    angle = 2 * np.pi * point / points
    y, x = (Fraction(str(round(float(v), 5))) for v in (-radius * np.sin(angle), radius * np.cos(angle)))
    total = Fraction(0)
    for r, row_weight in ((y.__floor__(), 1 - (y - y.__floor__())), (y.__floor__() + 1, y - y.__floor__())):
        for c, weight in ((x.__floor__(), 1 - (x - x.__floor__())), (x.__floor__() + 1, x - x.__floor__())):
            inside = 0 <= row + r < picture.shape[0] and 0 <= column + c < picture.shape[1]
            total += row_weight * weight * (int(picture[row + r, column + c]) if inside else 0)
    return total - int(picture[row, column])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), points=st.integers(2, 12), radius=st.sampled_from([0.7, 1.0, 1.3, 2.5]))
def test_random_pictures(seed: int, points: int, radius: float) -> None:
    """Hardly any ties: then all codes are equal."""
    picture = np.random.default_rng(seed).integers(0, 256, (17, 23)).astype(np.uint8)
    for method in ("default", "uniform"):
        graph = features.local_binary_pattern(picture.shape, points, radius, method)
        clear = run_plain(graph, picture[None, None].astype(float))[0, 0]
        assert np.mean(clear == reference(picture, points, radius, method)) > 0.98


@pytest.mark.parametrize(("arguments", "message"), [
    (((8, 8), 1), "P = 1 points, the limits are 2 and 24"),
    (((8, 8), 8, 0.0), "radius R of 0"),
    (((8, 8), 8, 1.0, "var"), "method 'var'"),
    (((3, 8, 8),), "3 channels"),
])  # fmt: skip
def test_refusals(arguments: tuple, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        features.local_binary_pattern(*arguments)


@pytest.mark.parametrize("method", ["default", "uniform"])
def test_hidden_weights_give_the_same_codes(method: features.LbpMethod) -> None:
    """In a program with a secret classifier the patterns' weights are hidden with its: equal pixels still are equal."""
    pixels = data.camera()[:96, 300:400]
    graph = features.local_binary_pattern(pixels.shape, 8, 1, method)
    program = sharing.compile(graph, weights="party 1")
    found = sharing.run_together(program, pixels[None, None].astype(float))[0, 0]
    assert np.mean(np.rint(found) == reference(pixels, 8, 1, method)) >= 0.999
