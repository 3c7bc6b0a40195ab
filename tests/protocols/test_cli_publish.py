"""`secureimg publish`: what is written holds nothing else of the original, budgets hold, and the page fetches nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from skimage import data
from typer.testing import CliRunner

from protocols.cli import publish_trials
from protocols.cli.app import app
from protocols.cli.publish_kinds import Parameter, parse_settings
from protocols.cli.publish_methods import METHODS
from protocols.ledger_file import read_ledger
from secureimg.errors import BudgetError, ImageError, PublishingError, SecureImgError
from secureimg.images import load_image, save_image
from secureimg.publishing import RecipientKey, digits_album, pixelate, save_recipient, unseal
from secureimg.publishing.split import join_jpeg
from secureimg.publishing.thumbnails import ThumbnailTicket, decrypt_thumbnail

from .conftest import run_cli, run_json

PLACE = "48.8584 N 2.2945 E"


def publish(*words: str | Path) -> dict[str, Any]:
    """Run the command in this process."""
    done = CliRunner().invoke(app, ["publish", *map(str, words), "--json"], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG photograph that says where and by whom it was taken, with a preview and a comment."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E] = PLACE
    exif.get_ifd(0x8825)[0x1D] = PLACE
    exif.get_ifd(0x8769)[0x9286] = PLACE.encode()
    Image.fromarray(data.astronaut()[:160, 120:300]).save(path, exif=exif, comment=PLACE.encode(), quality=90)
    assert PLACE.encode() in path.read_bytes()
    return path


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecipientKey, Path]:
    key = RecipientKey.generate("ann")
    path = tmp_path_factory.mktemp("keys") / "ann.pub"
    save_recipient(path, key.recipient)
    return key, path


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits, as folders."""
    folder = tmp_path_factory.mktemp("album")
    digits = digits_album(12)
    for place in np.flatnonzero(digits.labels < 5):
        (folder / digits.names[digits.labels[place]]).mkdir(exist_ok=True)
        save_image(folder / digits.names[digits.labels[place]] / f"{place}.png", digits.pixels[place])
    return folder


SETTINGS: dict[str, tuple[str, ...]] = {
    "pixelate": ("--cell", "8"),
    "blur": ("--sigma", "2"),
    "black-box": ("--box", "10,20,30x40"),
    "k-same": ("--k", "2"),
    "dp-pix": ("--epsilon", "1", "--pixels", "16", "--cell", "8"),
    "dp-blur": ("--epsilon", "1", "--m", "16"),
    "dp-svd": ("--epsilon", "2", "--k", "8"),
    "dp-histogram": ("--epsilon", "1", "--pixels", "all", "--set", "bins=16"),
    "dp-hog": ("--epsilon", "1", "--pixels", "1", "--set", "pixels_per_cell=32x32", "--set", "cells_per_block=2x2"),
    "split": ("--threshold", "12"),
    "thumbnail": ("--block", "8"),
}


def test_every_method_is_tried_below() -> None:
    assert set(SETTINGS) == set(METHODS)


