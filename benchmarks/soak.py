"""``python -m benchmarks soak``: owners who ask all the time while processes are killed, frozen, cut off and flooded."""

from __future__ import annotations

import json
import logging
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .results import machine
from .soak_books import StoreWatch, audits_of, check_logs, compare
from .soak_deployment import SERVICES, Deployment
from .soak_faults import KINDS, Faults
from .soak_models import Pool
from .soak_owners import Gate, Owner
from .soak_report import Report
from .soak_tally import Tally
from .soak_watch import Watch, drifts

__all__ = ["Plan", "run_soak", "soak"]

_log = logging.getLogger(__name__)

_FILE_WIDTH: Final = 150  # of tables that go to a file or a pipe
_ENDING_SHARE: Final = 0.5
_REST: Final = 14.0  # longer than a handshake may take, and than a party waits for the other half of a link
_WARM_UP: Final = 0.2
_REST_SAMPLES: Final = 5
_STOP: Final = 90.0


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes
    ----------
    seconds : float
        How long owners ask.
    owners : int
    fault_every : float
        Seconds between faults, on average.
    services : tuple of str
    seed : int
        Draws faults and requests. Their effects depend on the moment all the same.
    kinds : tuple of str
        Faults to draw from.
    ending_share : float
        Processes are ended and started again in this share of the time only: those that begin then must live through the
        rest, so that leaks can show.
    rest : float
        Seconds that owners rest when those are warm, and in the end; what processes hold then is compared. 0: no rest.
    """

    seconds: float = 1800.0
    owners: int = 8
    fault_every: float = 5.0
    services: tuple[str, ...] = ("shares", "ckks")
    seed: int = 1
    kinds: tuple[str, ...] = KINDS
    ending_share: float = _ENDING_SHARE
    rest: float = _REST


@dataclass
class _Run:
    """A soak under way."""

    plan: Plan
    deployment: Deployment
    rng: random.Random
    show: Progress | None = None
    tally: Tally = field(default_factory=Tally)
    gate: Gate = field(default_factory=Gate)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        plan, rng = self.plan, self.rng
        self.start = time.monotonic()
        self.faults = Faults(self.deployment, rng, plan.kinds)
        pools = {service: Pool.of(self.deployment.graphs[service], plan.seed) for service in plan.services}
        self.owners = [
            Owner(
                number,
                self.deployment,
                pools,
                self.tally,
                self.gate,
                self.stop,
                random.Random(rng.getrandbits(64)),
                plan.services,
            )
            for number in range(plan.owners)
        ]
        self.threads = [threading.Thread(target=owner.run, daemon=True) for owner in self.owners]
        self.watch = Watch(list(self.deployment.servers.values()), self.now)
        states = {name: server.state for name, server in self.deployment.servers.items() if name.startswith("party")}
        self.stores = StoreWatch(states)
        self.rests = 0
        self.settled = 0.0

    def now(self) -> float:
        return time.monotonic() - self.start

    def go(self) -> None:
        """Ask and strike until the time is over."""
        plan = self.plan
        settles = plan.ending_share * plan.seconds
        warm = settles + _WARM_UP * (plan.seconds - settles)
        task = None if self.show is None else self.show.add_task("soak", total=plan.seconds)
        for thread in self.threads:
            thread.start()
        due = self.now() + min(5.0, plan.fault_every)
        while self.now() < plan.seconds:
            if self.faults.endings and self.now() >= settles:
                self.faults.endings = False
                self.faults.wait()
                self.settled = self.now()
            if not self.rests and self.now() >= warm:
                self.rest()
                due = self.now() + plan.fault_every
            if self.now() >= due and self.faults.strike() is not None:
                due = self.now() + self.rng.expovariate(1 / plan.fault_every)
            self.tally.look_for_hangs()
            if self.show is not None and task is not None:
                self.show.update(task, completed=self.now(), description=self.line())
            time.sleep(0.1)
        self.faults.wait()
        self.rest()

    def line(self) -> str:
        tally = self.tally
        counts = f"{tally.right.total()} right, {tally.refused.total()} refused, {tally.failures.total()} failures"
        return f"{counts}, {len(self.faults.done)} faults"

    def rest(self) -> None:
        """Have nobody ask, and see what the processes hold then."""
        self.rests += 1
        if not self.plan.rest:
            return
        _log.info("rest: %s", self.line())
        self.faults.wait()
        if not self.gate.close(len(self.owners), _STOP):
            self.faults.troubles.append(f"owners did not finish within {_STOP:g} s though nothing was wrong any more")
        self.watch.resting = True
        time.sleep(self.plan.rest)
        for _ in range(_REST_SAMPLES):
            self.watch.look()
            time.sleep(0.2)
        self.watch.resting = False
        self.gate.open()

    def end(self) -> Report:
        """Stop owners and processes, read the books."""
        self.stop.set()
        for thread in self.threads:
            thread.join(_STOP)
        if any(thread.is_alive() for thread in self.threads):
            self.faults.troubles.append("an owner's call never returned")
        seconds = self.now()
        self.watch.close()
        statuses = self.deployment.stop()
        troubles = [f"{name} ended with status {status}" for name, status in statuses.items() if status]
        self.stores.close()
        servers = self.deployment.servers
        audits, broken = audits_of(servers)
        books = compare(self.tally, audits, self.stores.spent)
        books.problems += [*broken, *self.stores.problems, *self.stores.secrets_left()]
        time.sleep(1.0)
        left = self.watch.orphans()
        found = [drift for series in self.watch.series for drift in drifts(series, self.settled)]
        return Report(
            asdict(self.plan), machine(), seconds, self.tally, self.faults.done, [*self.faults.troubles, *troubles],
            books, check_logs(servers.values()), found, self.watch.series,
            sum(link.corrupted for link in self.deployment.links.values()), left=left,
        )  # fmt: skip


def run_soak(plan: Plan, directory: Path, show: Progress | None = None) -> Report:
    """Start a deployment in an empty directory, soak it, stop it, judge.

    Raises
    ------
    RuntimeError
        If a process does not start before anything happened to it.
    """
    rng = random.Random(plan.seed)
    with ExitStack() as stack:
        deployment = stack.enter_context(Deployment(directory, plan.services, plan.owners, rng))
        run = _Run(plan, deployment, rng, show)
        run.go()
        return run.end()


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long owners ask.")] = 30.0,
    owners: Annotated[int, typer.Option(min=1, max=64, help="Owners who ask at a time.")] = 8,
    fault_every: Annotated[float, typer.Option(min=0.1, help="Seconds between faults, on average.")] = 5.0,
    on: Annotated[str, typer.Option(help="shares, ckks or both.")] = "both",
    seed: Annotated[int, typer.Option(help="Draws faults and requests.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help=f"Only these faults ({', '.join(KINDS)}); repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was seen.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Directory for files, states and logs, kept afterwards.")] = None,
) -> None:
    """Keep owners asking while processes are killed, frozen, cut off, fed damaged bytes and flooded; judge every answer.

    Exit status 1 if an answer was wrong, a refusal unclear, a correlation spent twice, or anything hung or leaked.
    """
    choice: Literal["shares", "ckks", "both"] | None = on if on in ("shares", "ckks", "both") else None  # type: ignore[assignment]
    if choice is None:
        raise typer.BadParameter(f"{on!r} is not one of shares, ckks, both", param_hint="--on")
    if unknown := set(only or ()) - set(KINDS):
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(KINDS)}", param_hint="--only")
    console = Console(stderr=True)
    console = console if console.is_terminal else Console(stderr=True, width=_FILE_WIDTH)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    services = tuple(SERVICES) if choice == "both" else (choice,)
    plan = Plan(60 * minutes, owners, fault_every, services, seed, tuple(only or KINDS))
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with ExitStack() as stack:
        if keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-soak-")))
        else:
            keep.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = keep.resolve()
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        report = run_soak(plan, directory, progress)
    terminal = Console()
    report.show(terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if json_file is not None:
        json_file.write_text(json.dumps(report.facts(), indent=1) + "\n", encoding="utf-8")
    if not all(bar.holds for bar in report.bars()):
        raise typer.Exit(1)
