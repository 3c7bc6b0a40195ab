"""Examples run as they stand, offline, and their own assertions hold."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NO_NETWORK = """\
import socket

def refuse(*_):
    raise OSError("an example tried to use the network")

socket.socket.connect = refuse
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_its_table(path: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) >= 4


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_says_what_it_shows_and_asserts_it(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 80
    assert len(ast.get_docstring(tree) or "") > 100
    assert any(isinstance(node, ast.Assert) for node in tree.body)


def test_the_six_that_people_come_for_are_there() -> None:
    found = {path.stem for path in EXAMPLES}
    for word in ("xray", "face_match", "hog_pedestrian", "retrieval", "hospitals", "album"):
        assert any(re.search(word, name) for name in found), word
