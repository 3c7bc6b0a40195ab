"""Rounds without training: updates are ready, what is measured is how they are collected. Each way in its own process.

Flower's simulation is the engine of all three: it carries the model to the owners, and their replies back. Federated
averaging replies with arrays, SecAgg+ with masked arrays in four exchanges, ours with nothing: the parties get updates.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.federation import Federation
from protocols.federated import RoundCost, Uploader
from protocols.federated.flower import SecureAverage, ShareUpdate
from protocols.memory_use import peak_of
from secureimg.federated import Examples, Schedule, Terms, dense_network, local_update
from secureimg.sharing.streams import Stream

from .federated_secagg import secagg_client, secagg_server

__all__ = ["WAYS", "Collected", "Engine", "Task"]

WAYS = ("plain", "SecAgg+", "secureimg")
_KINDS = 8  # different updates, so that a thousand owners do not need a thousand of them in memory
_NORM = 0.5


@dataclass(frozen=True)
class Task:
    """What is collected: updates of so many owners, of so many parameters, in so many counted rounds after a first one.

    With `pictures`, each owner trains once on so many before: a dense network of about as many parameters. What it replies
    with is its ready update all the same, so that the error is known.
    """

    owners: int
    parameters: int
    rounds: int
    pictures: int = 0


@dataclass(frozen=True)
class Collected:
    """What a way took.

    Attributes
    ----------
    seconds : list of float
        Of each counted round, from asking the owners to the new model.
    processor : list of float
        Processor seconds of all processes together, the same rounds.
    up, down : float
        Bytes from an owner, and to it, in a round; shares to the parties included.
    between : int
        Bytes that the two parties sent to each other in a round.
    party_seconds : list of float
        What closing took at the slower party, of each counted round.
    owner_seconds : float
        What an owner took in a round, on its worker, beside reading the message: mean.
    error : float
        Largest error of a parameter of the mean.
    peak_rss : int
        The largest of the process that leads, and for ours of both parties.
    """

    seconds: list[float]
    processor: list[float]
    up: float
    down: float
    between: int
    party_seconds: list[float]
    owner_seconds: float
    error: float
    peak_rss: int


def update_of(owner: int, parameters: int) -> NDArray[np.float32]:
    """An owner's update: norm a half, the same in every process."""
    update = np.random.default_rng(owner % _KINDS).standard_normal(parameters, dtype=np.float32)
    update *= np.float32(_NORM / np.linalg.norm(update))
    return update


def mean_update(task: Task) -> NDArray[np.float64]:
    """The exact mean of all owners' updates."""
    counts = np.bincount(np.arange(task.owners) % _KINDS, minlength=_KINDS)
    total = np.zeros(task.parameters)
    for kind in np.flatnonzero(counts):
        total += counts[kind] * update_of(int(kind), task.parameters).astype(np.float64)
    return total / task.owners


class Trainer:
    """What an owner's training takes: one pass over its pictures, 28x28 and ten classes, ten at a time."""

    def __init__(self, task: Task) -> None:
        side, classes = 28, 10
        hidden = max(1, round((task.parameters - classes) / (side * side + classes + 1)))
        self._network = dense_network((1, side, side), classes, hidden=hidden)
        rng = np.random.default_rng(5)
        images = rng.standard_normal((task.pictures, 1, side, side), dtype=np.float32)
        self._examples = Examples(images, rng.integers(0, classes, task.pictures))
        self._weights = self._network.initial(Stream(bytes(32), "start"))

    def train(self) -> None:
        """Train once."""
        local_update(self._network, self._weights, self._examples, Schedule(batch=10), Stream(bytes(32), "order"))


