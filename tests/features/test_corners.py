"""Rule: corner responses and maps equal scikit-image's: in the clear to rounding, on both executors to 1e-3."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, feature

from secureimg.errors import GraphError
from secureimg.features import corners
from secureimg.features.corner_maps import corner_peaks
from secureimg.graph import Graph

from .executors import clear, on_ckks, on_shares

CAMERA = data.camera()[100:164, 200:264] / 255.0
PICTURES = {
    "camera": CAMERA,
    "odd": data.camera()[100:163, 200:281] / 255.0,
    "moon": data.moon()[60:124, 30:94] / 255.0,
    "dim": np.rint(25.5 * CAMERA) / 255.0,
    "noise": np.random.default_rng(4).random((41, 33)),
    "flat": np.full((20, 24), 0.3),
    "black": np.zeros((12, 17)),
}
RESPONSES: dict[str, tuple[Callable[..., Graph], Callable[..., np.ndarray]]] = {
    "k": (corners.corner_harris, lambda picture, **words: feature.corner_harris(picture, **words)),
    "eps": (
        lambda shape, **words: corners.corner_harris(shape, "eps", **words),
        lambda picture, **words: feature.corner_harris(picture, "eps", **words),
    ),
    "shi_tomasi": (corners.corner_shi_tomasi, feature.corner_shi_tomasi),
    "tensor": (corners.structure_tensor, lambda picture, **words: np.stack(feature.structure_tensor(picture, **words))),
}


def same(found: np.ndarray, wanted: np.ndarray, error: float) -> None:
    assert np.abs(found - wanted.reshape(found.shape)).max() <= error * max(np.abs(wanted).max(), 1e-4)


# -------------------------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize("sigma", [1.0, 0.4, 2.3])
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", RESPONSES)
def test_responses_in_the_clear(name: str, picture: str, sigma: float) -> None:
    ours, reference = RESPONSES[name]
    values = PICTURES[picture]
    same(clear(ours(values.shape, sigma=sigma), values), reference(values, sigma=sigma), 1e-10)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", RESPONSES)
def test_responses_on_shares(name: str, picture: str) -> None:
    ours, reference = RESPONSES[name]
    values = PICTURES[picture]
    same(on_shares(ours(values.shape), values), reference(values, sigma=1), 1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.floats(1e-9, 1), st.integers(0, 99))
def test_parameters(rows: int, columns: int, k: float, eps: float, seed: int) -> None:
    """Any k and eps, and pictures smaller than a kernel."""
    values = np.random.default_rng(seed).random((rows, columns))
    if min(rows, columns) == 1:  # scikit-image takes such a picture for a line
        assert clear(corners.corner_harris(values.shape, k=k), values).shape == (1, rows, columns)
        return
    same(clear(corners.corner_harris(values.shape, k=k), values), feature.corner_harris(values, k=k), 1e-10)
    graph = corners.corner_harris(values.shape, "eps", eps=eps)
    same(clear(graph, values), feature.corner_harris(values, "eps", eps=eps), 1e-10)


@pytest.mark.parametrize("mode", ["constant", "reflect", "nearest", "mirror", "wrap"])
def test_tensor_at_the_border_and_its_order(mode: str) -> None:
    values = PICTURES["noise"]
    graph = corners.structure_tensor(values.shape, (0.7, 1.6), mode=mode, order="xy")
    wanted = feature.structure_tensor(values, (0.7, 1.6), mode=mode, order="xy")
    same(clear(graph, values), np.stack(wanted), 1e-10)


def test_harris_on_ciphertexts() -> None:
    values = CAMERA[:32, :32]
    same(on_ckks(corners.corner_harris(values.shape), values), feature.corner_harris(values), 1e-3)


def test_shi_tomasi_as_a_polynomial() -> None:
    """Off by no more than its page says."""
    values = CAMERA[:24, :24]
    wanted = feature.corner_shi_tomasi(values)
    for degree in (1, 3, 7, 15):
        graph = corners.corner_shi_tomasi(values.shape, degree=degree, largest=6.0)
        assert np.abs(clear(graph, values)[0] - wanted).max() <= 6.0 / (4 * degree + 2)
    graph = corners.corner_shi_tomasi(values.shape, degree=3, largest=6.0)
    assert np.abs(on_ckks(graph, values) - clear(graph, values)).max() <= 1e-3 * 6.0


# ------------------------------------------------------------------------------------------------------------------ peaks


def peaks(response: np.ndarray, **words: object) -> np.ndarray:
    found = np.zeros(response.shape)
    found[tuple(feature.corner_peaks(response, **words).T)] = 1.0
    return found


PEAKS = [
    {}, {"min_distance": 3, "threshold_rel": 0.05}, {"threshold_abs": 0.01, "exclude_border": False},
    {"min_distance": 2, "threshold_abs": 1e-4, "threshold_rel": 0.01, "exclude_border": 5},
]  # fmt: skip


@pytest.mark.parametrize("words", PEAKS)
@pytest.mark.parametrize("picture", ["camera", "odd", "dim", "noise"])
@pytest.mark.parametrize("name", ["k", "eps", "shi_tomasi"])
def test_peaks(name: str, picture: str, words: dict) -> None:
    """In the clear all are scikit-image's; on shares two responses closer than 1e-3 may change places."""
    values = PICTURES[picture]
    response = RESPONSES[name][1](values, sigma=1)
    wanted = peaks(response, **words)
    graph = corner_peaks(values.shape, response=name, **words)
    assert np.array_equal(clear(graph, values)[0], wanted)
    found = np.rint(on_shares(graph, values)[0])
    assert set(np.unique(found)) <= {0.0, 1.0}
    distance, slack = words.get("min_distance", 1), 1e-3 * response.max()
    for row, column in np.argwhere(found != wanted):
        around = response[
            max(0, row - distance) : row + distance + 1, max(0, column - distance) : column + distance + 1
        ]
        rivals = np.sort(around.ravel())[-2:]
        limits = [words.get("threshold_abs", np.inf), words.get("threshold_rel", np.inf) * response.max()]
        near = [rivals[1] - rivals[0], *(abs(response[row, column] - limit) for limit in limits)]
        assert min(near) <= slack


