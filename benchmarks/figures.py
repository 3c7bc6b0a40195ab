"""Pictures of runs: how they are begun and written, so that equal runs give equal files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "save_figure"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches; `ModuleNotFoundError` without matplotlib (the extra ``bench``)."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "secureimg"
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path, dpi: float | None = None) -> None:
    """Write a figure; the suffix says the format."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=dpi or "figure")
