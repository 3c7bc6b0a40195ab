"""The run as tables for people: rich on a terminal, Markdown for the README."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .results import Peer, Row, Run, Spread

__all__ = ["format_bytes", "format_ratio", "format_seconds", "machine_words", "markdown", "show"]


@dataclass(frozen=True)
class _Column:
    title: str
    of: Callable[[Row], str]
    of_peer: Callable[[Peer], str] = lambda peer: ""


def machine_words(machine: dict[str, Any], used: str = "") -> str:
    """What `results.machine` found, in a line; `used` follows the number of cores."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{used}, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}, Python {machine['python']}"
    )


def show(run: Run, console: Console) -> None:
    """Print the tables."""
    console.print(machine_words(run.machine))
    console.print(", ".join(f"{name} {version}" for name, version in run.versions.items()))
    console.print(", ".join(f"{name} {value}" for name, value in run.settings.items()))
    for title, columns in _TABLES.items():
        table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("network")
        for column in columns:
            table.add_column(column.title, justify="right")
        for name, cells in _lines(run, columns):
            table.add_row(name, *cells)
        console.print(table)


def markdown(run: Run) -> str:
    """One table with the figures that matter, for a README."""
    columns = [column for table in _TABLES.values() for column in table if column.title in _MAIN]
    head = ["network", *(column.title for column in columns)]
    lines = [head, ["---", *("---:" for _ in columns)], *([name, *cells] for name, cells in _lines(run, columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _lines(run: Run, columns: Sequence[_Column]) -> list[tuple[str, list[str]]]:
    lines = [(row.title, [column.of(row) for column in columns]) for row in run.rows]
    if run.peer is not None:
        peer = run.peer
        lines.insert(0, (peer.name, [column.of_peer(peer) for column in columns]))
    return lines


def format_seconds(value: float) -> str:
    """Return seconds with a unit that fits."""
    if value >= 10:
        return f"{value:.1f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"


def format_bytes(value: float) -> str:
    """Return bytes with a decimal unit that fits."""
    if value >= 1e9:
        return f"{value / 1e9:.2f} GB"
    return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"


def format_ratio(value: float | None) -> str:
    """Return ``3.2x``; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}x" if value >= 100 else f"{value:.3g}x"


def _range(spread: Spread) -> str:
    return f"{format_seconds(spread.min)} - {format_seconds(spread.max)}"


def _primes(bits: Sequence[int]) -> str:
    """Sizes of the primes, runs of one size as size x count: ``31 26x6 31``."""
    runs = [(size, len(list(group))) for size, group in itertools.groupby(bits)]
    return " ".join(str(size) if count == 1 else f"{size}x{count}" for size, count in runs)


_MAIN = {
    "evaluate",
    "an image",
    "peer / ours",
    "ours / plain",
    "evaluation keys",
    "up",
    "down",
    "server peak",
    "max error",
    "of largest output",
}
_TABLES = {
    "Evaluation, the server's part: median of the turns": (
        _Column(
            "evaluate",
            lambda row: format_seconds(row.evaluate.median),
            lambda peer: format_seconds(peer.evaluate.median),
        ),
        _Column("least - most", lambda row: _range(row.evaluate), lambda peer: _range(peer.evaluate)),
        _Column(
            "an image", lambda row: format_seconds(row.per_image), lambda peer: format_seconds(peer.evaluate.median)
        ),
        _Column("peer / ours", lambda row: format_ratio(row.peer_ratio)),
        _Column("plain numpy", lambda row: format_seconds(row.plain.median)),
        _Column("ours / plain", lambda row: format_ratio(row.overhead)),
    ),
    "Before and around it": (
        _Column("compile", lambda row: format_seconds(row.compile)),
        _Column(
            "keys", lambda row: format_seconds(row.keygen), lambda peer: format_seconds(peer.facts["keygen_seconds"])
        ),
        _Column("first evaluation", lambda row: format_seconds(row.first_evaluate)),
        _Column(
            "encrypt",
            lambda row: format_seconds(row.encrypt.median),
            lambda peer: format_seconds(peer.facts["encrypt_seconds"]),
        ),
        _Column(
            "decrypt",
            lambda row: format_seconds(row.decrypt.median),
            lambda peer: format_seconds(peer.facts["decrypt_seconds"]),
        ),
    ),
    "Bytes and memory": (
        _Column(
            "evaluation keys",
            lambda row: format_bytes(row.bytes.evaluation_keys),
            lambda peer: format_bytes(peer.facts["bytes"]["evaluation_keys"]),
        ),
        _Column("up", lambda row: format_bytes(row.bytes.up), lambda peer: format_bytes(peer.facts["bytes"]["up"])),
        _Column(
            "down", lambda row: format_bytes(row.bytes.down), lambda peer: format_bytes(peer.facts["bytes"]["down"])
        ),
        _Column(
            "server peak",
            lambda row: format_bytes(row.server_peak_rss),
            lambda peer: format_bytes(peer.facts["peak_rss"]),
        ),
        _Column("owner peak", lambda row: format_bytes(row.owner_peak_rss)),
    ),
    "Error against the plain model": (
        _Column("max error", lambda row: f"{row.error_max:.1e}", lambda peer: f"{peer.facts['error_max']:.1e}"),
        _Column(
            "of largest output",
            lambda row: f"{row.error_relative:.1e}",
            lambda peer: f"{peer.facts['error_max'] / peer.facts['largest_output']:.1e}",
        ),
        _Column("predicted max", lambda row: f"{row.error_predicted:.1e}"),
        _Column("equal labels", lambda row: f"{row.labels_equal}/{row.labels_total}"),
    ),
    "The program (bits of the primes: data, then special)": (
        _Column("rotations", lambda row: str(row.rotations)),
        _Column("Galois keys", lambda row: str(row.galois_keys)),
        _Column("products", lambda row: str(row.products)),
        _Column("levels", lambda row: str(row.levels)),
        _Column("predicted time", lambda row: format_seconds(row.predicted_evaluate)),
        _Column("N", lambda row: str(row.ring_degree), lambda peer: str(peer.facts["ring_degree"])),
        _Column("primes", lambda row: _primes(row.prime_bits), lambda peer: _primes(peer.facts["prime_bits"])),
    ),
}
