"""The audit log's files: lock, rotated files, what a crash left of a last record."""

from __future__ import annotations

import datetime
import fcntl
import os
from pathlib import Path

from protocols.operations.audit_chain import LINE_BYTES, AuditError, Chain
from protocols.private_files import sync_directory

__all__ = ["last_rotated", "rotated", "set_aside", "take_lock"]


def take_lock(path: Path) -> int:
    """Return a descriptor that holds the lock of a log; closing it gives the lock up.

    Raises
    ------
    AuditError
        If another process has it.
    """
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AuditError(
            f"{path} is in use by another process: one process writes an audit log, give each its own"
        ) from None
    return descriptor


def rotated(path: Path, first: int) -> Path:
    """Return the name of a full file whose first record has this number."""
    return path.with_name(f"{path.stem}-{first:012d}{path.suffix}")


def last_rotated(path: Path) -> tuple[Chain, str]:
    """Return the chain at the end of the newest rotated file, and that file's name; an empty chain if there is none."""
    pattern = f"{path.stem}-{'[0-9]' * 12}{path.suffix}"
    names = sorted(found.name for found in path.parent.glob(pattern))
    if not names:
        return Chain(), ""
    newest = path.with_name(names[-1])
    with newest.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES - 1))
        lines = file.read().split(b"\n")
    if len(lines) < 2 or lines[-1]:
        raise AuditError(
            f"{newest} does not end with a whole record, it was cut: restore it, or move the log's files away"
        )
    return Chain.after(lines[-2], f"the last line of {newest}"), newest.name


def set_aside(path: Path, torn: bytes) -> Path:
    """Write what a crash left of a last record to a file of its own, durably, and return that file."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.torn-{stamp}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
    return aside
