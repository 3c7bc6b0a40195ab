"""Rule: corner responses equal scikit-image's: in the clear to rounding, on both executors to what their pages state."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data, feature

from secureimg import features
from secureimg.errors import GraphError
from secureimg.graph import Graph, run_plain

from .executors import on_ckks, on_shares

PICTURES = {
    "camera": data.camera()[100:163, 200:281] / 255.0,
    "moon": data.moon()[60:124, 30:94] / 255.0,
    "noise": np.random.default_rng(4).random((41, 33)),
    "flat": np.full((20, 24), 0.3),
}


def reference(name: str, picture: np.ndarray, sigma: float) -> np.ndarray:
    if name == "structure_tensor":
        return np.stack(feature.structure_tensor(picture, sigma, order="rc"))
    return getattr(feature, name)(picture, sigma=sigma)[None]


def built(name: str, picture: np.ndarray, sigma: float) -> Graph:
    return getattr(features, name)(picture.shape, sigma=sigma)


@pytest.mark.parametrize("sigma", [1.0, 0.5, 2.3])
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", ["structure_tensor", "corner_harris", "corner_shi_tomasi"])
def test_in_the_clear(name: str, picture: str, sigma: float) -> None:
    values = PICTURES[picture]
    wanted = reference(name, values, sigma)
    found = run_plain(built(name, values, sigma), values[None, None])[0]
    assert np.abs(found - wanted).max() <= 1e-12 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("name", "relative", "absolute"), [
    ("structure_tensor", 2e-4, 0.0), ("corner_harris", 5e-4, 1e-4), ("corner_shi_tomasi", 1e-3, 2e-3)
])  # fmt: skip
def test_on_shares(name: str, picture: str, relative: float, absolute: float) -> None:
    values = PICTURES[picture]
    wanted = reference(name, values, 1.0)
    found = on_shares(built(name, values, 1.0), values)
    assert np.abs(found - wanted).max() <= relative * np.abs(wanted).max() + absolute


@pytest.mark.parametrize("k", [0.0, 0.05, 0.2])
def test_k_weighs_the_trace(k: float) -> None:
    values = PICTURES["camera"]
    found = run_plain(features.corner_harris(values.shape, k), values[None, None])[0, 0]
    assert np.abs(found - feature.corner_harris(values, k=k)).max() <= 1e-12


def test_harris_on_ciphertexts() -> None:
    values = PICTURES["noise"][:24, :28]
    graph = features.corner_harris(values.shape)
    wanted = feature.corner_harris(values)
    assert np.abs(on_ckks(graph, values)[0] - wanted).max() <= 1e-3 * wanted.max()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: features.corner_harris((8, 8), 0.3), "k is 0.3, the limits are 0 and 0.25"),
    (lambda: features.corner_harris((3, 8, 8)), "3 channels"),
    (lambda: features.corner_shi_tomasi((8, 8), -1.0), "sigma -1.0"),
    (lambda: features.structure_tensor((8, 8), float("nan")), "sigma nan"),
])  # fmt: skip
def test_refusals(call, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()
