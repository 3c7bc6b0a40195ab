"""The benchmark of publishing measures every method, and its figures are those of the attack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import publishing_command
from benchmarks.__main__ import app
from benchmarks.publishing_measure import (
    CIPHER_STEPS,
    PLANS,
    measure_cipher,
    measure_strength,
    photograph,
    strengths_of,
)
from benchmarks.publishing_results import PUBLISHING_SCHEMA
from protocols.cli.publish_methods import METHODS
from secureimg.publishing import digits_album, parrot_attack, pixelate


def test_every_method_is_measured() -> None:
    assert {plan.method for plan in PLANS} == set(METHODS)


def test_every_plan_runs_at_its_weakest_and_strongest() -> None:
    album = digits_album(4)
    few = np.stack([album.picture(place) for place in range(3)])
    for plan in PLANS:
        method, settings = plan.of()
        strengths = strengths_of(plan, album, quick=False)
        assert len(strengths_of(plan, album, quick=True)) <= 3
        for strength in (strengths[0], strengths[-1]):
            assert len(method.at(settings, strength)(few)) == 3


def test_a_row_is_what_the_attack_finds() -> None:
    album = digits_album(10)
    row = measure_strength(album, PLANS[0], 4.0, copies=1)
    wanted = parrot_attack(album, lambda image: pixelate(image, 4)[0], copies=1)
    assert (row.top1, row.top5, row.chance) == (wanted.top1, wanted.top5, wanted.chance)
    assert wanted.similarity is not None
    assert row.ssim == wanted.similarity.ssim
    assert row.seconds > 0


@pytest.mark.parametrize("name", CIPHER_STEPS)
def test_ciphers_give_the_photograph_back(name: str) -> None:
    rows = list(measure_cipher(name, photograph(120, 90), 1))
    assert len(rows) >= 2
    assert all(row.right is not False for row in rows)
    assert rows[-1].right


def test_the_command_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing_command, "digits_album", lambda _: digits_album(6))
    monkeypatch.setattr(publishing_command, "photograph", lambda _, __: photograph(120, 90))
    words = ["publishing", "--quick", "--only", "k-same", "--only", "seal"]
    outputs = ["--json", tmp_path / "r.json", "--plot", tmp_path / "r.svg", "--markdown", tmp_path / "r.md"]
    done = CliRunner().invoke(app, [*words, *map(str, outputs)])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["schema"] == PUBLISHING_SCHEMA
    assert {row["method"] for row in report["protection"]} == {"k-same"}
    assert [row["step"] for row in report["ciphers"]] == ["seal a JPEG", "open it"]
    assert not report["failures"]
    assert "k-same" in (tmp_path / "r.md").read_text()
    assert "<svg" in (tmp_path / "r.svg").read_text()
    refused = CliRunner().invoke(app, ["publishing", "--only", "nothing"])
    assert refused.exit_code == 2
