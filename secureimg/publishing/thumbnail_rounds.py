"""Substitution and permutation of the values of a block, so that their sum stays: the rounds, and how many there are.

A stage substitutes pairs: (a, b) becomes (a', b') with a' + b' = a + b, where a' moves by a uniform offset around the cycle
of all 8-bit pairs of this sum. Then the positions are shuffled perfectly, so that ceil(log2 n) stages join every value
with every other, as the stages of a butterfly do. That is a pass. Each pass begins with a fresh keyed permutation.

Blocks are worked on in groups: a row of an array holds the same position of all blocks of the group, so that the inner
loops run over blocks. Offsets are each pair's own; the blocks of a group share the permutations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.sharing.streams import Stream

__all__ = ["FEWEST_PASSES", "FEWEST_STAGES", "Region", "passes_of", "regions", "run_rounds", "stages_of"]

Bytes = NDArray[np.uint8]
Halves = NDArray[np.uint16]
Words = NDArray[np.uint32]
Places = NDArray[np.int64]
Order = NDArray[np.uint16]

# All of these say which bytes of the stream move which pair: with others, cipher images of before decrypt no more.
FEWEST_PASSES: Final = 10
FEWEST_STAGES: Final = 80

_GROUP_BYTES: Final = 1 << 16
_FEWEST_LANES: Final = 256
_MOST_LANES: Final = 1 << 14
_PIECE: Final = 1 << 18
_RESERVE: Final = 2048


def stages_of(count: int) -> int:
    """Return how many stages a pass over blocks of `count` values has."""
    return (count - 1).bit_length()


def passes_of(count: int) -> int:
    """Return how many passes blocks of `count` values get: at least 10, and at least 80 stages in all."""
    stages = stages_of(count)
    return 0 if stages == 0 else max(FEWEST_PASSES, -(-FEWEST_STAGES // stages))


@dataclass(frozen=True)
class Region:
    """The blocks of an image that have one shape: all but those at the right and lower edge, or those.

    Attributes
    ----------
    offsets : ndarray, int64
        Where the values of a block are, from its first.
    bases : ndarray, int64
        Where the first value of each block and channel is.
    """

    offsets: Places
    bases: Places

    def groups(self) -> Iterator[Places]:
        """Yield the blocks in groups that fit a cache."""
        lanes = min(max(_GROUP_BYTES // len(self.offsets), _FEWEST_LANES), _MOST_LANES)
        for start in range(0, len(self.bases), lanes):
            yield self.bases[start : start + lanes]


def regions(shape: tuple[int, ...], block: int) -> list[Region]:
    """Split an image of shape (H, W) or (H, W, C) into regions of equal blocks."""
    height, width = shape[:2]
    channels = shape[2] if len(shape) == 3 else 1
    row = width * channels
    found = []
    for tops, rows in _edges(height, block):
        for lefts, columns in _edges(width, block):
            corners = (tops[:, None] * row + lefts * channels).ravel()
            bases = (corners[:, None] + np.arange(channels)).ravel()
            offsets = (np.arange(rows)[:, None] * row + np.arange(columns) * channels).ravel()
            found.append(Region(offsets.astype(np.int64), bases.astype(np.int64)))
    return found


def _edges(length: int, block: int) -> list[tuple[Places, int]]:
    whole = length - length % block
    found = [(np.arange(0, whole, block, dtype=np.int64), block)] if whole else []
    return [*found, (np.array([whole], dtype=np.int64), length - whole)] if whole < length else found


def run_rounds(image: Bytes, block: int, key: bytes, *, forward: bool, workers: int | None = None) -> Bytes:
    """Return the image after all rounds, or before them.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, C) uint8, C-contiguous.
    block : int
        The block's side, at least 2. Blocks at the right and lower edge may be smaller.
    key : bytes
        32 bytes, for this image only: equal keys give equal offsets.
    forward : bool
        Encrypt; else decrypt.
    workers : int, optional
        Threads. Default: one for each core, at most 4.

    Notes
    -----
    Cost: 40 pairs a value, with 3 bytes of AES-CTR each.
    """
    out = np.empty_like(image)
    flat, result = image.reshape(-1), out.reshape(-1)
    work = [
        (number, index, region.offsets, bases)
        for number, region in enumerate(regions(image.shape, block))
        for index, bases in enumerate(region.groups())
    ]
    threads = min(workers or min(len(os.sched_getaffinity(0)), 4), len(work))

    def share(first: int) -> None:
        buffers = _Buffers()
        for number, index, offsets, bases in work[first::threads]:
            values = buffers.values(len(offsets), len(bases))
            _gather(flat, bases, offsets, values)
            _mix_group(values, buffers, key, (number, index), forward)
            _scatter(values, bases, offsets, result)

    if threads == 1:
        share(0)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="thumbnail") as pool:
            for done in [pool.submit(share, first) for first in range(threads)]:
                done.result()
    return out


class _Buffers:
    """Memory of one thread, kept from group to group."""

    def __init__(self) -> None:
        self._values = np.empty(0, dtype=np.uint8)
        self._noise = np.empty(0, dtype=np.uint8)

    def values(self, count: int, lanes: int) -> Bytes:
        if self._values.size < count * lanes:
            self._values = np.empty(count * lanes, dtype=np.uint8)
        return self._values[: count * lanes].reshape(count, lanes)

    def noise(self, shape: tuple[int, int, int], stream: Stream) -> tuple[Halves, Bytes, Words]:
        """Fresh words of 16 and of 8 bits for every pair, and a few of 32."""
        count = math.prod(shape)
        size = 4 * _RESERVE + 3 * count
        if self._noise.size < size:
            self._noise = np.empty(size, dtype=np.uint8)
        stream.fill(self._noise[:size])
        first, second = 4 * _RESERVE, 4 * _RESERVE + 2 * count
        high, low = self._noise[first:second].view(np.uint16), self._noise[second:size]
        return high.reshape(shape), low.reshape(shape), self._noise[:first].view(np.uint32)


def _mix_group(values: Bytes, buffers: _Buffers, key: bytes, place: tuple[int, int], forward: bool) -> None:
    count, lanes = values.shape
    passes, stages, pairs = passes_of(count), stages_of(count), count // 2
    if not passes:
        return  # a block of one value is its own thumbnail
    order = np.empty((passes * stages, count), dtype=np.uint16)
    drawn = np.empty((passes, count), dtype=np.uint32)
    Stream(key, "thumbnail", "order", *place).fill(drawn)
    _arrange(drawn, order, stages)
    step = max(1, _PIECE // (pairs * lanes))
    starts = range(0, len(order), step)
    for start in starts if forward else reversed(starts):
        # a stream for a few stages: decryption takes them from the last to the first
        part = order[start : start + step]
        stream = Stream(key, "thumbnail", "offsets", *place, start)
        _mix(values, *buffers.noise((len(part), pairs, lanes), stream), part, forward)


# ------------------------------------------------------------------------------------------------------------- kernels


@numba.njit(cache=True, nogil=True)
def _arrange(drawn: Words, order: Order, stages: int) -> None:
    """Write the order of positions of every stage; a stage pairs its first half with its second."""
    passes, count = drawn.shape
    skip = count - count // 2
    for number in range(passes):
        first = order[number * stages]
        for place in range(count):  # Fisher-Yates, from the inside out
            other = np.int64((np.uint64(drawn[number, place]) * np.uint64(place + 1)) >> np.uint64(32))
            first[place] = first[other]
            first[other] = place
        for stage in range(number * stages + 1, (number + 1) * stages):
            for place in range(count):
                half = place // 2
                order[stage, place] = order[stage - 1, half + skip if place % 2 else half]


@numba.njit(cache=True, nogil=True)
def _gather(flat: Bytes, bases: Places, offsets: Places, values: Bytes) -> None:
    for place in range(len(offsets)):
        for lane in range(len(bases)):
            values[place, lane] = flat[bases[lane] + offsets[place]]


@numba.njit(cache=True, nogil=True)
def _scatter(values: Bytes, bases: Places, offsets: Places, flat: Bytes) -> None:
    for place in range(len(offsets)):
        for lane in range(len(bases)):
            flat[bases[lane] + offsets[place]] = values[place, lane]


@numba.njit(cache=True, nogil=True)
def _mix(values: Bytes, high: Halves, low: Bytes, reserve: Words, order: Order, forward: bool) -> None:
    """Substitute all pairs of some stages, in place.

    An offset is count times a number of 24 bits, without its lower 24 bits. That favours some offsets, unless numbers are
    drawn again whose product has lower bits under 2^24 mod count (Lemire, "Fast Random Integer Generation in an Interval",
    2019). To draw again is to add another offset here; it happens to less than one pair in 2^16.
    """
    stages, pairs, lanes = high.shape
    skip = values.shape[0] - pairs
    for step in range(stages):
        stage = step if forward else stages - 1 - step
        for pair in range(pairs):
            one, other = values[order[stage, pair]], values[order[stage, skip + pair]]
            first, second = high[stage, pair], low[stage, pair]
            least = np.uint16(0xFFFF)
            for lane in range(lanes):  # 16-bit on purpose: this loop becomes vector instructions
                a = np.uint16(one[lane])
                total = np.uint16(a + np.uint16(other[lane]))
                count = np.uint16(min(total, np.uint16(510 - total)) + 1)
                bottom = np.uint16(max(total, np.uint16(255)) - 255)
                product = np.uint32(np.uint32(first[lane]) * np.uint32(count))
                carried = np.uint16(np.uint16(np.uint16(second[lane]) * count) >> np.uint16(8))
                below = np.uint16(np.uint16(product) + carried)  # bits 8 to 23 of the product
                least = min(least, below)
                offset = np.uint16(np.uint16(product >> np.uint32(16)) + np.uint16(1 if below < carried else 0))
                if not forward:
                    offset = np.uint16(count - offset)
                moved = np.uint16(a - bottom + offset)
                wrapped = np.uint16(moved - count)  # huge if moved is below count
                moved = np.uint16(np.uint16(min(moved, wrapped)) + bottom)
                one[lane] = np.uint8(moved)
                other[lane] = np.uint8(total - moved)
            if least == 0:  # else all lower bits are at least 256, and so at least count
                _draw_again(one, other, first, second, reserve, (stage * pairs + pair) * lanes, forward)


@numba.njit(cache=True, nogil=True)
def _draw_again(
    one: Bytes, other: Bytes, first: Halves, second: Bytes, reserve: Words, place: int, forward: bool
) -> None:
    half = len(reserve) // 2
    for lane in range(len(one)):
        total = np.int64(one[lane]) + np.int64(other[lane])
        count = min(total, 510 - total) + 1
        product = ((np.int64(first[lane]) << 8) + np.int64(second[lane])) * count
        if product % (1 << 24) < (1 << 24) % count:
            # sums of two words: those of any two pairs are independent
            index = place + lane
            word = np.uint32(reserve[index % half] + reserve[half + index // half])
            offset = np.int64((np.uint64(word) * np.uint64(count)) >> np.uint64(32))
            bottom = np.int64(max(np.int64(0), total - 255))
            moved = (np.int64(one[lane]) - bottom + (offset if forward else count - offset)) % count + bottom
            one[lane] = np.uint8(moved)
            other[lane] = np.uint8(total - moved)
