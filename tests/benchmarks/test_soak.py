"""A short soak on real processes, and each of its detectors against what it is there to detect."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import Plan, run_soak
from benchmarks.soak_books import check_logs, compare
from benchmarks.soak_deployment import Server
from benchmarks.soak_faults import Fault
from benchmarks.soak_links import Link, free_port
from benchmarks.soak_models import Pool, small_net
from benchmarks.soak_report import Bar, recoveries
from benchmarks.soak_tally import Tally, judge_error
from benchmarks.soak_watch import Sample, Series, drifts, take
from protocols import Code, RefusedError
from protocols.operations.audit_chain import Record
from secureimg.errors import LocalProtocolError, RemoteProtocolError


def test_a_short_soak_holds_every_bar(tmp_path: Path) -> None:
    """Fifteen seconds of faults on both services: answers in between, all right; refusals clear; books in order."""
    plan = Plan(seconds=15, owners=4, fault_every=1.5, seed=7, rest=0)
    report = run_soak(plan, tmp_path)
    assert all(bar.holds for bar in report.bars()), report.bars()
    assert len(report.faults) >= 4
    assert all(report.tally.right[service] > 0 for service in plan.services)
    facts = report.facts()
    assert facts["passed"]
    assert facts["books"]["party0_answers"] >= len(report.tally.answers) > 0
    assert {"party0", "party1", "dealer", "server"} <= {series.name for series in report.series}
    assert all(series.samples for series in report.series)


@pytest.mark.parametrize("service", ["shares", "ckks"])
def test_an_answer_that_is_not_the_plain_models_is_wrong(service: str) -> None:
    """Scores further off than allowed, another label, another shape."""
    pool = Pool.of(small_net(service), 1)
    picked = [3, 0]
    scores = pool.scores[picked].copy()
    labels = scores.argmax(axis=1)[:, None].astype(float)
    assert pool.wrong(picked, scores + 0.009, "scores", 0.01) is None
    assert pool.wrong(picked, labels, "label", 0.01) is None
    scores[1, 4] += 0.02
    assert "off by 0.02" in str(pool.wrong(picked, scores, "scores", 0.01))
    assert "nan" in str(pool.wrong(picked, scores * np.nan, "scores", 0.01))
    assert "expected" in str(pool.wrong(picked, (labels + 1) % 10, "label", 0.01))
    assert "shape" in str(pool.wrong(picked, scores[:1], "scores", 0.01))
    assert "shape" in str(pool.wrong(picked, scores, "label", 0.01))


@pytest.mark.parametrize(
    ("error", "code", "clear"),
    [
        (RefusedError(Code.BUSY, "4 sessions are open", "come back later"), "busy", True),
        (RemoteProtocolError("no answer from party 1 within 15 s: is it running?"), "remote", True),
        (RefusedError(Code.INTERNAL, "internal error of the party", "tell its operator"), "internal", False),
        (RemoteProtocolError("None"), "remote", False),
        (LocalProtocolError("a run is prepared already: call run first"), "LocalProtocolError", False),
        (KeyError("x"), "KeyError", False),
        (ConnectionResetError("reset"), "ConnectionResetError", False),
    ],
)
def test_errors_are_clear_or_not(error: Exception, code: str, clear: bool) -> None:
    """Documented types with words to act on are clear; internal errors and anything else are failures."""
    told = judge_error(error)
    assert (told.code, told.clear) == (code, clear)
    tally = Tally()
    tally.refuse("shares", error)
    assert tally.refused["shares", code] == 1
    assert tally.failures["unclear"] == (not clear)


def test_a_call_that_is_late_is_a_hang_and_counts_once() -> None:
    """While it waits and afterwards."""
    tally = Tally()
    with tally.call("slow", 0.05):
        time.sleep(0.1)
        tally.look_for_hangs()
        tally.look_for_hangs()
    with tally.call("slow too", 0.05):
        time.sleep(0.1)
    with tally.call("fast", 5.0):
        tally.look_for_hangs()
    assert tally.failures["hung"] == 2
    assert "test_soak" in tally.hung[0]
    assert not Bar("nothing hangs", (), tally.failures["hung"]).holds


def record(name: str, owner: str = "a" * 64, **facts: object) -> Record:
    given = {
        "session": name,
        "model": "m",
        "program": "p",
        "images": 1,
        "reveal": "scores",
        "correlation": f"of {name}",
    } | facts
    return Record.now(1, "0" * 64, "answered", owner, given)  # type: ignore[arg-type]


def test_books_that_do_not_agree_are_found() -> None:
    """An answer twice in a log, in one log only though its owner has it, with other facts; more runs than spent."""
    owner = "a" * 64

    def problems(zero: list[Record], one: list[Record], spent: int = 1, got: tuple[str, ...] = ("s 0",)) -> str:
        tally = Tally(stocked=1)
        for name in got:
            tally.answer("shares", owner, 0.0, None, name=name)
        marks = {f"{number:032x}" for number in range(spent)}
        books = compare(tally, {"party0": zero, "party1": one}, {"party0": marks, "party1": marks})
        return " ".join(books.problems)

    good = [record("s 0"), record("s 1")]
    assert problems(good, good) == ""
    assert problems(good, good[:1]) == ""  # nobody got s 1: one party was killed before it could write
    assert "answered s 1 2 times" in problems([*good, record("s 1")], good)
    assert "not in the audit log of party1" in problems(good, good[1:])
    assert "not in the audit log of party0" in problems([record("s 0", "b" * 64)], good)
    assert "different things about s 0" in problems([record("s 0", images=2)], good)
    assert "used correlation of s 0 2 times" in problems([*good, record("s 2", correlation="of s 0")], good)
    assert "took a correlation from the stock" in problems(good, good, spent=0)
    assert "2 answers under the name s 0" in problems(good, good, got=("s 0", "s 0"))


def test_an_answer_that_the_server_did_not_write_down_is_found() -> None:
    """More answers than the owner has in the audit log."""
    tally = Tally()
    tally.answer("ckks", "a" * 64, 0.0, None)
    assert not compare(tally, {"server": [record("r")]}, {}).problems
    assert compare(tally, {"server": [record("r", "b" * 64)]}, {}).problems


def test_growth_is_a_leak_and_a_wave_is_none() -> None:
    """Medians after warm-up against those of the end; and what is held at rest."""

    def series(values: list[int], rest: list[int]) -> Series:
        found = Series("party0", 1)
        found.samples = [Sample(float(i), value << 20, 20, 9) for i, value in enumerate(values)]
        found.rest = [Sample(100.0 * i, 100 << 20, value, 9) for i, value in enumerate(rest)]
        return found

    wave = [60, *([100, 130, 90, 110] * 10)]
    assert all(drift.flat for drift in drifts(series(wave, [10, 10])))
    slope = [60 + i for i in range(40)]
    leaks = [drift for drift in drifts(series(slope, [10, 30])) if not drift.flat]
    assert {(drift.what, drift.when) for drift in leaks} == {("rss", "asked"), ("handles", "at rest")}


def test_what_a_process_holds_is_seen() -> None:
    """A process that opens files, fills memory and starts another one holds more."""
    text = (
        "import sys, subprocess\nprint(flush=True)\nsys.stdin.readline()\n"
        "held = [open('/dev/null') for _ in range(50)]\nmemory = bytearray(b'x') * (32 << 20)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(flush=True)\nsys.stdin.readline()\nchild.communicate()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = take(process.pid, 0.0)
        process.stdin.write("\n")
        process.stdout.readline()
        after = take(process.pid, 1.0)
        process.stdin.write("\n")
        process.wait(10)
        assert take(process.pid, 2.0) is None
    assert before is not None
    assert after is not None
    assert after.handles >= before.handles + 50
    assert after.rss > before.rss + (32 << 20)
    assert after.threads >= before.threads + 1


def test_recovery_is_the_first_right_answer_after_the_mending() -> None:
    """Of the same service, to what was asked after the fault began."""
    tally = Tally()
    tally.moments = {"shares": [(0.0, 11.0), (9.0, 12.5), (12.0, 13.0)], "ckks": [(9.0, 10.5)]}
    faults = [Fault("kill", "party0", "shares", 5.0, 10.0), Fault("cut", "owner-server", "ckks", 10.6, 10.6)]
    assert recoveries(faults, tally) == [2.5, None]


def test_a_traceback_in_a_log_is_found(tmp_path: Path) -> None:
    """Nothing else is."""
    server = Server("party0", "shares", 1, tmp_path / "party0.toml", tmp_path)
    server.log.write_text("INFO all is well\nWARNING owner abc: refused (busy)\n")
    assert not check_logs([server])
    server.log.write_text("INFO all is well\nTraceback (most recent call last):\n  here\nKeyError: 1\n")
    assert "KeyError" in check_logs([server])[0]


def test_a_link_falls_silent_breaks_and_damages() -> None:
    """What is kept back comes later; a flipped bit is one bit; a refused connection ends; a cut one too."""
    import socket

    rng = random.Random(time.time_ns())
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Link("a-b", free_port(rng), listener.getsockname()[1]) as link,
    ):

        def join() -> tuple[socket.socket, socket.socket]:
            near = socket.create_connection(("127.0.0.1", link.port), 5)
            far, _ = listener.accept()
            far.settimeout(5)
            return near, far

        near, far = join()
        near.sendall(b"one")
        assert far.recv(16) == b"one"
        with link.silent():
            near.sendall(b"two")
            far.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far.recv(16)
        far.settimeout(5)
        assert far.recv(16) == b"two"
        link.corrupt([9])
        far.sendall(b"\0\0\0")
        assert near.recv(16) == b"\0\x02\0"
        assert link.corrupted == 1
        link.cut()
        assert near.recv(16) == b""
        with link.refusing(), pytest.raises(ConnectionResetError):  # at once, or at the first word
            socket.create_connection(("127.0.0.1", link.port), 5).recv(16)
        again = join()
        again[0].sendall(b"three")
        assert again[1].recv(16) == b"three"
        for sock in (near, far, *again):
            sock.close()
