"""What people and programs read: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Step", "Steps", "amount", "duration", "err", "fail", "out", "write_json"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def write_json(value: dict[str, Any]) -> None:
    """Write one JSON object, and nothing else, to stdout. Numbers that JSON lacks (NaN, infinities) become null."""
    sys.stdout.write(json.dumps(_finite(value), allow_nan=False) + "\n")
    sys.stdout.flush()


def fail(error: Exception, *, internal: bool = False) -> None:
    """Say in one line what went wrong; with --json also as an object on stdout."""
    text = " ".join(str(error).split()) or type(error).__name__
    if internal:
        text = f"internal error ({type(error).__name__}): {text}: please report it; SECUREIMG_LOG=DEBUG shows where"
    err.print(f"[red]error:[/red] {escape(text)}", soft_wrap=True)
    if "--json" in sys.argv:
        write_json({"error": {"type": type(error).__name__, "message": text}})


def amount(size: float) -> str:
    """Return bytes in a unit for people: `1.5 MB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            break
    return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds in a unit for people: `12 ms`, `3.4 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


@dataclass
class Step:
    """One step of a longer work: who did it, how long it took, how many bytes it made or moved."""

    who: str
    what: str
    seconds: float = 0.0
    bytes: int | None = None


@dataclass
class Steps:
    """Records steps; on a terminal it also shows the one under way."""

    done: list[Step] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, who: str, what: str) -> Iterator[Step]:
        """Time one step. The caller may set its bytes, or replace its seconds by what the other side measured."""
        step = Step(who, what)
        start = time.perf_counter()
        with err.status(f"{who}: {what}") if err.is_terminal else contextlib.nullcontext():
            yield step
        step.seconds = step.seconds or time.perf_counter() - start
        self.done.append(step)

    def table(self) -> Table:
        """Return the steps as a table."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title, justify in (("who", "left"), ("step", "left"), ("time", "right"), ("bytes", "right")):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for step in self.done:
            size = "" if step.bytes is None else amount(step.bytes)
            table.add_row(step.who, step.what, duration(step.seconds), size)
        return table

    def as_list(self) -> list[dict[str, Any]]:
        """Return the steps as plain values."""
        return [{"who": s.who, "step": s.what, "seconds": s.seconds, "bytes": s.bytes} for s in self.done]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
