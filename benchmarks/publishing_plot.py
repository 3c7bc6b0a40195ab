"""A run on publishing as a picture: who is recognised against how alike the published picture is."""

from __future__ import annotations

from pathlib import Path

from .figures import new_figure, save_figure
from .publishing_results import PublishingRun

__all__ = ["plot_publishing"]

_COLOURS = (
    "#3b6fb6",
    "#c2410c",
    "#15803d",
    "#7c3aed",
    "#a16207",
    "#0e7490",
    "#be185d",
    "#4d7c0f",
    "#57534e",
    "#1d4ed8",
)


def plot_publishing(run: PublishingRun, path: Path) -> None:
    """Draw top-1 against SSIM (low on the right is wanted) and against each method's own strength.

    Parameters
    ----------
    run : PublishingRun
    path : Path
        The suffix says the format.
    """
    figure = new_figure(12, 5)
    against, over = figure.subplots(1, 2, sharey=True)
    chance = run.protection[0].chance
    for place, group in enumerate(run.groups()):
        colour, marker = _COLOURS[place % len(_COLOURS)], "os^D"[place // len(_COLOURS) % 4]
        name = f"{group[0].method}{f' ({group[0].setting})' if group[0].setting else ''}"
        heights = [100 * row.top1 for row in group]
        points = [(row.ssim, 100 * row.top1) for row in group if row.ssim is not None]
        if points:
            against.plot(*zip(*points, strict=True), marker=marker, ms=4, lw=1.2, color=colour)
        steps = [place / max(1, len(group) - 1) for place in range(len(group))]
        over.plot(steps, heights, marker=marker, ms=4, lw=1.2, color=colour, label=name)
    for axes in (against, over):
        axes.axhline(100 * chance, color="#222222", lw=0.8, ls=":")
        axes.grid(alpha=0.3)
    against.set_xlabel("SSIM of published to original")
    against.set_ylabel("recognised by the parrot attack, %")
    against.set_ylim(0, 102)
    over.set_xlabel("strength, from the weakest to the strongest that was tried")
    over.set_xticks([])
    figure.legend(*over.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(f"{run.settings['album']}; dotted: chance", fontsize=10)
    save_figure(figure, path, dpi=110)
