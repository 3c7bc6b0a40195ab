"""The run as a picture: time and key bytes of each row, the peer as a line."""

from __future__ import annotations

from pathlib import Path

from .figures import new_figure, save_figure
from .results import Run

__all__ = ["plot"]


def plot(run: Run, path: Path) -> None:
    """Draw two panels over the rows: seconds an image, and bytes of evaluation keys; logarithmic, lower is better.

    Parameters
    ----------
    run : Run
        What was measured.
    path : Path
        Where to write; the suffix says the format (.svg, .png, .pdf).

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib (``pip install 'secureimg[bench]'``).
    """
    rows = run.rows[::-1]
    names = [row.title for row in rows]
    figure = new_figure(10, 1.2 + 0.42 * len(rows))
    times, keys = figure.subplots(1, 2, sharey=True)
    medians = [row.per_image for row in rows]
    below = [row.per_image - row.evaluate.min / row.images for row in rows]
    above = [row.evaluate.max / row.images - row.per_image for row in rows]
    times.barh(
        names, medians, xerr=(below, above), color="#3b6fb6", error_kw={"lw": 1, "capsize": 2}, label="secureimg"
    )
    times.plot([row.plain.median / row.images for row in rows], names, "o", color="#222222", ms=4, label="plain numpy")
    times.set_xlabel("seconds an image")
    keys.barh(names, [row.bytes.evaluation_keys / 1e6 for row in rows], color="#3b6fb6")
    keys.set_xlabel("evaluation keys, MB")
    if run.peer is not None:
        times.axvline(run.peer.evaluate.median, color="#c2410c", ls="--", label=run.peer.name)
        keys.axvline(run.peer.facts["bytes"]["evaluation_keys"] / 1e6, color="#c2410c", ls="--")
    for axes in (times, keys):
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    save_figure(figure, path)
