"""What a run on publishing returns, and how it is shown and written to JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .report import format_bytes, format_seconds, machine_words
from .results import Spread

__all__ = ["PUBLISHING_SCHEMA", "CipherRow", "ProtectionRow", "PublishingRun", "publishing_markdown", "show_publishing"]

PUBLISHING_SCHEMA = "secureimg-benchmark-publishing/1"

_PROTECTION = (
    "method", "strength", "top-1", "95 %", "top-5", "chance", "MSE", "PSNR", "SSIM", "a picture", "attack",
)  # fmt: skip
_CIPHERS = ("step", "time", "least – most", "bytes before", "bytes after", "check")


@dataclass(frozen=True)
class ProtectionRow:
    """One method at one strength, attacked. `seconds` are for publishing one picture, `attack_seconds` for the attack.

    `mse`, `psnr` and `ssim` are means over test pictures; None if what is published is no picture of the original's shape.
    """

    method: str
    setting: str
    parameter: str
    strength: float
    top1: float
    interval: tuple[float, float]
    top5: float
    chance: float
    beats_chance: bool
    train: int
    test: int
    mse: float | None
    psnr: float | None
    ssim: float | None
    classifier: str
    seconds: float
    attack_seconds: float


@dataclass(frozen=True)
class CipherRow:
    """A step of sealing, splitting or thumbnail-preserving encryption of one photograph. `right` says that it came back."""

    step: str
    seconds: Spread
    before: int
    after: int
    right: bool | None


@dataclass(frozen=True)
class PublishingRun:
    """Everything that one run measured, with what is needed to judge it. `failures` holds what could not run, and why."""

    protection: tuple[ProtectionRow, ...]
    ciphers: tuple[CipherRow, ...]
    failures: tuple[str, ...]
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON file. An infinite PSNR is null there."""
        plain = dataclasses.asdict(self)
        for row in plain["protection"]:
            row["psnr"] = None if row["psnr"] is None or math.isinf(row["psnr"]) else row["psnr"]
        return {"schema": PUBLISHING_SCHEMA, **plain}

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def groups(self) -> list[list[ProtectionRow]]:
        """Return the rows of each method and setting, in the order measured."""
        return [list(group) for _, group in groupby(self.protection, key=lambda row: (row.method, row.setting))]


def show_publishing(run: PublishingRun, console: Console) -> None:
    """Print the tables and what is needed to judge them."""
    for title, head, lines in _tables(run):
        table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place < 1 else "right")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in _footer(run):
        console.print(f"- {note}", highlight=False)


def publishing_markdown(run: PublishingRun) -> str:
    """Return the same as Markdown."""
    parts = []
    for title, head, cells in _tables(run):
        lines = [head, ["---", *("---:" for _ in head[1:])], *cells]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    parts.append("\n".join(f"- {line}" for line in _footer(run)))
    return "\n\n".join(parts)


def _tables(run: PublishingRun) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    tables: list[tuple[str, Sequence[str], list[list[str]]]] = []
    if run.protection:
        tables.append((f"Protection against utility, {run.settings['album']}", _PROTECTION, [
            [
                f"{row.method}{f' ({row.setting})' if row.setting else ''}", f"{row.parameter} {row.strength:g}",
                f"{row.top1:.1%}", f"{row.interval[0]:.0%} – {row.interval[1]:.0%}", f"{row.top5:.1%}", f"{row.chance:.1%}",
                _number(row.mse, ".4f"), _number(row.psnr, ".1f"), _number(row.ssim, ".3f"), format_seconds(row.seconds),
                format_seconds(row.attack_seconds),
            ]
            for row in run.protection
        ]))  # fmt: skip
    if run.ciphers:
        tables.append((f"A photograph of {run.settings['photo']}", _CIPHERS, [
            [
                row.step, format_seconds(row.seconds.median),
                f"{format_seconds(row.seconds.min)} – {format_seconds(row.seconds.max)}", format_bytes(row.before),
                format_bytes(row.after), "–" if row.right is None else "exact" if row.right else "WRONG",
            ]
            for row in run.ciphers
        ]))  # fmt: skip
    return tables


def _footer(run: PublishingRun) -> list[str]:
    lines = [
        machine_words(run.machine) + "; " + ", ".join(f"{name} {version}" for name, version in run.versions.items())
    ]
    if run.protection:
        row = run.protection[0]
        lines.append(
            f"Parrot attack: trained on {row.train} published pictures ({run.settings['copies']} shifted copies of each), "
            f"tested on {row.test} others of the same labels; interval of top-1: Wilson. MSE, PSNR, SSIM: published beside "
            "original, mean over test pictures; – where values are published."
        )
        for group in run.groups():
            beaten = [row for row in group if row.beats_chance]
            name = f"{group[0].method}{f' ({group[0].setting})' if group[0].setting else ''}"
            last = "at no strength" if not beaten else f"up to {beaten[-1].parameter} {beaten[-1].strength:g}"
            lines.append(f"{name}: the attack beats chance (p < 0.001) {last} of those tried.")
    return lines + [f"Failed: {line}" for line in run.failures]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else "equal" if math.isinf(value) else format(value, form)
