"""Encoding of entropy-coded segments in two steps, in numba: coefficients to tokens, tokens to bits.

A token is a symbol with the bits that follow it. Tokens of a scan are counted for its best Huffman table, made again, and
written. Choices that the standard leaves to an encoder (when an end-of-band run is written) are those of libjpeg, so that
most files come out as they were.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from secureimg.publishing.jpeg.huffman import AC_FIRST, DC_FIRST, DC_REFINE, SEQUENTIAL

__all__ = ["BE_LIMIT", "STATE_WORDS", "TOKENS_A_BLOCK", "count", "emit", "tokenise"]

# A token, from the low end: 15 bits, how many of them (4), symbol (8), table (3), kind (2).
_SYMBOL: Final = 0
_BITS: Final = 1
_RESTART: Final = 2

TOKENS_A_BLOCK: Final = 72
"""Most tokens that a block can end with, but for what a full buffer of correction bits adds."""

STATE_WORDS: Final = 9
"""End-of-band run, correction bits waiting, number of the next restart marker, last DC of four members; see `emit`."""

BE_LIMIT: Final = 1000
"""Correction bits that libjpeg holds back; so do we."""

_LONGEST_RUN: Final = 0x7FFF


@numba.njit(cache=True, nogil=True)
def _size(value: Any) -> Any:
    bits = 0
    while value > 0:
        bits += 1
        value >>= 1
    return bits


@numba.njit(cache=True, nogil=True)
def _token(kind: int, table: Any, symbol: Any, size: Any, bits: Any) -> Any:
    return np.uint32((kind << 30) | (table << 27) | (symbol << 19) | (size << 15) | (bits & ((1 << size) - 1)))


@numba.njit(cache=True, nogil=True)
def _raw(bits: Any, amount: int, out: Any, n: int) -> Any:
    """Tokens of single bits, up to 15 in one."""
    place = 0
    while place < amount:
        size, value = min(15, amount - place), np.int64(0)
        for k in range(size):
            value = (value << 1) | np.int64(bits[place + k])
        out[n] = _token(_BITS, 0, 0, size, value)
        n += 1
        place += size
    return n


@numba.njit(cache=True, nogil=True)
def _end_of_band(table: int, state: Any, waiting: Any, out: Any, n: int) -> Any:
    """Write the run of blocks that are at their end, and the correction bits that belong to them."""
    if state[0] > 0:
        size = _size(state[0]) - 1
        out[n] = _token(_SYMBOL, table, size << 4, size, state[0])
        n += 1
        state[0] = 0
        n = _raw(waiting, state[1], out, n)
        state[1] = 0
    return n


@numba.njit(cache=True, nogil=True)
def _dc(value: Any, table: int, state: Any, member: int, out: Any, n: int) -> Any:
    difference = value - state[3 + member]
    state[3 + member] = value
    size = _size(abs(difference))
    out[n] = _token(_SYMBOL, table, size, size, difference if difference >= 0 else difference - 1)
    return n + 1


@numba.njit(cache=True, nogil=True)
def _ac(row: Any, table: int, first: int, last: int, low: int, state: Any, waiting: Any, out: Any, n: int) -> Any:
    """First pass over a band; the caller writes what the end of a block means."""
    run = 0
    for k in range(first, last + 1):
        value = np.int64(row[k])
        magnitude = abs(value) >> low
        if magnitude == 0:
            run += 1
            continue
        n = _end_of_band(table, state, waiting, out, n)
        while run > 15:
            out[n] = _token(_SYMBOL, table, 0xF0, 0, 0)
            n += 1
            run -= 16
        size = _size(magnitude)
        out[n] = _token(_SYMBOL, table, (run << 4) | size, size, magnitude if value > 0 else ~magnitude)
        n += 1
        run = 0
    return n, run


@numba.njit(cache=True, nogil=True)
def _ac_refine(
    row: Any, table: int, first: int, last: int, low: int, state: Any, waiting: Any, here: Any, out: Any, n: int
) -> Any:
    """Later pass over a band (T.81, G.1.2.3), with libjpeg's choice of when to write a run."""
    end, run, held = 0, 0, 0
    for k in range(first, last + 1):
        if abs(np.int64(row[k])) >> low == 1:
            end = k
    for k in range(first, last + 1):
        value = np.int64(row[k])
        magnitude = abs(value) >> low
        if magnitude == 0:
            run += 1
            continue
        while run > 15 and k <= end:
            n = _end_of_band(table, state, waiting, out, n)
            out[n] = _token(_SYMBOL, table, 0xF0, 0, 0)
            n = _raw(here, held, out, n + 1)
            run, held = run - 16, 0
        if magnitude > 1:
            here[held] = magnitude & 1
            held += 1
            continue
        n = _end_of_band(table, state, waiting, out, n)
        out[n] = _token(_SYMBOL, table, (run << 4) | 1, 1, 1 if value > 0 else 0)
        n = _raw(here, held, out, n + 1)
        run, held = 0, 0
    if run > 0 or held > 0:
        state[0] += 1
        waiting[state[1] : state[1] + held] = here[:held]
        state[1] += held
        if state[0] == _LONGEST_RUN or state[1] > BE_LIMIT - 63:
            n = _end_of_band(table, state, waiting, out, n)
    return n


