"""The books of a deployment after a soak: audit logs, correlation stores and log files must agree with what owners got."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from protocols.operations.audit_chain import AuditError, Record
from protocols.operations.audit_reading import in_order, read

from .soak_deployment import Server
from .soak_tally import Tally

__all__ = ["Books", "StoreWatch", "audits_of", "check_logs", "compare", "read_audit"]

_EVERY: Final = 0.5
_NAME: Final = re.compile(r"\A([0-9a-f]{32})\.(part|ready|spent)\Z")
_TROUBLE: Final = re.compile(r"Traceback|internal error|Exception in thread")
_SHOWN: Final = 20


@dataclass
class Books:
    """What the books say.

    Attributes
    ----------
    problems : list of str
        Whatever must not be.
    facts : dict
        Numbers, for JSON.
    """

    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, texts: Iterable[str]) -> None:
        """Add problems, the first ones of a kind."""
        for number, text in enumerate(texts):
            if number == _SHOWN:
                self.problems.append("and more like this")
                return
            self.problems.append(text)


class StoreWatch:
    """Looks at the parties' stores all the time: a correlation that was seen spent must never be there unspent again.

    Attributes
    ----------
    spent : dict of str to set of str
        Ids seen spent, by party.
    problems : list of str
    """

    def __init__(self, states: Mapping[str, Path]) -> None:
        self._directories = {name: state / "correlations" for name, state in states.items()}
        self.spent: dict[str, set[str]] = {name: set() for name in states}
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look a last time, and stop."""
        self._stop.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Look now."""
        for name, directory in self._directories.items():
            with contextlib.suppress(FileNotFoundError):
                before = set(self.spent[name])  # taken first: what is spent while we list is judged the next time
                found = [match.groups() for entry in os.listdir(directory) if (match := _NAME.match(entry))]  # noqa: PTH208
                for identity, kind in found:
                    if kind == "spent":
                        self.spent[name].add(identity)
                    elif identity in before:
                        self.problems.append(f"{name}: correlation {identity} was spent and is {kind} again")
                gone = before - {identity for identity, kind in found if kind == "spent"}
                self.problems += [f"{name}: the mark that correlation {identity} is spent is gone" for identity in gone]

    def secrets_left(self) -> list[str]:
        """Return spent correlations whose secrets are still on disk; none may be once a process has ended well."""
        return [
            f"{name}: {path.name} still holds {path.stat().st_size} bytes"
            for name, directory in self._directories.items()
            for path in sorted(directory.glob("*.spent"))
            if path.stat().st_size
        ]

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            self.look()


def read_audit(server: Server) -> list[Record]:
    """Return a process's records of answers, every line checked.

    Raises
    ------
    AuditError
        If the chain is broken.
    """
    files = in_order([path for path in server.state.glob("audit*.log") if path.is_file()])
    return [record for record in read(files) if record.event == "answered"]


def compare(tally: Tally, audits: Mapping[str, list[Record]], spent: Mapping[str, set[str]]) -> Books:
    """Hold what owners got against what the processes wrote down.

    Each answered request stands in both parties' logs, once in each, with the same facts and a correlation of its own; what
    stands there was answered to that owner under that name; runs on correlations of the stock are no more than those spent.
    """
    books = Books()
    tables: dict[str, dict[str, Record]] = {}
    for party in ("party0", "party1"):
        if party not in audits:
            continue
        counts = Counter(str(record.facts.get("session")) for record in audits[party])
        books.note(f"{party} answered {name} {count} times" for name, count in counts.items() if count > 1)
        used = Counter(str(record.facts.get("correlation")) for record in audits[party])
        books.note(f"{party} used correlation {name} {count} times" for name, count in used.items() if count > 1)
        tables[party] = {str(record.facts.get("session")): record for record in audits[party]}
        books.facts[f"{party}_answers"] = len(audits[party])
        books.note(
            f"an owner got the answer {name}, which is not in the audit log of {party}"
            for owner, name in tally.answers
            if name not in tables[party] or tables[party][name].owner != owner
        )
        books.facts[f"{party}_spent"] = len(spent.get(party, ()))
        if tally.stocked > len(spent.get(party, ())):
            books.note([f"{tally.stocked} runs took a correlation from the stock, {party} spent {len(spent[party])}"])
    if len(tables) == 2:
        zero, one = tables["party0"], tables["party1"]
        books.note(
            f"the parties wrote different things about {name}"
            for name in zero.keys() & one.keys()
            if _facts(zero[name]) != _facts(one[name])
        )
        books.facts["in_one_log_only"] = len(zero.keys() ^ one.keys())
    repeated = Counter(name for _, name in tally.answers)
    books.note(f"{count} answers under the name {name}" for name, count in repeated.items() if count > 1)
    if "server" in audits:
        wrote = Counter(record.owner for record in audits["server"])
        books.facts["server_answers"] = len(audits["server"])
        books.note(
            f"owner {owner[:16]} got {count} answers of the server, its audit log has {wrote[owner]}"
            for (service, owner), count in tally.by_owner.items()
            if service == "ckks" and count > wrote[owner]
        )
    books.facts["stocked"] = tally.stocked
    return books


def check_logs(servers: Iterable[Server]) -> list[str]:
    """Return lines of log files that tell of a fault of our own."""
    found = []
    for server in servers:
        with contextlib.suppress(OSError):
            lines = server.log.read_text(errors="replace").splitlines()
            for number, line in enumerate(lines):
                if _TROUBLE.search(line):
                    found.append(f"{server.name}: {' | '.join(lines[number : number + 25])[:3000]}")
    return found[:_SHOWN]


def audits_of(servers: Mapping[str, Server]) -> tuple[dict[str, list[Record]], list[str]]:
    """Return the answers in every audit log, and what is wrong with the logs themselves."""
    found: dict[str, list[Record]] = {}
    problems: list[str] = []
    for name, server in servers.items():
        if name == "dealer":
            continue
        try:
            found[name] = read_audit(server)
        except AuditError as error:
            problems.append(f"{name}: {error}")
    return found, problems


def _facts(record: Record) -> tuple[object, ...]:
    return record.owner, *(record.facts.get(key) for key in ("model", "program", "images", "reveal", "correlation"))
