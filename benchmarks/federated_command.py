"""``python -m benchmarks federated``: collecting updates with secure aggregation, beside plain averaging and SecAgg+."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from .federated_engines import WAYS, Collected, Engine, Task
from .federated_results import FederatedRow, FederatedRun, Skipped, plot_federated, show_federated
from .processes import Child, ChildError
from .results import Spread, machine, versions

__all__ = ["federated"]

_FILE_WIDTH = 170  # of tables that go to a file or a pipe
_OWNERS = "10,100,1000"
_PARAMETERS = "1e4,1e5,1e6,1e7"
_MESSAGES = 3.5  # copies of every owner's message that Flower's simulation holds at once, as measured
_WORK = {"plain": 4e9, "SecAgg+": 1e8, "secureimg": 4e9}  # owners x parameters above which a round takes minutes
_log = logging.getLogger(__name__)


def federated(
    quick: Annotated[bool, typer.Option(help="10 and 100 owners, 1e4 and 1e5 parameters, two rounds.")] = False,
    owners: Annotated[str, typer.Option(metavar="N,N,...")] = _OWNERS,
    parameters: Annotated[str, typer.Option(metavar="N,N,...")] = _PARAMETERS,
    rounds: Annotated[int, typer.Option(min=1, help="Counted rounds, after one that is not.")] = 3,
    pictures: Annotated[
        int, typer.Option(min=0, help="Each owner trains once on so many pictures in every round; 0: no training.")
    ] = 100,
    only: Annotated[list[str] | None, typer.Option(help=f"Only this way ({', '.join(WAYS)}); repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw it (.svg).")] = None,
) -> None:
    """Bytes and seconds of a round. Owners have their updates ready, trained or not. Flower's simulation carries all."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    if unknown := set(only or ()) - set(WAYS):
        raise typer.BadParameter(f"{unknown.pop()!r} is not one of {', '.join(WAYS)}", param_hint="--only")
    if quick:
        owners, parameters, rounds = "10,100", "1e4,1e5", 2
    rows: list[FederatedRow] = []
    skipped: list[Skipped] = []
    for count in _numbers(owners, "--owners"):
        for size in _numbers(parameters, "--parameters"):
            for item in _measure(Task(count, size, rounds, pictures), [way for way in WAYS if not only or way in only]):
                rows.append(item) if isinstance(item, FederatedRow) else skipped.append(item)
    run = FederatedRun(
        tuple(rows), tuple(skipped), {"rounds": rounds, "pictures": pictures}, machine(),
        {**versions(), **{name: metadata.version(name) for name in ("flwr", "ray")}},
    )  # fmt: skip
    terminal = Console()
    show_federated(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if json_file is not None:
        run.save(json_file)
    if plot_file is not None:
        plot_federated(run, plot_file)


def _numbers(text: str, option: str) -> list[int]:
    try:
        found = [int(float(word)) for word in text.split(",")]
    except (ValueError, OverflowError):
        found = [0]
    if min(found) < 2:
        raise typer.BadParameter(f"{text!r} is not a list of numbers above 1, like 10,100", param_hint=option)
    return found


def _measure(task: Task, ways: list[str]) -> Iterator[FederatedRow | Skipped]:
    """One size in all ways."""
    plain: FederatedRow | None = None
    for way in ways:
        if (why := _too_large(way, task)) is not None:
            yield Skipped(way, task.owners, task.parameters, why)
            continue
        try:
            with Child(Engine, way, task) as child:
                found: Collected = child.call("run")
        except ChildError as error:
            last = str(error).strip().splitlines()[-1][:200]
            _log.warning("%s, %d owners, %d parameters: %s", way, task.owners, task.parameters, last)
            yield Skipped(way, task.owners, task.parameters, f"it failed: {last}")
            continue
        row = _row(way, task, found, plain)
        plain = row if way == "plain" else plain
        _log.info(
            "%s, %d owners, %d parameters: %.3g s, %.3g s of processors", way, task.owners, task.parameters,
            row.seconds.median, row.processor.median,
        )  # fmt: skip
        yield row


def _row(way: str, task: Task, found: Collected, plain: FederatedRow | None) -> FederatedRow:
    seconds, processor = Spread.of(found.seconds), Spread.of(found.processor)
    return FederatedRow(
        way, task.owners, task.parameters, seconds, processor, found.up, found.down, found.between,
        Spread.of(found.party_seconds) if found.party_seconds else None, found.owner_seconds, found.error, found.peak_rss,
        None if plain is None else seconds.median / plain.seconds.median - 1,
        None if plain is None or not plain.processor.median else processor.median / plain.processor.median - 1,
    )  # fmt: skip


def _too_large(way: str, task: Task) -> str | None:
    size = task.owners * task.parameters
    needed, there = int(4 * size * _MESSAGES), _available_memory()
    if needed > there:
        return f"Flower's simulation would need {needed / 1e9:.0f} GB, there are {there / 1e9:.0f} GB"
    if size > _WORK[way]:
        return "a round takes minutes"
    return None


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say how much memory is there")
