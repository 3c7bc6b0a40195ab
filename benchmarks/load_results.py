"""What a run of ``python -m benchmarks load`` returns, and how it is written to JSON and shown."""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .report import machine_words
from .results import Spread

__all__ = ["LOAD_SCHEMA", "LoadRow", "LoadRun", "show_load"]

LOAD_SCHEMA = "secureimg-benchmark-load/1"


@dataclass(frozen=True)
class LoadRow:
    """A system under load. Answers a second, over turns that the two took.

    `inside` is the best way of doing the same work without a network, see `inside_best`; `ratio` is the median over turns of
    served over inside.
    """

    name: str
    owners: int
    requests: int
    served: Spread
    inside: Spread
    inside_best: str
    ratio: Spread
    wrong: int

    @classmethod
    def of(
        cls, name: str, owners: int, requests: int, served: list[float], inside: dict[str, list[float]], wrong: int
    ) -> LoadRow:
        """Summarise turns; the best way inside is that with the best median."""
        best = max(inside, key=lambda way: statistics.median(inside[way]))
        ratios = [mine / other for mine, other in zip(served, inside[best], strict=True)]
        return cls(
            name, owners, requests, Spread.of(served), Spread.of(inside[best]), best, Spread.of(ratios), wrong
        )  # fmt: skip


@dataclass(frozen=True)
class LoadRun:
    """Everything that one run measured, with what is needed to judge it."""

    rows: tuple[LoadRow, ...]
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        plain = {"schema": LOAD_SCHEMA, **dataclasses.asdict(self)}
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def show_load(run: LoadRun, console: Console) -> None:
    """Print the table."""
    console.print(machine_words(run.machine))
    console.print(", ".join(f"{name} {value}" for name, value in run.settings.items()))
    table = Table(
        title="Answers a second", title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for title in (
        "",
        "owners",
        "requests",
        "over TLS",
        "in-process",
        "best in-process way",
        "ratio",
        "least - most",
        "wrong",
    ):
        table.add_column(title, justify="left" if title in ("", "best in-process way") else "right")
    for row in run.rows:
        table.add_row(
            row.name, str(row.owners), str(row.requests), f"{row.served.median:.2f}", f"{row.inside.median:.2f}",
            row.inside_best, f"{row.ratio.median:.0%}", f"{row.ratio.min:.0%} - {row.ratio.max:.0%}", str(row.wrong),
        )  # fmt: skip
    console.print(table)