class Updating:
    """What an owner does before it replies: trains, if it is to, and has its ready update."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._trainer: Trainer | None = None  # made in each worker

    def __call__(self, owner: int) -> NDArray[np.float32]:
        """Return the update of an owner."""
        if self._task.pictures:
            self._trainer = self._trainer or Trainer(self._task)
            self._trainer.train()
        return update_of(owner, self._task.parameters)


class Counting:
    """A mod, outermost: notes what an owner took for each message. Owners are other processes: notes go to a file."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, message: Any, context: Any, call_next: Any) -> Any:
        """Handle a message."""
        started = time.perf_counter()
        reply = call_next(message, context)
        self.note(time.perf_counter() - started, 0)
        return reply

    def note(self, seconds: float, sent: int) -> None:
        """Add seconds, and bytes that did not go through Flower."""
        with self._notes.open("a") as file:
            file.write(f"{seconds} {sent}\n")

    def total(self) -> NDArray[np.float64]:
        """Seconds and bytes of all owners in all rounds."""
        return np.asarray(np.loadtxt(self._notes, ndmin=2).sum(axis=0))


class Grid:
    """Flower's grid, with bytes counted and rounds timed."""

    def __init__(self, grid: Any) -> None:
        self._grid = grid
        self.down = self.up = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
        """Send, wait, and count."""
        messages = list(messages)
        self.down += sum(_size(message) for message in messages)
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        self.up += sum(_size(reply) for reply in replies)
        failed = [reply for reply in replies if reply.has_error()]
        if failed or len(replies) != len(messages):
            why = failed[0].error.reason if failed else "no answer"
            raise RuntimeError(f"{len(messages) - len(replies) + len(failed)} of {len(messages)} owners failed: {why}")
        return replies


def _size(message: Any) -> int:
    if message.has_error():
        return 0
    records = message.content.values()
    return sum(
        type(record)({name: value for name, value in record.items() if value != []}).count_bytes()  # it fails on []
        if any(value == [] for value in record.values() if isinstance(value, list))
        else record.count_bytes()
        for record in records
    )


class Clock:
    """Seconds of rounds by the clock, and of processor time in this process and all that it started."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def time(self, work: Callable[[], Any]) -> Any:
        """Do a round."""
        before, started = _processor_time(), time.perf_counter()
        result = work()
        self.seconds.append(time.perf_counter() - started)
        self.processor.append(_processor_time() - before)
        return result


def _processor_time() -> float:
    """Processor seconds of this process and its descendants that are alive."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has ended meanwhile
                continue
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(ticks[pid] for pid in mine) / os.sysconf("SC_CLK_TCK")


class Engine:
    """One way, ready to run; lives in a process of its own (Flower and Ray keep state in theirs)."""

    def __init__(self, way: str, task: Task) -> None:
        os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_AUTH_MODE="disabled")
        logging.disable(logging.WARNING)
        self._way, self._task = way, task

    def run(self) -> Collected:
        """Run the rounds."""
        with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
            counting = Counting(Path(home) / "notes")
            return {"plain": _plain, "SecAgg+": _secagg, "secureimg": _ours}[self._way](self._task, counting)


def simulate(task: Task, client: Any, lead: Callable[[Grid], Any]) -> tuple[Grid, Any]:
    """Run Flower's simulation on all cores; return the grid and what the leading function returned."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    server, kept = ServerApp(), []

    @server.main()
    def main(grid: Any, context: Any) -> None:
        counted = Grid(grid)
        kept.append((counted, lead(counted)))

    backend: Any = {
        "client_resources": {"num_cpus": 1},
        "init_args": {"include_dashboard": False, "log_to_driver": False, "num_cpus": len(os.sched_getaffinity(0))},
    }
    run_simulation(server, client, num_supernodes=task.owners, backend_config=backend)
    if not kept:
        raise RuntimeError("Flower's simulation did not come to an end")
    return kept[0]


def _client(task: Task, mods: list[Any]) -> Any:
    """A ClientApp whose training adds the ready update."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app, update = ClientApp(), Updating(task)

    @app.train(mods=mods)
    def train(message: Any, context: Any) -> Any:
        owner = int(context.node_config["partition-id"])
        model = message.content.array_records["arrays"]["w"].numpy()
        arrays = ArrayRecord({"w": Array(model + update(owner))})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def _led(task: Task, client: Any, make: Callable[[], Any]) -> tuple[Grid, Clock, NDArray[np.float64]]:
    """Run a strategy's rounds; return the grid, the clock, and what was added in all."""
    from flwr.app import Array, ArrayRecord

    def lead(grid: Grid) -> tuple[Clock, NDArray[np.float64]]:
        strategy, clock = make(), Clock()
        arrays = ArrayRecord({"w": Array(np.zeros(task.parameters, np.float32))})
        for _ in range(task.rounds + 1):
            arrays = clock.time(partial(strategy.start, grid, arrays, num_rounds=1)).arrays
        return clock, arrays["w"].numpy().astype(np.float64)

    grid, (clock, added) = simulate(task, client, lead)
    return grid, clock, added


