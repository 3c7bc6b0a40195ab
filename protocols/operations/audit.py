"""The audit log: who asked what, under which model, and what was revealed; append-only, hash-chained, a record a line."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from protocols.operations.audit_chain import CONTINUED, LINE_BYTES, AuditError, Chain, Fact, Record, decode
from protocols.operations.audit_files import last_rotated, rotated, set_aside, take_lock
from protocols.operations.audit_reading import Summary, read, verify
from protocols.private_files import sync_directory

__all__ = ["AuditError", "AuditLog", "Fact", "Receipt", "Record", "Summary"]

_log = logging.getLogger(__name__)

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Receipt(NamedTuple):
    """Where a record stands: its number and the SHA-256 of its line, which is the log's head until the next one."""

    sequence: int
    head: str


class AuditLog:
    """An audit log that one process writes. Safe to use from several threads.

    Each record names the SHA-256 of the record before. **What this proves:** whoever noted the head (the hash of the last
    record) somewhere else can tell later that no record up to it was changed, removed, added or moved. **What it does not:**
    it is a chain without a key. Whoever can rewrite the whole file can rewrite the whole chain, and records after the last
    noted head can be cut off unnoticed. So keep heads elsewhere: `secureimg audit verify` prints it and checks one with
    `--expect`, and every answer's log line has it ("audit_head"), so logs that are collected on another machine do it by
    themselves. Nor does the chain prove that the process told the truth when it wrote.

    A record of an answer is on disk before `record` returns; threads that wait at the same time share one sync. A file that
    grows past `rotate` is renamed after its first record (`audit-000000000001.jsonl`) and a new one goes on with the chain;
    old files may be moved elsewhere, all but the newest.

    Parameters
    ----------
    path : Path
        The file; made with mode 0600, its directory with 0700. Next to it: `.lock`, the rotated files, and what a crash
        left of a last record (`.torn-<time>`).
    rotate : int
        Bytes of a file. Opening checks the present file whole, some 50 MB a second.

    Raises
    ------
    AuditError
        If the log cannot be opened, another process has it, others may read it, or its chain is broken.
    """

    def __init__(self, path: Path, rotate: int = 16 << 20) -> None:
        self._path, self._rotate, self._process = path, rotate, os.getpid()
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._descriptor = self._lock = -1
        self._trouble: str | None = None
        self._broken = False
        self._chain, self._before, self._first, self._size, self._synced = Chain(), "", 1, 0, 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = take_lock(path)
            self._open()
        except OSError as error:
            self.close()
            raise AuditError(f"{path} cannot be opened: {error.strerror}: check the directory and its disk") from None
        except BaseException:
            self.close()
            raise

    @staticmethod
    def verify(*paths: Path, expect: str | None = None) -> Summary:
        """Check files of a log, oldest first, in use or not. See `protocols.operations.audit_reading.verify`."""
        return verify(paths, expect)

    @property
    def head(self) -> Receipt:
        """The last record's number and hash."""
        with self._writing:
            return Receipt(self._chain.sequence, self._chain.head)

    @property
    def trouble(self) -> str | None:
        """Why the last record could not be written, or None."""
        return self._trouble

    def record(
        self, event: str, *, owner: str = "", facts: Mapping[str, Fact] | None = None, durable: bool = False
    ) -> Receipt:
        """Append a record.

        Parameters
        ----------
        event, owner, facts
            See `Record`.
        durable : bool
            Return only when it is on disk, and all before it. A record that is not survives the end of the process, but
            not of the machine.

        Raises
        ------
        AuditError
            If it is not written. What it tells of must not happen then.
        """
        with self._writing:
            self._check_usable()
            try:
                if self._size >= self._rotate:
                    self._begin_file()
                if self._size == 0 and self._chain.sequence > 0:
                    self._append(CONTINUED, "", {"after": self._before})
                receipt = self._append(event, owner, facts or {})
            except OSError as error:
                self._undo()
                raise self._fail(error.strerror or type(error).__name__) from None
        if durable:
            self._sync(receipt.sequence)
        if not self._broken:
            self._trouble = None
        return receipt

    def close(self) -> None:
        """Sync and give the file up. May be called twice."""
        with self._writing, self._syncing:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                try:
                    os.fdatasync(descriptor)
                    self._synced = self._chain.sequence
                except OSError as error:
                    _log.error("%s: the last records may not be on disk: %s", self._path, error.strerror)
                os.close(descriptor)
                self._tell_head("closed")
            lock, self._lock = self._lock, -1
            if lock >= 0:
                if os.getpid() == self._process:
                    fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may hold the file open
                os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ opening

    def _open(self) -> None:
        self._chain, self._before = last_rotated(self._path)
        self._descriptor = os.open(self._path, _FLAGS, 0o600)
        mode = os.fstat(self._descriptor).st_mode & 0o777
        if mode & 0o077:
            raise AuditError(f"{self._path} is readable by others (mode {mode:o}): run chmod 600 on it")
        summary = Summary()
        for _ in read([self._path], summary, self._chain):
            pass
        self._first = summary.first or self._chain.sequence + 1
        self._size = os.fstat(self._descriptor).st_size
        sync_directory(self._path.parent)
        if summary.torn:
            self._set_aside(summary.torn)
        self._tell_head("opened")

    def _set_aside(self, count: int) -> None:
        """Move what a crash left of a last record to a file of its own, and say so in the log."""
        good = self._size - count
        torn = os.pread(self._descriptor, count, good)
        aside = set_aside(self._path, torn)
        os.ftruncate(self._descriptor, good)
        self._size = good
        facts: dict[str, Fact] = {"file": aside.name, "bytes": count, "sha256": hashlib.sha256(torn).hexdigest()}
        self.record("torn", facts=facts, durable=True)
        _log.warning(
            "%s ended in the middle of a record, as after a crash: those %d bytes are in %s", self._path, count, aside
        )

    # ------------------------------------------------------------------------------------------------------ writing

    def _check_usable(self) -> None:
        if self._broken:
            raise AuditError(f"{self._trouble}")
        if self._descriptor < 0 or os.getpid() != self._process:
            raise AuditError(f"the audit log {self._path} is closed, or belongs to the parent of this process")
        try:
            ours, named = os.fstat(self._descriptor), self._path.lstat()
        except OSError as error:
            raise self._fail(f"it is gone: {error.strerror}", for_good=True) from None
        if (ours.st_dev, ours.st_ino, ours.st_size) != (named.st_dev, named.st_ino, self._size):
            raise self._fail("another hand moved or changed it", for_good=True)

    def _append(self, event: str, owner: str, facts: Mapping[str, Fact]) -> Receipt:
        sequence = self._chain.sequence + 1
        line = Record.now(sequence, self._chain.head, event, owner, facts).line()
        if len(line) >= LINE_BYTES:
            raise AuditError(f"a record of {len(line)} bytes is too long for {self._path}: at most {LINE_BYTES - 1}")
        decode(line, f"a new {event!r} record for {self._path}")  # what could not be read back must not get in
        left = memoryview(line + b"\n")
        while left:  # a disk that is nearly full takes a part
            left = left[os.write(self._descriptor, left) :]
        self._size += len(line) + 1
        self._chain = Chain(sequence, hashlib.sha256(line).hexdigest())
        return Receipt(sequence, self._chain.head)

    def _undo(self) -> None:
        """Cut off what was written of a record that does not fit on the disk."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._broken = True

    def _sync(self, sequence: int) -> None:
        with self._syncing:
            if self._synced >= sequence:  # the thread before synced this one too
                return
            if self._broken:
                raise AuditError(f"{self._trouble}")
            written = self._chain.sequence
            try:
                os.fdatasync(self._descriptor)
            except (
                OSError
            ) as error:  # the system may have dropped the pages: a second try would succeed and prove nothing
                raise self._fail(error.strerror or type(error).__name__, for_good=True) from None
            self._synced = written

    def _begin_file(self) -> None:
        """Rename the file and begin the next one. If that fails go on with this one, and try again at twice the size."""
        old = rotated(self._path, self._first)
        with self._syncing:
            os.fdatasync(self._descriptor)
            self._synced = self._chain.sequence
            try:
                if old.exists():
                    raise FileExistsError(errno.EEXIST, f"{old.name} exists already")
                self._path.rename(old)
                try:
                    descriptor = os.open(self._path, _FLAGS | os.O_EXCL, 0o600)
                except OSError:
                    old.rename(self._path)
                    raise
            except OSError as error:
                self._rotate *= 2
                _log.warning("%s cannot be rotated, it goes on growing: %s", self._path, error.strerror)
                return
            os.close(self._descriptor)
            self._descriptor, self._size, self._first, self._before = descriptor, 0, self._chain.sequence + 1, old.name
            sync_directory(self._path.parent)
        self._tell_head("rotated")

    def _fail(self, reason: str, *, for_good: bool = False) -> AuditError:
        self._broken |= for_good
        then = ", then restart this process" if self._broken else ""
        self._trouble = (
            f"the audit log {self._path} cannot be written ({reason}), and no answer leaves without its record: look at its "
            f"disk and directory{then}"
        )
        return AuditError(self._trouble)

    def _tell_head(self, what: str) -> None:
        facts = {"audit": self._chain.sequence, "audit_head": self._chain.head}
        _log.info("audit log %s %s at record %d", self._path, what, self._chain.sequence, extra={"facts": facts})
