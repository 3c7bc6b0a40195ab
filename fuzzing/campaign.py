"""A campaign: many inputs for one decoder, in processes that may hang, die or be killed without ending it."""

from __future__ import annotations

import mmap
import multiprocessing as mp
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final

from fuzzing.targets import Target
from fuzzing.worker import Escape, Tally, judge, quieten, read_progress, run_slice, save

__all__ = ["Report", "run_campaign"]

_TURN: Final = 20_000
_HANG_FACTOR: Final = 5
_SILENCE: Final = 120.0
_LOOK: Final = 0.1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MOST_KILLS: Final = 50


@dataclass
class Report:
    """What a campaign found.

    Attributes
    ----------
    target : str
    seed : int
    tally : Tally
    seconds : float
        Wall clock, without making the seeds.
    """

    target: str
    seed: int
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing escaped."""
        return not self.tally.escaped

    def to_builtins(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        tally = self.tally
        return {
            "target": self.target,
            "seed": self.seed,
            "inputs": tally.inputs,
            "seconds": round(self.seconds, 2),
            "processor_seconds": round(tally.processor, 2),
            "inputs_per_second": round(tally.inputs / self.seconds) if self.seconds else 0,
            "inputs_per_processor_second": round(tally.inputs / tally.processor) if tally.processor else 0,
            "valid": tally.outcomes.get("valid", 0),
            "refused": {kind: count for kind, count in sorted(tally.outcomes.items()) if kind != "valid"},
            "escaped": dict(sorted(tally.escaped.items())),
            "slowest_ms": round(1e3 * tally.slowest, 2),
            "slowest_input": tally.slowest_number,
            "peak_mib": tally.peak >> 20,
        }


@dataclass
class _Job:
    """A process at work on a range of numbers."""

    process: ForkProcess
    pipe: Connection
    progress: mmap.mmap
    numbers: range
    at: int = -2
    since: float = 0.0
    used: float = 0.0


def run_campaign(
    target: Target,
    *,
    inputs: int,
    seed: int = 0,
    jobs: int = 1,
    corpus: Path | None = None,
    tell: Callable[[int], None] | None = None,
) -> Report:
    """Decode `inputs` mutants of a target's seeds.

    Parameters
    ----------
    target : Target
    inputs : int
    seed : int
        The same seed gives the same inputs.
    jobs : int
        Processes at a time.
    corpus : Path, optional
        Where inputs that escape are saved.
    tell : callable, optional
        Called with the number of inputs done, now and then.

    Raises
    ------
    ValueError
        If a seed of the target is not valid: there is nothing to start from then.
    """
    seeds = target.seeds()
    for index, data in enumerate(seeds):
        outcome, trace = judge(target, data)
        if outcome != "valid":
            raise ValueError(f"seed {index} of {target.name} is not valid: {outcome}\n{trace or ''}")
    context, report = mp.get_context("fork"), Report(target.name, seed)
    waiting = [range(first, min(first + _TURN, inputs)) for first in range(0, inputs, _TURN)][::-1]
    running: list[_Job] = []
    start = time.monotonic()
    kills = 0
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(context, target, seeds, seed, waiting.pop(), corpus))
            for job in list(running):
                ended = _look(job, target)
                if ended is None:
                    continue
                running.remove(job)
                if isinstance(ended, Tally):
                    report.tally.add(ended)
                else:
                    report.tally.add(_salvage(job, ended, target, seeds, seed, corpus))
                    kills += 1
                    rest = range(ended.number + 1, job.numbers.stop)
                    if rest and kills < _MOST_KILLS:
                        waiting.append(rest)
                if tell is not None:
                    tell(report.tally.inputs)
            if kills >= _MOST_KILLS:
                waiting.clear()
    finally:
        for job in running:
            job.process.kill()
            job.process.join()
    report.seconds = time.monotonic() - start
    return report


def _start(context: Any, target: Target, seeds: list[bytes], seed: int, numbers: range, corpus: Path | None) -> _Job:
    progress = mmap.mmap(-1, mmap.PAGESIZE)
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the campaign
        ours.close()
        quieten()
        try:
            theirs.send(run_slice(target, seeds, seed, numbers, progress, corpus))
        except Exception:  # noqa: BLE001 - a fault of the harness itself, which the parent raises
            theirs.send(traceback.format_exc(limit=-8))
        theirs.close()

    process = context.Process(target=work, daemon=True)
    process.start()
    theirs.close()
    return _Job(process, ours, progress, numbers)


def _look(job: _Job, target: Target) -> Tally | Escape | None:
    """Return what a process found, why it was ended, or None while it works."""
    if job.pipe.poll(_LOOK):
        try:
            found: Tally | str = job.pipe.recv()
        except EOFError:
            job.process.join()
            number, _ = read_progress(job.progress)
            return Escape(number, "crash", f"the process died with status {job.process.exitcode}")
        job.process.join()
        if isinstance(found, str):
            raise RuntimeError(f"the harness of {target.name} failed:\n{found}")
        return found
    number, _ = read_progress(job.progress)
    used, now = _processor(job.process.pid), time.monotonic()
    if number != job.at:
        job.at, job.since, job.used = number, now, used
        return None
    cap = _HANG_FACTOR * target.seconds
    if used - job.used > cap or now - job.since > _SILENCE:
        job.process.kill()
        job.process.join()
        return Escape(
            number, "hang", f"no end after {used - job.used:.1f} s of processor time, {now - job.since:.0f} s in all"
        )
    return None


def _salvage(job: _Job, ended: Escape, target: Target, seeds: list[bytes], seed: int, corpus: Path | None) -> Tally:
    """What is known of a process that did not end by itself: how far it came, and on which input it stopped."""
    tally = Tally(inputs=max(0, ended.number - job.numbers.start + 1))
    tally.outcomes["unknown (the process was lost)"] = max(0, tally.inputs - 1)
    tally.note(ended)
    if corpus is not None and ended.number >= 0:
        save(corpus, target, target.input(seeds, seed, ended.number), ended)
    return tally


def _processor(pid: int | None) -> float:
    """Processor time of a process in seconds; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
