"""The audit log's lines: what a record holds, how each is tied to the one before, and what breaks that."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from secureimg.errors import SecureImgError

__all__ = ["CONTINUED", "GENESIS", "LINE_BYTES", "REMEDY", "AuditError", "Chain", "Fact", "Record", "decode"]

LINE_BYTES: Final = 256 << 10
"""Longest line that is read or written."""

GENESIS: Final = "0" * 64
"""What the first record of a log has in place of the hash of the one before."""

CONTINUED: Final = "continued"
"""The event that begins every file of a log but the first."""

REMEDY: Final = (
    "move all files of this audit log away together, as evidence, and look into it; the server begins a new log then"
)
"""What to do about a log that is not as it was written."""

Fact = str | int | float | bool | None

_TEXT: Final = 1000
_FACTS: Final = 24
_WORD: Final = 64

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
Word = Annotated[str, Meta(min_length=1, max_length=_WORD)]
Value = Annotated[str, Meta(max_length=_TEXT + 1)] | int | float | bool | None


class AuditError(SecureImgError):
    """The audit log cannot be read, continued or written, or its chain is broken."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an audit log.

    Attributes
    ----------
    sequence : int
        1 for the first record of a log, one more for each.
    time : str
        UTC, by the clock of the machine: `2026-01-31T12:00:00.000000Z`.
    event : str
        "answered", "refused", "opened", "closed"; "continued" and "torn" of the log itself; else the server's own events.
    owner : str
        Hexadecimal fingerprint of the owner's certificate, or the id of its token; empty if no owner is concerned.
    facts : dict
        What belongs to the event.
    prev : str
        SHA-256 of the line before, without its line feed.
    """

    sequence: Annotated[int, Meta(ge=1, le=2**53)]
    time: Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", max_length=27)]
    event: Word
    owner: Annotated[str, Meta(max_length=128)]
    facts: Annotated[dict[Word, Value], Meta(max_length=_FACTS)]
    prev: Digest

    @classmethod
    def now(cls, sequence: int, prev: str, event: str, owner: str, facts: Mapping[str, Fact]) -> Record:
        """Return a record of this moment. Values that are too long are cut, with an ellipsis."""
        time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kept = {_clean(key, _WORD): _value(value) for key, value in list(facts.items())[:_FACTS]}
        return cls(sequence, time, _clean(event, _WORD), _clean(owner, 127), kept, prev)

    def line(self) -> bytes:
        """Return the record's canonical bytes, without the line feed."""
        return msgspec.json.encode(self)


class Chain:
    """Checks lines one after the other.

    Attributes
    ----------
    sequence, head : int, str
        Number of the last record and SHA-256 of its line: what the next one must name.
    """

    def __init__(self, sequence: int = 0, head: str = GENESIS) -> None:
        self.sequence, self.head = sequence, head

    @classmethod
    def after(cls, line: bytes, where: str) -> Chain:
        """Return the chain whose last line this is, on trust: what goes before is not looked at."""
        return cls(decode(line, where).sequence, hashlib.sha256(line).hexdigest())

    def check(self, line: bytes, where: str, *, first: bool) -> Record:
        """Return the record of a line that fits, and make it the last one.

        Parameters
        ----------
        line : bytes
            Without its line feed.
        where : str
            File and line, for the error.
        first : bool
            Whether nothing before it is at hand: it may then be the first of a log, or of one of its later files.

        Raises
        ------
        AuditError
            If the line is no record or does not follow the one before.
        """
        record = decode(line, where)
        if first and self.sequence == 0 and record.event == CONTINUED:
            self.sequence, self.head = record.sequence - 1, record.prev
        if record.sequence != self.sequence + 1:
            raise AuditError(
                f"{where} is record {record.sequence}, expected {self.sequence + 1}: records were removed, added or put in "
                f"another order, or a file is missing: {REMEDY}"
            )
        if record.prev != self.head:
            raise AuditError(
                f"{where} (record {record.sequence}) names {record.prev[:16]}... as the hash of the record before, which is "
                f"{self.head[:16]}...: that one or this one was changed: {REMEDY}"
            )
        self.sequence, self.head = record.sequence, hashlib.sha256(line).hexdigest()
        return record


_DECODER: Final = msgspec.json.Decoder(Record)


def decode(line: bytes, where: str) -> Record:
    """Return the record of a line, whatever stands before it.

    Raises
    ------
    AuditError
        If it is none, or not written as `Record.line` would.
    """
    try:
        record = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AuditError(f"{where} is not an audit record ({error}): {REMEDY}") from None
    if record.line() != line:
        raise AuditError(f"{where} is not written as audit records are, so it was edited: {REMEDY}")
    return record


def _value(value: object) -> Fact:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else _clean(str(value), _TEXT)
    if isinstance(value, float):
        return float(value)
    return _clean(value, _TEXT) if isinstance(value, str) else f"<{type(value).__name__}>"


def _clean(text: str, most: int) -> str:
    """Cut a text; what UTF-8 cannot encode becomes a question mark."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"
