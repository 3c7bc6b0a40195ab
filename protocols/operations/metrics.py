"""Metrics for Prometheus, in a registry of their own."""

from __future__ import annotations

import logging
import math
import platform
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from protocols.memory_use import peak_memory
from protocols.messages import Code

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Media type of `Metrics.text`."""

_log = logging.getLogger(__name__)

_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_WORDS: Final = 32
_CODES: Final = frozenset(code.value for code in Code)


class Metrics:
    """Counters, times and gauges of one server. Safe to use from several threads.

    No label ever names an owner, a session or a file: what can be a label is one of few words, and past 32 different words
    the rest is counted as "other". Names begin with `secureimg_`, but for `process_*` (memory, CPU, open files of this
    process).
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._gauges: dict[str, Gauge] = {}
        self._reveals, self._events = _Words(), _Words()
        ProcessCollector(registry=registry)
        Info("secureimg_build", "Versions of what runs.", registry=registry).info(
            {"version": _version(), "python": platform.python_version()}
        )
        self._sessions = Counter("secureimg_sessions_opened", "Sessions begun.", registry=registry)
        self._open = Gauge("secureimg_sessions_open", "Sessions under way.", registry=registry)
        self._requests = Counter(
            "secureimg_requests",
            "Requests by outcome: answered, or the code of the refusal.",
            ["outcome"],
            registry=registry,
        )
        self._images = Counter(
            "secureimg_images", "Images answered, by what was revealed.", ["reveal"], registry=registry
        )
        self._seconds = Histogram(
            "secureimg_evaluation_seconds", "Time of an evaluation.", buckets=_BUCKETS, registry=registry
        )
        self._waited = Histogram(
            "secureimg_waiting_seconds", "Time in the queue before an evaluation.", buckets=_BUCKETS, registry=registry
        )
        self._received = Counter("secureimg_received_bytes", "Bytes received, as far as counted.", registry=registry)
        self._sent = Counter("secureimg_sent_bytes", "Bytes sent, as far as counted.", registry=registry)
        self._happened = Counter("secureimg_events", "What the server did itself.", ["event"], registry=registry)
        self.gauge("peak_memory_bytes", "Peak resident memory, worker processes included.", peak_memory)
        self._requests.labels("answered")  # there from the start, so that a rate can be taken of the first one

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def opened(self) -> None:
        """Count a session that began."""
        self._sessions.inc()
        self._open.inc()

    def closed(self) -> None:
        """Count a session that ended."""
        self._open.dec()

    def answered(self, reveal: str, images: int, seconds: float, waited: float) -> None:
        """Count an answer."""
        self._requests.labels("answered").inc()
        self._images.labels(self._reveals.bound(reveal)).inc(images)
        self._seconds.observe(seconds)
        self._waited.observe(waited)

    def refused(self, code: str) -> None:
        """Count a refusal; a code that is none of ours counts as "other"."""
        self._requests.labels(str(code) if code in _CODES else "other").inc()

    def transferred(self, received: int, sent: int) -> None:
        """Count bytes."""
        self._received.inc(received)
        self._sent.inc(sent)

    def event(self, name: str) -> None:
        """Count an event."""
        self._happened.labels(self._events.bound(name)).inc()

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Read a number at every scrape. A name that is there already gets the new callable.

        Raises
        ------
        ValueError
            If it is no name of a metric, or one that is taken by something else.
        """
        name = name if name.startswith("secureimg_") else f"secureimg_{name}"
        with self._lock:
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, meaning, registry=self._registry)
            self._gauges[name].set_function(lambda: _read(name, read))


class _Words:
    """Keeps the number of a label's values bounded."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def bound(self, word: str) -> str:
        word = str(word)[:64]
        with self._lock:
            if word not in self._seen and len(self._seen) >= _WORDS:
                return "other"
            self._seen.add(word)
            return word


def _read(name: str, read: Callable[[], float]) -> float:
    try:
        return float(read())
    except Exception:  # noqa: BLE001 - one number that cannot be read must not cost the others
        _log.warning("%s cannot be read", name, exc_info=True)
        return math.nan


def _version() -> str:
    try:
        return version("secureimg")
    except PackageNotFoundError:
        return "unknown"
