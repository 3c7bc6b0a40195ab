"""The report on a terminal: the tables that say the most, from the same texts as the page."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from .bench_results import Report

__all__ = ["show_report"]

_SHOWN = ("total", "networks", "peers", "failures")


def show_report(report: Report, console: Console) -> None:
    """Print summary, totals, networks, peers and failures; and the layers, if there is one model only."""
    shown = report.shown
    assert shown is not None
    for line in shown.summary:
        console.print(f"- {line}", highlight=False)
    for found in shown.tables:
        alone = len(report.subjects) == 1 and found.title.startswith("Layers")
        if found.group not in _SHOWN and not alone:
            continue
        table = Table(title=found.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(found.columns):
            table.add_column(column, justify="left" if number < 2 else "right")
        for row in found.rows:
            table.add_row(*row)
        console.print(table)
        if found.note:
            console.print(found.note, highlight=False, style="dim")
    for name, text in shown.environment[:2]:
        console.print(f"{name}: {text}", highlight=False)
