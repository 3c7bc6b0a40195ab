"""`secureimg features`: numbers that scikit-image gives, pictures that a person can look at, errors that help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor

from protocols.cli.plates import hog_plate, map_plate
from secureimg import features
from secureimg.images import load_image, save_image

from .conftest import run_cli, run_json


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "camera.png"
    save_image(path, data.camera()[100:164, 200:280])
    return path


def test_hog_on_shares(picture: Path, tmp_path: Path) -> None:
    """Values, a plate, and what it took; the picture's own size is the default."""
    values, plate = tmp_path / "hog.npy", tmp_path / "hog.png"
    report = run_json(
        "features", "hog", picture, "--on", "shares", "--dealer", "dealer", "--out", values, "--picture", plate
    )
    wanted = hog(load_image(picture))
    assert report["feature"] == "feature:hog:64x80"
    assert np.abs(np.load(values) - wanted).max() <= 1e-3 * wanted.max()
    assert np.allclose(np.load(values).ravel(), report["outputs"][0])
    assert load_image(plate).shape == (8 * 16, 10 * 16)
    assert report["rounds"] > 0
    assert "must not collude" in report["trust"]
    assert "labels" not in report


def test_parameters_size_and_colour(picture: Path) -> None:
    """All reach the graph."""
    report = run_json(
        "features", "hog", picture, "--size", "32x48", "--colour", "--set", "orientations=5", "--set",
        "pixels_per_cell=4x8", "--set", "feature_vector=false",
    )  # fmt: skip
    assert report["feature"] == "feature:hog:3x32x48:orientations=5,pixels_per_cell=4x8,feature_vector=false"
    assert report["shape"] == [6, 4, 3, 3, 5]


def test_codes_of_whole_pixels(picture: Path, tmp_path: Path) -> None:
    """The graph's own preprocessing gives it pixels of 0 to 255."""
    values = tmp_path / "lbp.npy"
    run_cli("features", "local_binary_pattern", picture, "--set", "method=uniform", "--out", values)
    pixels = np.rint(load_image(picture) * 255).astype(np.uint8)
    assert np.mean(np.load(values)[0] == local_binary_pattern(pixels, 8, 1, "uniform")) >= 0.999


def test_more_comes_back_than_goes_up(picture: Path, tmp_path: Path) -> None:
    """Two maps of 64x80 pixels fill more ciphertexts than the picture; the energy of edges is a polynomial."""
    values = tmp_path / "gabor.npy"
    report = run_json("features", "gabor", picture, "--on", "ckks", "--set", "frequency=0.4", "--out", values)
    assert report["bytes"]["down"] > report["bytes"]["up"]
    assert report["max_abs_error"] < 1e-3
    real, imaginary = gabor(load_image(picture), 0.4)
    assert np.abs(np.load(values) - np.stack([real, imaginary])).max() < 1e-3
    report = run_json("features", "sobel", picture, "--on", "ckks", "--set", "energy=true", "--size", "32x32")
    assert report["max_abs_error"] < 1e-3


def test_keypoints_on_shares(picture: Path, tmp_path: Path) -> None:
    """Three programs between real processes give the keypoints of the clear; they are drawn on the picture."""
    clear, values, plate = tmp_path / "clear.npy", tmp_path / "sift.npy", tmp_path / "sift.png"
    plain = run_json("features", "sift", picture, "--out", clear, "--set", "nfeatures=12")
    words = ("--on", "shares", "--dealer", "client-aided", "--set", "nfeatures=12")
    report = run_json("features", "sift", picture, *words, "--out", values, "--picture", plate)
    assert [program["model"] for program in report["programs"]] == [
        "sift_extrema",
        "sift_orientations",
        "sift_descriptors",
    ]
    assert all(program["rounds"] > 0 for program in report["programs"])
    found, wanted = np.load(values), np.load(clear)
    assert found.shape == wanted.shape == (12, 5 + 128)
    assert np.abs(found - wanted).max(axis=0)[:3].max() < 0.05
    assert np.einsum("nd,nd->n", found[:, 5:], wanted[:, 5:]).min() > 0.99
    assert load_image(plate).shape == (7 * 64, 7 * 80, 3)
    assert [point["x"] for point in plain["keypoints"]] == wanted[:, 0].tolist()


def test_the_list_names_every_feature() -> None:
    listed = run_json("features")["features"]
    assert [item["name"] for item in listed] == [*features.FEATURES, "sift"]
    assert all(item["summary"] and item["executors"] for item in listed)
    table = run_cli("features").stdout
    assert all(item["name"] in table for item in listed)


def test_a_feature_is_a_model_of_other_commands() -> None:
    report = run_json("inspect", "feature:hog:64x64", "--on", "shares", "--public-weights")
    assert report["output_shape"] == [6 * 6 * 81]
    assert report["cost"]["rounds"] > 0


@pytest.mark.parametrize(("words", "message"), [
    (("hogg", "PICTURE"), "no feature 'hogg'"),
    (("hog",), "of which picture"),
    (("hog", "PICTURE", "--on", "ckks"), "does not run on ckks"),
    (("hog", "PICTURE", "--on", "shares"), "--dealer client-aided"),
    (("hog", "PICTURE", "--size", "64"), "not HxW"),
    (("hog", "PICTURE", "--size", "16x16"), "smaller than a block"),
    (("hog", "PICTURE", "--set", "orientations"), "not NAME=VALUE"),
    (("hog", "PICTURE", "--set", "bins=9"), "no parameter 'bins'"),
    (("local_binary_pattern", "PICTURE", "--colour"), "grey pictures"),
    (("hog", "nowhere.png"), "nowhere.png"),
    (("sift",), "of which picture"),
    (("sift", "PICTURE", "--on", "ckks"), "does not run on ckks"),
    (("sift", "PICTURE", "--on", "shares"), "--dealer client-aided"),
    (("sift", "PICTURE", "--colour"), "grey pictures"),
    (("sift", "PICTURE", "--set", "octaves=3"), "no parameter 'octaves'"),
    (("sift", "PICTURE", "--set", "sigma=wide"), "not a number"),
])  # fmt: skip
def test_refusals(picture: Path, words: tuple[str, ...], message: str) -> None:
    """One line that says what is wrong and what to do."""
    done = run_cli("features", *(picture if word == "PICTURE" else word for word in words), status=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_plates_of_known_values() -> None:
    """A cell's line runs along its edge; maps go from black to white; three channels in [0, 1] are colours."""
    blocks = np.zeros((1, 1, 1, 1, 2))
    blocks[..., 0] = 1.0  # gradients of 45 degrees, downwards to the right: the edge rises to the right
    plate = hog_plate(blocks)
    assert plate.shape == (16, 16)
    rising, falling = np.flipud(plate).diagonal(), plate.diagonal()
    assert max(rising.sum(), np.flipud(plate).diagonal(1).sum()) > 8
    assert falling.sum() <= 2
    ramp = np.arange(6.0).reshape(1, 2, 3) - 2
    assert np.allclose(map_plate(ramp), np.arange(6.0).reshape(2, 3) / 5)
    colours = np.random.default_rng(0).random((3, 4, 5))
    assert map_plate(colours).shape == (4, 5, 3)
    assert map_plate(np.concatenate([colours, colours - 1])).shape == (8, 15)
