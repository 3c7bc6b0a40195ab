"""Rule: a campaign finds what breaks the rule, keeps the input, and goes on; whoever breaks the harness is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzing import Target, run_campaign
from fuzzing import __main__ as command
from fuzzing.worker import judge
from secureimg.errors import BlobError

SEED = b"sound" + bytes(40)
INPUTS = 400


def planted(fault: Callable[[], object], **options: object) -> Target:
    """A decoder of bytes that begin with "sound", with a fault behind one byte that is otherwise 0."""

    def decode(data: bytes) -> object:
        if data[:5] != b"sound":
            raise BlobError("not sound")
        if len(data) > 20 and data[20]:
            fault()
        return data

    return Target("planted", "for tests", decode, lambda: [SEED], **options)  # type: ignore[arg-type]


def missing_key() -> object:
    return {}["nothing"]  # type: ignore[index]


def test_an_escape_is_counted_saved_and_replayed(tmp_path: Path) -> None:
    target = planted(missing_key)
    report = run_campaign(target, inputs=INPUTS, seed=1, jobs=2, corpus=tmp_path)
    assert not report.clean
    assert report.tally.inputs == INPUTS
    (kind,) = report.tally.escaped
    assert kind == "KeyError at test_campaign.py:missing_key"
    assert report.tally.outcomes["valid"] > 0
    assert report.tally.outcomes["BlobError"] > 0
    assert report.tally.outcomes.total() + report.tally.escaped.total() == INPUTS
    saved = sorted((tmp_path / "planted").glob("*.bin"))
    assert saved
    for path in saved:
        outcome, trace = judge(target, path.read_bytes())
        assert outcome == kind
        assert trace is not None
        assert "missing_key" in path.with_suffix(".txt").read_text()


def test_a_campaign_says_the_same_twice_and_whatever_the_number_of_processes() -> None:
    reports = [run_campaign(planted(missing_key), inputs=INPUTS, seed=4, jobs=jobs) for jobs in (1, 2)]
    assert reports[0].tally.outcomes == reports[1].tally.outcomes
    assert reports[0].tally.escaped == reports[1].tally.escaped


def test_an_error_below_exception_is_an_escape() -> None:
    """Panics of Rust libraries are such."""

    def panic() -> object:
        raise SystemExit

    report = run_campaign(planted(panic), inputs=INPUTS, seed=1)
    assert list(report.tally.escaped) == ["SystemExit at test_campaign.py:panic"]


def test_a_process_that_dies_is_an_escape_and_the_rest_goes_on(tmp_path: Path) -> None:
    times = 200
    report = run_campaign(planted(os.abort), inputs=times, seed=1, jobs=2, corpus=tmp_path)
    assert set(report.tally.escaped) == {"crash"}
    assert report.tally.inputs == times
    assert any(f"status {-signal.SIGABRT}" in escape.detail for escape in report.tally.escapes)
    assert list((tmp_path / "planted").glob("*.bin"))


def test_a_decoder_that_never_ends_is_an_escape_and_the_rest_goes_on(tmp_path: Path) -> None:
    def forever() -> object:
        while True:
            pass

    times = 40
    report = run_campaign(planted(forever, seconds=0.05), inputs=times, seed=1, jobs=2, corpus=tmp_path)
    assert set(report.tally.escaped) == {"hang"}
    assert report.tally.inputs == times


def test_a_slow_input_is_an_escape() -> None:
    def slow() -> object:
        end = time.process_time() + 0.06
        while time.process_time() < end:
            pass
        return None

    report = run_campaign(planted(slow, seconds=0.05), inputs=100, seed=1)
    assert set(report.tally.escaped) == {"slow"}


def test_a_hungry_input_is_an_escape() -> None:
    """In processes of its own: this one's peak may be higher than any input's, from what was tested before."""
    report = run_campaign(planted(lambda: b"x" * (200 << 20), growth=64 << 20), inputs=100, seed=1, jobs=2)
    assert set(report.tally.escaped) == {"memory"}


def test_a_target_with_a_bad_seed_is_refused() -> None:
    target = planted(missing_key)
    broken = Target("broken", "for tests", target.decode, lambda: [SEED, b"unsound"])
    with pytest.raises(ValueError, match="seed 1 of broken is not valid"):
        run_campaign(broken, inputs=10)


def test_a_fault_of_the_harness_is_no_finding() -> None:
    def reseal(data: bytes) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="harness of planted failed"):
        run_campaign(planted(missing_key, reseal=reseal), inputs=100)


def test_the_command_fails_if_something_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_target", lambda name: planted(missing_key))
    assert command.main(["planted", "--inputs", "200", "--jobs", "1", "--json", "--corpus", str(tmp_path)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"] == 200
    assert sum(told["escaped"].values()) > 0
    (saved, *_) = (tmp_path / "planted").glob("*.bin")
    assert command.main(["--replay", str(saved)]) == 1
    assert "KeyError" in capsys.readouterr().out


def test_the_command_succeeds_on_a_real_decoder(tmp_path: Path) -> None:
    arguments = ["messages-inference", "--inputs", "500", "--jobs", "1", "--json", "--corpus", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "fuzzing", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["inputs"] == 500
    assert told["escaped"] == {}
    assert told["inputs_per_second"] > 0
    unknown = subprocess.run([sys.executable, "-m", "fuzzing", "no-such"], capture_output=True, text=True, timeout=60)
    assert unknown.returncode == 2
    assert "messages-inference" in unknown.stderr


def test_the_atheris_harness_runs_a_decoder(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="the extra `fuzz` is not installed")
    harness = Path(__file__).parents[2] / "fuzzing" / "atheris_harness.py"
    arguments = ["messages-sharing", "-runs=300", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([sys.executable, str(harness), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr
