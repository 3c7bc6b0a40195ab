"""What became of every request of a soak, judged: right, refused clearly, or a failure of what is soaked."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from protocols.errors import BrokenError, RefusedError
from protocols.messages import Code
from secureimg.errors import KeyMaterialError, RemoteProtocolError

__all__ = ["Tally", "Told", "judge_error"]

_WORDS: Final = 4
_SHOWN: Final = 50
_FAULTY: Final = frozenset({Code.INTERNAL, Code.BAD_KEYS, Code.BAD_CIPHERTEXT, Code.BAD_SHARE, Code.UNKNOWN_MODEL})
"""Refusals that an owner who does all as it should must never hear."""


@dataclass(frozen=True)
class Told:
    """How an error is counted.

    Attributes
    ----------
    code : str
        A refusal's code, or what ended the request on the owner's side.
    clear : bool
        Whether an owner could make sense of it and act on it.
    text : str
    """

    code: str
    clear: bool
    text: str


def judge_error(error: BaseException) -> Told:
    """Say what an owner was told, and whether that was clear: a type that is documented, and words one can act on."""
    text = str(error)
    readable = (
        len(text.split()) >= _WORDS
        and ":" in text
        and "Traceback" not in text
        and "0x" not in text
        and "_ssl.c" not in text
    )
    if isinstance(error, RefusedError):
        return Told(error.code.value, readable and error.code not in _FAULTY, text)
    if isinstance(error, BrokenError):
        return Told("connection broke", readable, text)
    if isinstance(error, RemoteProtocolError):
        return Told("remote", readable, text)
    if isinstance(error, KeyMaterialError):
        return Told("key material", readable, text)
    return Told(type(error).__name__, False, "".join(traceback.format_exception(error)))


@dataclass
class _Call:
    what: str
    began: float
    limit: float
    reported: bool = False


@dataclass
class Tally:
    """Counts; safe to use from several threads.

    Attributes
    ----------
    asked, right : Counter of str
        By service.
    refused : Counter of (str, str)
        By service and code.
    wrong, unclear, hung : list of str
        What must not be, each described; the first ones.
    failures : Counter of str
        How many there were of each of those three.
    examples : dict of (str, str) to str
        A message for each way of being refused.
    answers : list of (str, str)
        The certificate's fingerprint and the request's name in the audit logs, of each right answer of two parties.
    by_owner : Counter of (str, str)
        Right answers by service and fingerprint.
    stocked : int
        Runs that took a correlation from the stock.
    longest : dict of str to float
        Seconds of the longest call, by what was called.
    """

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: list[tuple[str, str]] = field(default_factory=list)
    by_owner: Counter[tuple[str, str]] = field(default_factory=Counter)
    stocked: int = 0
    longest: dict[str, float] = field(default_factory=dict)
    moments: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, service: str) -> None:
        """Count a request."""
        with self._lock:
            self.asked[service] += 1

    def answer(self, service: str, owner: str, began: float, fault: str | None, *, name: str = "") -> None:
        """Count an answer; `fault` is what is wrong with it, or None."""
        with self._lock:
            if fault is not None:
                self._fail("wrong", f"{service}: {fault}")
                return
            self.right[service] += 1
            self.by_owner[service, owner] += 1
            self.moments.setdefault(service, []).append((began, time.monotonic()))
            if name:
                self.answers.append((owner, name))

    def refuse(self, service: str, error: BaseException) -> Told:
        """Count an error that an owner got instead of an answer."""
        told = judge_error(error)
        with self._lock:
            self.refused[service, told.code] += 1
            self.examples.setdefault((service, told.code), told.text[:500])
            if not told.clear:
                self._fail("unclear", f"{service}: {told.code}: {told.text}")
        return told

    def took_from_stock(self) -> None:
        """Count a run on a correlation that was made ahead."""
        with self._lock:
            self.stocked += 1

    @contextlib.contextmanager
    def call(self, what: str, limit: float) -> Iterator[None]:
        """Time a call on this thread; one that takes longer than `limit` seconds is a hang."""
        own = threading.get_ident()
        call = _Call(what, time.monotonic(), limit)
        with self._lock:
            self._calls[own] = call
        try:
            yield
        finally:
            seconds = time.monotonic() - call.began
            with self._lock:
                del self._calls[own]
                self.longest[what] = max(self.longest.get(what, 0.0), seconds)
                if seconds > limit and not call.reported:
                    self._fail("hung", f"{what} took {seconds:.1f} s, the limit is {limit:g} s")

    def look_for_hangs(self) -> None:
        """Note calls that should be over and are not, with the place where they wait."""
        now = time.monotonic()
        with self._lock:
            late = [(thread, call) for thread, call in self._calls.items() if now - call.began > call.limit]
            for thread, call in late:
                if call.reported:
                    continue
                call.reported = True
                frame = sys._current_frames().get(thread)
                place = "".join(traceback.format_stack(frame)[-6:]) if frame else ""
                self._fail("hung", f"{call.what} still waits after {now - call.began:.1f} s:\n{place}")

    def _fail(self, kind: str, text: str) -> None:
        self.failures[kind] += 1
        kept: list[str] = getattr(self, kind)
        if len(kept) < _SHOWN:
            kept.append(text)
