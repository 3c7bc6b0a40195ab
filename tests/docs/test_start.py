"""Start in five minutes: the page's own commands give the plain model's answer, in six steps or fewer."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.share_onnx import save_onnx
from secureimg.graph import GraphBuilder, run_plain
from secureimg.images import load_image, save_image

PAGE = (Path(__file__).parent.parent.parent / "docs" / "start.md").read_text()


@pytest.fixture
def place(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A user's folder: a network with ReLU, a picture, typical inputs."""
    b = GraphBuilder("net", (3, 32, 32))
    x = b.relu(b.conv(b.input, rng.normal(0, 0.1, (4, 3, 4, 4)), rng.normal(0, 0.1, 4), strides=(4, 4)))
    graph = b.build(b.dense(b.flatten(x), rng.normal(0, 0.1, (5, 256)), rng.normal(0, 0.1, 5)))
    save_onnx(graph, tmp_path / "model.onnx")
    save_image(tmp_path / "picture.png", rng.random((32, 32, 3)))
    np.save(tmp_path / "typical.npy", rng.random((16, 3, 32, 32)))
    picture = load_image(tmp_path / "picture.png")
    np.save(tmp_path / "expected.npy", run_plain(graph, np.moveaxis(picture, -1, 0)[None]))
    return tmp_path


def test_six_steps_or_fewer_lead_to_the_answer() -> None:
    steps = [int(number) for number in re.findall(r"^\*\*(\d)\. ", PAGE, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) <= 6


def test_the_first_step_is_the_first_line_of_the_readme() -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    (line,) = re.findall(r"^python3 -m venv \.venv .*$", PAGE, re.MULTILINE)
    assert line in readme.splitlines()


def test_the_commands_of_the_page_answer_as_the_plain_model(place: Path) -> None:
    runs = [shlex.split(line) for line in re.findall(r"^\.venv/bin/secureimg (.*)$", PAGE, re.MULTILINE)]
    assert [words[0] for words in runs] == ["inspect", "run", "run", "run"]
    expected = np.load(place / "expected.npy").ravel()
    for words in runs:
        saved = ["--out", "out.npy"] if words[0] == "run" else []
        command = [sys.executable, "-P", "-m", "protocols.cli", *words, *saved]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        if saved:
            allowed = 0.2 if "ckks" in words else 0.01  # polynomials in place of ReLU
            assert np.abs(np.load(place / "out.npy").ravel() - expected).max() < allowed * np.ptp(expected)
            (place / "out.npy").unlink()


def test_the_program_of_the_page_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "import numpy" in code]
    monkeypatch.chdir(place)
    exec(program, {})
    assert capsys.readouterr().out.strip()