def _collected(
    task: Task, grid: Grid, clock: Clock, added: NDArray[np.float64], counting: Counting, **more: Any
) -> Collected:
    took, sent = (float(total) for total in counting.total())
    all_rounds = task.owners * (task.rounds + 1)
    given = {"between": 0, "party_seconds": [], "peak_rss": peak_of(os.getpid()), **more}
    return Collected(
        seconds=clock.seconds[1:], processor=clock.processor[1:], up=(grid.up + sent) / all_rounds,
        down=grid.down / all_rounds, owner_seconds=took / all_rounds,
        error=float(np.abs(added / (task.rounds + 1) - mean_update(task)).max()), **given,
    )  # fmt: skip


def _everyone(task: Task) -> dict[str, Any]:
    return {"fraction_evaluate": 0.0, "min_available_nodes": task.owners, "min_train_nodes": task.owners}


def _plain(task: Task, counting: Counting) -> Collected:
    from flwr.serverapp.strategy import FedAvg

    grid, clock, added = _led(task, _client(task, [counting]), lambda: FedAvg(**_everyone(task)))
    return _collected(task, grid, clock, added, counting)


def _secagg(task: Task, counting: Counting) -> Collected:
    client, clock = secagg_client(Updating(task), counting), Clock()
    grid, added = simulate(
        task, client, lambda grid: secagg_server(grid, clock, task.parameters, task.owners, task.rounds + 1)
    )
    return _collected(task, grid, clock, added, counting)


class _Noted:
    """An uploader whose bytes are noted."""

    def __init__(self, uploader: Uploader, counting: Counting) -> None:
        self._uploader, self._counting = uploader, counting

    def send(self, round: str, terms: Terms, update: Any, weight: float = 1.0) -> None:  # noqa: A002
        """See `Uploader.send`."""
        self._counting.note(0.0, self._uploader.send(round, terms, update, weight))


def _ours(task: Task, counting: Counting) -> Collected:
    names = tuple(f"owner {number}" for number in range(task.owners))
    terms = Terms(
        parameters=task.parameters, clip=1.0, owners=task.owners, least=max(2, task.owners // 2), weighted=False
    )
    with Federation(terms, names) as federation:
        parties, identities = federation.parties, [federation.identities[name] for name in names]

        def uploader(context: Any) -> Any:
            return _Noted(Uploader(parties, identities[int(context.node_config["partition-id"])]), counting)

        coordinator = federation.coordinator()
        costs: list[RoundCost] = []
        missing: list[tuple[str, str]] = []

        class Remembered:
            def open(self, terms: Terms) -> str:
                return coordinator.open(terms)

            def close(self, round: str) -> Any:  # noqa: A002
                opened = coordinator.close(round, terms)
                assert coordinator.cost is not None
                costs.append(coordinator.cost)
                missing.extend(opened.left_out.items())
                return opened

        client = _client(task, [counting, ShareUpdate(uploader)])
        made = SecureAverage(Remembered(), terms, **_everyone(task))
        grid, clock, added = _led(task, client, lambda: made)
        if missing:
            raise RuntimeError(f"owners were left out: {missing[0]}")
        peaks = [peak_of(federation.pids[role]) for role in ("party0", "party1")]
    return _collected(
        task, grid, clock, added, counting, between=sum(costs[-1].sent),
        party_seconds=[max(cost.seconds) for cost in costs[1:]], peak_rss=max(peak_of(os.getpid()), *peaks),
    )  # fmt: skip
