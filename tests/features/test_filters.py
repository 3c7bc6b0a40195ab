"""Rule: filters equal those of scikit-image and scipy, in the clear to rounding, on shares to 1e-3 of the largest value.

Linear ones to 1e-4, and on CKKS too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, filters

from secureimg.errors import GraphError
from secureimg.features import edges
from secureimg.features import filters as ours
from secureimg.features.gabor import gabor, gabor_bank
from secureimg.graph import Graph

from .executors import clear, noise, on_ckks, on_shares, same

CAMERA = data.camera()[100:212, 200:312] / 255.0
MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]
NAMES = ["sobel", "scharr", "prewitt"]
SIDES = st.integers(1, 24)


# ---------------------------------------------------------------------------------------------------------- in the clear


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(MODES), st.floats(0, 3), st.floats(0, 3), st.floats(0.5, 5), st.floats(-1, 2))
def test_gaussian(
    rows: int, columns: int, mode: str, sigma_r: float, sigma_c: float, truncate: float, cval: float
) -> None:
    picture = noise(rows, columns)
    graph = ours.gaussian(picture.shape, (sigma_r, sigma_c), mode=mode, cval=cval, truncate=truncate)
    wanted = filters.gaussian(picture, (sigma_r, sigma_c), mode=mode, cval=cval, truncate=truncate)
    same(clear(graph, picture)[0], wanted)


def test_gaussian_has_the_defaults_of_scikit_image() -> None:
    same(clear(ours.gaussian(CAMERA.shape), CAMERA)[0], filters.gaussian(CAMERA))
    same(clear(ours.gaussian(CAMERA.shape, 2.5), CAMERA)[0], filters.gaussian(CAMERA, 2.5))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(MODES), st.integers(1, 9), st.integers(1, 9), st.floats(-1, 2))
def test_box(rows: int, columns: int, mode: str, size_r: int, size_c: int, cval: float) -> None:
    picture = noise(rows, columns)
    graph = ours.box(picture.shape, (size_r, size_c), mode=mode, cval=cval)
    same(clear(graph, picture)[0], ndi.uniform_filter(picture, (size_r, size_c), mode=mode, cval=cval))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(MODES), st.integers(1, 8), st.integers(1, 8), st.floats(-1, 2))
def test_separable(rows: int, columns: int, mode: str, width: int, height: int, cval: float) -> None:
    """Convolution, not correlation: the kernels are not symmetric."""
    picture, row, column = noise(rows, columns), noise(width) - 0.3, noise(1, height)[0] - 0.6
    graph = ours.separable(picture.shape, row, column, mode=mode, cval=cval)
    same(clear(graph, picture)[0], ndi.convolve(picture, np.outer(column, row), mode=mode, cval=cval))


def test_laplace() -> None:
    picture = noise(17, 23)
    same(clear(ours.laplace(picture.shape), picture)[0], filters.laplace(picture))
    kernel = [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]
    for mode in MODES:
        graph = ours.laplace(picture.shape, mode=mode, cval=0.7)
        same(clear(graph, picture)[0], ndi.convolve(picture, kernel, mode=mode, cval=0.7))


@pytest.mark.parametrize("name", [name + suffix for name in NAMES for suffix in ("_h", "_v", "")])
def test_edges(name: str) -> None:
    for picture in (noise(19, 26), CAMERA, np.zeros((5, 4))):
        same(clear(getattr(edges, name)(picture.shape), picture)[0], getattr(filters, name)(picture))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_edges_at_the_border(name: str, mode: str) -> None:
    picture = noise(7, 12)
    reference: Callable[..., np.ndarray] = getattr(filters, name)
    for axis, suffix in enumerate("hv"):
        graph = getattr(edges, f"{name}_{suffix}")(picture.shape, mode=mode, cval=1.7)
        same(clear(graph, picture)[0], reference(picture, axis=axis, mode=mode, cval=1.7))
    for energy in (False, True):
        graph = getattr(edges, name)(picture.shape, mode=mode, cval=1.7, energy=energy)
        same(clear(graph, picture)[0], reference(picture, mode=mode, cval=1.7) ** (2 if energy else 1))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 30), st.sampled_from(MODES), st.floats(0.08, 1), st.floats(-7, 7), st.floats(0.5, 3),
    st.none() | st.floats(0.5, 4), st.none() | st.floats(0.5, 4), st.floats(0.5, 3.5), st.floats(-3, 3),
)  # fmt: skip
def test_gabor(
    rows: int, columns: int, mode: str, frequency: float, theta: float, bandwidth: float, sigma_x: float | None,
    sigma_y: float | None, n_stds: float, offset: float,
) -> None:  # fmt: skip
    picture, options = noise(rows, columns), (frequency, theta, bandwidth, sigma_x, sigma_y, n_stds, offset)
    graph = gabor(picture.shape, *options, mode=mode, cval=0.8)
    same(clear(graph, picture), np.stack(filters.gabor(picture, *options, mode=mode, cval=0.8)))


def test_a_round_gabor_kernel_is_two_short_ones() -> None:
    """The number of weights grows with the side of the kernel, not with its area."""
    for sigma_y in (None, 5.0):
        graph = gabor(CAMERA.shape, 0.1, 0.6, sigma_y=sigma_y)
        weights = sum(node.op.weight.size for node in graph.nodes if hasattr(node.op, "weight"))
        kernel = filters.gabor_kernel(0.1, 0.6, sigma_y=sigma_y)
        assert weights == (2 * kernel.size if sigma_y else 2 * kernel.shape[0] + 4 * kernel.shape[1])


def test_gabor_bank() -> None:
    picture, frequencies, thetas = noise(2, 21, 30), (0.2, 0.35), (0.0, 0.5, 2.0)
    found = clear(gabor_bank(picture.shape, frequencies, thetas), picture)
    wanted = [
        part for channel in picture for frequency in frequencies for theta in thetas
        for part in filters.gabor(channel, frequency, theta)
    ]  # fmt: skip
    same(found, np.stack(wanted))


@pytest.mark.parametrize("make", [
    ours.gaussian, ours.box, ours.separable, ours.laplace, edges.sobel_h, edges.scharr_v, edges.prewitt, edges.sobel,
])  # fmt: skip
def test_channels_are_filtered_by_themselves(make: Callable[..., Graph]) -> None:
    picture = noise(3, 15, 18)
    alone = [clear(make(channel.shape), channel)[0] for channel in picture]
    same(clear(make(picture.shape), picture), np.stack(alone))


# ---------------------------------------------------------------------------------------------------- on both executors


@pytest.mark.parametrize("name", [name + suffix for name in NAMES for suffix in ("_h", "_v", "")])
def test_edges_on_shares(name: str) -> None:
    picture = CAMERA[:67, :90]
    same(on_shares(getattr(edges, name)(picture.shape), picture)[0], getattr(filters, name)(picture), 1e-3)


def test_smoothing_on_shares() -> None:
    picture = CAMERA[:67, :90]
    for sigma in (1, 3.3):
        same(on_shares(ours.gaussian(picture.shape, sigma), picture)[0], filters.gaussian(picture, sigma), 1e-4)
    same(on_shares(ours.box(picture.shape, 5), picture)[0], ndi.uniform_filter(picture, 5), 1e-4)
    same(on_shares(ours.laplace(picture.shape), picture)[0], filters.laplace(picture), 1e-4)


@pytest.mark.parametrize("options", [(0.1,), (0.25, 0.8), (0.3, 1.2, 1.0, 2.0, 4.0)])
def test_gabor_on_shares(options: tuple) -> None:
    same(on_shares(gabor(CAMERA.shape, *options), CAMERA), np.stack(filters.gabor(CAMERA, *options)), 1e-3)


def test_on_ckks() -> None:
    picture = CAMERA[40:72, 40:72]
    same(on_ckks(ours.gaussian(picture.shape), picture)[0], filters.gaussian(picture), 1e-4)
    same(on_ckks(edges.sobel_h(picture.shape), picture)[0], filters.sobel_h(picture), 1e-4)
    same(on_ckks(edges.sobel(picture.shape, energy=True), picture)[0], filters.sobel(picture) ** 2, 1e-3)
    same(on_ckks(gabor(picture.shape, 0.4), picture), np.stack(filters.gabor(picture, 0.4)), 1e-4)


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ours.gaussian((9,)), r"\(H, W\) or \(C, H, W\)"),
    (lambda: ours.gaussian((9, 9), -1.0), "sigma -1.0"),
    (lambda: ours.gaussian((9, 9), 200.0), "the limit is 1024"),
    (lambda: ours.gaussian((9, 9), mode="edge"), "mode 'edge'"),
    (lambda: ours.gaussian((9, 9), truncate=0.0), "truncate 0.0"),
    (lambda: ours.box((9, 9), 0), "size 0"),
    (lambda: ours.separable((9, 9), [[1.0]]), r"row kernel has the shape \(1, 1\)"),
    (lambda: ours.separable((9, 9), column_kernel=[np.nan]), "column kernel"),
    (lambda: edges.sobel_h((9, 9), mode="none"), "sobel_h: mode 'none'"),
    (lambda: gabor((9, 9), 0.0), "frequency is 0.0"),
    (lambda: gabor((9, 9), 0.001), "the limit is a side of 1024"),
    (lambda: gabor((9, 9), sigma_x=-2.0), "sigma_x is -2.0"),
    (lambda: gabor_bank((9, 9), (), (0.0,)), "0 frequencies"),
])  # fmt: skip
def test_refusals(make: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()