@numba.njit(cache=True, nogil=True)
def tokenise(
    blocks: Any, layout: Any, mcus: Any, kind: int, first: int, last: int, low: int, restart: int, start: int, stop: int,
    state: Any, waiting: Any, out: Any,
) -> Any:  # fmt: skip
    """Write the tokens of MCUs `start` to `stop` into `out` and return their number; `layout` as in `decode_scan`."""
    n, here, table = 0, np.zeros(64, np.uint8), layout[0, 5]
    for mcu in range(start, stop):
        if restart > 0 and mcu > 0 and mcu % restart == 0:
            n = _end_of_band(table, state, waiting, out, n)
            out[n] = _token(_RESTART, 0, 0, 3, state[2])
            n += 1
            state[2] = (state[2] + 1) & 7
            state[3:7] = 0
        column, line = mcu % mcus[0], mcu // mcus[0]
        for member in range(layout.shape[0]):
            across, down = layout[member, 2], layout[member, 3]
            for y in range(down):
                for x in range(across):
                    row = blocks[layout[member, 0] + (line * down + y) * layout[member, 1] + column * across + x]
                    if kind == SEQUENTIAL:
                        n = _dc(np.int64(row[0]), layout[member, 4], state, member, out, n)
                        n, run = _ac(row, layout[member, 5], 1, 63, 0, state, waiting, out, n)
                        if run > 0:
                            out[n] = _token(_SYMBOL, layout[member, 5], 0, 0, 0)
                            n += 1
                    elif kind == DC_FIRST:
                        n = _dc(np.int64(row[0]) >> low, layout[member, 4], state, member, out, n)
                    elif kind == DC_REFINE:
                        out[n] = _token(_BITS, 0, 0, 1, np.int64(row[0]) >> low)
                        n += 1
                    elif kind == AC_FIRST:
                        n, run = _ac(row, table, first, last, low, state, waiting, out, n)
                        if run > 0:
                            state[0] += 1
                            if state[0] == _LONGEST_RUN:
                                n = _end_of_band(table, state, waiting, out, n)
                    else:
                        n = _ac_refine(row, table, first, last, low, state, waiting, here, out, n)
    if stop == mcus[0] * mcus[1]:
        n = _end_of_band(table, state, waiting, out, n)
    return n


@numba.njit(cache=True, nogil=True)
def count(tokens: Any, amount: int, counts: Any) -> None:
    """Add up how often each table's symbols occur, (8, 256)."""
    for k in range(amount):
        token = np.int64(tokens[k])
        if token >> 30 == _SYMBOL:
            counts[(token >> 27) & 7, (token >> 19) & 255] += 1


@numba.njit(cache=True, nogil=True)
def _byte(value: Any, out: Any, filled: int) -> Any:
    out[filled] = value
    if value == 0xFF:
        out[filled + 1] = 0
        return filled + 2
    return filled + 1


@numba.njit(cache=True, nogil=True)
def emit(tokens: Any, amount: int, codes: Any, lengths: Any, state: Any, padding: int, final: bool, out: Any) -> Any:
    """Write tokens as bits with stuffing; return the number of bytes, or -1 if a symbol has no code.

    `state` has the bits that did not yet fill a byte in its last two words. `padding`, 0 or 1, fills the last byte before
    a marker.
    """
    word, held, filled = np.uint64(state[7]), state[8], 0
    for k in range(amount + (1 if final else 0)):
        token = np.int64(tokens[k]) if k < amount else np.int64(_RESTART) << 30
        kind, size = token >> 30, (token >> 15) & 15
        if kind == _RESTART:
            if held > 0:
                word <<= np.uint64(8 - held)
                if padding:
                    word |= np.uint64((1 << (8 - held)) - 1)
                filled = _byte(np.int64(word & np.uint64(0xFF)), out, filled)
            word, held = np.uint64(0), 0
            if k < amount:
                out[filled], out[filled + 1] = 0xFF, 0xD0 + (token & 7)
                filled += 2
            continue
        if kind == _SYMBOL:
            table, symbol = (token >> 27) & 7, (token >> 19) & 255
            if lengths[table, symbol] == 0:
                return -1
            word = (word << np.uint64(lengths[table, symbol])) | np.uint64(codes[table, symbol])
            held += np.int64(lengths[table, symbol])
        word = (word << np.uint64(size)) | np.uint64(token & 0x7FFF)
        held += size
        while held >= 8:
            held -= 8
            filled = _byte(np.int64((word >> np.uint64(held)) & np.uint64(0xFF)), out, filled)
    state[7], state[8] = np.int64(word & np.uint64(0xFF)), held
    return filled
