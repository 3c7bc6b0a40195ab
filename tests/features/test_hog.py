"""Rule: HOG equals scikit-image's, in the clear up to rounding and on shares to 1e-3 of the largest value."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from skimage.feature import hog as reference

from secureimg import features
from secureimg.errors import GraphError
from secureimg.graph import run_plain

from .executors import on_shares

CAMERA = data.camera() / 255.0
DEFAULTS: dict = {}
OTHERS = [
    {"orientations": 6, "pixels_per_cell": (16, 12), "cells_per_block": (2, 2), "block_norm": "L2"},
    {"orientations": 7, "pixels_per_cell": (6, 9), "cells_per_block": (1, 2), "block_norm": "L1"},
    {"orientations": 9, "pixels_per_cell": (5, 5), "cells_per_block": (1, 1), "block_norm": "L1-sqrt"},
    {"orientations": 2, "pixels_per_cell": (8, 8), "cells_per_block": (3, 1), "block_norm": "L2-Hys"},
]


def pictures() -> dict[str, np.ndarray]:
    """Real pictures, and ones with gradients of every size and of none."""
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(56), np.arange(72))
    return {
        "camera": CAMERA[100:197, 200:301],
        "sky": CAMERA[:64, :64],
        "coins": data.coins()[50:114, 40:150] / 255.0,
        "noise": rng.integers(0, 256, (64, 48)) / 255.0,
        "numbers": rng.random((48, 64)),
        "one level": (ramp % 5 == 0) / 255.0,
        "flat": np.full((48, 48), 0.5),
    }


@pytest.mark.parametrize("options", [DEFAULTS, *OTHERS])
@pytest.mark.parametrize("name", pictures())
def test_in_the_clear(name: str, options: dict) -> None:
    picture = pictures()[name]
    found = run_plain(features.hog(picture.shape, **options), picture[None, None])[0]
    assert np.abs(found - reference(picture, **options)).max() < 1e-6


@pytest.mark.parametrize("name", pictures())
def test_on_shares(name: str) -> None:
    picture = pictures()[name]
    wanted = reference(picture)
    found = on_shares(features.hog(picture.shape), picture)
    assert np.abs(found - wanted).max() <= (5e-4 * wanted.max() if wanted.any() else 1e-3)


def test_gradients_that_nearly_point_between_two_bins() -> None:
    """73 down and 87 across are 39.9994 degrees; 97 and 56 are 60.0013: pixels of 8 bits come no nearer to a line."""
    rng = np.random.default_rng(5)
    picture = np.zeros((64, 64))
    for number in range(64):
        row, column = 8 * (number // 8) + 4, 8 * (number % 8) + 4
        down, across = ((73, 87), (97, 56))[number % 2]
        top, left = rng.integers(0, 256 - down), rng.integers(0, 256 - across)
        picture[row - 1, column], picture[row + 1, column] = top / 255, (top + down) / 255
        picture[row, column - 1], picture[row, column + 1] = left / 255, (left + across) / 255
    for turned in (picture, picture[::-1], picture[:, ::-1]):
        wanted = reference(turned, cells_per_block=(1, 1))
        found = on_shares(features.hog(turned.shape, cells_per_block=(1, 1)), turned)
        assert np.abs(found - wanted).max() <= 5e-4 * wanted.max()


@pytest.mark.parametrize("options", OTHERS)
def test_other_parameters_on_shares(options: dict) -> None:
    picture = pictures()["camera"]
    wanted = reference(picture, **options)
    found = on_shares(features.hog(picture.shape, **options), picture)
    assert np.abs(found - wanted).max() <= 1e-3 * wanted.max()


@pytest.mark.parametrize("orientations", [4, 8, 12])
def test_gradients_on_a_line_between_bins(orientations: int) -> None:
    """Of whole numbers those of 45 degrees are exactly on it, and scikit-image has them beyond it."""
    pixels = data.coins()[50:114, 40:150].astype(float)
    wanted = reference(pixels, orientations)
    graph = features.hog(pixels.shape, orientations)
    assert np.abs(run_plain(graph, pixels[None, None] / 255)[0] - wanted).max() < 1e-6
    assert np.abs(on_shares(graph, pixels / 255) - wanted).max() <= 1e-3 * wanted.max()


def test_of_several_channels_the_steepest_counts() -> None:
    """Channels on different scales, so that no two have equal gradients; nearly equal ones may be confused on shares."""
    picture = np.moveaxis(data.coffee()[100:164, 200:264] / 255.0, -1, 0) * np.array([0.9, 0.57, 0.31])[:, None, None]
    wanted = reference(picture, channel_axis=0)
    graph = features.hog(picture.shape)
    assert np.abs(run_plain(graph, picture[None])[0] - wanted).max() < 1e-6
    off = np.abs(on_shares(graph, picture) - wanted) / wanted.max()
    assert np.median(off) < 1e-3
    assert off.mean() < 5e-3


def test_the_shape_of_blocks() -> None:
    graph = features.hog((40, 48), feature_vector=False)
    picture = CAMERA[:40, 100:148]
    wanted = reference(picture, feature_vector=False)
    assert graph.output_shape == wanted.shape
    assert np.abs(run_plain(graph, picture[None, None])[0] - wanted).max() < 1e-6


@pytest.mark.parametrize(("shape", "options", "message"), [
    ((20, 40), {}, "20x40 is smaller than a block of 24x24"),
    ((64, 64), {"orientations": 1}, "1 orientations"),
    ((64, 64), {"block_norm": "L3"}, "block_norm 'L3'"),
    ((64, 64), {"pixels_per_cell": (0, 8)}, r"cells of \(0, 8\)"),
    ((64,), {}, r"\(H, W\) or \(C, H, W\)"),
])  # fmt: skip
def test_refusals(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        features.hog(shape, **options)
