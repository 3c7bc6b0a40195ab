"""Charts of a report as SVG to put into the page: texts are paths, so that they look the same and need no font."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .bench_results import Layer, Report, Row
from .figures import new_figure
from .report import format_ratio, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["error_chart", "layer_chart", "network_chart", "overhead_chart"]

_INK: Final = "#010203"  # becomes the page's text colour, light or dark
_COLOURS: Final = {"plain": "#8a8a8a", "ckks": "#d1622b", "shares": "#3b7fc4"}
_WORDS: Final = {"plain": "plain", "ckks": "CKKS", "shares": "shares"}
_NO_METADATA: Final = ("Creator", "Date", "Format", "Type")
_MOST_BARS: Final = 16
_LONGEST_NAME: Final = 22
_SETTINGS: Final[dict[str, Any]] = {
    "svg.fonttype": "path", "font.family": "sans-serif", "font.size": 8.5, "text.color": _INK, "axes.edgecolor": _INK,
    "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.linewidth": 0.6, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def overhead_chart(report: Report) -> str:
    """Times over plain, a group of bars for each model; empty if there is none."""
    rows = [row for row in report.rows if row.network == "loopback" and row.overhead is not None]
    subjects = [subject.name for subject in report.subjects if any(row.subject == subject.name for row in rows)][::-1]
    if not rows:
        return ""
    return _drawn("overhead", 0.62 * len(subjects) + 0.9, lambda axes: _overheads(axes, rows, subjects))


def _overheads(axes: Axes, rows: Sequence[Row], subjects: Sequence[str]) -> None:
    for executor, shift in (("ckks", 0.2), ("shares", -0.2)):
        found = [row for row in rows if row.executor == executor]
        if not found:
            continue
        places = [subjects.index(row.subject) + shift for row in found]
        lengths = [(row.overhead or 1.0) - 1 for row in found]
        axes.barh(places, lengths, 0.36, left=1, color=_COLOURS[executor], label=_WORDS[executor])
        for place, row in zip(places, found, strict=True):
            axes.text(1.08 * (row.overhead or 1.0), place, format_ratio(row.overhead), va="center", fontsize=7.5)
    axes.set_yticks(range(len(subjects)), subjects)
    axes.set_xscale("log")
    axes.set_xlim(1, 8 * max(row.overhead or 1.0 for row in rows))
    axes.set_xlabel("times the plain model's time")


def network_chart(report: Report) -> str:
    """Measured and predicted seconds over each network; empty if there is none."""
    shaped = {(row.subject, row.executor) for row in report.rows if row.predicted is not None}
    rows = [row for row in report.rows if (row.subject, row.executor) in shaped]
    rows.sort(key=lambda row: [each.name for each in report.subjects].index(row.subject))
    if not shaped:
        return ""
    return _drawn("networks", 0.3 * len(rows) + 0.9, lambda axes: _networks(axes, rows[::-1]))


def _networks(axes: Axes, rows: Sequence[Row]) -> None:
    for executor in ("ckks", "shares"):
        places = [place for place, row in enumerate(rows) if row.executor == executor]
        axes.barh(places, [rows[place].total.median for place in places], 0.62, color=_COLOURS[executor],
                  label=f"{_WORDS[executor]}, measured")  # fmt: skip
    places = [place for place, row in enumerate(rows) if row.predicted is not None]
    axes.plot([rows[place].predicted or 0.0 for place in places], places, "D", color=_INK, ms=4, label="predicted")
    for place, row in enumerate(rows):
        axes.text(1.3 * max(row.total.median, row.predicted or 0.0), place, format_seconds(row.total.median), va="center",
                  fontsize=7.5)  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.subject}, {row.network}" for row in rows])
    axes.set_xscale("log")
    axes.set_xlim(0.5 * min(row.total.median for row in rows), 8 * max(row.total.median for row in rows))
    axes.set_xlabel("seconds for one picture")


def layer_chart(row: Row) -> str:
    """A waterfall: each layer begins where the one before it ends."""
    bars = _merged(row.layers)
    return _drawn(row.title, 0.2 * len(bars) + 0.8, lambda axes: _waterfall(axes, row, bars))


def _waterfall(axes: Axes, row: Row, bars: Sequence[tuple[str, float]]) -> None:
    unit, word = (1.0, "s") if sum(seconds for _, seconds in bars) >= 1 else (1e3, "ms")
    lengths = np.array([seconds for _, seconds in bars]) * unit
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    axes.barh(range(len(bars)), lengths, 0.7, left=starts, color=_COLOURS[row.executor])
    for place, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        share = length / lengths.sum()
        at, side = start + length, "left"
        if at > 0.8 * lengths.sum():  # no room behind it: before it, or in it
            at, side = (start, "right") if start > 0.2 * lengths.sum() else (at, "right")
        axes.text(at, place, f" {share:.0%} ", va="center", ha=side, fontsize=7)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel(f"{word}, {_WORDS[row.executor]}")


def _merged(layers: Sequence[Layer]) -> list[tuple[str, float]]:
    """The longest layers in order; those between them as one bar each."""
    ranked = sorted(range(len(layers)), key=lambda place: -layers[place].seconds.median)
    kept = set(ranked if len(layers) <= _MOST_BARS else ranked[: _MOST_BARS // 2])
    bars: list[tuple[str, float]] = []
    joined = 0
    for place, layer in enumerate(layers):
        name = layer.name if len(layer.name) <= _LONGEST_NAME else layer.name[: _LONGEST_NAME - 1] + "…"
        if place in kept:
            bars.append((name, layer.seconds.median))
            joined = 0
        elif joined:
            joined += 1
            bars[-1] = (f"{joined} others", bars[-1][1] + layer.seconds.median)
        else:
            joined = 1
            bars.append((name, layer.seconds.median))
    return bars


def error_chart(rows: Sequence[Row]) -> str:
    """A histogram of the errors of one model's answers on each executor; empty if nothing was compared."""
    found = [row for row in rows if row.errors is not None and any(row.errors.counts)]
    if not found:
        return ""
    return _drawn(f"errors of {found[0].subject}", 2.4, lambda axes: _errors(axes, found))


def _errors(axes: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        assert row.errors is not None
        parts = np.array(row.errors.counts) / sum(row.errors.counts)
        axes.stairs(100 * parts, row.errors.edges, fill=True, alpha=0.35, color=_COLOURS[row.executor])
        axes.stairs(100 * parts, row.errors.edges, lw=1.4, color=_COLOURS[row.executor], label=_WORDS[row.executor])
    axes.set_xlabel("log10 of the error over the largest output")
    axes.set_ylabel("% of outputs")


def _drawn(title: str, height: float, draw: Any) -> str:
    import matplotlib

    figure = new_figure(4.6, height)
    settings: Any = {**_SETTINGS, "svg.hashsalt": title}
    with matplotlib.rc_context(settings):
        axes = figure.subplots()
        axes.grid(axis="x", alpha=0.18, color=_INK, lw=0.5)
        axes.set_axisbelow(True)
        draw(axes)
        _legend(figure, axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_NO_METADATA))
    text = stream.getvalue()
    named = f'<svg role="img" aria-label="{html.escape(title)}"'
    return text[text.index("<svg") :].replace("<svg", named, 1).replace(_INK, "currentColor")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8)
