"""How many records an owner may cause without getting an answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Allowance"]

_OWNERS: Final = 4096


@dataclass
class _Account:
    left: float
    since: float
    omitted: int = 0


class Allowance:
    """A token bucket for each owner, and the count of what did not fit. Safe to use from several threads.

    Parameters
    ----------
    burst : int
        Records at once.
    per_minute : int
        Records a minute after that.
    clock : callable
        Seconds that only go forward.
    """

    def __init__(self, burst: int = 600, per_minute: int = 60, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, per_minute / 60, clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, owner: str) -> bool:
        """Return whether a record may be written; count it as omitted if not."""
        now = self._clock()
        with self._lock:
            account = self._accounts.setdefault(owner, _Account(self._burst, now))
            self._accounts.move_to_end(owner)
            if len(self._accounts) > _OWNERS:  # the one not heard of for the longest
                self._accounts.popitem(last=False)
            account.left = min(self._burst, account.left + (now - account.since) * self._rate)
            account.since = now
            if account.left < 1:
                account.omitted += 1
                return False
            account.left -= 1
            return True

    def settle(self, owner: str) -> int:
        """Return how many records were omitted since the last call."""
        with self._lock:
            account = self._accounts.get(owner)
            if account is None:
                return 0
            count, account.omitted = account.omitted, 0
            return count
