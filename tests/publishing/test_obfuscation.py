"""Obfuscation: what it does to pixels, and that no more is promised than holds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from secureimg.errors import PublishingError
from secureimg.images import save_image
from secureimg.publishing import (
    Album,
    black_box,
    blur,
    compare_pictures,
    digits_album,
    k_same,
    load_album,
    pixelate,
)

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


def picture_of(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@given(SHAPES, st.booleans(), st.integers(1, 24), st.integers(0, 100))
def test_pixelation_keeps_the_mean_and_is_flat_in_each_cell(
    sides: tuple[int, int], colour: bool, cell: int, seed: int
) -> None:
    image = picture_of((*sides, 3) if colour else sides, seed)
    cell = min(cell, max(sides))
    shown, _ = pixelate(image, cell)
    assert shown.shape == image.shape
    assert np.allclose(shown.mean(axis=(0, 1)), image.mean(axis=(0, 1)))
    for top in range(0, sides[0], cell):
        for left in range(0, sides[1], cell):
            piece = np.s_[top : top + cell, left : left + cell]
            assert np.allclose(shown[piece], image[piece].mean(axis=(0, 1)))


def test_pixelation_is_block_means_of_scikit_image() -> None:
    image = picture_of((112, 96), 1)
    assert np.allclose(pixelate(image, 8)[0][::8, ::8], block_reduce(image, (8, 8), np.mean))


def test_blur_is_that_of_scipy_in_each_channel() -> None:
    image = picture_of((40, 50, 3), 2)
    shown, guarantee = blur(image, 2.5)
    for channel in range(3):
        assert np.allclose(shown[..., channel], gaussian_filter(image[..., channel], 2.5))
    assert guarantee.kind == "none"


def test_nothing_of_the_box_is_left_and_all_around_it_is_as_it_was() -> None:
    image = picture_of((20, 30, 3), 3) * 0.9 + 0.1
    shown, _ = black_box(image, (5, 6, 7, 8))
    inside = np.zeros((20, 30), bool)
    inside[5:12, 6:14] = True
    assert not shown[inside].any()
    assert np.array_equal(shown[~inside], image[~inside])
    assert image[inside].all()  # the operand is not changed


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 100))
def test_every_picture_of_a_k_same_set_occurs_k_times(count: int, k: int, seed: int) -> None:
    k = min(k, count)
    images = picture_of((count, 4, 3), seed)
    shown, guarantee = k_same(images, k)
    _, times = np.unique(shown.reshape(count, -1), axis=0, return_counts=True)
    assert times.min() >= k
    assert np.allclose(shown.mean(axis=0), images.mean(axis=0))
    assert "k-anonymity" in guarantee.statement


@pytest.mark.parametrize("k", [2, 3, 5])
def test_comparing_a_k_same_set_with_its_originals_names_one_in_k(k: int) -> None:
    """The theorem of the paper: whoever compares published pictures with the originals is right at most once in k."""
    images = digits_album(6).pixels / 255.0
    shown, _ = k_same(images, k)
    distances = np.linalg.norm(shown.reshape(60, 1, -1) - images.reshape(1, 60, -1), axis=2)
    assert (distances.argmin(axis=1) == np.arange(60)).mean() <= 1 / k


def test_somebody_who_is_in_a_k_same_set_twice_is_not_protected() -> None:
    """The known failure that the guarantee names: the cluster holds one person, and its mean is that person."""
    people = picture_of((5, 12, 10), 4)
    twice = np.repeat(people, 3, axis=0)
    shown, guarantee = k_same(twice, 3)
    assert np.allclose(shown, twice)
    assert "twice" in guarantee.statement


def test_similarity_is_that_of_scikit_image() -> None:
    image = picture_of((30, 40, 3), 5)
    other = np.clip(image + 0.1 * picture_of((30, 40, 3), 6), 0, 1)
    found = compare_pictures(image, other)
    assert found.mse == pytest.approx(np.square(image - other).mean())
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(image, other, data_range=1))
    assert found.ssim == pytest.approx(structural_similarity(image, other, data_range=1, channel_axis=2))
    tall, taller = picture_of((300, 9), 8), picture_of((300, 9), 9)  # several bands
    found = compare_pictures(tall, taller)
    assert found.mse == pytest.approx(np.square(tall - taller).mean())
    assert found.ssim == pytest.approx(structural_similarity(tall, taller, data_range=1))
    same = compare_pictures(image, image)
    assert (same.mse, same.psnr, same.ssim) == (0, math.inf, pytest.approx(1))
    assert math.isnan(compare_pictures(image[:2], other[:2]).ssim)
    assert -1 <= compare_pictures(image[:4, :, 0], other[:4, :, 0]).ssim <= 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: pixelate(x, 0), "from 1 to 30"),
    (lambda x: pixelate(x, 31), "from 1 to 30"),
    (lambda x: pixelate(x, 2.5), "whole number"),
    (lambda x: pixelate((x * 255).astype(np.uint8), 4), "load_image"),
    (lambda x: pixelate(x * 2, 4), "divide by 255"),
    (lambda x: pixelate(x * np.nan, 4), "divide by 255"),
    (lambda x: pixelate(x[None, ..., None], 4), "(H, W)"),
    (lambda x: blur(x, 0.0), "above 0"),
    (lambda x: blur(x, math.nan), "above 0"),
    (lambda x: blur(x, 1e9), "at most 1000"),
    (lambda x: black_box(x, (0, 0, 21, 5)), "not inside"),
    (lambda x: black_box(x, (-1, 0, 5, 5)), "not inside"),
    (lambda x: black_box(x, (0, 0, 0, 5)), "not inside"),
    (lambda x: black_box(x, (0, 0, 5)), "top, left"),
    (lambda x: k_same(x, 2), "stack"),
    (lambda x: k_same(np.stack([x, x]), 3), "from 2 to 2"),
    (lambda x: k_same(np.stack([x, x]), 1), "from 2 to 2"),
    (lambda x: compare_pictures(x, x[1:]), "one shape"),
])  # fmt: skip
def test_refusals_say_the_limit(call: object, message: str) -> None:
    with pytest.raises(PublishingError) as caught:
        call(picture_of((20, 30), 7))  # type: ignore[operator]
    assert message in str(caught.value)


def save_people(folder: Path, sizes: dict[str, list[tuple[int, int]]]) -> None:
    for name, shapes in sizes.items():
        (folder / name).mkdir(parents=True)
        for place, shape in enumerate(shapes):
            save_image(folder / name / f"{place}.png", picture_of(shape, place))


def test_an_album_is_a_folder_for_each_person(tmp_path: Path) -> None:
    save_people(tmp_path, {"ada": [(6, 8)] * 2, "bob": [(6, 8), (12, 16)], ".hidden": [(6, 8)]})
    (tmp_path / "ada" / "notes.txt").write_text("no picture")
    told: list[tuple[int, int]] = []
    album = load_album(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert album.names == ("ada", "bob")
    assert album.labels.tolist() == [0, 0, 1, 1]
    assert album.pixels.shape == (4, 6, 8)
    assert album.resized == 1
    assert told[-1] == (4, 4)
    assert np.array_equal(album.pixels[1], np.asarray(Image.open(tmp_path / "ada" / "1.png")))
    assert album.picture(0).max() <= 1


def test_an_album_that_is_none_is_refused(tmp_path: Path) -> None:
    save_people(tmp_path, {"ada": [(6, 8)]})
    for folder, message in ((tmp_path, "at least two people"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(PublishingError, match=message):
            load_album(folder)
    with pytest.raises(PublishingError, match="labels for 2 pictures"):
        Album.of(picture_of((2, 4, 4), 0), [1])
    with pytest.raises(PublishingError, match="stack"):
        Album.of(picture_of((4, 4), 0), [1, 2, 3, 4])
    with pytest.raises(PublishingError, match="uint8 or floats"):
        Album.of(picture_of((2, 4, 4), 0) * 3, [1, 2])
    with pytest.raises(PublishingError, match="at least 4"):
        digits_album(3)
