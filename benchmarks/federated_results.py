"""What a run of ``python -m benchmarks federated`` returns, and how it is written to JSON, shown and drawn."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from protocols.cli.console import amount, duration

from .figures import new_figure, save_figure
from .report import machine_words
from .results import Spread

__all__ = ["FEDERATED_SCHEMA", "FederatedRow", "FederatedRun", "Skipped", "plot_federated", "show_federated"]

FEDERATED_SCHEMA = "secureimg-benchmark-federated/1"
_COLOURS = {"plain": "#8a8a8a", "SecAgg+": "#c2410c", "secureimg": "#3b6fb6"}


@dataclass(frozen=True)
class FederatedRow:
    """One way at one size. Seconds and bytes; `added` is its median round over that of plain averaging, less one;
    `processor` is processor time of all processes together, and `added_processor` the same of it.
    """

    way: str
    owners: int
    parameters: int
    seconds: Spread
    processor: Spread
    up: float
    down: float
    between: int
    party_seconds: Spread | None
    owner_seconds: float
    error: float
    peak_rss: int
    added: float | None
    added_processor: float | None


@dataclass(frozen=True)
class Skipped:
    """A size that was not measured, and why."""

    way: str
    owners: int
    parameters: int
    why: str


@dataclass(frozen=True)
class FederatedRun:
    """Everything that one run measured, with what is needed to judge it."""

    rows: tuple[FederatedRow, ...]
    skipped: tuple[Skipped, ...]
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        plain = {"schema": FEDERATED_SCHEMA, **dataclasses.asdict(self)}
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def show_federated(run: FederatedRun, console: Console) -> None:
    """Print the table."""
    console.print(machine_words(run.machine))
    console.print(", ".join(f"{name} {value}" for name, value in {**run.settings, **run.versions}.items()))
    pictures = run.settings["pictures"]
    title = (
        f"A round in which each owner trains once on {pictures} pictures" if pictures else "A round without training"
    )
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    titles = ("way", "owners", "parameters", "a round", "least - most", "over plain", "processor", "over plain", "owner",
              "closing", "owner up", "down", "between", "error", "peak")  # fmt: skip
    for title in titles:
        table.add_column(title, justify="left" if title == "way" else "right")
    for row in run.rows:
        table.add_row(
            row.way, str(row.owners), f"{row.parameters:,}", duration(row.seconds.median),
            f"{duration(row.seconds.min)} - {duration(row.seconds.max)}",
            _over(row, row.added), duration(row.processor.median), _over(row, row.added_processor),
            duration(row.owner_seconds),
            "" if row.party_seconds is None else duration(row.party_seconds.median), amount(row.up), amount(row.down),
            amount(row.between) if row.between else "", f"{row.error:.1g}", amount(row.peak_rss),
        )  # fmt: skip
    console.print(table)
    for item in run.skipped:
        console.print(f"not measured: {item.way}, {item.owners} owners, {item.parameters:,} parameters: {item.why}")


def _over(row: FederatedRow, added: float | None) -> str:
    return "" if added is None or row.way == "plain" else f"{added:+.0%}"


def plot_federated(run: FederatedRun, path: Path) -> None:
    """Draw seconds a round over parameters, a panel for each number of owners; logarithmic, lower is better."""
    counts = sorted({row.owners for row in run.rows})
    figure = new_figure(1.5 + 3.5 * len(counts), 3.6)
    panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for axes, owners in zip(panels, counts, strict=True):
        for way, colour in _COLOURS.items():
            rows = sorted(
                (row for row in run.rows if row.way == way and row.owners == owners), key=lambda row: row.parameters
            )
            if rows:
                axes.plot([row.parameters for row in rows], [row.seconds.median for row in rows], "o-", ms=4,
                          color=colour, label=way)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="parameters", title=f"{owners} owners")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("seconds a round")
    panels[0].legend(frameon=False)
    save_figure(figure, path)
