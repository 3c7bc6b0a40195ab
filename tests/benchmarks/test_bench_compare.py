"""A difference counts only beyond the spread of the runs; what is counted and not timed has no spread."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.bench_compare import compare
from benchmarks.bench_results import Report, report_bytes
from benchmarks.results import Spread

NAMES = (Path("a.json"), Path("b.json"))


def changed(report: Report, place: int, **fields) -> Report:
    rows = list(report.rows)
    rows[place] = msgspec.structs.replace(rows[place], **fields)
    return msgspec.structs.replace(report, rows=tuple(rows))


def verdicts(report: Report, other: Report) -> dict[str, str]:
    return {f"{it.row}: {it.what}": it.verdict for it in compare(report, other, NAMES).changes if it.verdict != "same"}


def scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.min * factor, spread.max * factor, spread.count)


def test_a_report_is_equal_to_itself(made_report):
    assert verdicts(made_report, made_report) == {}


@pytest.mark.parametrize(("factor", "verdict"), [(1.15, None), (1.3, "slower"), (0.85, None), (0.7, "faster")])
def test_a_time_changes_when_the_ratio_of_medians_passes_the_spread(made_report, factor, verdict):
    after = changed(made_report, 1, total=scaled(made_report.rows[1].total, factor))  # most over least is 1.21
    wanted = {} if verdict is None else {"digits & more, ckks: total": verdict}
    assert verdicts(made_report, after) == wanted


def test_the_noisier_of_two_runs_says_what_is_noise(made_report):
    total = made_report.rows[1].total
    after = changed(made_report, 1, total=Spread(total.median * 1.3, total.min, total.max * 1.5, 5))
    assert verdicts(made_report, after) == {}


def test_steady_runs_do_not_make_a_change_of_a_hundredth_count(made_report):
    steady = changed(made_report, 1, total=Spread(1.0, 1.0, 1.0, 5))
    assert verdicts(steady, changed(made_report, 1, total=Spread(1.01, 1.01, 1.01, 5))) == {}


def test_any_difference_of_bytes_and_rounds_counts(made_report):
    links = tuple(
        msgspec.structs.replace(link, bytes=link.bytes + (link.when == "online")) for link in made_report.rows[1].links
    )
    assert verdicts(made_report, changed(made_report, 1, links=links)) == {"digits & more, ckks: bytes online": "more"}
    assert verdicts(made_report, changed(made_report, 2, rounds=8)) == {"digits & more, shares, wan: rounds": "less"}


def test_what_makes_reports_hard_to_compare_is_said(made_report):
    other = msgspec.structs.replace(
        made_report, machine={**made_report.machine, "cpu": "another"}, versions={"numpy": "3"}
    )
    remarks = " ".join(compare(made_report, changed(other, 0, network="lan"), NAMES).remarks)
    for words in ("machines differ", "numpy 2.4.6 → 3", "only before", "only after"):
        assert words in remarks


def test_the_command_fails_on_a_slower_row_if_asked_to_and_only_then(made_report, tmp_path):
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_bytes(report_bytes(made_report))
    after.write_bytes(report_bytes(changed(made_report, 1, total=scaled(made_report.rows[1].total, 2))))
    run = CliRunner().invoke
    assert run(app, ["bench", "compare", str(before), str(after)]).exit_code == 0
    assert run(app, ["bench", "compare", str(before), str(after), "--fail"]).exit_code == 1
    assert run(app, ["bench", "compare", str(after), str(before), "--fail"]).exit_code == 0
    found = run(app, ["bench", "compare", str(before), str(after), "--json"])
    assert [it["verdict"] for it in msgspec.json.decode(found.stdout)["changes"] if it["verdict"] != "same"] == [
        "slower"
    ]
