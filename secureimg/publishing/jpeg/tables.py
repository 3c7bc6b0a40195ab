"""Huffman tables of JPEG: from their lengths to codes and look-ups, and the best one for given counts."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAST_BITS", "HuffmanTable", "best_table"]

FAST_BITS: Final = 10
_LONGEST: Final = 16


@dataclass(frozen=True)
class HuffmanTable:
    """A table as a DHT segment has it (T.81, B.2.4.2).

    Attributes
    ----------
    counts : bytes
        16 numbers: how many codes have 1 to 16 bits.
    values : bytes
        The symbols, by length of their codes.
    """

    counts: bytes
    values: bytes

    def fault(self) -> str:
        """Return what makes the table unusable, or an empty string."""
        if len(self.counts) != _LONGEST or len(self.values) != sum(self.counts):
            return f"{len(self.values)} symbols for {sum(self.counts)} codes"
        if len(set(self.values)) != len(self.values):
            return "a symbol with two codes"
        code = 0
        for length, count in enumerate(self.counts, start=1):
            code += count
            if count and code >= 1 << length:  # the code of ones only is kept free
                return f"more codes of {length} bits than there are"
            code <<= 1
        return ""

    def codes(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Codes and their lengths by symbol; length 0 where there is none."""
        codes, lengths = np.zeros(256, np.uint32), np.zeros(256, np.uint8)
        code, place = 0, 0
        for length, count in enumerate(self.counts, start=1):
            for symbol in self.values[place : place + count]:
                codes[symbol], lengths[symbol] = code, length
                code += 1
            place += count
            code <<= 1
        return codes, lengths

    def lookup(self) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Length times 256 plus symbol, by the next 10 bits and by the next 16; 0 where no code begins so."""
        lengths = np.repeat(np.arange(1, _LONGEST + 1), list(self.counts))
        entries = (lengths * 256 + np.frombuffer(self.values, np.uint8)).astype(np.uint16)
        filled = np.repeat(entries, 1 << (_LONGEST - lengths))
        full = np.zeros(1 << _LONGEST, np.uint16)
        full[: len(filled)] = filled
        fast = full[:: 1 << (_LONGEST - FAST_BITS)].copy()
        fast[fast >> 8 > FAST_BITS] = 0
        return fast, full


def best_table(counts: NDArray[np.int64]) -> HuffmanTable:
    """Return the table that codes symbols with the fewest bits, no code longer than 16.

    Parameters
    ----------
    counts : ndarray
        (256,) how often each symbol occurs.

    Notes
    -----
    T.81, K.2: a symbol that never occurs takes the code of ones only; lengths above 16 are brought down by figure K.3.
    """
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(count), symbol, (symbol,)) for symbol, count in enumerate(counts) if count > 0
    ]
    if not heap:
        heap = [(1, 0, (0,))]
    heap.append((0, 256, (256,)))  # rarest: it gets a longest code
    heapq.heapify(heap)
    depth = [0] * 257
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        together = one[2] + other[2]
        for symbol in together:
            depth[symbol] += 1
        heapq.heappush(heap, (one[0] + other[0], min(one[1], other[1]), together))
    bits = [0] * (max(depth) + 2)
    for symbol in range(257):
        bits[depth[symbol]] += 1 if depth[symbol] else 0
    for length in range(len(bits) - 1, _LONGEST, -1):
        while bits[length] > 0:
            shorter = length - 2
            while bits[shorter] == 0:
                shorter -= 1
            bits[length] -= 2
            bits[length - 1] += 1
            bits[shorter + 1] += 2
            bits[shorter] -= 1
    bits += [0] * (_LONGEST + 1 - len(bits))
    longest = max(length for length in range(_LONGEST + 1) if bits[length])
    bits[longest] -= 1  # the code of ones only
    used = sorted((s for s in range(256) if depth[s]), key=lambda s: (depth[s], -int(counts[s]), s))
    return HuffmanTable(bytes(bits[1 : _LONGEST + 1]), bytes(used))
