"""Runs what is asked for, row after row: what is in the journal is not measured again, what fails leaves its reason."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from secureimg.errors import SecureImgError
from secureimg.graph import run_plain, simplify

from .bench_inside import write_job
from .bench_journal import Journal
from .bench_layers import LayerSide
from .bench_measure import Plan, key_of, measure_row
from .bench_prediction import predicted_total
from .bench_results import PeerRow, Report, Row
from .bench_subjects import Given
from .processes import Child, ChildError
from .results import machine, versions
from .share_network import Network, has_netem, inside
from .share_peers import CKKS_PEERS, run_peer, write_program

__all__ = ["Wanted", "run"]

_log = logging.getLogger(__name__)
_LOOPBACK: Final = Network("loopback")


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is asked for.

    Attributes
    ----------
    networks : sequence of Network
        Of the first subject, and of all if `everywhere`; the others run on loopback.
    peers : mapping of str to Path
        Interpreters of other systems.
    """

    subjects: Sequence[Given]
    executors: Sequence[str]
    networks: Sequence[Network]
    everywhere: bool
    plan: Plan
    peers: Mapping[str, Path]

    def tasks(self) -> Iterator[tuple[Given, str, Network]]:
        """Rows in order: loopback first, on which predictions rest."""
        for place, given in enumerate(self.subjects):
            shaped = [network for network in self.networks if network.rate is not None]
            for network in (_LOOPBACK, *(shaped if self.everywhere or not place else ())):
                for executor in self.executors:
                    if executor in given.executors and (network.rate is None or executor != "plain"):
                        yield given, executor, network


def run(
    wanted: Wanted, journal: Journal, settings: dict[str, Any], command: str, tell: Callable[[int, int, str], None]
) -> Report:
    """Measure, and put the report together, without the texts that are shown.

    Parameters
    ----------
    wanted : Wanted
    journal : Journal
    settings : dict
        What the report says of how it was made.
    command : str
    tell : callable
        Called with the number of rows that are done, of all, and what is under way.
    """
    started = time.perf_counter()
    rows: list[Row] = []
    failures: list[str] = []
    tasks = list(wanted.tasks())
    peers = [(given, name) for given in wanted.subjects for name in wanted.peers if _suits(name, given)]
    total = len(tasks) + len(peers)
    with _Layers() as layers:
        for number, (given, executor, network) in enumerate(tasks):
            tell(number, total, f"{given.name}, {executor}, {network.name}")
            row = journal.row(key_of(given, executor, network, wanted.plan))
            if row is None:
                try:
                    row = _measured(given, executor, network, wanted.plan, layers)
                except (ChildError, SecureImgError) as error:
                    layers.forget()  # it may be what died
                    reason = error.reason if isinstance(error, ChildError) else str(error)
                    failures.append(f"{given.name} on {executor}, {network.name}: {reason}")
                    _log.warning("%s", failures[-1])
                    continue
                journal.add(row)
                _log.info("%s: %.4f s a picture", row.title, row.total.median)
            rows.append(row)
    rows = [_finished(row, rows, wanted.networks) for row in rows]
    beside = []
    for number, (given, name) in enumerate(peers, len(tasks)):
        tell(number, total, f"{given.name}, {name}")
        beside.append(_peer(given, name, wanted, rows, journal))
    tell(total, total, "report")
    return Report(
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), command=command, settings=settings, machine=machine(),
        versions=versions(), subjects=tuple(given.subject() for given in wanted.subjects), rows=tuple(rows),
        peers=tuple(beside), failures=tuple(failures), seconds=time.perf_counter() - started,
    )  # fmt: skip


class _Layers(ExitStack):
    """The process that times layers; it starts when it is first wanted."""

    @cached_property
    def child(self) -> Child:
        return self.enter_context(Child(LayerSide, threads=1))

    def forget(self) -> None:
        """End the process; the next row gets another one."""
        self.close()
        vars(self).pop("child", None)


def _measured(given: Given, executor: str, network: Network, plan: Plan, layers: _Layers) -> Row:
    if network.rate is None:
        return measure_row(given, executor, network, plan, layers=layers.child)
    if not has_netem():
        return measure_row(given, executor, network, plan)
    with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
        write_job(Path(home), given, executor, network, plan)
        words = [sys.executable, "-m", "benchmarks.bench_inside", home]
        done = subprocess.run(
            inside(network, words), capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
        )
        found = Path(home) / "row.json"
        if done.returncode or not found.is_file():
            raise ChildError((done.stderr or "no message").strip())
        row = msgspec.json.decode(found.read_bytes(), type=Row)
    return msgspec.structs.replace(row, key=key_of(given, executor, network, plan))


def _finished(row: Row, rows: Sequence[Row], networks: Sequence[Network]) -> Row:
    """Add what follows from other rows: overhead and prediction."""
    of_subject = {(other.executor, other.network): other for other in rows if other.subject == row.subject}
    plain, here = of_subject.get(("plain", "loopback")), of_subject.get((row.executor, "loopback"))
    network = next((each for each in networks if each.name == row.network), _LOOPBACK)
    overhead = row.total.median / plain.total.median if plain is not None and row.executor != "plain" else None
    return msgspec.structs.replace(row, overhead=overhead, predicted=predicted_total(here, network) if here else None)


def _suits(name: str, given: Given) -> bool:
    return ("ckks" if name in CKKS_PEERS else "shares") in given.executors


def _peer(given: Given, name: str, wanted: Wanted, rows: Sequence[Row], journal: Journal) -> PeerRow:
    executor = "ckks" if name in CKKS_PEERS else "shares"
    told = [given.digest, name, str(wanted.peers[name]), asdict(wanted.plan), machine(), versions()]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    row = journal.peer(key)
    if row is None:
        row = _run_peer(given, name, executor, wanted)
        if row.failure is None:
            journal.add_peer(key, row)
    wanted_row = given.name, executor, "loopback"
    ours = next((each for each in rows if (each.subject, each.executor, each.network) == wanted_row), None)
    if ours is None or row.seconds is None:
        return row
    compared = ours.phases["evaluate"] if executor == "ckks" else ours.total
    return msgspec.structs.replace(row, ratio=row.seconds.median / compared.median)


def _run_peer(given: Given, name: str, executor: str, wanted: Wanted) -> PeerRow:
    row = PeerRow(
        peer=name, subject=given.name, beside=executor, network="loopback", seconds=None, bytes=None, rounds=None,
        error=None, ratio=None,
    )  # fmt: skip
    body = simplify(given.graph.body_and_tail()[0])
    image = given.values[0]
    with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
        try:
            program = write_program(body, image, run_plain(body, image[None])[0], False, Path(home))
        except NotImplementedError as error:
            return msgspec.structs.replace(row, failure=str(error))
        found = run_peer(name, wanted.peers[name], program, wanted.plan.repeat, wanted.plan.cores, _LOOPBACK)
    return msgspec.structs.replace(
        row, seconds=found.seconds, bytes=found.bytes, rounds=found.rounds, error=found.error, failure=found.failure
    )
