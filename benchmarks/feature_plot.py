"""A run on features as a picture: time and error of each feature, what tasks reach, ROC curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .feature_report import TOLERANCE, short_names
from .feature_results import FeatureRow, FeatureRun
from .figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_features"]

_COLOURS = {"clear": "#222222", "plain": "#8a8a8a", "ckks": "#c2410c", "shares": "#3b6fb6"}
_LEGEND = {"plain": "ours in the clear", "ckks": "CKKS, evaluation", "shares": "shares, online"}
_CURVES = ("#3b6fb6", "#c2410c", "#15803d", "#7c3aed")
_LEAST_RATE = 1e-4
_LEAST_ERROR = 1e-7  # what is drawn for no error at all
_COUNTED = ("accuracy", "recall@1", "equal codes")


def plot_features(run: FeatureRun, path: Path) -> None:
    """Draw time and error of each feature (logarithmic, lower is better), and below them the tasks and their ROC curves.

    Parameters
    ----------
    run : FeatureRun
        What was measured.
    path : Path
        Where to write; the suffix says the format (.svg, .png, .pdf).

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib (``pip install 'secureimg[bench]'``).
    """
    names = short_names(run)
    counted = [row for row in run.tasks if row.measure in _COUNTED]
    top = 0.9 + 0.3 * len(names) if names else 0.0
    bottom = max(1.2 + 0.22 * len(counted), 4.2 if run.curves else 0.0) if run.tasks else 0.0
    heights = [height for height in (top, bottom) if height]
    figure = new_figure(11, 0.5 + sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if names:
        times, errors = parts[0].subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _times(times, run, names)
        _errors(errors, run, names)
        parts[0].legend(*times.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    if run.tasks:
        panels = parts[-1].subplots(1, 2 if run.curves and counted else 1, squeeze=False)[0]
        if counted:
            _tasks(panels[0], run)
        if run.curves:
            _roc(panels[-1], run)
    save_figure(figure, path, dpi=110)


def _times(axes: Axes, run: FeatureRun, names: tuple[str, ...]) -> None:
    places = {name: place for place, name in enumerate(reversed(names))}
    for executor, shift in (("ckks", 0.2), ("shares", -0.2)):
        rows = [row for row in run.rows if row.executor == executor]
        if not rows:
            continue
        spreads = [row.figures.seconds for row in rows]
        axes.barh(
            [places[row.feature] + shift for row in rows], [spread.median for spread in spreads], 0.38,
            xerr=([spread.median - spread.min for spread in spreads], [spread.max - spread.median for spread in spreads]),
            color=_COLOURS[executor], error_kw={"lw": 0.8, "capsize": 1.5}, label=_LEGEND[executor],
        )  # fmt: skip
    plain = [row for row in run.rows if row.executor == "plain"]
    axes.plot([row.figures.seconds.median for row in plain], [places[row.feature] for row in plain], "o", ms=4,
              color=_COLOURS["clear"], label=_LEGEND["plain"])  # fmt: skip
    axes.plot([row.reference_seconds.median for row in plain], [places[row.feature] for row in plain], "|", ms=9, mew=1.5,
              color="#15803d", label="reference")  # fmt: skip
    axes.set_yticks(list(places.values()), list(places))
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds for one picture of {run.settings['size']}x{run.settings['size']}")
    axes.grid(axis="x", alpha=0.3)


def _errors(axes: Axes, run: FeatureRun, names: tuple[str, ...]) -> None:
    places = {name: place for place, name in enumerate(reversed(names))}
    for executor, marker, shift in (("ckks", "s", 0.12), ("shares", "o", -0.12)):
        for hollow in (False, True):
            rows = [row for row in run.rows if row.executor == executor and (row.equal is not None) is hollow]
            axes.plot([_off(row) for row in rows], [places[row.feature] + shift for row in rows], marker, ms=5,
                      color=_COLOURS[executor], fillstyle="none" if hollow else "full")  # fmt: skip
    axes.axvline(TOLERANCE, color="#15803d", ls="--", lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("error (hollow: part of values that differ)")
    axes.grid(alpha=0.3)


def _off(row: FeatureRow) -> float:
    return max((row.error or 0.0) if row.equal is None else 1 - row.equal, _LEAST_ERROR)


def _tasks(axes: Axes, run: FeatureRun) -> None:
    """A group of bars for each task and measure: the clear, then the executors."""
    names, ticks, place = [], [], 0.0
    shown = set()
    found = [row for row in run.tasks if row.measure in _COUNTED and row.executor != "plain"]
    for task, measure in dict.fromkeys((row.task, row.measure) for row in found):
        rows = [row for row in found if (row.task, row.measure) == (task, measure)]
        bars = [
            ("clear", 1.0 if rows[0].clear is None else rows[0].clear),
            *((row.executor, row.found) for row in rows),
        ]
        for number, (who, value) in enumerate(bars):
            axes.barh(place - number, 100 * value, 0.85, color=_COLOURS["plain" if who == "clear" else who],
                      label=None if who in shown else who)  # fmt: skip
            axes.text(99 * value, place - number, f"{value:.1%}", ha="right", va="center", fontsize=7, color="white")
            shown.add(who)
        names.append(f"{task}\n{measure}")
        ticks.append(place - (len(bars) - 1) / 2)
        place -= len(bars) + 0.7
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_xlabel("per cent")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False)


def _roc(axes: Axes, run: FeatureRun) -> None:
    """A colour for each task; the clear wide and pale, so that what lies on it shows."""
    tasks = list(dict.fromkeys(curve.task for curve in run.curves))
    for curve in run.curves:
        if curve.executor == "plain":
            continue
        clear = curve.executor == "clear"
        axes.plot(curve.false, curve.true, color=_CURVES[tasks.index(curve.task) % len(_CURVES)],
                  drawstyle="steps-post", lw=4 if clear else 1.2, alpha=0.3 if clear else 1.0, ls="-" if clear else "--",
                  label=f"{curve.task}, {curve.executor}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(_LEAST_RATE, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small", frameon=False)
