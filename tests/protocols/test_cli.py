"""The command line, run as processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secureimg.graph import load_onnx, run_plain


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "x.npy"
    np.save(path, pictures)
    return path


def test_demo_answers_as_the_plain_model(command: Any, tiny_model: Path, tmp_path: Path) -> None:
    report = command.json("demo", "--model", tiny_model, "--save", tmp_path / "pictures", "--workers", "1")
    assert report["label"] == report["plain_label"]
    assert report["max_abs_error"] <= report["error_bound"]
    assert {"compile", "keygen", "encrypt", "evaluate", "decrypt", "total"} <= set(report["seconds"])
    seen = np.asarray(Image.open(tmp_path / "pictures" / "what_the_server_saw.png"), dtype=float)
    assert seen.std() > 50, "a ciphertext looks like noise"


def test_demo_shows_every_step_to_people(command: Any, tiny_model: Path) -> None:
    shown = command.run("demo", "--model", tiny_model, "--workers", "2").stdout
    for text in ("what the server saw", "make keys", "encrypt", "evaluate", "decrypt", "answer:", "predicted bound"):
        assert text in shown


def test_run_encrypted_agrees_with_run_plain(command: Any, tiny_model: Path, inputs: Path, tmp_path: Path) -> None:
    plain = command.json("run", tiny_model, inputs, "--on", "plain")
    encrypted = command.json("run", tiny_model, inputs, "--on", "ckks", "--workers", "1", "--out", tmp_path / "y.npy")
    expected = run_plain(load_onnx(tiny_model), np.load(inputs))
    assert np.allclose(plain["outputs"], expected)
    assert np.abs(np.array(encrypted["outputs"]) - expected).max() == pytest.approx(encrypted["max_abs_error"])
    assert encrypted["max_abs_error"] <= encrypted["error_bound"]
    assert encrypted["labels"] == plain["labels"] == expected.argmax(axis=1).tolist()
    assert np.array_equal(np.load(tmp_path / "y.npy"), encrypted["outputs"])
    assert set(encrypted["bytes"]) == {"evaluation_keys", "up", "down"}
    assert min(encrypted["bytes"].values()) > 10_000
    assert min(encrypted["peak_rss"].values()) > 10 << 20
    assert encrypted["parameters"]["ring_degree"] >= 8192
    assert encrypted["levels"] > 0
    assert len(encrypted["evaluate_calls"]) == 3
    command.run("run", tiny_model, inputs, "--on", "plain", "--out", tmp_path / "y.npy", status=2)


def test_run_takes_batches_and_picture_files(command: Any, tiny_model: Path, inputs: Path, tmp_path: Path) -> None:
    batched = command.json("run", tiny_model, inputs, "--batch", "4", "--workers", "1")
    assert len(batched["evaluate_calls"]) == 1
    assert batched["max_abs_error"] <= batched["error_bound"]
    Image.new("L", (40, 30), 200).save(tmp_path / "a.png")
    pictures = command.json("run", tiny_model, tmp_path / "a.png", tmp_path / "a.png", "--on", "plain")
    assert len(pictures["outputs"]) == 2


def test_inspect_gives_the_cost_and_refuses_with_both_ways_out(
    command: Any, tiny_model: Path, tmp_path: Path, inputs: Path
) -> None:
    report = command.json("inspect", tiny_model)
    assert len(report["cost"]["layers"]) == 3
    assert report["rotations"] == sum(layer["rotations"] for layer in report["cost"]["layers"])
    relu = command.write_model(tmp_path / "relu.onnx", "Relu")
    refusal = command.json("inspect", relu, status=2)["error"]
    assert refusal["type"] == "CompileError"
    for text in ("Relu", "--replace-activations", "sharing executor"):
        assert text in refusal["message"]
    replaced = command.json("run", relu, inputs, "--replace-activations", "2", "--samples", inputs, "--workers", "1")
    assert replaced["max_abs_error"] <= replaced["error_bound"]
    assert [fit["op"] for fit in replaced["replacements"]] == ["Relu"]


def test_the_main_job_in_files(command: Any, tiny_model: Path, tmp_path: Path, pictures: np.ndarray) -> None:
    key, keys, program = tmp_path / "owner.key", tmp_path / "eval.keys", tmp_path / "program.pub"
    sealed = tmp_path / "passphrase"
    sealed.write_text("correct horse\n")
    np.save(tmp_path / "x.npy", pictures[:1])
    made = ("--out", key, "--evaluation-keys", keys, "--program", program)
    mine = ("--key", key, "--program", program, "--passphrase-file", sealed)
    command.run("keygen", tiny_model, *made, "--passphrase-file", sealed)
    assert key.stat().st_mode & 0o777 == 0o600
    command.run("keygen", tiny_model, *made, status=2)
    command.run("encrypt", tmp_path / "x.npy", *mine, "--out", tmp_path / "in.ct")
    command.run(
        "evaluate", tiny_model, "--keys", keys, tmp_path / "in.ct", "--out", tmp_path / "out.ct", "--workers", "1"
    )
    outputs = command.json("decrypt", tmp_path / "out.ct", *mine)["outputs"]
    expected = run_plain(load_onnx(tiny_model), pictures[:1])
    assert np.abs(np.array(outputs) - expected).max() < 0.01
    other = ("--batch", "2", "--out", tmp_path / "other.ct")
    assert (
        "same model and options"
        in command.run("evaluate", tiny_model, "--keys", keys, tmp_path / "in.ct", *other, status=2).stderr
    )
    assert "sealed" in command.run("decrypt", tmp_path / "out.ct", "--key", key, "--program", program, status=2).stderr
    for wrong in (key, keys, tmp_path / "in.ct", tmp_path / "x.npy"):
        command.run("decrypt", wrong, *mine, status=2)


def test_serve_and_infer_are_for_two_machines(command: Any, server: Any, tmp_path: Path, pictures: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", pictures)
    address, bundle = f"{server.host}:{server.port}", server.bundle("owner")
    words = ("infer", tmp_path / "x.npy", "--server", address, "--tls", bundle, "--key", tmp_path / "owner.key")
    first = command.json(*words)
    again = command.json(*words)
    assert first["labels"] == again["labels"]
    assert (first["bytes"]["evaluation_keys"] > 0, again["bytes"]["evaluation_keys"]) == (True, 0)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "no-such-model", "x.npy"],
        ["run", "{model}", "missing.npy"],
        ["run", "{model}", "{model}"],
        ["run", "{model}", "{model}", "--samples", "{model}"],
        ["inspect", "{folder}"],
        ["inspect", "{model}", "--precision", "7"],
        ["inspect", "{model}", "--batch", "3"],
        ["inspect", "{model}", "--input-range", "1", "0"],
        ["inspect", "{model}", "--replace-activations", "3"],
        ["infer", "x.npy", "--server", "nowhere", "--tls", "{folder}"],
        ["infer", "x.npy", "--server", "127.0.0.1:1", "--tls", "{folder}"],
        ["encrypt", "x.npy", "--key", "k", "--program", "{model}", "--out", "c"],
        ["serve", "{model}"],
        ["serve", "missing.toml"],
        ["stock", "missing.toml"],
        ["config", "init", "--role", "party0", "--out", "{folder}/party0.toml"],
        ["config", "init", "--role", "dealer", "--out", "{model}"],
        ["demo", "--model", "{model}", "--image", "missing.png"],
    ],
)
def test_an_error_is_one_line_and_status_2(command: Any, tiny_model: Path, tmp_path: Path, words: list[str]) -> None:
    filled = [word.format(model=tiny_model, folder=tmp_path) for word in words]
    lines = command.run(*filled, status=2).stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
