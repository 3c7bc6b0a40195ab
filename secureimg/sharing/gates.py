"""The gate: sign, truncation, ring extension and selection of a whole tensor in three rounds.

For shares of x it gives shares of ``max(x, 0)`` (and of x itself, if asked), with the lowest `drop` bits gone. After the
drop it needs |x| below ``2^sign - 2^low``, where `sign` is ``bits - 2`` if the result is to be extended to a wider ring and
``bits - 1`` if not; `low` is 0 or at most ``sign - 12``.

Round 1 opens ``c = x + offset + r`` (`bits` bits a value), round 2 six masked bits of the comparison, round 3 one masked
sign bit. The dealer gives party 1, for each value: thermometer codes of r's digits, products of masks, and shares of
beta, beta r and of r's top bit; party 0 has all of its part from a seed.

Exactness: a dropped fraction costs less than one unit in the last place. The sign is exact except for |x| below
``2^low`` units, where `low` is what the window of four digits leaves out; there the result is x or 0. (Just below
``2^sign`` the window cannot tell either: hence the bound above.)
Source: comparison with a public value after a masked opening (Damgard et al., TCC 2006, section 6), with the borrow as
one table lookup a digit; the extension by the top bit of r follows Escudero et al., CRYPTO 2020, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import CompileError
from secureimg.sharing import kernels
from secureimg.sharing.channel import Channel
from secureimg.sharing.ring import Words, byte_width, pack, unpack
from secureimg.sharing.streams import Stream

__all__ = ["CHUNK", "DIGIT_BITS", "Gate", "Seat", "deal_gate", "dealing_seat", "run_gate"]

CHUNK: Final = 8192
"""Values that are worked on at a time: their buffers fit the cache."""

_LANES: Final = 64
_TABLE_KINDS: Final = {3: np.uint8, 4: np.uint16, 5: np.uint32, 6: np.uint64}
DIGIT_BITS: Final = tuple(_TABLE_KINDS)
"""Bits that one digit of the window may have; the window has four."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Gate:
    """The public shape of one gate.

    Attributes
    ----------
    count : int
        Values.
    drop : int
        Fractional bits to drop first.
    bits : int
        Ring of the opening: c is taken modulo ``2^bits``.
    digit : int
        Bits of each of the four digits of the comparison's window.
    width : int
        Bits of the result's ring; above `bits` the result is extended, which needs one more bit of headroom.
    both : bool
        Whether x itself is wanted too.
    """

    count: int
    drop: int
    bits: int
    digit: int
    width: int
    both: bool = False

    def __post_init__(self) -> None:
        if self.digit not in DIGIT_BITS or not 4 <= self.bits <= 62 or not self.bits <= self.width <= 64:
            raise CompileError(
                f"a gate of {self.bits} bits, digits of {self.digit}, result of {self.width} is impossible"
            )

    @property
    def extend(self) -> bool:
        """Whether the result's ring is wider than the opening's."""
        return self.width > self.bits

    @property
    def sign(self) -> int:
        """Number of the bit of c - r that is the sign."""
        return self.bits - 2 if self.extend else self.bits - 1

    @property
    def low(self) -> int:
        """The sign is exact for |x| of at least ``2^low`` units (and less than ``2^sign - 2^low``)."""
        return max(0, self.sign - 4 * self.digit)

    @property
    def up(self) -> int:
        """How far c is moved up so that its window starts at bit 0."""
        return max(0, 4 * self.digit - self.sign)

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """Yield start, number of values and padded number of values of each chunk."""
        for start in range(0, self.count, CHUNK):
            size = min(CHUNK, self.count - start)
            yield start, size, -(-size // _LANES) * _LANES

    @property
    def padded(self) -> int:
        """Number of values, rounded up as they travel."""
        return -(-self.count // _LANES) * _LANES

    def correction_bytes(self, padded: int) -> int:
        """Bytes that party 1 gets from the dealer for as many values."""
        size = 4 * np.dtype(_TABLE_KINDS[self.digit]).itemsize + 2 + 2 * byte_width(self.width)
        if self.extend:
            size += 3 * byte_width(self.width - self.bits)
        return size * padded

    @property
    def rounds(self) -> tuple[int, ...]:
        """Bytes that each party sends in each round."""
        return self.padded * byte_width(self.bits), self.padded, self.padded // 8


class Seat:
    """What a party has at hand while it runs: who it is, its seed, its link, its scratch memory.

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
        self._turn = 0

    def scratch(self, name: str, count: int, dtype: Any = np.uint64) -> NDArray[Any]:
        """Return reused memory for `count` items; whoever asks for the same name again gets the same memory."""
        held = self._scratch.get(name)
        if held is None or held.size < count or held.dtype != dtype:
            held = self._scratch[name] = np.empty(max(count, CHUNK), dtype=dtype)
        return held[:count]

    def outgoing(self, size: int) -> Bytes:
        """Return memory for a message. There are two, in turns; a turn waits until its last message has left."""
        self._turn ^= 1
        self.channel.flush()
        return self.scratch(f"outgoing {self._turn}", size, np.uint8)

    def exchange(self, message: Bytes, name: str) -> Bytes:
        """Send a message and receive one of equal size, at the same time."""
        answer: Bytes = self.scratch(name, message.size, np.uint8)
        self.channel.send(message)
        self.channel.receive(answer)
        self.rounds += 1
        return answer


def _draw(stream: Stream, memory: NDArray[Any]) -> NDArray[Any]:
    stream.fill(memory)
    return memory


class _Corrections:
    """Party 1's corrections of one chunk, taken apart."""

    def __init__(self, gate: Gate, data: Bytes, padded: int) -> None:
        kind = _TABLE_KINDS[gate.digit]
        size = np.dtype(kind).itemsize * padded
        self._data, self._padded, self._place = data, padded, 0
        self.tables = self._take(4 * size).view(kind).reshape(4, padded)
        self.products = self._take(2 * padded).view(np.uint16)
        self.betas = self._take(byte_width(gate.width) * padded)
        self.beta_masks = self._take(byte_width(gate.width) * padded)
        if gate.extend:
            top = byte_width(gate.width - gate.bits)
            self.upper = self._take(top * padded)
            self.tops = self._take(top * padded)
            self.beta_tops = self._take(top * padded)

    def _take(self, size: int) -> Bytes:
        part = self._data[self._place : self._place + size]
        self._place += size
        return part


def deal_gate(gate: Gate, step: str, seeds: tuple[bytes, bytes], memory: Seat) -> Iterator[Bytes]:
    """Yield party 1's corrections, a chunk at a time; each is valid until the next.

    Parameters
    ----------
    gate : Gate
    step : str
        Place of the gate in its program: separates its streams from all others.
    seeds : (bytes, bytes)
        Of party 0 and party 1, fresh for every use.
    memory : Seat
        From `dealing_seat`.
    """
    zero, one = _streams(seeds[0], step, 0), _streams(seeds[1], step, 1)
    kind = _TABLE_KINDS[gate.digit]
    size, top = byte_width(gate.width), byte_width(gate.width - gate.bits)

    def held(name: str, count: int, dtype: Any = np.uint64) -> NDArray[Any]:
        return memory.scratch(f"deal {name}", count, dtype)

    for _, _, padded in gate.chunks():
        masks0, masks1 = _draw(zero["masks"], held("m0", padded)), _draw(one["masks"], held("m1", padded))
        tables = _draw(zero["tables"], held("t0", 4 * padded, kind)).reshape(4, padded)
        bits0 = _draw(zero["bits"], held("b0", padded, np.uint8))
        bits1 = _draw(one["bits"], held("b1", padded, np.uint8))
        products = _draw(zero["products"], held("p0", padded, np.uint16))
        betas, beta_masks = _draw(zero["betas"], held("beta", padded)), _draw(zero["beta masks"], held("bm", padded))
        if gate.extend:
            tops, beta_tops = _draw(zero["tops"], held("top", padded)), _draw(zero["beta tops"], held("bt", padded))
        else:
            tops = beta_tops = held("top", padded)
        upper = held("upper", padded)
        data = held("out", gate.correction_bytes(padded), np.uint8)
        parts = _Corrections(gate, data, padded)
        kernels.deal(
            masks0, masks1, tables, bits0, bits1, products, gate.bits, gate.sign, gate.up, gate.low, gate.digit,
            gate.extend, parts.tables, parts.products, upper, tops, beta_tops, betas, beta_masks,
        )  # fmt: skip
        pack(betas, size, parts.betas)
        pack(beta_masks, size, parts.beta_masks)
        if gate.extend:
            pack(upper, top, parts.upper)
            pack(tops, top, parts.tops)
            pack(beta_tops, top, parts.beta_tops)
        yield data


def _streams(seed: bytes, step: str, party: int) -> dict[str, Stream]:
    names = ["masks", "bits"]
    if party == 0:
        names += ["tables", "products", "tops", "beta tops", "betas", "beta masks"]
    return {name: Stream(seed, "gate", step, name) for name in names}


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
        Receives shares of ``max(x, 0)`` modulo ``2^width``.
    whole : ndarray of uint64, shape (count,), or None
        Receives shares of x, if the gate gives both.

    Cost: 3 rounds of `Gate.rounds` bytes.
    """
    party, streams = seat.party, _streams(seed, step, seat.party)
    count, size = gate.padded, byte_width(gate.bits)
    offset = 1 << gate.sign
    # one more unit, so that what both parties cut off below the point rounds the sum to one of the two nearest
    extra = (1 if gate.drop else 0) if party == 0 else 0

    message = seat.outgoing(count * size)
    opened = seat.scratch("opened", count)
    for start, length, padded in gate.chunks():
        chunk = values[start : start + length]
        if padded != length:
            chunk = seat.scratch("chunk", padded)
            chunk[:length], chunk[length:] = values[start : start + length], 0
        masks = _draw(streams["masks"], seat.scratch("masks", padded))
        here = opened[start : start + padded]
        kernels.mask(chunk, gate.drop, (offset + extra) * (1 - party), masks, gate.bits, here)
        pack(here, size, message[start * size : (start + padded) * size])
    answer = seat.exchange(message, "answer")

    message = seat.outgoing(count)
    tops = seat.scratch("top", count, np.uint8)
    for start, part, padded in _parts(gate, corrections):
        here = opened[start : start + padded]
        theirs = seat.scratch("theirs", padded)
        unpack(answer[start * size : (start + padded) * size], size, theirs)
        np.add(here, theirs, out=here)
        np.bitwise_and(here, np.uint64((1 << gate.bits) - 1), out=here)
        tables = part.tables if part else _tables(seat, gate, streams["tables"], padded)
        bits = _draw(streams["bits"], seat.scratch("bits", padded, np.uint8))
        spot = slice(start, start + padded)
        kernels.digits(here, tables, bits, gate.up, gate.low, gate.digit, party, message[spot], tops[spot])
    answer = seat.exchange(message, "answer")

    packed = seat.outgoing(count // 8)
    chosen = seat.scratch("chosen", count, np.uint8)
    streams["bits"] = Stream(seed, "gate", step, "bits")
    for start, part, padded in _parts(gate, corrections):
        spot = slice(start, start + padded)
        six = answer[spot]
        np.bitwise_xor(six, message[spot], out=six)
        products = part.products if part else _draw(streams["products"], seat.scratch("products", padded, np.uint16))
        bits = _draw(streams["bits"], seat.scratch("bits", padded, np.uint8))
        kernels.resolve(six, products, bits, tops[spot], opened[spot], gate.sign, party, chosen[spot])
        packed[start // 8 : (start + padded) // 8] = np.packbits(chosen[spot], bitorder="little")
    answer = seat.exchange(packed, "answer")

    streams["masks"] = Stream(seed, "gate", step, "masks")
    nothing = np.empty(0, dtype=np.uint64)
    for (start, part, padded), (_, length, _) in zip(_parts(gate, corrections), gate.chunks(), strict=True):
        spot = slice(start, start + padded)
        np.bitwise_xor(chosen[spot], np.unpackbits(answer[start // 8 : (start + padded) // 8], bitorder="little"),
                       out=chosen[spot])  # fmt: skip
        masks = _draw(streams["masks"], seat.scratch("masks", padded))
        named = ("tops", "beta tops", "betas", "beta masks") if gate.extend else ("betas", "beta masks")
        shares = {name: seat.scratch(name, padded) for name in named}
        if part is None:
            for name, memory in shares.items():
                _draw(streams[name], memory)
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
        exact = padded == length
        target = out[start : start + length] if exact else seat.scratch("target", padded)
        other = nothing if whole is None else whole[start : start + length] if exact else seat.scratch("whole", padded)
        kernels.select(
            opened[spot], chosen[spot], offset, gate.bits, gate.extend, party, masks,
            shares.get("tops", nothing), shares.get("beta tops", nothing), shares["betas"], shares["beta masks"],
            target, other,
        )  # fmt: skip
        if not exact:
            out[start : start + length] = target[:length]
            if whole is not None:
                whole[start : start + length] = other[:length]


def _parts(gate: Gate, corrections: Bytes) -> Iterator[tuple[int, _Corrections | None, int]]:
    place = 0
    for start, _, padded in gate.chunks():
        if not corrections.size:
            yield start, None, padded
            continue
        size = gate.correction_bytes(padded)
        yield start, _Corrections(gate, corrections[place : place + size], padded), padded
        place += size


def _tables(seat: Seat, gate: Gate, stream: Stream, padded: int) -> NDArray[np.unsignedinteger]:
    memory = seat.scratch("tables", 4 * padded, _TABLE_KINDS[gate.digit])
    return _draw(stream, memory).reshape(4, padded)


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
