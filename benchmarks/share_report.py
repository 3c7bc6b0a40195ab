"""A run on shares as tables for people: rich on a terminal, Markdown for the README; and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from .figures import new_figure, save_figure
from .report import format_bytes, format_ratio, format_seconds, machine_words
from .share_results import PeerFigure, ShareRow, ShareRun

__all__ = ["footer", "plot_shares", "share_markdown", "show_shares"]


@dataclass(frozen=True)
class _Column:
    title: str
    of: Callable[[ShareRow], str]


def show_shares(run: ShareRun, console: Console) -> None:
    """Print the tables and what is needed to judge them."""
    for title, columns in _tables(run).items():
        table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("work")
        for column in columns:
            table.add_column(column.title, justify="right")
        for row in run.rows:
            table.add_row(row.title, *(column.of(row) for column in columns))
        console.print(table)
    for line in footer(run):
        console.print(f"- {line}", highlight=False)


def share_markdown(run: ShareRun) -> str:
    """One table with all columns but memory, and the same footer."""
    tables = _tables(run)
    columns = [column for title in tables if title != _MEMORY for column in tables[title]]
    lines = [
        ["work", *(column.title for column in columns)],
        ["---", *("---:" for _ in columns)],
        *([row.title, *(column.of(row) for column in columns)] for row in run.rows),
    ]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return table + "\n\n" + "\n".join(f"- {line}" for line in footer(run))


def footer(run: ShareRun) -> list[str]:
    """Return what must be known to read the figures, line by line."""
    lines = [
        machine_words(run.machine, f" of which {run.settings['cores']} used")
        + "; "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        (
            f"Medians of {run.settings['repeat']} runs after one that does not count; one image; all processes on this "
            "machine, over TLS 1.3. Online: from splitting the image to having the result, the owner's links included. "
            "Offline: from asking for correlations to both parties being ready. MB online: between the parties, both ways."
        ),
        f"Dealer: {run.settings['dealer']}. {run.trust}",
        (
            "Ours is compiled for the input ranges of these rows (-8 to 8 for operations and matmul, 0 to 4 or 0 to 1 for "
            "convolutions and networks) with 16 fractional bits, and the sign of a value below 2^-11 of the usual most "
            "may be wrong; a peer's values may fill its 64 bits and it compares them all."
        ),
        "Error: largest over the largest output of the plain model, over all runs. Image effect: what another one changes.",
    ]
    for name, how in sorted({(row.network, row.shaped_by) for row in run.rows if row.network != "loopback"}):
        what = "one queue for all links" if how == "netem" else "the full rate on each link"
        lines.append(f"{name.upper()}: {run.settings['networks'][name]}, shaped by {how} ({what}).")
    if run.peers:
        lines.append(
            f"{', '.join(run.peers)}: image and weights shared beforehand, so without the owner's links; plain TCP; their "
            "correlations come from a trusted first party: party 0 knows them all, which both projects call unfit for "
            "production. Our dealer is a process of its own or the owner."
        )
        if any(row.shaped_by == _RELAYS for row in run.rows):
            lines.append("Relays carry our links only: behind them no peer is run.")
        lines += [
            f"{row.title}: {name} failed ({figure.failure})"
            for row in run.rows
            for name, figure in row.peers.items()
            if figure.failure
        ]
    return lines


_RELAYS = "relay processes"
_ROLES = ("party 0", "party 1", "dealer", "owner")
_MEMORY = "Peak memory of each process; plain numpy"


def _tables(run: ShareRun) -> dict[str, Sequence[_Column]]:
    tables: dict[str, Sequence[_Column]] = {
        "Time and traffic": (
            _Column("online", lambda row: format_seconds(row.online.median)),
            _Column("offline", lambda row: format_seconds(row.offline.median)),
            _Column("both", lambda row: format_seconds(row.total.median)),
            _Column("online MB", lambda row: format_bytes(row.online_bytes)),
            _Column("dealt", lambda row: format_bytes(row.dealt_bytes)),
            _Column("weights once", lambda row: format_bytes(row.weight_bytes) if row.weight_bytes else "–"),
            _Column("rounds", lambda row: str(row.rounds)),
            _Column("error", _error),
            _Column("image effect", lambda row: f"{row.image_effect:.0%}"),
            _Column("ours / plain", lambda row: format_ratio(row.overhead)),
        )
    }
    for name in run.peers:
        tables[f"Beside {name}"] = _peer_columns(name)
    roles = sorted({role for row in run.rows for role in row.peak_rss}, key=_ROLES.index)
    tables[_MEMORY] = (
        *(_Column(role, _peak(role)) for role in roles),
        _Column("compile", lambda row: format_seconds(row.compile)),
        _Column("plain numpy", lambda row: format_seconds(row.plain.median)),
    )
    return tables


def _peer_columns(name: str) -> tuple[_Column, ...]:
    def cell(show: Callable[[PeerFigure], str]) -> Callable[[ShareRow], str]:
        return lambda row: show(row.peers[name]) if name in row.peers else ""

    return (
        _Column(name, cell(lambda figure: format_seconds(figure.seconds.median) if figure.seconds else "failed")),
        _Column(f"{name} MB", cell(lambda figure: format_bytes(figure.bytes) if figure.bytes is not None else "")),
        _Column(f"{name} rounds", cell(lambda figure: str(figure.rounds) if figure.rounds is not None else "")),
        _Column(f"{name} error", cell(lambda figure: f"{figure.error:.0e}" if figure.error is not None else "")),
        _Column(f"{name} / ours", lambda row: format_ratio(row.peer_ratio(name))),
    )


def _error(row: ShareRow) -> str:
    return f"{row.labels_equal}/{row.labels_total} labels" if row.error is None else f"{row.error:.1e}"


def _peak(role: str) -> Callable[[ShareRow], str]:
    return lambda row: format_bytes(row.peak_rss[role]) if role in row.peak_rss else ""


def plot_shares(run: ShareRun, path: Path) -> None:
    """Draw two panels over the rows: seconds (online, offline, peers, plain) and bytes; logarithmic, lower is better.

    Parameters
    ----------
    run : ShareRun
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
    figure = new_figure(11, 1.4 + 0.42 * len(rows))
    times, sizes = figure.subplots(1, 2, sharey=True)
    times.barh(names, [row.total.median for row in rows], color="#a9c3e6", label="online and offline")
    times.barh(names, [row.online.median for row in rows], color="#3b6fb6", height=0.5, label="online")
    times.plot([row.plain.median for row in rows], names, "o", color="#222222", ms=4, label="plain numpy")
    times.set_xlabel("seconds")
    sizes.barh(names, [(row.online_bytes + row.dealt_bytes) / 1e6 for row in rows], color="#a9c3e6")
    sizes.barh(names, [row.online_bytes / 1e6 for row in rows], color="#3b6fb6", height=0.5)
    sizes.set_xlabel("MB between the parties (dark) and with what is dealt")
    for place, name in enumerate(run.peers):
        style = {"color": ("#c2410c", "#15803d")[place % 2], "marker": "Ds"[place % 2], "linestyle": "", "ms": 5}
        found = [(row, row.peers[name]) for row in rows if name in row.peers]
        timed = [(row.title, it.seconds.median) for row, it in found if it.seconds]
        sized = [(row.title, it.bytes / 1e6) for row, it in found if it.bytes]
        times.plot([seconds for _, seconds in timed], [title for title, _ in timed], label=name, **style)
        sizes.plot([size for _, size in sized], [title for title, _ in sized], **style)
    for axes in (times, sizes):
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=5, fontsize="small", frameon=False)
    save_figure(figure, path)
