"""Reading an audit log: record by record, each checked, and what they say all in all."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from protocols.operations.audit_chain import GENESIS, LINE_BYTES, REMEDY, AuditError, Chain, Record, decode

__all__ = ["Summary", "in_order", "read", "verify"]


@dataclass
class Summary:
    """What an intact log says, all in all.

    Attributes
    ----------
    first, last : int
        Numbers of its first and last record. A `first` above 1 says that earlier files were not given.
    began, ended : str
        Time of the two.
    head : str
        SHA-256 of the last record. Keep it elsewhere: whoever has it can tell later that nothing before it was changed.
    events : Counter
        Records by event.
    images : int
        Images that were answered.
    omitted : int
        Records of what owners did without getting an answer that were left out, see `Observer`.
    torn : int
        Bytes after the last whole record: of a crash, or of a record that is being written right now.
    expected : int or None
        Number of the record that has the expected hash.
    """

    first: int = 0
    last: int = 0
    began: str = ""
    ended: str = ""
    head: str = GENESIS
    events: Counter[str] = field(default_factory=Counter)
    images: int = 0
    omitted: int = 0
    torn: int = 0
    expected: int | None = None

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.events.total()

    def add(self, record: Record) -> None:
        """Count a record."""
        self.first = self.first or record.sequence
        self.began = self.began or record.time
        self.last, self.ended = record.sequence, record.time
        self.events[record.event] += 1
        images, omitted = record.facts.get("images"), record.facts.get("omitted")
        self.images += images if record.event == "answered" and isinstance(images, int) else 0
        self.omitted += omitted if isinstance(omitted, int) else 0


def read(paths: Sequence[Path], summary: Summary | None = None, chain: Chain | None = None) -> Iterator[Record]:
    """Give the records of a log one by one, each checked. Memory does not grow with the log.

    Parameters
    ----------
    paths : sequence of Path
        Its files, oldest first.
    summary : Summary, optional
        Filled on the way; `torn` only for the last file, in any other it is an error.
    chain : Chain, optional
        What goes before.

    Raises
    ------
    AuditError
        At the first line that is not what was written.
    """
    chain, summary = chain or Chain(), summary if summary is not None else Summary()
    first = chain.sequence == 0
    for path in paths:
        with _open(path) as file:
            number = 0
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                where = f"{path}, line {number},"
                if len(line) > LINE_BYTES:
                    raise AuditError(f"{where} is longer than {LINE_BYTES} bytes: no audit record is: {REMEDY}")
                if not line.endswith(b"\n"):
                    if path != paths[-1]:
                        raise AuditError(f"{where} ends in the middle of a record: the file was cut: {REMEDY}")
                    summary.torn = len(line)
                    break
                record = chain.check(line[:-1], where, first=first)
                first = False
                summary.add(record)
                summary.head = chain.head
                yield record


def verify(paths: Sequence[Path], expect: str | None = None) -> Summary:
    """Check a log from its first record to its last. See `AuditLog` for what this proves and what not.

    Parameters
    ----------
    paths : sequence of Path
        Its files, oldest first.
    expect : str, optional
        A head that was kept elsewhere: the log must have a record with that hash.

    Raises
    ------
    AuditError
        If a file cannot be read, a record was changed, or none has the expected hash.
    """
    expect = expect.lower() if expect else None
    summary = Summary()
    for record in read(paths, summary):
        if record.prev == expect:
            summary.expected = record.sequence - 1
    if expect is not None and summary.head == expect:
        summary.expected = summary.last
    if expect is not None and summary.expected is None:
        raise AuditError(
            f"no record of {', '.join(map(str, paths))} has the expected hash {expect[:16]}...: the log was rewritten or "
            f"cut since that hash was noted, or it is of another log or of an earlier file of this one: {REMEDY}"
        )
    return summary


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return the files of a log by the number of their first record; those that do not begin with one come last."""

    def first(path: Path) -> int:
        with _open(path) as file:
            try:
                return decode(file.readline(LINE_BYTES + 1).removesuffix(b"\n"), str(path)).sequence
            except AuditError:  # whoever reads it says what is wrong
                return 2**62

    return sorted(paths, key=first)


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise AuditError(f"{path} is not a file: name the files of an audit log")
        return os.fdopen(descriptor, "rb")
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}: name the files of an audit log") from None
