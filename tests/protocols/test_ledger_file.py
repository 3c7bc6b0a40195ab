"""Ledgers on disk: a release is on record before it leaves, whatever happens, whoever else spends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from protocols import ledger_file, private_files
from protocols.ledger_file import create_ledger, read_ledger, spend
from secureimg.errors import BlobError, BudgetError, KeyMaterialError
from secureimg.privacy import Charge, Ledger

CHARGE = Charge("dp_pixelate", 16, epsilon=0.01)
FORK: Any = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "album.ledger"
    create_ledger(path, Ledger("album", 1.0, unit=16))
    return path


def _spend_until_refused(path: Path, pipe: Any) -> None:
    released = 0
    try:
        while True:
            spend(path, CHARGE)
            released += 1
    except BudgetError:
        pipe.send(released)


def _spend_for_ever(path: Path, pipe: Any) -> None:
    while True:
        spend(path, CHARGE)
        pipe.send(1)


def test_two_processes_cannot_both_spend_the_same_budget(path: Path) -> None:
    pipes = [FORK.Pipe(duplex=False) for _ in range(2)]
    workers = [FORK.Process(target=_spend_until_refused, args=(path, there)) for _, there in pipes]
    for worker in workers:
        worker.start()
    released = [here.recv() for here, _ in pipes]
    for worker in workers:
        worker.join(20)
    assert sum(released) == 100
    assert len(read_ledger(path).charges) == 100


def test_whatever_left_before_a_kill_is_on_record(path: Path) -> None:
    left = 0
    for number in range(8):
        here, there = FORK.Pipe(duplex=False)
        worker = FORK.Process(target=_spend_for_ever, args=(path, there))
        worker.start()
        there.close()
        here.recv()
        left += 1
        time.sleep(0.003 * number)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(20)
        try:
            while here.poll():
                here.recv()
                left += 1
        except EOFError:
            pass
    assert left <= len(read_ledger(path).charges) <= left + 8


@pytest.mark.parametrize("broken", ["_settle", "replace_private"])
def test_no_release_leaves_when_the_disk_fails(path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: object) -> None:
        raise KeyMaterialError("disk full")

    monkeypatch.setattr(ledger_file, broken, fail)
    with pytest.raises(KeyMaterialError, match="disk full"):
        spend(path, CHARGE)
    monkeypatch.undo()
    read_ledger(path)


def test_a_failing_write_leaves_the_old_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(private_files.os, "fsync", fail)
    with pytest.raises(KeyMaterialError, match="No space left"):
        spend(path, CHARGE)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".album.ledger.lock", "album.ledger"]


def test_past_the_budget_the_file_stays_as_it_is(path: Path) -> None:
    spend(path, Charge("dp_pixelate", 16, epsilon=0.9))
    before = path.read_bytes()
    with pytest.raises(BudgetError, match=r"0\.1 is left"):
        spend(path, Charge("dp_blur", 16, epsilon=0.2))
    assert path.read_bytes() == before


def test_a_ledger_is_its_users_only_and_never_overwritten(path: Path) -> None:
    spend(path, CHARGE)
    for entry in path.parent.iterdir():
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    with pytest.raises(KeyMaterialError, match="exists already"):
        create_ledger(path, Ledger("album", 5.0))
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="open to others"):
        spend(path, CHARGE)


def test_what_is_no_ledger_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    for wrong in (link, tmp_path / "none", tmp_path):
        with pytest.raises(KeyMaterialError):
            read_ledger(wrong)
    with pytest.raises(KeyMaterialError, match="cannot be locked"):
        spend(tmp_path / "no" / "where", CHARGE)
    path.write_bytes(b"{}")
    with pytest.raises(BlobError, match=r"album\.ledger is no ledger"):
        spend(path, CHARGE)


def test_a_ledger_that_another_process_holds_is_not_spent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "_PATIENCE", 0.05)
    with ledger_file._locked(path), pytest.raises(BudgetError, match="another process has held"):
        spend(path, CHARGE)
    assert len(spend(path, CHARGE).charges) == 1