@pytest.mark.parametrize("method", SETTINGS)
def test_nothing_of_the_metadata_is_published(
    method: str, photo: Path, ann: tuple[RecipientKey, Path], tmp_path: Path
) -> None:
    """The published file is written afresh: no EXIF, place, comment or text is in it, whatever the method."""
    images = [photo]
    if method == "k-same":
        images.append(tmp_path / "other.png")
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", PLACE)
        Image.fromarray(data.astronaut()[160:320, 120:300]).save(images[1], pnginfo=note)
    words = [*SETTINGS[method], *(["--to", ann[1]] if METHODS[method].sealed else [])]
    report = publish(*images, "--method", method, *words, "--out", tmp_path / "out")
    files = [Path(file) for image in report["images"] for file in image["files"]]
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    for file in files:
        content = file.read_bytes()
        assert PLACE.encode() not in content
        assert b"Exif" not in content
        if file.suffix in (".png", ".jpg"):
            with Image.open(file) as shown:
                shown.load()
                assert shown.size == (180, 160)
                assert not shown.getexif()
                assert set(shown.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    guarantee = report["images"][0]["guarantee"]
    assert guarantee["statement"]
    assert (guarantee["epsilon"] is not None) == method.startswith("dp-")


def test_what_is_sealed_gives_the_original_back(photo: Path, ann: tuple[RecipientKey, Path], tmp_path: Path) -> None:
    key, public = ann
    publish(photo, "--method", "split", "--to", public, "--out", tmp_path / "split.jpg")
    secret = unseal((tmp_path / "split.sealed").read_bytes(), key)
    assert (secret.kind, secret.name) == ("split", "photo.jpg")
    assert join_jpeg((tmp_path / "split.jpg").read_bytes(), secret.payload) == photo.read_bytes()
    publish(photo, "--method", "thumbnail", "--to", public, "--out", tmp_path / "noise.png")
    ticket = ThumbnailTicket.from_bytes(unseal((tmp_path / "noise.sealed").read_bytes(), key).payload)
    cipher = np.asarray(Image.open(tmp_path / "noise.png"))
    assert np.array_equal(decrypt_thumbnail(cipher, ticket), np.rint(load_image(photo) * 255))


def test_the_orientation_is_applied_before_it_is_dropped(tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(data.camera()[:40, :64]).save(turned, exif=exif)
    publish(turned, "--method", "pixelate", "--cell", "1", "--out", tmp_path / "up.png")
    assert np.allclose(load_image(tmp_path / "up.png"), load_image(turned), atol=1 / 255)
    assert load_image(tmp_path / "up.png").shape == (64, 40)


def test_a_ledger_refuses_past_its_budget_and_then_nothing_is_written(photo: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    words = ("--method", "dp-pix", "--epsilon", "1", "--pixels", "16", "--ledger", ledger)
    first = publish(photo, *words, "--budget", "2.5", "--album", "me", "--out", tmp_path / "1.png")
    assert first["ledger"]["left"] == 1.5
    assert publish(photo, *words, "--out", tmp_path / "2.png")["ledger"]["spent"] == 2
    with pytest.raises(BudgetError, match="ask for less"):
        publish(photo, *words, "--out", tmp_path / "3.png")
    assert not (tmp_path / "3.png").exists()
    assert read_ledger(ledger).spent()[0] == 2
    with pytest.raises(PublishingError, match="is for 'me'"):
        publish(photo, *words, "--album", "you", "--out", tmp_path / "4.png")


def test_several_pictures_are_charged_together_or_not_at_all(photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    save_image(other, data.camera()[:64, :64])
    words = ("--method", "dp-histogram", "--epsilon", "1", "--pixels", "1", "--ledger", tmp_path / "led")
    with pytest.raises(BudgetError):
        publish(photo, other, *words, "--budget", "1.5", "--out", tmp_path / "out")
    assert not (tmp_path / "led").exists()
    assert publish(photo, other, *words, "--budget", "2", "--out", tmp_path / "out")["ledger"]["charged"] == 2


class Links(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def test_the_page_shows_everything_and_fetches_nothing(photo: Path, album: Path, tmp_path: Path) -> None:
    """Over a real process, as a person would run it."""
    page = tmp_path / "page.html"
    report = run_json(
        "publish", photo, "--method", "blur", "--sigma", "2", "--out", tmp_path / "out.png", "--report", page, "--attack",
        album, "--compare", "k-same",
    )  # fmt: skip
    attack = report["attack"]
    assert attack["chance"] == pytest.approx(0.2)
    assert attack["top1"] > 0.5
    assert attack["labels"] == 5
    assert any("180 x 160" in note for note in attack["notes"])
    assert {row["method"] for row in report["strengths"]} == {"blur", "k-same"}
    assert report["restoration"]["psnr_gain"] > 2
    assert page.stat().st_mode & 0o077 == 0
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert "script" not in links.tags
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links.found)
    assert not re.findall(r"url\((?!#)", text)
    for words in (
        "Before and after",
        "no guarantee",
        "Attack: who is it?",
        "At which strength",
        "Attack: undo the blur",
    ):
        assert words in text
    assert text.count("<svg") == 2


def test_names_of_files_and_folders_cannot_write_into_the_page(tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=alert(1)>.png"
    save_image(evil, data.camera()[:40, :40])
    publish(evil, "--method", "pixelate", "--cell", "4", "--out", tmp_path / "o.png", "--report", tmp_path / "p.html")
    assert "<img src=x" not in (tmp_path / "p.html").read_text()


def test_the_digits_are_said_to_be_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_trials, "_DIGITS_EACH", 6)
    picture = tmp_path / "digit.png"
    save_image(picture, digits_album(4).pixels[0])
    report = publish(picture, "--method", "pixelate", "--cell", "7", "--out", tmp_path / "o.png", "--attack", "digits")
    assert any("not about your pictures" in note for note in report["attack"]["notes"])
    assert np.allclose(load_image(tmp_path / "o.png"), pixelate(load_image(picture), 7)[0], atol=0.002)


def test_without_an_image_the_methods_are_listed() -> None:
    table = run_cli("publish").stdout
    listed = publish()["methods"]
    assert [method["name"] for method in listed] == list(METHODS)
    assert all(method["name"] in table and method["summary"] for method in listed)


@pytest.mark.parametrize(("words", "message"), [
    (("PHOTO",), "lists methods"),
    (("PHOTO", "--method", "mosaic", "--out", "OUT"), "no method 'mosaic'"),
    (("PHOTO", "--method", "pixelate", "--out", "OUT"), "add --cell VALUE"),
    (("PHOTO", "--method", "pixelate", "--cell", "wide", "--out", "OUT"), "not a whole number"),
    (("PHOTO", "--method", "pixelate", "--cell", "0", "--out", "OUT"), "not from 1"),
    (("PHOTO", "--method", "pixelate", "--cell", "500", "--out", "OUT"), "from 1 to 180"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--sigma", "3", "--out", "OUT"), "no parameter 'sigma'"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--out", "PHOTO"), "not overwritten"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--out", "OUT.gif"), "suffix '.gif'"),
    (("PHOTO", "PHOTO", "--method", "pixelate", "--cell", "8", "--out", "OUT"), "same name"),
    (("PHOTO", "--method", "blur", "--set", "sigma", "--out", "OUT"), "not NAME=VALUE"),
    (("PHOTO", "--method", "black-box", "--out", "OUT"), "needs a box"),
    (("PHOTO", "--method", "black-box", "--box", "1,2,3", "--out", "OUT"), "like 40,60,120x90"),
    (("PHOTO", "--method", "k-same", "--k", "2", "--out", "OUT"), "set of 1"),
    (("PHOTO", "--method", "dp-pix", "--epsilon", "1", "--out", "OUT"), "add --pixels VALUE"),
    (("PHOTO", "--method", "dp-pix", "--pixels", "1", "--out", "OUT"), "add --epsilon VALUE"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--budget", "1", "--out", "OUT"), "no privacy loss"),
    (("PHOTO", "--method", "dp-svd", "--epsilon", "1", "--budget", "1", "--out", "OUT"), "add --ledger"),
    (("PHOTO", "--method", "dp-svd", "--epsilon", "1", "--ledger", "OUT", "--out", "OUT"), "add --budget"),
    (("PHOTO", "--method", "dp-histogram", "--epsilon", "1", "--pixels", "1", "--out", "OUT.png"), "writes .npy"),
    (("PHOTO", "--method", "split", "--out", "OUT"), "add --to"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--to", "PHOTO", "--out", "OUT"), "seals nothing"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--out", "OUT", "--attack", "nowhere"), "not a folder"),
    (("PHOTO", "--method", "pixelate", "--cell", "8", "--out", "OUT", "--compare", "blur"), "add --attack"),
    (("nowhere.png", "--method", "pixelate", "--cell", "8", "--out", "OUT"), "nowhere.png"),
])  # fmt: skip
def test_refusals_say_what_to_do(photo: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    places = {"PHOTO": photo, "OUT": tmp_path / "out", "OUT.gif": tmp_path / "o.gif", "OUT.png": tmp_path / "o.png"}
    with pytest.raises(SecureImgError) as caught:
        publish(*(places.get(word, word) for word in words))
    assert message in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_png_cannot_be_split(ann: tuple[RecipientKey, Path], tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    save_image(picture, data.camera()[:32, :32])
    with pytest.raises(PublishingError, match="save it as JPEG"):
        publish(picture, "--method", "split", "--to", ann[1], "--out", tmp_path / "b.jpg")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ImageError):
        publish(picture, "--method", "pixelate", "--cell", "2", "--out", tmp_path / "b.png")


def test_texts_become_settings() -> None:
    assert Parameter("p", "pair", "").parse("8x16") == (8, 16)
    assert Parameter("p", "box", "").parse("1,2,3x4") == (1, 2, 3, 4)
    assert Parameter("p", "pixels", "").parse("all") == "whole image"
    assert parse_settings(METHODS["dp-svd"], {"epsilon": "2"}) == {"epsilon": 2.0, "k": 16}
    for kind, text in (("whole", "1.5"), ("number", "nan"), ("number", "x"), ("pair", "8"), ("pixels", "some")):
        with pytest.raises(PublishingError, match="is not"):
            Parameter("p", kind, "").parse(text)  # type: ignore[arg-type]
