"""Rule: resizing, pyramids, wavelets, cosines and colours equal those of scikit-image and scipy, and invert if they can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color, data, transform

from secureimg.errors import GraphError
from secureimg.features import colour, resizing, transforms
from secureimg.graph import Graph

from .executors import clear, noise, on_ckks, on_shares, same

CAMERA = data.camera()[100:228, 200:328] / 255.0
ASTRONAUT = np.moveaxis(data.astronaut()[60:140, 180:270] / 255.0, -1, 0)
SIDES = st.integers(1, 30)


# -------------------------------------------------------------------------------------------------------------- resizing


@settings(max_examples=80, deadline=None)
@given(
    SIDES, SIDES, SIDES, SIDES, st.sampled_from([0, 1]), st.booleans(), st.floats(-1, 2),
    st.sampled_from(["reflect", "constant", "edge", "symmetric", "wrap"]),
)  # fmt: skip
def test_resize(
    rows: int, columns: int, new_rows: int, new_columns: int, order: int, anti_aliasing: bool, cval: float, mode: str
) -> None:
    picture, size, options = noise(rows, columns), (new_rows, new_columns), {"anti_aliasing": anti_aliasing}
    graph = resizing.resize(picture.shape, size, order, mode, cval, **options)
    same(clear(graph, picture)[0], transform.resize(picture, size, order, mode, cval, clip=False, **options))


def test_resize_has_the_defaults_of_scikit_image() -> None:
    for size in ((64, 64), (57, 200), (200, 150)):
        same(clear(resizing.resize(CAMERA.shape, size), CAMERA)[0], transform.resize(CAMERA, size))


def test_resize_with_another_blur() -> None:
    for sigma in (1.5, (0.4, 2.0)):
        wanted = transform.resize(CAMERA, (40, 50), anti_aliasing_sigma=sigma)
        same(clear(resizing.resize(CAMERA.shape, (40, 50), anti_aliasing_sigma=sigma), CAMERA)[0], wanted)


def test_resize_a_colour_picture() -> None:
    wanted = transform.resize(np.moveaxis(ASTRONAUT, 0, -1), (33, 41))
    same(clear(resizing.resize(ASTRONAUT.shape, (33, 41)), ASTRONAUT), np.moveaxis(wanted, -1, 0))


@settings(max_examples=40, deadline=None)
@given(
    SIDES, SIDES, st.floats(1.1, 4), st.none() | st.floats(0, 3), st.sampled_from([0, 1]), st.floats(-1, 2),
    st.sampled_from(["reflect", "constant", "wrap"]),
)  # fmt: skip
def test_pyramid_reduce(
    rows: int, columns: int, downscale: float, sigma: float | None, order: int, cval: float, mode: str
) -> None:
    picture, options = noise(rows, columns), (downscale, sigma, order, mode, cval)
    same(
        clear(resizing.pyramid_reduce(picture.shape, *options), picture)[0],
        transform.pyramid_reduce(picture, *options),
    )


@pytest.mark.parametrize("options", [{}, {"downscale": 1.5, "sigma": 0.8}, {"mode": "constant", "cval": 0.3}])
def test_every_level_of_a_pyramid(options: dict) -> None:
    picture = noise(45, 32)
    levels = list(transform.pyramid_gaussian(picture, **options))
    for layer, wanted in enumerate(levels):
        same(clear(resizing.pyramid_gaussian(picture.shape, layer, **options), picture)[0], wanted)
    with pytest.raises(GraphError, match=f"the last one is {len(levels) - 1}"):
        resizing.pyramid_gaussian(picture.shape, len(levels), **options)


# ------------------------------------------------------------------------------------------------------------ transforms


def test_haar_of_four_pixels() -> None:
    """Worked by hand from the definition: half of sums and differences."""
    picture = np.array([[9.0, 5.0], [3.0, 1.0]])
    same(clear(transforms.haar((2, 2)), picture)[0], np.array([[9.0, 3.0], [5.0, 1.0]]))


@pytest.mark.parametrize(("shape", "level"), [((8, 8), 1), ((24, 40), 3), ((3, 16, 32), 4), ((64, 64), 6)])
def test_haar_is_orthonormal(shape: tuple[int, ...], level: int) -> None:
    """Parseval for energies and inner products, and perfect reconstruction; constants have no details."""
    full = shape if len(shape) == 3 else (1, *shape)
    one, two = noise(*full), noise(1, *full)[0]
    forward = transforms.haar(shape, level)
    a, b = clear(forward, one), clear(forward, two)
    assert np.vdot(a, b) == pytest.approx(np.vdot(one, two), rel=1e-12)
    same(clear(transforms.haar(shape, level, inverse=True), a), one)
    flat = clear(forward, np.ones(full))
    rows, columns = full[1] >> level, full[2] >> level
    assert np.abs(flat[:, :rows, :columns] - 2**level).max() < 1e-12
    flat[:, :rows, :columns] = 0
    assert not flat.any()


def test_haar_approximation_is_the_local_mean() -> None:
    for level in (1, 2, 3):
        found = clear(transforms.haar(CAMERA.shape, level), CAMERA)[0, : 128 >> level, : 128 >> level]
        same(found / 2**level, transform.downscale_local_mean(CAMERA, (2**level, 2**level)))


@pytest.mark.parametrize("level", [1, 3])
def test_haar_in_place_is_the_same_in_another_order(level: int) -> None:
    picture = noise(24, 40)
    ordered = clear(transforms.haar(picture.shape, level), picture)[0]
    found = clear(transforms.haar(picture.shape, level, in_place=True), picture)[0]
    for j in range(1, level + 1):
        s, rows, columns = 2 ** (j - 1), 24 >> j, 40 >> j
        same(found[:: 2 * s, s :: 2 * s], ordered[:rows, columns : 2 * columns])
        same(found[s :: 2 * s, :: 2 * s], ordered[rows : 2 * rows, :columns])
        same(found[s :: 2 * s, s :: 2 * s], ordered[rows : 2 * rows, columns : 2 * columns])
    same(found[:: 2**level, :: 2**level], ordered[:rows, :columns])
    same(clear(transforms.haar(picture.shape, level, inverse=True, in_place=True), found)[0], picture)


def test_haar_agrees_with_pywavelets() -> None:
    pywt = pytest.importorskip("pywt")
    picture = noise(24, 40)
    for level in (1, 2, 3):
        wanted, _ = pywt.coeffs_to_array(pywt.wavedec2(picture, "haar", level=level))
        same(clear(transforms.haar(picture.shape, level), picture)[0], wanted)


@pytest.mark.parametrize(("shape", "size"), [((8, 8), 8), ((2, 24, 40), 8), ((30, 25), 5), ((32, 64), 16)])
def test_block_dct(shape: tuple[int, ...], size: int) -> None:
    full = shape if len(shape) == 3 else (1, *shape)
    picture = noise(*full)
    found = clear(transforms.block_dct(shape, size), picture)
    for row in range(0, full[1], size):
        for column in range(0, full[2], size):
            block = np.s_[:, row : row + size, column : column + size]
            same(found[block], scipy.fft.dctn(picture[block], axes=(1, 2), norm="ortho"))
    same(clear(transforms.block_dct(shape, size, inverse=True), found), picture)


def test_integral_image() -> None:
    for picture in (noise(1, 17, 30), noise(3, 9, 11)):
        wanted = np.stack([transform.integral_image(channel) for channel in picture])
        same(clear(transforms.integral_image(picture.shape), picture), wanted)


# --------------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("name", ["rgb2gray", "rgb2ycbcr", "ycbcr2rgb", "rgb2yuv", "yuv2rgb"])
def test_colours(name: str) -> None:
    """In the clear and on shares; conversions back are tried on what the ones there give."""
    start = {"ycbcr2rgb": "rgb2ycbcr", "yuv2rgb": "rgb2yuv"}.get(name)
    limits = {"ycbcr2rgb": (16.0, 240.0), "yuv2rgb": (-0.62, 1.0)}.get(name)
    picture = getattr(color, start)(ASTRONAUT, channel_axis=0) if start else ASTRONAUT
    graph, wanted = getattr(colour, name)(picture.shape), getattr(color, name)(picture, channel_axis=0)
    wanted = wanted.reshape(graph.output_shape)
    same(clear(graph, picture), wanted)
    same(on_shares(graph, picture, limits), wanted, 1e-4)


# ---------------------------------------------------------------------------------------------------- on both executors


@pytest.mark.parametrize("graph", [
    transforms.haar((64, 96), 3), transforms.haar((64, 96), 2, inverse=True), transforms.block_dct((64, 96)),
    transforms.haar((64, 96), 2, in_place=True),
    transforms.integral_image((64, 96)), resizing.pyramid_gaussian((64, 96), 3),
], ids=lambda graph: graph.name)  # fmt: skip
def test_on_shares(graph: Graph) -> None:
    picture = CAMERA[:64, :96]
    same(on_shares(graph, picture), clear(graph, picture), 1e-4)


@pytest.mark.parametrize("size", [(64, 64), (45, 100), (150, 140)])
def test_resize_on_shares(size: tuple[int, int]) -> None:
    same(on_shares(resizing.resize(CAMERA.shape, size), CAMERA)[0], transform.resize(CAMERA, size), 1e-4)


def test_on_ckks() -> None:
    picture = CAMERA[:32, :32]
    resized = on_ckks(resizing.resize(picture.shape, (20, 16)), picture)[0]
    same(resized, transform.resize(picture, (20, 16)), 1e-4)
    for graph in (transforms.haar(picture.shape, 2), transforms.block_dct(picture.shape)):
        same(on_ckks(graph, picture), clear(graph, picture), 1e-4)
    small = ASTRONAUT[:, :16, :16]
    same(on_ckks(colour.rgb2ycbcr(small.shape), small), color.rgb2ycbcr(small, channel_axis=0), 1e-4)


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("make", "message"), [
    (lambda: resizing.resize((9,)), r"\(H, W\) or \(C, H, W\)"),
    (lambda: resizing.resize((9, 9), (0, 4)), r"output_shape \(0, 4\)"),
    (lambda: resizing.resize((9, 9), (4, 4), 3), "order is 3"),
    (lambda: resizing.resize((9, 9), (4, 4), mode="nearest"), "mode 'nearest'"),
    (lambda: resizing.resize((9, 9), (4, 4), anti_aliasing_sigma=-1.0), "anti_aliasing_sigma -1.0"),
    (lambda: resizing.pyramid_reduce((9, 9), 1.0), "downscale 1.0"),
    (lambda: resizing.pyramid_reduce((9, 9), mode="edge"), "mode 'edge'"),
    (lambda: resizing.pyramid_gaussian((9, 9), -1), "layer is -1"),
    (lambda: transforms.haar((12, 8), 3), "12x8"),
    (lambda: transforms.haar((12, 8), 0), "level 0"),
    (lambda: transforms.block_dct((12, 8)), "multiples of 8"),
    (lambda: transforms.block_dct((12, 8), 1), "block_size is 1"),
    (lambda: colour.rgb2gray((8, 8)), "three channels"),
])  # fmt: skip
def test_refusals(make: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()
