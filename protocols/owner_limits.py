"""What one owner may ask for: how often, how much, how much at once, and how many answers in all."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import RefusedError
from protocols.messages import Code
from secureimg.errors import KeyMaterialError

__all__ = ["OwnerGate", "OwnerLimits"]

_REMEMBERED = 4096


@dataclass(frozen=True)
class OwnerLimits:
    """Limits of one owner, that is of one certificate or token.

    Attributes
    ----------
    requests_per_minute : float
        Requests on average; as many may come at once after a pause.
    images_per_request : int
        Images in one request.
    sessions : int
        Sessions at a time.
    releases : int
        Images answered in all, ever; 0 for no limit. Enough answers give a model away, and a key's answers wear it out.
    """

    requests_per_minute: float = 6000.0
    images_per_request: int = 4096
    sessions: int = 16
    releases: int = 0


class OwnerGate:
    """Counts what owners ask for. Safe to use from several threads.

    Parameters
    ----------
    limits : OwnerLimits
    state : Path, optional
        Directory for the count of releases, which must outlive a restart.

    Raises
    ------
    KeyMaterialError
        If releases are limited and there is no directory to count them in, or it cannot be used.
    """

    def __init__(self, limits: OwnerLimits, state: Path | None = None) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._sessions: Counter[str] = Counter()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._ledger = _Ledger(state) if limits.releases else None

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    @contextlib.contextmanager
    def session(self, owner: str) -> Iterator[None]:
        """Hold one of the owner's sessions.

        Raises
        ------
        RefusedError
            If it has as many as it may.
        """
        with self._lock:
            if self._sessions[owner] >= self.limits.sessions:
                raise RefusedError(
                    Code.BUSY,
                    f"server busy: this owner has {self._sessions[owner]} sessions open, as many as it may",
                    "close some, or connect again later",
                    5.0,
                )
            self._sessions[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._sessions[owner] -= 1
                if not self._sessions[owner]:
                    del self._sessions[owner]

    def admit(self, owner: str, images: int) -> None:
        """Let a request pass, or not.

        Raises
        ------
        RefusedError
            If it is one too many in this minute, or of too many images.
        """
        if images > self.limits.images_per_request:
            raise RefusedError(
                Code.LIMIT,
                f"{images} images in one request, the limit is {self.limits.images_per_request}",
                "send fewer images at a time",
            )
        rate, most = self.limits.requests_per_minute / 60.0, max(1.0, self.limits.requests_per_minute)
        now = time.monotonic()
        with self._lock:
            tokens, since = self._buckets.pop(owner, (most, now))
            tokens = min(most, tokens + (now - since) * rate)
            passes = tokens >= 1.0
            self._buckets[owner] = (tokens - 1.0 if passes else tokens), now
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        if not passes:
            pause = (1.0 - tokens) / rate
            raise RefusedError(
                Code.RATE,
                f"more than {self.limits.requests_per_minute:g} requests a minute from this owner",
                f"ask again in {pause:.1f} s",
                pause,
            )

    def release(self, owner: str, images: int) -> None:
        """Count answers to `images` images, durably, before they leave.

        Raises
        ------
        RefusedError
            If the owner has had as many as it may; nothing is counted then.
        """
        if self._ledger is None:
            return
        had = self._ledger.add(owner, images, self.limits.releases)
        if had is not None:
            raise RefusedError(
                Code.LIMIT,
                f"this owner was answered {had} images, {images} more are above its limit of {self.limits.releases}",
                "ask the operator for a higher limit",
            )


class _Ledger:
    """How many images each owner was answered, on disk."""

    def __init__(self, state: Path | None) -> None:
        if state is None:
            raise KeyMaterialError("a limit on releases needs a state directory to count them in: name one")
        path = state / "releases.sqlite"
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.execute("CREATE TABLE IF NOT EXISTS releases (owner TEXT PRIMARY KEY, images INTEGER NOT NULL)")
        except (OSError, sqlite3.Error, ValueError) as error:  # damaged text in it is a ValueError
            raise KeyMaterialError(f"{path} cannot be used to count releases: {error}") from None
        self._path = path
        self._lock = threading.Lock()

    def add(self, owner: str, images: int, limit: int) -> int | None:
        """Count; or, if that is above the limit, return how many there were."""
        try:
            with self._lock:
                row = self._base.execute("SELECT images FROM releases WHERE owner = ?", (owner,)).fetchone()
                had = int(row[0]) if row else 0
                if had + images > limit:
                    return had
                self._base.execute("INSERT OR REPLACE INTO releases VALUES (?, ?)", (owner, had + images))
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise KeyMaterialError(f"{self._path} cannot be written ({error}): no answer leaves uncounted") from None
        return None

    def close(self) -> None:
        with self._lock:
            self._base.close()
