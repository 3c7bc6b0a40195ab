"""`secureimg federate`: labelled pictures from files, and the whole example with its processes."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.cli.examples_file import decode_examples
from secureimg.errors import BlobError
from secureimg.graph import load_onnx, run_plain


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Two kinds of pictures: bright on the left, bright on the right."""
    rng = np.random.default_rng(2)
    made: dict[str, np.ndarray] = {}
    for name, count in (("train", 120), ("val", 40)):
        labels = rng.integers(0, 2, count)
        images = rng.integers(0, 120, (count, 12, 12))
        images[labels == 0, :, :6] += 100
        images[labels == 1, :, 6:] += 100
        made |= {f"{name}_images": images.astype(np.uint8), f"{name}_labels": labels.astype(np.uint8)[:, None]}
    made |= changes
    return {name: value for name, value in made.items() if value is not None}


def npz(**changes: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays(**changes))
    return stream.getvalue()


def test_labelled_pictures_are_read_as_they_are() -> None:
    found, given = decode_examples(npz(), "x"), arrays()
    np.testing.assert_array_equal(found.train_images, given["train_images"])
    np.testing.assert_array_equal(found.val_labels, given["val_labels"][:, 0])
    assert found.val_labels.dtype == np.int64
    assert found.classes == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"val_images": None}, "no array 'val_images'"),
        ({"train_images": np.zeros((120, 12, 12))}, "'<f8'"),
        ({"train_labels": np.array([{}] * 120)}, "whole numbers"),
        ({"train_images": np.zeros((120, 12), np.uint8)}, r"\(N, H, W\)"),
        ({"train_images": np.zeros((120, 12, 600), np.uint8)}, "the limit is 512"),
        ({"val_images": np.zeros((40, 10, 12), np.uint8)}, "those to measure on"),
        ({"train_labels": np.zeros((120, 14), np.uint8)}, "one label for each of 120"),
        ({"train_labels": np.full(120, 1000, np.int32)}, "0 to 999"),
        ({"train_labels": -np.ones(120, np.int32)}, "labels from -1"),
        ({"train_images": np.asfortranarray(np.zeros((120, 12, 12), np.uint8))}, "shape or order"),
        ({"train_images": np.zeros((0, 12, 12), np.uint8)}, r"\(0, 12, 12\)"),
    ],
)
def test_arrays_that_do_not_fit_are_one_error(changes: Any, why: str) -> None:
    with pytest.raises(BlobError, match=why):
        decode_examples(npz(**changes), "x")


def test_headers_that_promise_more_than_there_is_take_no_memory() -> None:
    """A shape of a terabyte, and a bomb that unpacks to more than its header says."""
    head = b"\x93NUMPY\x01\x00"
    for described, body in (
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }", b""),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2), }", bytes(1 << 26)),
    ):
        text = described.encode() + b"\n"
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train_images.npy", head + len(text).to_bytes(2, "little") + text + body)
        with pytest.raises(BlobError, match=r"larger than the limit|should have 8 bytes"):
            decode_examples(stream.getvalue(), "x")


def test_the_example_trains_saves_and_shows(command: Any, tmp_path: Path) -> None:
    """Three owners, of whom one misses rounds: the same model as with plain updates, served, and a page without links."""
    data, model, page = tmp_path / "data.npz", tmp_path / "model.onnx", tmp_path / "page.html"
    data.write_bytes(npz())
    result = command.json(
        "federate", data, "--owners", 3, "--rounds", 3, "--least", 2, "--drop-out", 0.2, "--epochs", 2, "--seed", 5,
        "--out", model, "--report", page,
    )  # fmt: skip
    assert result["difference_to_plain_after_one_round"] < 1e-6
    assert result["accuracy"]["secure"] > 0.8
    assert result["epsilon"] is None
    assert sum(map(sum, result["labels_of_owners"])) == 120
    for row in result["rounds"]:
        assert row["owners"] == (0 if row["dropped"] else 3 - len(row["left_out"]))
    assert result["served"]["equal"]
    attacked = {item["update"]: item["psnr"] for item in result["inversion"]}
    assert attacked["one owner's plain update"] > attacked["the sum with noise 0.5"] + 5
    graph = load_onnx(model)
    images = (arrays()["val_images"][:, None] / 255 - 0.5) / 0.25
    right = run_plain(graph, images).argmax(axis=1) == arrays()["val_labels"][:, 0]
    assert right.mean() == pytest.approx(result["accuracy"]["secure"], abs=0.03)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 6
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)


def test_data_that_cannot_be_used_is_one_line(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    assert "is not an .npz file" in command.run("federate", path, status=2).stderr
