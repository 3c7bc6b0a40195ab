"""Two reports beside each other: which differences are more than noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from rich import box
from rich.table import Table

from .bench_results import Report, Row
from .report import format_bytes, format_ratio, format_seconds
from .results import Spread

__all__ = ["SCHEMA", "Change", "Comparison", "compare", "comparison_table"]

SCHEMA: Final = "secureimg-bench-compare/1"
_LEAST: Final = 1.05
"""Below, a difference of medians is not worth a word, however steady the runs were."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in both reports.

    Attributes
    ----------
    what : str
        "total", a phase, "bytes online", "rounds", "labels" and the like.
    before, after, ratio : float
        Medians, and after over before.
    noise : float
        What the ratio has to pass: the wider of the two spreads, most over least; 1 for what is counted, not timed.
    verdict : str
        "slower", "faster", "more", "less" or "same".
    """

    row: str
    what: str
    before: float
    after: float
    ratio: float
    noise: float
    verdict: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All figures that both reports have; `remarks` says what makes them hard to compare."""

    schema: str
    before: str
    after: str
    changes: tuple[Change, ...]
    remarks: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """Times that are longer by more than noise."""
        return tuple(change for change in self.changes if change.verdict == "slower")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def compare(before: Report, after: Report, names: tuple[Path, Path]) -> Comparison:
    """Compare two reports, row by row.

    A time changed if the ratio of medians passes both runs' own spread (most over least) and 1.05. Bytes, rounds and
    equal labels are counted, so any difference is one.

    Parameters
    ----------
    before, after : Report
    names : (Path, Path)
        Their files, for people.
    """
    first = {_place(row): row for row in before.rows}
    second = {_place(row): row for row in after.rows}
    changes = [change for place, row in first.items() if place in second for change in _changes(row, second[place])]
    return Comparison(
        schema=SCHEMA, before=str(names[0]), after=str(names[1]), changes=tuple(changes),
        remarks=tuple(_remarks(before, after, set(first), set(second))),
    )  # fmt: skip


def _place(row: Row) -> tuple[str, str, str]:
    return row.subject, row.executor, row.network


def _remarks(
    before: Report, after: Report, first: set[tuple[str, str, str]], second: set[tuple[str, str, str]]
) -> Iterator[str]:
    if before.machine != after.machine:
        yield "the machines differ: times cannot be compared"
    changed = [name for name, version in after.versions.items() if before.versions.get(name) != version]
    if changed:
        yield "versions differ: " + ", ".join(
            f"{name} {before.versions.get(name, 'none')} → {after.versions[name]}" for name in changed
        )
    digests = {subject.name: subject.digest for subject in before.subjects}
    for subject in after.subjects:
        if digests.get(subject.name, subject.digest) != subject.digest:
            yield f"{subject.name} is another model now"
    for words, places in (("only before", first - second), ("only after", second - first)):
        for place in sorted(places):
            yield f"{', '.join(place)}: {words}"


def _changes(before: Row, after: Row) -> Iterator[Change]:
    yield _timed(after.title, "total", before.total, after.total)
    for phase in before.phases:
        if phase in after.phases and len(before.phases) > 1:
            yield _timed(after.title, phase, before.phases[phase], after.phases[phase])
    pairs = [
        ("bytes online", _bytes(before, "online"), _bytes(after, "online")),
        ("bytes offline", _bytes(before, "offline"), _bytes(after, "offline")),
        ("bytes once", _bytes(before, "once"), _bytes(after, "once")),
        ("rounds", before.rounds or 0, after.rounds or 0),
    ]
    if before.errors is not None and after.errors is not None:
        pairs.append(("labels equal", before.errors.labels_equal, after.errors.labels_equal))
    for what, old, new in pairs:
        if old or new:
            yield _counted(after.title, what, old, new)


def _timed(row: str, what: str, before: Spread, after: Spread) -> Change:
    ratio = after.median / before.median if before.median > 0 else 1.0
    noise = max(_LEAST, *(each.max / each.min for each in (before, after) if each.min > 0))
    verdict = "slower" if ratio > noise else "faster" if ratio < 1 / noise else "same"
    return Change(
        row=row, what=what, before=before.median, after=after.median, ratio=ratio, noise=noise, verdict=verdict
    )  # fmt: skip


def _counted(row: str, what: str, before: int, after: int) -> Change:
    ratio = after / before if before else 0.0
    verdict = "same" if before == after else "more" if after > before else "less"
    return Change(row=row, what=what, before=before, after=after, ratio=ratio, noise=1.0, verdict=verdict)


def _bytes(row: Row, when: str) -> int:
    return sum(link.bytes for link in row.links if link.when == when)


def comparison_table(found: Comparison, *, everything: bool) -> Table:
    """The changes as a table; with `everything` what stayed the same, too."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("row", "what", "before", "after", "ratio", "noise", ""):
        table.add_column(title, justify="left" if title in ("row", "what", "") else "right")
    for change in found.changes:
        if everything or change.verdict != "same":
            show = format_bytes if change.what.startswith("bytes") else str if change.noise == 1 else format_seconds
            style = {"slower": "red", "more": "red", "faster": "green", "less": "green"}.get(change.verdict, "")
            table.add_row(
                change.row, change.what, show(change.before), show(change.after), format_ratio(change.ratio),
                format_ratio(change.noise) if change.noise > 1 else "", change.verdict, style=style,
            )  # fmt: skip
    return table
