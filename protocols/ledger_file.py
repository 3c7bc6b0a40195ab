"""Ledgers of privacy loss on disk: a release leaves only after it is on record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocols.private_files import replace_private, sync_directory, write_private
from secureimg.errors import BudgetError, KeyMaterialError
from secureimg.privacy import Charge, Ledger
from secureimg.privacy.ledger import MAX_LEDGER_BYTES

__all__ = ["create_ledger", "read_ledger", "spend"]

_PATIENCE: Final = 30.0
_PAUSE: Final = 0.01


def create_ledger(path: Path, ledger: Ledger) -> None:
    """Write a new ledger, for its user only.

    Raises
    ------
    KeyMaterialError
        If there is a file of that name, or it cannot be written.
    PublishingError
        If the ledger holds a number or a text out of range.
    """
    with _locked(path):
        write_private(path, ledger.to_bytes(), durable=True)
        _settle(path)


def read_ledger(path: Path) -> Ledger:
    """Read a ledger.

    Raises
    ------
    KeyMaterialError
        If it cannot be read, or other users may write it.
    BlobError
        If it is no ledger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise KeyMaterialError(f"the ledger {path} is no file: name another")
            if info.st_mode & 0o077:
                raise KeyMaterialError(
                    f"the ledger {path} is open to others (mode {stat.S_IMODE(info.st_mode):04o}): run chmod 600 {path}"
                )
            data = file.read(MAX_LEDGER_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(f"the ledger {path} cannot be read: {error.strerror}") from None
    return Ledger.from_bytes(data, str(path))


def spend(path: Path, charge: Charge) -> Ledger:
    """Charge a release to a ledger's file. When this returns, the disk has it: only then let the release leave.

    A crash before the release has left wastes what it was charged. Two processes that spend at once wait for each other.
    Nobody is kept from putting an older copy of the file back, or from publishing past it.

    Returns
    -------
    Ledger
        As it is now.

    Raises
    ------
    BudgetError
        If it is past the budget, or another process holds the ledger for 30 s; nothing is charged.
    PublishingError
        If the charge is for neighbours that this ledger does not count.
    KeyMaterialError, BlobError
        If the file cannot be read or written, or is no ledger.
    """
    with _locked(path):
        ledger = read_ledger(path).spend(charge)
        replace_private(path, ledger.to_bytes())
        _settle(path)
    return ledger


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the ledger's lock: a file beside it, which stays, as the ledger itself is replaced."""
    beside = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KeyMaterialError(f"the ledger {path} cannot be locked ({beside.name}: {error.strerror})") from None
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise BudgetError(
                        f"another process has held the ledger {path} for {_PATIENCE:g} s: try again when it is done"
                    ) from None
                time.sleep(_PAUSE)
            except OSError as error:
                raise KeyMaterialError(f"the ledger {path} cannot be locked: {error.strerror}") from None
        yield
    finally:
        os.close(descriptor)


def _settle(path: Path) -> None:
    """Have the disk know the name of a file that it has."""
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise KeyMaterialError(
            f"the ledger {path} may not be on disk ({error.strerror}): let no release leave"
        ) from None
