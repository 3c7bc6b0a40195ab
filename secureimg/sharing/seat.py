"""What a party has at hand while it runs: who it is, its link, scratch memory, rounds that overlap with computing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing.channel import Channel

__all__ = ["CHUNK", "Round", "Seat", "dealing_seat"]

CHUNK: Final = 8192
"""Values that are worked on at a time: their buffers fit the cache."""

_PART: Final = 32
"""Chunks that travel as one message, while the next ones are computed."""

Bytes = NDArray[np.uint8]


class Seat:
    """A party's place at the table.

    Parameters
    ----------
    party : int
        0 or 1.
    channel : Channel
    """

    def __init__(self, party: int, channel: Channel) -> None:
        self.party = party
        self.channel = channel
        self.rounds = 0
        self._scratch: dict[str, NDArray[Any]] = {}

    def scratch(self, name: str, count: int, dtype: Any = np.uint64) -> NDArray[Any]:
        """Return reused memory for `count` items; whoever asks for the same name again gets the same memory."""
        held = self._scratch.get(name)
        if held is None or held.size < count or held.dtype != dtype:
            held = self._scratch[name] = np.empty(max(count, CHUNK), dtype=dtype)
        return held[:count]

    def round(self, name: str, count: int, size: int, *, sends: bool = True, receives: bool = True) -> Round:
        """Begin a round: `count` values of `size` bytes (a fraction of one for bits), sent, received or both.

        Memory of an earlier round of the same name is reused, so what it sent must have left: call `settle` before.
        """
        self.rounds += 1
        return Round(self, name, count, size, sends=sends, receives=receives)

    def settle(self) -> None:
        """Wait until everything that was sent has left: outgoing memory may be reused."""
        self.channel.flush()


class Round:
    """A message to the other party and one from it, in parts: the first ones travel while the last are computed.

    Attributes
    ----------
    out, back : ndarray of uint8
        What is sent, and what comes.
    """

    def __init__(self, seat: Seat, name: str, count: int, size: int, *, sends: bool, receives: bool) -> None:
        self._channel = seat.channel
        self._part = _PART * CHUNK * size
        self._sent = self._got = 0
        self.out: Bytes = seat.scratch(f"{name} out", count * size if sends else 0, np.uint8)
        self.back: Bytes = seat.scratch(f"{name} back", count * size if receives else 0, np.uint8)

    def wrote(self, place: int) -> None:
        """`out` is ready up to `place`: send the parts that are whole."""
        while self._sent < place and (place - self._sent >= self._part or place == self.out.size):
            end = min(self._sent + self._part, place)
            self._channel.send(self.out[self._sent : end])
            self._sent = end

    def need(self, place: int) -> None:
        """`back` is wanted up to `place`: receive the parts that hold it."""
        while self._got < place:
            end = min(self._got + self._part, self.back.size)
            self._channel.receive(self.back[self._got : end])
            self._got = end


class _NoChannel:
    """The dealer talks to nobody while it computes."""

    def send(self, message: Bytes) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def receive(self, message: Bytes) -> None:
        raise NotImplementedError


def dealing_seat() -> Seat:
    """Return scratch memory for a dealer, who talks to nobody."""
    return Seat(0, _NoChannel())
