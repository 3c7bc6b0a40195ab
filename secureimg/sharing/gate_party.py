"""A party's side of a gate: three rounds over a whole tensor, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing import kernels
from secureimg.sharing.gate import Corrections, Gate, draw, gate_streams, table_kind
from secureimg.sharing.ring import Words, byte_width, pack, unpack
from secureimg.sharing.seat import Round, Seat
from secureimg.sharing.streams import Stream

__all__ = ["run_gate"]

Bytes = NDArray[np.uint8]

_NOTHING = np.empty(0, dtype=np.uint64)


def run_gate(
    seat: Seat,
    gate: Gate,
    step: str,
    seed: bytes,
    corrections: Bytes,
    values: Words,
    out: Words,
    whole: Words | None = None,
) -> None:
    """Play one party of a gate.

    Parameters
    ----------
    seat : Seat
    gate : Gate
    step : str
        As the dealer had it.
    seed : bytes
        This party's.
    corrections : ndarray of uint8
        Party 1's from the dealer; empty for party 0.
    values : ndarray of uint64, shape (count,)
        Shares of x; only the lowest ``drop + bits`` bits count.
    out : ndarray of uint64, shape (count,)
        Receives shares of ``max(x, 0)`` modulo ``2^width``; of 1 for x >= 0 and 0 else, if the gate gives a bit.
    whole : ndarray of uint64, shape (count,), or None
        Receives shares of x, if the gate gives both.

    Cost: 3 rounds of `Gate.rounds` bytes.
    """
    player = _Player(seat, gate, step, seed, corrections)
    seat.settle()
    opening = player.mask(values)
    six = player.compare(opening)
    signs = player.resolve(six)
    if gate.bit:
        player.tell(signs, out)
    else:
        player.select(signs, out, whole)


class _Player:
    """One party in one gate. `opened` becomes c, `top` and `chosen` are a byte for each value."""

    def __init__(self, seat: Seat, gate: Gate, step: str, seed: bytes, corrections: Bytes) -> None:
        self._seat, self._gate, self._step, self._seed = seat, gate, step, seed
        self._corrections = corrections
        self._party = seat.party
        self._streams = gate_streams(seed, step, seat.party)
        self._opened: Words = seat.scratch("opened", gate.padded)
        self._top: Bytes = seat.scratch("top", gate.padded, np.uint8)
        self._chosen: Bytes = seat.scratch("chosen", gate.padded, np.uint8)

    def mask(self, values: Words) -> Round:
        """Round 1: this party's share of ``c = (x >> drop) + offset + r``."""
        gate, seat = self._gate, self._seat
        size = byte_width(gate.bits)
        # one more unit, so that what both parties cut off below the point rounds the sum to one of the two nearest
        offset = ((1 << gate.sign) + (1 if gate.drop else 0)) * (1 - self._party)
        opening = seat.round("open", gate.padded, size)
        for start, length, padded in gate.chunks():
            chunk = values[start : start + length]
            if padded != length:
                chunk = seat.scratch("chunk", padded)
                chunk[:length], chunk[length:] = values[start : start + length], 0
            masks = draw(self._streams["masks"], seat.scratch("masks", padded))
            here = self._opened[start : start + padded]
            kernels.mask(chunk, gate.drop, offset, masks, gate.bits, here)
            end = (start + padded) * size
            pack(here, size, opening.out[start * size : end])
            opening.wrote(end)
        return opening

    def compare(self, opening: Round) -> Round:
        """Round 2: c is known; six masked bits of the comparison of its digits with those of r."""
        gate, seat = self._gate, self._seat
        size = byte_width(gate.bits)
        six = seat.round("six", gate.padded, 1)
        for start, part, padded in Corrections.each(gate, self._corrections):
            spot, end = slice(start, start + padded), (start + padded) * size
            here, theirs = self._opened[spot], seat.scratch("theirs", padded)
            opening.need(end)
            unpack(opening.back[start * size : end], size, theirs)
            np.add(here, theirs, out=here)
            np.bitwise_and(here, np.uint64((1 << gate.bits) - 1), out=here)
            if part is not None:
                tables = part.tables
            else:
                memory = seat.scratch("tables", 4 * padded, table_kind(gate))
                tables = draw(self._streams["tables"], memory).reshape(4, padded)
            bits = draw(self._streams["bits"], seat.scratch("bits", padded, np.uint8))
            kernels.digits(
                here, tables, bits, gate.up, gate.low, gate.digit, self._party, six.out[spot], self._top[spot]
            )
            six.wrote(start + padded)
        return six

    def resolve(self, six: Round) -> Round:
        """Round 3: the borrow, and with it a share of the sign, masked by beta."""
        gate, seat = self._gate, self._seat
        signs = seat.round("signs", gate.padded // 8, 1)
        bit_stream = Stream(self._seed, "gate", self._step, "bits")
        for start, part, padded in Corrections.each(gate, self._corrections):
            spot = slice(start, start + padded)
            six.need(start + padded)
            known = six.back[spot]
            np.bitwise_xor(known, six.out[spot], out=known)
            if part is not None:
                products = part.products
            else:
                products = draw(self._streams["products"], seat.scratch("products", padded, np.uint16))
            bits = draw(bit_stream, seat.scratch("bits", padded, np.uint8))
            chosen = self._chosen[spot]
            kernels.resolve(known, products, bits, self._top[spot], self._opened[spot], gate.sign, self._party, chosen)
            signs.out[start // 8 : (start + padded) // 8] = np.packbits(chosen, bitorder="little")
            signs.wrote((start + padded) // 8)
        return signs

    def select(self, signs: Round, out: Words, whole: Words | None) -> None:
        """The sign bit is known up to beta: put the result together, without talking."""
        gate, seat = self._gate, self._seat
        mask_stream = Stream(self._seed, "gate", self._step, "masks")
        for start, length, part, padded in self._opened_signs(signs):
            spot = slice(start, start + padded)
            masks = draw(mask_stream, seat.scratch("masks", padded))
            shares = self._shares(part, masks, padded)
            exact = padded == length
            target = out[start : start + length] if exact else seat.scratch("target", padded)
            other = _NOTHING
            if whole is not None:
                other = whole[start : start + length] if exact else seat.scratch("whole", padded)
            kernels.select(
                self._opened[spot], self._chosen[spot], 1 << gate.sign, gate.bits, gate.extend, self._party, masks,
                *shares, target, other,
            )  # fmt: skip
            if not exact:
                out[start : start + length] = target[:length]
                if whole is not None:
                    whole[start : start + length] = other[:length]

    def tell(self, signs: Round, out: Words) -> None:
        """The sign bit is known up to beta: turn it into a number, without talking."""
        for start, length, part, padded in self._opened_signs(signs):
            betas = self._seat.scratch("betas", padded)
            if part is None:
                draw(self._streams["betas"], betas)
            else:
                unpack(part.betas, byte_width(self._gate.width), betas)
            kernels.tell(self._chosen[start : start + length], betas, self._party, out[start : start + length])

    def _opened_signs(self, signs: Round) -> Iterator[tuple[int, int, Corrections | None, int]]:
        """Yield start, number of values, corrections and padded size of each chunk, once its signs are known up to beta."""
        sizes = {start: length for start, length, _ in self._gate.chunks()}
        for start, part, padded in Corrections.each(self._gate, self._corrections):
            signs.need((start + padded) // 8)
            theirs = np.unpackbits(signs.back[start // 8 : (start + padded) // 8], bitorder="little")
            here = self._chosen[start : start + padded]
            np.bitwise_xor(here, theirs, out=here)
            yield start, sizes[start], part, padded

    def _shares(self, part: Corrections | None, masks: Words, padded: int) -> tuple[Words, Words, Words, Words]:
        """Shares of r's top bit, of beta times it, of beta and of beta r; party 1's masks get their upper bits."""
        gate, seat = self._gate, self._seat
        names = ("tops", "beta tops", "betas", "beta masks") if gate.extend else ("betas", "beta masks")
        shares = {name: seat.scratch(name, padded) for name in names}
        if part is None:
            for name, memory in shares.items():
                draw(self._streams[name], memory)
        else:
            top = byte_width(gate.width - gate.bits)
            unpack(part.betas, byte_width(gate.width), shares["betas"])
            unpack(part.beta_masks, byte_width(gate.width), shares["beta masks"])
            np.bitwise_and(masks, np.uint64((1 << gate.bits) - 1), out=masks)
            if gate.extend:
                unpack(part.tops, top, shares["tops"])
                unpack(part.beta_tops, top, shares["beta tops"])
                upper = seat.scratch("upper", padded)
                unpack(part.upper, top, upper)
                np.left_shift(upper, np.uint64(gate.bits), out=upper)
                np.add(masks, upper, out=masks)
        return shares.get("tops", _NOTHING), shares.get("beta tops", _NOTHING), shares["betas"], shares["beta masks"]
