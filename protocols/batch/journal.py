"""The file of results: a line for the batch, then one for each picture in order; a rerun goes on after the last."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from protocols.batch.engines import BatchError

__all__ = ["Journal", "Line", "Subject"]

_FORMAT = "secureimg batch results 1"
_LONGEST_LINE = 64 << 20


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A picture's result, or why it has none."""

    file: str
    label: int | None = None
    label_name: str | None = None
    outputs: list[float] | None = None
    error: str | None = None


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    model: str
    program: str
    files: str
    count: int


@dataclass(frozen=True)
class Subject:
    """What a batch is about: results of another one are never mixed with its own.

    Attributes
    ----------
    model, program : str
        Name, and the program's fingerprint; keys do not matter.
    files : sequence of Path
    """

    model: str
    program: str
    files: Sequence[Path]

    def header(self) -> _Header:
        """Names and sizes of the files count, in order."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(msgspec.json.encode((path.name, path.stat().st_size)) + b"\n")
        return _Header(_FORMAT, self.model, self.program, digest.hexdigest(), len(self.files))


class Journal:
    """A results file, open for appending by one process at a time. Only its user may read it.

    Parameters
    ----------
    path : Path
        Made, or gone on with.
    subject : Subject

    Attributes
    ----------
    done : int
        Pictures whose lines it has.

    Raises
    ------
    BatchError
        If the file holds something else, or another run is writing it.
    """

    def __init__(self, path: Path, subject: Subject) -> None:
        self._path, self._subject = path, subject
        header = subject.header()
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BatchError(f"{path} cannot be written: {error.strerror}: name another file with --out") from None
        self._file = os.fdopen(handle, "r+b")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.done = self._resume(header)
        except BlockingIOError:
            self._file.close()
            raise BatchError(f"another run is writing {path}: wait for it, or name another file") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, line: Line) -> None:
        """Write the next picture's line."""
        self._write(line)
        self.done += 1

    def _write(self, value: msgspec.Struct) -> None:
        self._file.write(msgspec.json.encode(value) + b"\n")
        self._file.flush()

    def _resume(self, header: _Header) -> int:
        """Check what is there and cut off a line that a crash left unfinished; return how many pictures are done."""
        first = self._file.readline(_LONGEST_LINE)
        if not first.endswith(b"\n"):
            if first and not msgspec.json.encode(header).startswith(first):
                raise BatchError(f"{self._path} is not a file of batch results: name another file with --out")
            self._file.seek(0)
            self._file.truncate()
            self._write(header)
            return 0
        self._compare(first, header)
        done, place = 0, self._file.tell()
        while (data := self._file.readline(_LONGEST_LINE)).endswith(b"\n"):
            self._check(data, done)
            done += 1
            place = self._file.tell()
        self._file.seek(place)
        self._file.truncate()
        return done

    def _compare(self, data: bytes, header: _Header) -> None:
        try:
            found = msgspec.json.decode(data, type=_Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BatchError(f"{self._path} is not a file of batch results: name another file with --out") from None
        for field, words in (
            ("format", "format"),
            ("model", "model"),
            ("program", "program"),
            ("files", "list of files"),
        ):
            if getattr(found, field) != getattr(header, field):
                raise BatchError(
                    f"{self._path} has the results of another batch: its {words} is {getattr(found, field)[:40]!r}, this "
                    f"one's is {getattr(header, field)[:40]!r}: name another file with --out, or remove it to start over"
                )

    def _check(self, data: bytes, place: int) -> None:
        try:
            line = msgspec.json.decode(data, type=Line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            line = None
        if line is None or place >= len(self._subject.files) or line.file != self._subject.files[place].name:
            raise BatchError(
                f"line {place + 2} of {self._path} is not the result of its picture: remove the file to start over"
            )
