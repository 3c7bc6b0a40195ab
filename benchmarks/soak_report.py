"""What a soak found: bars, numbers, and a table for people."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from .soak_books import Books
from .soak_faults import Fault
from .soak_tally import Tally
from .soak_watch import Drift, Series

__all__ = ["Bar", "Report", "recoveries"]

_MB: Final = 1 << 20


@dataclass(frozen=True)
class Bar:
    """Something that must hold, and what broke it."""

    name: str
    broken: tuple[str, ...] = ()
    count: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing broke it."""
        return not self.broken and not self.count


def recoveries(faults: Sequence[Fault], tally: Tally) -> list[float | None]:
    """Seconds from the end of each fault to the first right answer of its service; None if there was none any more.

    It counts only what was asked after the fault began. Owners who wait for the other service meanwhile do not ask, and
    other faults may fall into the time: it is an upper bound.
    """
    found: list[float | None] = []
    for fault in faults:
        mended = fault.ended if fault.ended is not None else float("inf")
        later = [
            end - mended
            for began, end in tally.moments.get(fault.service, ())
            if began >= fault.began and end >= mended
        ]
        found.append(min(later, default=None))
    return found


@dataclass
class Report:
    """All of it."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    seconds: float
    tally: Tally
    faults: list[Fault]
    troubles: list[str]
    books: Books
    logs: list[str]
    drifts: list[Drift]
    series: list[Series]
    corrupted: int
    left: list[str] = field(default_factory=list)

    def bars(self) -> list[Bar]:
        """Judge."""
        tally = self.tally
        asked = tuple(f"{service}: no right answer" for service in tally.asked if not tally.right[service])
        leaks = tuple(
            f"{drift.process}: {drift.what} {drift.when} {drift.first:g} -> {drift.last:g} in {drift.seconds:.0f} s"
            for drift in self.drifts
            if not drift.flat
        )
        return [
            Bar("answers", asked),
            Bar("no wrong answer", tuple(tally.wrong), tally.failures["wrong"]),
            Bar("every refusal clear", tuple(tally.unclear), tally.failures["unclear"]),
            Bar("nothing hangs", tuple(tally.hung), tally.failures["hung"]),
            Bar("books agree, nothing spent twice", tuple(self.books.problems)),
            Bar("no internal error in a log", tuple(self.logs)),
            Bar("every process restarts and stops", (*self.troubles, *self.left)),
            Bar("memory, handles, threads flat", leaks),
        ]

    def recovery(self) -> dict[str, dict[str, Any]]:
        """Recovery times by kind of fault."""
        times: dict[str, list[float]] = {}
        count: Counter[str] = Counter()
        for fault, seconds in zip(self.faults, recoveries(self.faults, self.tally), strict=True):
            count[fault.kind] += 1
            if seconds is not None:
                times.setdefault(fault.kind, []).append(seconds)
        return {
            kind: {
                "faults": count[kind],
                "recovered": len(times.get(kind, ())),
                "median_s": round(statistics.median(times[kind]), 3) if kind in times else None,
                "longest_s": round(max(times[kind]), 3) if kind in times else None,
            }
            for kind in sorted(count)
        }

    def facts(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        tally = self.tally
        return {
            "settings": self.settings,
            "machine": self.machine,
            "seconds": round(self.seconds, 1),
            "passed": all(bar.holds for bar in self.bars()),
            "bars": {bar.name: {"holds": bar.holds, "broken": list(bar.broken)} for bar in self.bars()},
            "asked": dict(tally.asked),
            "right": dict(tally.right),
            "failures": dict(tally.failures),
            "refused": {f"{service}: {code}": count for (service, code), count in sorted(tally.refused.items())},
            "examples": {f"{service}: {code}": text for (service, code), text in sorted(tally.examples.items())},
            "longest_s": {what: round(seconds, 2) for what, seconds in sorted(tally.longest.items())},
            "recovery": self.recovery(),
            "faults": [
                {**asdict(fault), "recovered_s": seconds}
                for fault, seconds in zip(self.faults, recoveries(self.faults, tally), strict=True)
            ],
            "corrupted_chunks": self.corrupted,
            "books": self.books.facts,
            "drifts": [{**asdict(drift), "flat": drift.flat, "share": round(drift.share, 4)} for drift in self.drifts],
            "series": [series.facts() for series in self.series],
        }

    def show(self, console: Console) -> None:
        """Print the tables."""
        tally = self.tally
        table = Table("service", "asked", "right", "wrong", "unclear", "hung", "refused", title="Requests")
        for service in sorted(tally.asked):
            codes = ", ".join(f"{code} {n}" for (name, code), n in sorted(tally.refused.items()) if name == service)
            bad = [
                str(sum(text.startswith(service) for text in kind)) for kind in (tally.wrong, tally.unclear, tally.hung)
            ]
            table.add_row(service, str(tally.asked[service]), str(tally.right[service]), *bad, codes)
        console.print(table)
        table = Table("fault", "times", "recovered", "median s", "longest s", title="Faults, until a right answer")
        for kind, facts in self.recovery().items():
            table.add_row(kind, *(str(value) for value in facts.values()))
        console.print(table)
        table = Table("process", "what", "when", "first", "last", "drift", "peak", "s", title="Held by processes")
        for drift in self.drifts:
            unit = _MB if drift.what == "rss" else 1
            numbers = [f"{value / unit:.1f}" for value in (drift.first, drift.last)]
            mark = "" if drift.flat else " [red]![/]"
            table.add_row(
                drift.process, "rss MB" if unit > 1 else drift.what, drift.when, *numbers,
                f"{drift.share:+.1%}{mark}", f"{drift.peak / unit:.1f}", f"{drift.seconds:.0f}",
            )  # fmt: skip
        console.print(table)
        table = Table("bar", "", "what broke it", title=f"{self.seconds / 60:.1f} minutes")
        for bar in self.bars():
            table.add_row(bar.name, "holds" if bar.holds else "[red]broken[/]", "\n".join(bar.broken[:5])[:1500])
        console.print(table)
