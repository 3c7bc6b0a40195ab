"""The evaluation keys that a server holds in memory: by owner and key id, capped, least recently used out first."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from secureimg.errors import SecureImgError

__all__ = ["KeyStore", "NoRoomError", "Reservation"]

Keys = TypeVar("Keys")


class NoRoomError(SecureImgError):
    """Keys do not fit into the memory set aside for them."""


@dataclass
class _Entry(Generic[Keys]):
    keys: Keys | None
    size: int
    users: int = 0


@dataclass(frozen=True)
class Reservation:
    """Memory set aside for keys that are on their way."""

    owner: str
    key_id: str
    size: int


class KeyStore(Generic[Keys]):
    """Evaluation keys of many owners.

    An owner sees only its own name space: keys are found by (certificate fingerprint, key id), so a key id that another
    owner registered does not exist for anyone else. Safe to use from several threads.

    Parameters
    ----------
    per_owner, total : int
        Bytes that one owner's keys, and all keys, may take. Keys in use by an evaluation are never evicted.
    """

    def __init__(self, per_owner: int, total: int) -> None:
        self.per_owner = min(per_owner, total)
        self.total = total
        self._entries: OrderedDict[tuple[str, str], _Entry[Keys]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return sum(entry.keys is not None for entry in self._entries.values())

    def holds(self, owner: str, key_id: str) -> bool:
        """Return whether this owner's keys are ready for use."""
        with self._lock:
            entry = self._entries.get((owner, key_id))
            return entry is not None and entry.keys is not None

    def reserve(self, owner: str, key_id: str, size: int) -> Reservation:
        """Set memory aside before the first byte of keys is taken in, evicting what was not used for longest.

        Raises
        ------
        NoRoomError
            If the keys are larger than the owner's share, or everything else is in use.
        """
        with self._lock:
            if size > self.per_owner:
                raise NoRoomError(f"the evaluation keys are {size} bytes, one owner may hold {self.per_owner}")
            previous = self._entries.get((owner, key_id))
            if previous is not None and (previous.users or previous.keys is None):
                raise NoRoomError("these evaluation keys are in use or being registered by another connection")
            self._entries.pop((owner, key_id), None)
            self._evict(size, self.per_owner, owner)
            self._evict(size, self.total, None)
            self._entries[owner, key_id] = _Entry(None, size)
            return Reservation(owner, key_id, size)

    def fill(self, reservation: Reservation, keys: Keys) -> None:
        """Put loaded keys into the place that was reserved for them."""
        with self._lock:
            entry = self._entries[reservation.owner, reservation.key_id]
            entry.keys = keys
            self._entries.move_to_end((reservation.owner, reservation.key_id))

    def cancel(self, reservation: Reservation) -> None:
        """Give a reservation back that was never filled."""
        with self._lock:
            entry = self._entries.get((reservation.owner, reservation.key_id))
            if entry is not None and entry.keys is None:
                del self._entries[reservation.owner, reservation.key_id]

    @contextlib.contextmanager
    def use(self, owner: str, key_id: str) -> Iterator[Keys | None]:
        """Lend keys for an evaluation; None if this owner has none by that id."""
        with self._lock:
            entry = self._entries.get((owner, key_id))
            keys = None if entry is None else entry.keys
            if entry is not None and keys is not None:
                entry.users += 1
                self._entries.move_to_end((owner, key_id))
        try:
            yield keys
        finally:
            if entry is not None and keys is not None:
                with self._lock:
                    entry.users -= 1

    def _evict(self, size: int, limit: int, owner: str | None) -> None:
        """Make room for `size` below `limit`, counting all entries or one owner's, or change nothing."""
        mine = {place: entry for place, entry in self._entries.items() if owner is None or place[0] == owner}
        excess = sum(entry.size for entry in mine.values()) + size - limit
        victims: list[tuple[str, str]] = []
        for place, entry in mine.items():
            if excess <= 0:
                break
            if entry.keys is not None and not entry.users:
                victims.append(place)
                excess -= entry.size
        if excess > 0:
            raise NoRoomError(f"the key memory of {limit} bytes is full of keys in use: {excess} bytes are lacking")
        for place in victims:
            del self._entries[place]
