"""One process of a campaign: makes inputs, decodes them, counts what came of it, and keeps what escaped."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import logging
import mmap
import os
import resource
import struct
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzzing.targets import REFUSALS, Target

__all__ = ["Escape", "Tally", "judge", "peak_memory", "run_slice"]

_PROGRESS: Final = struct.Struct("<qq")
_KEPT_A_KIND: Final = 3
_ROOM: Final = 4 << 30


@dataclass(frozen=True)
class Escape:
    """An input that broke the rule.

    Attributes
    ----------
    number : int
        Of the input in its campaign.
    kind : str
        Exception and place, "slow", "memory", "hang" or "crash".
    detail : str
        A traceback, or how much of what.
    """

    number: int
    kind: str
    detail: str


@dataclass
class Tally:
    """What came of the inputs of a process, or of a whole campaign."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: list[Escape] = field(default_factory=list)
    escaped: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_number: int = -1
    peak: int = 0
    processor: float = 0.0

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.inputs += other.inputs
        self.outcomes += other.outcomes
        self.escaped += other.escaped
        self.escapes += other.escapes
        if other.slowest > self.slowest:
            self.slowest, self.slowest_number = other.slowest, other.slowest_number
        self.peak = max(self.peak, other.peak)
        self.processor += other.processor

    def note(self, escape: Escape) -> None:
        """Count an escape; keep the first few of its kind."""
        self.escaped[escape.kind] += 1
        if self.escaped[escape.kind] <= _KEPT_A_KIND:
            self.escapes.append(escape)


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def judge(target: Target, data: bytes) -> tuple[str, str | None]:
    """Decode one input. Return the outcome, and if it escaped a traceback.

    The outcome is "valid", the name of the refusal's class, or of an escape "<exception> at <file>:<function>".
    """
    try:
        target.decode(data)
    except REFUSALS as error:
        return type(error).__name__, None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - what else is raised is what is looked for; Rust panics are no Exception
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/fuzzing/" not in frame.filename] or frames
        last = ours[-1]
        kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.name}"
        return kind, "".join(traceback.format_exception(error))
    return "valid", None


def run_slice(
    target: Target, seeds: list[bytes], seed: int, numbers: range, progress: mmap.mmap, corpus: Path | None
) -> Tally:
    """Decode the inputs of these numbers, in this process.

    `progress` always tells which number is being decoded, so that the parent can name it if the process dies or hangs.
    """
    tally = Tally()
    start = time.process_time()
    highest = peak_memory()
    for done, number in enumerate(numbers):
        _PROGRESS.pack_into(progress, 0, number, done)
        data = target.input(seeds, seed, number)
        before = time.process_time()
        outcome, trace = judge(target, data)
        spent = time.process_time() - before
        peak = peak_memory()
        if spent > tally.slowest:
            tally.slowest, tally.slowest_number = spent, number
        found = []
        if trace is not None:
            found.append(Escape(number, outcome, trace))
        else:
            tally.outcomes[outcome] += 1
        if spent > target.seconds:
            found.append(Escape(number, "slow", f"{spent:.2f} s of processor time, the cap is {target.seconds:g}"))
        if peak - highest > target.growth:
            grown = (peak - highest) >> 20
            found.append(Escape(number, "memory", f"{grown} MiB more, the cap is {target.growth >> 20}"))
            highest = peak  # count it once
        for escape in found:
            tally.note(escape)
            if corpus is not None and tally.escaped[escape.kind] <= _KEPT_A_KIND:
                save(corpus, target, data, escape)
        tally.inputs += 1
    _PROGRESS.pack_into(progress, 0, -1, len(numbers))
    tally.peak = peak_memory()
    tally.processor = time.process_time() - start
    return tally


def save(corpus: Path, target: Target, data: bytes, escape: Escape) -> Path:
    """Keep an input for replay, with what it did beside it."""
    folder = corpus / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"input {escape.number}: {escape.kind}\n{escape.detail}\n", encoding="utf-8")
    return path


def quieten() -> None:
    """Make a child process fit to be damaged: no warnings, no core files, no noise of C libraries, an end to its memory."""
    faulthandler.disable()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (in_use + _ROOM, in_use + _ROOM))
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def read_progress(progress: mmap.mmap) -> tuple[int, int]:
    """Return the number that is being decoded (-1 at the end) and how many were done before."""
    found: tuple[Any, ...] = _PROGRESS.unpack_from(progress, 0)
    return int(found[0]), int(found[1])
