"""Plots and pictures for the page of `secureimg publish`, as text to put into it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.cli.publish_trials import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve_plot", "picture_uri", "trade_plot", "values_plot"]

Array = NDArray[np.float64]

_INK: Final = "#010203"  # becomes the page's text colour, light or dark
_ATTACK, _LIKE, _OTHERS = "#d1495b", "#2f7fd1", ("#d1495b", "#2f7fd1", "#3a9d5d", "#b07d10", "#8e5fd0", "#0d97a5")
_VALUES: Final = 400  # that are drawn
_LONGEST: Final = 720  # pixels of a picture on the page
_SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8.5, "text.color": _INK, "axes.edgecolor": _INK,
    "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.linewidth": 0.6, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def picture_uri(image: Array, longest: int = _LONGEST) -> str:
    """Return a picture as a data: URI of a PNG, no longer than so many pixels."""
    pixels = Image.fromarray(np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8))
    scale = longest / max(pixels.size)
    if scale < 1:
        pixels = pixels.resize([max(1, round(side * scale)) for side in pixels.size], Image.Resampling.BOX)
    stream = io.BytesIO()
    pixels.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def curve_plot(steps: Sequence[Step]) -> str:
    """Attack and likeness of one method over its strengths, the weakest on the left."""
    with _plot(f"{steps[0].method} over its strengths") as (figure, left, made):
        places = np.arange(len(steps))
        attacks = [step.attack for step in steps if step.attack is not None]
        right: Axes = left.twinx() if attacks else left
        if attacks:
            left.fill_between(
                places, [100 * each.interval[0] for each in attacks], [100 * each.interval[1] for each in attacks],
                color=_ATTACK, alpha=0.18, lw=0,
            )  # fmt: skip
            left.plot(places, [100 * each.top1 for each in attacks], "o-", ms=3.5, color=_ATTACK, label="recognised")
            left.axhline(100 * attacks[0].chance, color=_INK, lw=1, ls=":", label="chance")
            left.set_ylim(0, 103)
            left.set_ylabel("recognised, %")
        likeness = [step.similarity.ssim for step in steps if step.similarity is not None]
        if len(likeness) == len(steps):
            right.plot(places, likeness, "s--", ms=3, color=_LIKE, label="SSIM to the original")
            right.set_ylim(min(0.0, *likeness), 1.03)
            right.set_ylabel("SSIM")
        elif attacks:
            right.set_yticks([])
        left.set_xticks(places, [f"{step.strength:g}" for step in steps])
        left.set_xlabel(f"{steps[0].parameter} (weaker – stronger)")
        _legend(figure)
    return made[0]


def trade_plot(groups: Sequence[Sequence[Step]]) -> str:
    """Attack against likeness, a line for each method: what is wanted is low on the right."""
    with _plot("recognised against likeness") as (figure, axes, made):
        for colour, group in zip(_OTHERS * 9, groups, strict=False):
            points = [
                (step.similarity.ssim, 100 * step.attack.top1) for step in group if step.similarity and step.attack
            ]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", ms=3.5, color=colour, label=group[0].method)
        chance = next((step.attack.chance for group in groups for step in group if step.attack), 0.0)
        axes.axhline(100 * chance, color=_INK, lw=1, ls=":", label="chance")
        axes.set_ylim(0, 103)
        axes.set_xlabel("SSIM to the original")
        axes.set_ylabel("recognised, %")
        _legend(figure)
    return made[0]


def values_plot(published: NDArray[Any], exact: NDArray[Any]) -> str:
    """Published values and what they are without noise."""
    with _plot("published values") as (figure, axes, made):
        shown, true = (np.atleast_2d(values)[0, :_VALUES] for values in (published, exact))
        places = np.arange(len(true))
        axes.fill_between(places, true, step="mid", color=_LIKE, alpha=0.35, lw=0, label="without noise")
        axes.plot(places, shown, drawstyle="steps-mid", lw=0.9, color=_ATTACK, label="published")
        part = f", the first {_VALUES}" if published.shape[-1] > _VALUES else ""
        axes.set_xlabel("number of the value" + (", first channel" if published.ndim > 1 else part))
        axes.set_ylabel("value")
        _legend(figure)
    return made[0]


@contextmanager
def _plot(title: str) -> Iterator[tuple[Figure, Axes, list[str]]]:
    """Yield a figure, its axes, and a list that holds the drawing afterwards. Equal plots give equal texts."""
    import matplotlib
    from matplotlib.figure import Figure

    made: list[str] = []
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y", alpha=0.18, color=_INK, lw=0.5)
        yield figure, axes, made
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = stream.getvalue()
    made.append(text[text.index("<svg") :].replace(_INK, "currentColor"))


def _legend(figure: Figure) -> None:
    """Every line of every axis, above the plot."""
    handles, names = [], []
    for axes in figure.axes:
        more, called = axes.get_legend_handles_labels()
        handles += more
        names += called
    figure.legend(handles, names, loc="outside upper center", ncols=3, fontsize=8)
