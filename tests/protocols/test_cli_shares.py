"""The command line on shares: what a person or a program gets, and what it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secureimg.graph import load_onnx, run_plain

from .conftest import run_cli, run_json, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with ReLU, which CKKS refuses."""
    return write_model(tmp_path_factory.mktemp("model") / "relu.onnx", "Relu")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "x.npy"
    np.save(path, np.random.default_rng(3).uniform(0, 1, (3, 1, 28, 28)))
    return path


@pytest.mark.parametrize("dealer", ["client-aided", "dealer"])
def test_run_gives_the_plain_answer_and_says_what_it_took(model: Path, inputs: Path, dealer: str) -> None:
    """Scores of the plain model; seconds, bytes by link, rounds, memory of every process, and who may not collude."""
    report = run_json("run", model, inputs, "--on", "shares", "--dealer", dealer)
    plain = run_plain(load_onnx(model), np.load(inputs))
    assert np.abs(np.array(report["outputs"]) - plain).max() < 1e-3
    assert report["labels"] == report["plain_labels"] == plain.argmax(axis=1).tolist()
    assert set(report["seconds"]) >= {"compile", "offline", "online"}
    assert min(report["bytes"]["online"].values()) > 0
    assert report["bytes"]["offline"]["dealer to parties"] > 0
    assert report["rounds"] > 0
    wanted = {"owner", "party 0", "party 1"} | ({"dealer"} if dealer == "dealer" else set())
    assert set(report["peak_rss"]) == wanted
    assert min(report["peak_rss"].values()) > 1 << 20
    assert "must not collude" in report["trust"]
    inspected = run_json("inspect", model, "--on", "shares")["cost"]
    assert inspected["rounds"] == report["rounds"]


@pytest.mark.parametrize("reveal", ["label", "top-k"])
def test_run_reveals_no_more_than_asked(model: Path, inputs: Path, reveal: str) -> None:
    """With `label` the owner gets one place, with `top-k` K of them in order, and never a score."""
    report = run_json(
        "run", model, inputs, "--on", "shares", "--dealer", "client-aided", "--reveal", reveal, "--top", "3"
    )
    plain = run_plain(load_onnx(model), np.load(inputs))
    count = 1 if reveal == "label" else 3
    assert report["outputs"] == np.argsort(-plain, axis=1)[:, :count].tolist()
    assert report["max_abs_error"] is None
    assert report["bytes"]["online"]["parties to owner"] < 100


def test_nobody_deals_silently(model: Path, inputs: Path) -> None:
    """Without --dealer there is one error that names both choices; the exit status tells too."""
    error = run_cli("run", model, inputs, "--on", "shares", status=2).stderr
    assert "--dealer client-aided" in error
    assert "--dealer dealer" in error


def test_demo_shows_what_each_party_sees(tmp_path: Path) -> None:
    """The pictures that the two parties see are saved beside the owner's, and do not look like it."""
    report = run_json("demo", "--on", "shares", "--save", tmp_path / "seen")
    assert report["label"] == report["plain_label"]
    assert sorted(Path(path).name for path in report["saved"]) == [
        "picture.png", "what_party_0_sees.png", "what_party_1_sees.png",
    ]  # fmt: skip


def test_inspect_reads_well(model: Path) -> None:
    """A row for each layer, a total, and what is revealed to whom."""
    text = run_cli("inspect", model, "--on", "shares").stdout
    for word in ("Blind, Linear", "Relu", "total", "rounds", "offline", "reveals scores", "party 1 alone"):
        assert word in text


def test_stock_needs_a_party_that_has_run(tmp_path: Path) -> None:
    """A directory without a stock, and the file of a party that has never run: an error that says what to name."""
    assert "holds no stock" in run_cli("stock", tmp_path, status=2).stderr
    words = ("--role", "party1", "--model", "mnist-cnn", "--dealer", "client-aided", "--out", tmp_path / "party1.toml")
    run_cli("config", "init", *words)
    assert "holds no stock" in run_cli("stock", tmp_path / "party1.toml", status=2).stderr
