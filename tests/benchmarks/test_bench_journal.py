"""Finished rows survive an interruption at any byte, and nobody's files are written over."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench_journal import Journal
from benchmarks.bench_results import SCHEMA, Report, load_report, report_bytes
from secureimg.errors import BlobError, SecureImgError


def test_a_finished_row_is_there_after_a_restart(made_report, tmp_path):
    journal = Journal(tmp_path / "run")
    for row in made_report.rows:
        journal.add(row)
    journal.add_peer("some key", made_report.peers[0])
    again = Journal(tmp_path / "run")
    assert all(again.row(row.key) == row for row in made_report.rows)
    assert again.peer("some key") == made_report.peers[0]
    assert again.row("another machine, model or setting") is None


def test_a_line_that_was_cut_is_measured_again_and_the_next_one_is_whole(made_report, tmp_path):
    journal = Journal(tmp_path)
    first, second = made_report.rows[:2]
    journal.add(first)
    length = (tmp_path / "rows.jsonl").stat().st_size
    journal.add(second)
    data = (tmp_path / "rows.jsonl").read_bytes()

    @given(st.integers(length, len(data) - 1))
    def check(kept: int) -> None:
        (tmp_path / "rows.jsonl").write_bytes(data[:kept])
        again = Journal(tmp_path)
        assert again.row(first.key) == first
        assert again.row(second.key) is None
        again.add(second)
        assert Journal(tmp_path).row(second.key) == second

    check()


def test_lines_of_another_release_are_kept_and_not_used(made_report, tmp_path):
    line = b'{"row": {"of": "another release"}}\n'
    (tmp_path / "rows.jsonl").write_bytes(line)
    Journal(tmp_path).add(made_report.rows[0])
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(line)
    assert Journal(tmp_path).row(made_report.rows[0].key) == made_report.rows[0]


def test_a_directory_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SecureImgError, match="--out"):
        Journal(tmp_path)
    with pytest.raises(SecureImgError, match="--out"):
        Journal(tmp_path / "thesis.tex")


def test_a_report_is_read_back_as_it_was(made_report: Report, tmp_path):
    path = tmp_path / "bench.json"
    path.write_bytes(report_bytes(made_report))
    assert load_report(path) == made_report
    assert json.loads(path.read_text())["schema"] == SCHEMA


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"schema": "other"}', "\ufffe"])
def test_a_file_that_is_no_report_has_one_clear_error(text, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(BlobError, match=r"bench\.json"):
        load_report(path)
    with pytest.raises(BlobError, match="cannot be read"):
        load_report(tmp_path / "absent.json")


def test_another_schema_is_not_read(made_report, tmp_path):
    path = tmp_path / "bench.json"
    path.write_bytes(report_bytes(msgspec.structs.replace(made_report, schema="secureimg-bench/99")))
    with pytest.raises(BlobError, match="secureimg-bench/99"):
        load_report(path)
