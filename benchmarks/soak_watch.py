"""What every process holds while it is soaked: memory, file handles, threads; and whether that grows."""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from .soak_deployment import Server

__all__ = ["Drift", "Sample", "Series", "Watch", "drifts", "take"]

_EVERY: Final = 2.0
_FLAT: Final = 0.05
_FEW: Final = {"rss": 2 << 20, "handles": 2, "threads": 2}  # growth that is no leak, whatever its share
_PAGE: Final = 4096
_SAMPLES: Final = 8


@dataclass(frozen=True)
class Sample:
    """What a process and those that it started hold: bytes in memory, file handles, threads."""

    time: float
    rss: int
    handles: int
    threads: int


@dataclass
class Series:
    """Samples of one process from its start to its end.

    Attributes
    ----------
    rest : list of Sample
        Taken when nobody asked and nothing was going wrong.
    """

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)
    rest: list[Sample] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what was seen, for JSON."""
        return {
            "process": self.name, "pid": self.pid, "samples": [asdict(sample) for sample in self.samples],
            "rest": [asdict(sample) for sample in self.rest],
        }  # fmt: skip


@dataclass(frozen=True)
class Drift:
    """How much of one thing a process held at first and at last: medians.

    Attributes
    ----------
    when : str
        "asked" (under load) or "at rest".
    """

    process: str
    what: str
    when: str
    first: float
    last: float
    peak: float
    seconds: float

    @property
    def share(self) -> float:
        """Growth, of what it was at first."""
        return self.last / self.first - 1 if self.first else 0.0

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than a twentieth, or by next to nothing."""
        return self.last - self.first <= max(_FLAT * self.first, _FEW[self.what])


class Watch:
    """Samples processes every few seconds on a thread of its own."""

    def __init__(self, servers: Sequence[Server], clock: Any) -> None:
        self._servers, self._clock = servers, clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seen: dict[tuple[int, int], str] = {}
        self.resting = False
        self._now: dict[str, Series] = {}
        self.series: list[Series] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sample no more."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Sample now."""
        children, begun = _processes()
        with self._lock:
            for server in self._servers:
                pid = server.pid
                sample = take(pid, self._clock(), children) if pid is not None else None
                if pid is None or sample is None:
                    continue
                series = self._now.get(server.name)
                if series is None or series.pid != pid:
                    series = self._now[server.name] = Series(server.name, pid)
                    self.series.append(series)
                (series.rest if self.resting else series.samples).append(sample)
                for child in _descendants(pid, children):
                    self._seen[child, begun[child]] = server.name

    def orphans(self) -> list[str]:
        """Return processes that run on though the one that started them was ended. For when all servers are."""
        _, begun = _processes()
        left = [(pid, name) for (pid, start), name in self._seen.items() if begun.get(pid) == start]
        return [f"process {pid}, which {name} started, runs on without it" for pid, name in left]

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            if not self.resting:
                self.look()


def drifts(series: Series, since: float = 0.0) -> list[Drift]:
    """Judge one process: the median after its first fifth (warm-up) against that of its last fifth, and its rests."""
    samples = [sample for sample in series.samples if sample.time >= since]
    found: list[Drift] = []
    for what in _FEW:
        if len(samples) >= _SAMPLES:
            values = [float(getattr(sample, what)) for sample in samples]
            fifth = max(2, len(values) // 5)
            first, last = statistics.median(values[fifth : 2 * fifth]), statistics.median(values[-fifth:])
            seconds = samples[-1].time - samples[0].time
            found.append(Drift(series.name, what, "asked", first, last, max(values), seconds))
        rests = [(sample.time, float(getattr(sample, what))) for sample in series.rest if sample.time >= since]
        if len({round(time) for time, _ in rests}) >= 2:
            middle = (rests[0][0] + rests[-1][0]) / 2
            first = statistics.median(value for time, value in rests if time <= middle)
            last = statistics.median(value for time, value in rests if time > middle)
            peak = max(value for _, value in rests)
            found.append(Drift(series.name, what, "at rest", first, last, peak, rests[-1][0] - rests[0][0]))
    return found


def take(pid: int, now: float, children: dict[int, list[int]] | None = None) -> Sample | None:
    """Return what a process and its descendants hold; None if it has ended."""
    children = _processes()[0] if children is None else children
    rss = handles = threads = 0
    for current in (pid, *_descendants(pid, children)):
        place = Path("/proc") / str(current)
        try:
            held = int((place / "statm").read_text().split()[1]) * _PAGE
            handles += sum(1 for _ in (place / "fd").iterdir())
            threads += sum(1 for _ in (place / "task").iterdir())
        except (OSError, IndexError):
            if current == pid:
                return None
            continue
        if current == pid and not held:  # a zombie
            return None
        rss += held
    return Sample(now, rss, handles, threads)


def _descendants(pid: int, children: dict[int, list[int]]) -> list[int]:
    found: list[int] = []
    pending = list(children.get(pid, ()))
    while pending:
        found.append(pending.pop())
        pending += children.get(found[-1], ())
    return found


def _processes() -> tuple[dict[int, list[int]], dict[int, int]]:
    """Return the children of each process, and when each began; zombies are left out."""
    found: dict[int, list[int]] = {}
    begun: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found.setdefault(int(fields[1]), []).append(int(place.name))
                    begun[int(place.name)] = int(fields[19])
    return found, begun