def test_equal_neighbours_give_one_peak() -> None:
    """Mirrored: the response is the same on both sides of the middle, and the first in reading order wins."""
    half = np.random.default_rng(2).random((16, 9))
    values = np.rint(16 * np.concatenate([half, half[:, ::-1]], axis=1)) / 16
    found = np.rint(on_shares(corner_peaks(values.shape, 2), values)[0])
    for row, column in np.argwhere(found):
        around = found[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        assert around.sum() == 1


# --------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("call", "message"), [
    (lambda: corners.corner_harris((8, 8), k=1.3), "k = 1.3 is outside 0 to 1"),
    (lambda: corners.corner_harris((8, 8), "noble"), "method 'noble' is none of 'k', 'eps'"),  # type: ignore[arg-type]
    (lambda: corners.corner_harris((8, 8), eps=0.0), "eps = 0.0 is not above 0"),
    (lambda: corners.corner_harris((3, 8, 8)), "3 channels"),
    (lambda: corners.corner_shi_tomasi((8, 8), -1.0), "sigma -1.0"),
    (lambda: corners.corner_shi_tomasi((8, 8), degree=16), "degree 16 is outside 0 to 15"),
    (lambda: corners.corner_shi_tomasi((8, 8), degree=3, largest=0.0), "largest 0.0"),
    (lambda: corners.structure_tensor((8, 8), float("nan")), "sigma nan"),
    (lambda: corners.structure_tensor((8, 8), mode="edge"), "mode 'edge'"),
    (lambda: corners.structure_tensor((8, 8), order="yx"), "order 'yx'"),  # type: ignore[arg-type]
    (lambda: corner_peaks((8, 8), 0), "min_distance 0 is outside 1 to 10"),
    (lambda: corner_peaks((8, 8), threshold_rel=2.0), "threshold_rel 2.0 is outside 0 to 1"),
    (lambda: corner_peaks((8, 8), 4), "a border of 4 pixels leaves nothing"),
    (lambda: corner_peaks((8, 8), response="fast"), "response 'fast'"),  # type: ignore[arg-type]
])  # fmt: skip
def test_refusals(call: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()
