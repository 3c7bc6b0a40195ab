"""Decoding of entropy-coded segments (T.81, F.2 and G.2), in numba.

A scan's bytes are first freed of stuffing and cut at its restart markers. Bits are then read by position: 64 at a time,
which holds any code with its value. Reads may go past the end of a segment by one block, into room that is kept for it;
each block's end is checked before the next.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

__all__ = [
    "AC_FIRST",
    "AC_REFINE",
    "DC_FIRST",
    "DC_REFINE",
    "FAULTS",
    "ROOM",
    "SEQUENTIAL",
    "decode_scan",
    "unstuff",
]

SEQUENTIAL: Final = 0
DC_FIRST: Final = 1
DC_REFINE: Final = 2
AC_FIRST: Final = 3
AC_REFINE: Final = 4

ROOM: Final = 512
"""Zero bytes that must follow the data: more than one block can take."""

FAULTS: Final = {
    1: "bits that are no code of the Huffman table",
    2: "a coefficient larger than 8-bit pictures have",
    3: "a run of zeros past the end of a block",
    4: "its data end too early",
    5: "bytes are left over after its last block",
    6: "a symbol that has no meaning in this kind of scan",
    7: "an end-of-band run that goes on after the last block",
}

_LARGEST_DC: Final = 2047
_DC_BITS: Final = 11
_AC_BITS: Final = 10


@numba.njit(cache=True, nogil=True)
def unstuff(data: Any, start: int, out: Any, stops: Any) -> Any:
    """Copy a scan's bytes without stuffing; `stops` gets where each restart interval ends in `out`.

    Returns (position of the marker that ends the scan or -1, number of intervals or -1 if `stops` is full, or -2 if a
    restart marker is out of order).
    """
    size, filled, intervals, place = data.size, 0, 0, start
    while place < size:
        byte = data[place]
        if byte != 0xFF:
            out[filled] = byte
            filled += 1
            place += 1
            continue
        if place + 1 >= size:
            return -1, intervals
        following = data[place + 1]
        if following == 0:
            out[filled] = 0xFF
            filled += 1
            place += 2
        elif following == 0xFF:
            place += 1  # a fill byte
        elif 0xD0 <= following <= 0xD7:
            if intervals + 1 >= stops.size:
                return place, -1
            if following != 0xD0 + (intervals & 7):
                return place, -2
            stops[intervals] = filled
            intervals += 1
            place += 2
        else:
            stops[intervals] = filled
            return place, intervals + 1
    return -1, intervals


@numba.njit(cache=True, nogil=True)
def _window(data: Any, bit: int) -> Any:
    """The next bits, at least 57 of them, from the top of a word."""
    place = bit >> 3
    word = np.uint64(data[place])
    for k in range(1, 8):
        word = (word << np.uint64(8)) | np.uint64(data[place + k])
    return word << np.uint64(bit & 7)


@numba.njit(cache=True, nogil=True)
def _entry(word: Any, fast: Any, full: Any) -> Any:
    found = np.int64(fast[word >> np.uint64(54)])
    if found == 0:
        found = np.int64(full[word >> np.uint64(48)])
    return found


@numba.njit(cache=True, nogil=True)
def _value(word: Any, skip: int, size: int) -> Any:
    """The signed value of `size` bits, at least 1, after `skip` (T.81, F.2.2.1, EXTEND)."""
    value = np.int64((word << np.uint64(skip)) >> np.uint64(64 - size))
    if value < (1 << (size - 1)):
        value -= (1 << size) - 1
    return value


@numba.njit(cache=True, nogil=True)
def _dc(data: Any, bit: int, fast: Any, full: Any, last: Any, member: int, low: int) -> Any:
    word = _window(data, bit)
    entry = _entry(word, fast, full)
    if entry == 0:
        return -(bit * 8 + 1)
    length, size = entry >> 8, entry & 255
    if size > _DC_BITS:
        return -(bit * 8 + 2)
    if size > 0:
        last[member] += _value(word, length, size)
        if abs(last[member]) << low > _LARGEST_DC:
            return -(bit * 8 + 2)
    return bit + length + size


@numba.njit(cache=True, nogil=True)
def _ac_sequential(data: Any, bit: int, fast: Any, full: Any, row: Any) -> Any:
    k = 1
    while k < 64:
        word = _window(data, bit)
        entry = _entry(word, fast, full)
        if entry == 0:
            return -(bit * 8 + 1)
        length, run, size = entry >> 8, (entry >> 4) & 15, entry & 15
        if size == 0:
            if run == 0:
                return bit + length
            if run != 15:
                return -(bit * 8 + 6)
            k += 16
            if k > 63:
                return -(bit * 8 + 3)
            bit += length
            continue
        k += run
        if k > 63:
            return -(bit * 8 + 3)
        if size > _AC_BITS:
            return -(bit * 8 + 2)
        row[k] = _value(word, length, size)
        bit += length + size
        k += 1
    return bit


@numba.njit(cache=True, nogil=True)
def _ac_first(data: Any, bit: int, fast: Any, full: Any, row: Any, first: int, last: int, low: int, state: Any) -> Any:
    if state[0] > 0:
        state[0] -= 1
        return bit
    k = first
    while k <= last:
        word = _window(data, bit)
        entry = _entry(word, fast, full)
        if entry == 0:
            return -(bit * 8 + 1)
        length, run, size = entry >> 8, (entry >> 4) & 15, entry & 15
        if size == 0 and run < 15:
            state[0] = (1 << run) - 1
            if run > 0:
                state[0] += np.int64((word << np.uint64(length)) >> np.uint64(64 - run))
            return bit + length + run
        k += run
        if k > last or (size == 0 and k == last):
            return -(bit * 8 + 3)
        if size + low > _AC_BITS:
            return -(bit * 8 + 2)
        if size > 0:
            row[k] = _value(word, length, size) << low
        bit += length + size
        k += 1
    return bit


@numba.njit(cache=True, nogil=True)
def _bit(data: Any, bit: int) -> Any:
    return (np.int64(data[bit >> 3]) >> (7 - (bit & 7))) & 1


@numba.njit(cache=True, nogil=True)
def _corrected(data: Any, bit: int, row: Any, k: int, low: int) -> None:
    """One more bit of a coefficient that is not 0."""
    if _bit(data, bit):
        row[k] += (1 << low) if row[k] > 0 else -(1 << low)


@numba.njit(cache=True, nogil=True)
def _ac_refine(data: Any, bit: int, fast: Any, full: Any, row: Any, first: int, last: int, low: int, state: Any) -> Any:
    k = first
    while state[0] == 0 and k <= last:
        word = _window(data, bit)
        entry = _entry(word, fast, full)
        if entry == 0:
            return -(bit * 8 + 1)
        begin, length, run, size = bit, entry >> 8, (entry >> 4) & 15, entry & 15
        bit += length
        if size > 1:
            return -(begin * 8 + 6)
        if size == 0 and run < 15:
            state[0] = 1 << run
            if run > 0:
                state[0] += np.int64((word << np.uint64(length)) >> np.uint64(64 - run))
            bit += run
            break
        value = 0
        if size == 1:
            value = (1 << low) if _bit(data, bit) else -(1 << low)
            bit += 1
        while k <= last:
            if row[k] != 0:
                _corrected(data, bit, row, k, low)
                bit += 1
            elif run == 0:
                break
            else:
                run -= 1
            k += 1
        if k > last:
            return -(begin * 8 + 3)
        row[k] = value
        k += 1
    if state[0] > 0:
        while k <= last:
            if row[k] != 0:
                _corrected(data, bit, row, k, low)
                bit += 1
            k += 1
        state[0] -= 1
    return bit


@numba.njit(cache=True, nogil=True)
def decode_scan(
    data: Any, stops: Any, blocks: Any, layout: Any, mcus: Any, fast: Any, full: Any, kind: int, first: int, last: int,
    low: int, restart: int,
) -> Any:  # fmt: skip
    """Decode one scan into `blocks`; return 0, or minus (8 times the bit in `data`, plus a key of `FAULTS`).

    `layout` has a row for each component of the scan: first block, blocks in a row, blocks of an MCU across and down,
    DC table, AC table (row of `fast` and `full`). `mcus` are across and down.
    """
    state, previous = np.zeros(1, np.int64), np.zeros(layout.shape[0], np.int64)
    bit, end, interval = 0, 8 * stops[0], 0
    for mcu in range(mcus[0] * mcus[1]):
        if restart > 0 and mcu > 0 and mcu % restart == 0:
            if state[0] > 0:
                return -(bit * 8 + 7)
            if end - bit >= 8:
                return -(bit * 8 + 5)
            bit, interval = end, interval + 1
            end = 8 * stops[interval]
            previous[:] = 0
        column, line = mcu % mcus[0], mcu // mcus[0]
        for member in range(layout.shape[0]):
            across, down = layout[member, 2], layout[member, 3]
            dc, ac = layout[member, 4], layout[member, 5]
            for y in range(down):
                for x in range(across):
                    row = blocks[layout[member, 0] + (line * down + y) * layout[member, 1] + column * across + x]
                    if kind == SEQUENTIAL:
                        bit = _dc(data, bit, fast[dc], full[dc], previous, member, 0)
                        if bit >= 0:
                            row[0] = previous[member]
                            bit = _ac_sequential(data, bit, fast[ac], full[ac], row)
                    elif kind == DC_FIRST:
                        bit = _dc(data, bit, fast[dc], full[dc], previous, member, low)
                        row[0] = previous[member] << low
                    elif kind == DC_REFINE:
                        row[0] |= _bit(data, bit) << low
                        bit += 1
                    elif kind == AC_FIRST:
                        bit = _ac_first(data, bit, fast[ac], full[ac], row, first, last, low, state)
                    else:
                        bit = _ac_refine(data, bit, fast[ac], full[ac], row, first, last, low, state)
                    if bit < 0:
                        return bit
                    if bit > end:
                        return -(end * 8 + 4)
    if state[0] > 0:
        return -(bit * 8 + 7)
    if end - bit >= 8:
        return -(bit * 8 + 5)
    return 0
