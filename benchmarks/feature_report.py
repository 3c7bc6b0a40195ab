"""A run on features as tables for people: rich on a terminal, Markdown for the README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .feature_results import FeatureRow, FeatureRun, TaskRow
from .report import format_bytes, format_seconds, machine_words
from .results import Spread

__all__ = ["TOLERANCE", "feature_footer", "feature_markdown", "short_names", "show_features"]

TOLERANCE = 1e-3
_TITLES = {
    "plain": "In the clear",
    "ckks": "On CKKS ciphertexts",
    "shares": "On additive shares",
}


@dataclass(frozen=True)
class _Column:
    title: str
    of: Callable[[Any], str]


@dataclass(frozen=True)
class _Table:
    title: str
    first: str
    columns: Sequence[_Column]
    rows: Sequence[FeatureRow | TaskRow]


def show_features(run: FeatureRun, console: Console) -> None:
    """Print the tables and what is needed to judge them."""
    for part in _tables(run):
        table = Table(title=part.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(part.first)
        for column in part.columns:
            table.add_column(column.title, justify="right")
        for name, cells in _lines(part):
            table.add_row(name, *cells)
        console.print(table)
    for line in feature_footer(run):
        console.print(f"- {line}", highlight=False)


def feature_markdown(run: FeatureRun) -> str:
    """A table for each executor and one for the tasks, and the same footer."""
    parts = []
    for part in _tables(run):
        head = [part.first, *(column.title for column in part.columns)]
        lines = [head, ["---", *("---:" for _ in part.columns)], *([name, *cells] for name, cells in _lines(part))]
        parts.append(f"**{part.title}**\n\n" + "\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    parts.append("\n".join(f"- {line}" for line in feature_footer(run)))
    return "\n\n".join(parts)


def short_names(run: FeatureRun) -> tuple[str, ...]:
    """Names of the features in the order measured."""
    return tuple(dict.fromkeys(row.feature for row in run.rows))


def feature_footer(run: FeatureRun) -> list[str]:
    """Return what must be known to read the figures, line by line."""
    settings = run.settings
    lines = [
        machine_words(run.machine, f" of which {settings['cores']} used (CKKS: {settings['workers']})")
        + "; "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        (
            f"One picture; medians, least and most of at least {settings['repeat']} runs after one that does not count. On "
            "shares all processes are on this machine, over TLS 1.3; online: from splitting the picture to having the "
            "result; offline: from asking for correlations to both parties being ready. On CKKS owner and server are "
            "processes without a network between them; the keys go to the server once."
        ),
    ]
    if run.rows:
        lines += [
            (
                f"Pictures: the middles of {', '.join(settings['pictures'])} (in colour: {', '.join(settings['colour'])}), "
                f"made {settings['size']}x{settings['size']}, 8 bits a value. Weights are public, parameters defaults."
            ),
            (
                "Error: largest over the largest value that the reference gives for the picture, the worst of all "
                "pictures. Of codes, counts and maps of peaks: the part of values that equal the reference's."
            ),
        ]
    over = [f"{row.feature} on {row.executor} ({row.error:.1e})" for row in run.rows if (row.error or 0) > TOLERANCE]
    if over:
        lines.append(f"Not to 1e-3: {', '.join(over)}.")
    if "shares" in {*(row.executor for row in run.rows), *(row.executor for row in run.tasks)}:
        lines.append(f"Shares, a dealer process. {run.trust}")
    lines += [f"{name}: {words}" for name, words in settings["tasks"].items()]
    return lines + [f"Failed: {line}" for line in run.failures]


def _tables(run: FeatureRun) -> list[_Table]:
    size = run.settings["size"]
    found = [
        _Table(f"{title}, {size}x{size}", "feature", _COLUMNS[executor], rows)
        for executor, title in _TITLES.items()
        if (rows := [row for row in run.rows if row.executor == executor])
    ]
    return [*found, _Table("Tasks", "task", _TASK_COLUMNS, run.tasks)] if run.tasks else found


def _lines(part: _Table) -> list[tuple[str, list[str]]]:
    names = (row.feature if isinstance(row, FeatureRow) else row.task for row in part.rows)
    return [(name, [column.of(row) for column in part.columns]) for name, row in zip(names, part.rows, strict=True)]


def _size(value: float) -> str:
    return f"{value:.0f} B" if value < 1000 else format_bytes(value)


def _median(spread: Spread | None) -> str:
    return "" if spread is None else format_seconds(spread.median)


def _range(row: FeatureRow) -> str:
    return f"{format_seconds(row.figures.seconds.min)} – {format_seconds(row.figures.seconds.max)}"


def _error(row: FeatureRow) -> str:
    if row.equal is not None:
        return f"{row.equal:.2%} equal"
    return "" if row.error is None else f"{row.error:.1e}"


def _value(row: TaskRow, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if row.measure == "AUC" else f"{value:.1%}" if value in (0, 1) else f"{value:.2%}"


def _servers(row: TaskRow) -> str:
    """Bytes of both kinds of servers: from and to the owner, and between the parties."""
    figures = row.figures
    return "–" if not figures.up else " + ".join(map(_size, filter(None, (figures.up, figures.down, figures.between))))


def _steps(row: TaskRow) -> str:
    figures = row.figures
    return next((str(count) for count in (figures.rounds, figures.rotations) if count is not None), "")


_ERROR = _Column("error", _error)
_SHARES: tuple[_Column, ...] = (
    _Column("online", lambda row: _median(row.figures.seconds)),
    _Column("least – most", _range),
    _Column("offline", lambda row: _median(row.figures.offline)),
    _Column("compile", lambda row: format_seconds(row.figures.compile)),
    _Column("up", lambda row: _size(row.figures.up)),
    _Column("down", lambda row: _size(row.figures.down)),
    _Column("between parties", lambda row: _size(row.figures.between)),
    _Column("dealt", lambda row: _size(row.figures.dealt)),
    _Column("rounds", lambda row: str(row.figures.rounds)),
    _ERROR,
)
_COLUMNS: dict[str, tuple[_Column, ...]] = {
    "plain": (
        _Column("time", lambda row: _median(row.figures.seconds)),
        _Column("least – most", _range),
        _Column("reference", lambda row: row.source),
        _Column("its time", lambda row: _median(row.reference_seconds)),
        _ERROR,
    ),
    "ckks": (
        _Column("evaluate", lambda row: _median(row.figures.seconds)),
        _Column("least – most", _range),
        _Column("encrypt", lambda row: _median(row.figures.encrypt)),
        _Column("decrypt", lambda row: _median(row.figures.decrypt)),
        _Column("compile", lambda row: format_seconds(row.figures.compile)),
        _Column("keys", lambda row: _size(row.figures.keys)),
        _Column("up", lambda row: _size(row.figures.up)),
        _Column("down", lambda row: _size(row.figures.down)),
        _Column("levels", lambda row: str(row.figures.levels)),
        _Column("rotations", lambda row: str(row.figures.rotations)),
        _Column("server peak", lambda row: _size(row.figures.peak_rss)),
        _ERROR,
    ),
    "shares": _SHARES,
}
_TASK_COLUMNS: tuple[_Column, ...] = (
    _Column("on", lambda row: row.executor),
    _Column("measure", lambda row: row.measure),
    _Column("in the clear", lambda row: _value(row, row.clear)),
    _Column("found", lambda row: _value(row, row.found)),
    _Column("as in the clear", lambda row: _value(row, row.agree)),
    _Column("of", lambda row: f"{row.count:,}"),
    _Column("time", lambda row: _median(row.figures.seconds)),
    _Column("offline", lambda row: _median(row.figures.offline)),
    _Column("up + down + between", _servers),
    _Column("rounds or rotations", _steps),
)
