"""Products, truncations and blinding of shared values, chunk by chunk, with rounds that overlap with computing.

A product is Beaver's (CRYPTO 1991): open x - a and y - b, then ``xy = ef + e b + a f + ab``. A truncation opens
``(x >> drop) + offset + r``: then x is c - r, and one wrap around that the top bits of c and r tell (Escudero et al.,
CRYPTO 2020, section 5). Blinding is one message from party 0: its share minus a mask that it and the dealer know.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing import text
from secureimg.sharing.ring import Words, byte_width, pack, unpack
from secureimg.sharing.seat import CHUNK, Seat
from secureimg.sharing.streams import Stream

__all__ = ["multiply", "receive_blinded", "send_blinded", "truncate"]

Bytes = NDArray[np.uint8]


def send_blinded(seat: Seat, values: Words, mask: Words, width: int) -> None:
    """Party 0: send shares minus their mask. Cost: half a round, ``width / 8`` bytes a value."""
    size, keep = byte_width(width), np.uint64((1 << width) - 1)
    seat.settle()
    blind = seat.round("blind", values.size, size, receives=False)
    for start in range(0, values.size, CHUNK):
        part = seat.scratch("blinded", min(CHUNK, values.size - start))
        np.subtract(values[start : start + CHUNK], mask[start : start + CHUNK], out=part)
        # the mask hides `width` bits: a borrow into the bits above would tell which of the two is larger
        np.bitwise_and(part, keep, out=part)
        end = (start + part.size) * size
        pack(part, size, blind.out[start * size : end])
        blind.wrote(end)


def receive_blinded(seat: Seat, values: Words, width: int) -> Words:
    """Party 1: the value minus party 0's mask."""
    size = byte_width(width)
    blind = seat.round("blind", values.size, size, sends=False)
    out = np.empty(values.size, dtype=np.uint64)
    for start in range(0, values.size, CHUNK):
        part = out[start : start + CHUNK]
        end = (start + part.size) * size
        blind.need(end)
        unpack(blind.back[start * size : end], size, part)
        part += values[start : start + CHUNK]
    return out


def multiply(
    seat: Seat, number: int, step: text.Multiply, sources: list[Words], seed: bytes, corrections: Bytes
) -> Words:
    """Shares of a product, element by element. Cost: one round of ``2 width / 8`` bytes a value, half of it for a square."""
    size, count = byte_width(step.width), sources[0].size
    names = ("a",) if step.left == step.right else ("a", "b")
    factors = [source.reshape(-1) for source in sources[: len(names)]]
    seat.settle()
    opening = seat.round("factors", count * len(names), size)
    opened = [seat.scratch(f"opened {name}", count) for name in names]
    masks = [seat.scratch(f"mask {name}", count) for name in names]
    for place, name in enumerate(names):
        Stream(seed, "multiply", number, name).fill(masks[place])
        np.subtract(factors[place], masks[place], out=opened[place])
        end = (place + 1) * count * size
        pack(opened[place], size, opening.out[place * count * size : end])
        opening.wrote(end)
    theirs = seat.scratch("theirs", count)
    for place, own in enumerate(opened):
        end = (place + 1) * count * size
        opening.need(end)
        unpack(opening.back[place * count * size : end], size, theirs)
        np.add(own, theirs, out=own)
    out = np.empty(count, dtype=np.uint64)
    if corrections.size:
        for start in range(0, count, CHUNK):
            part = out[start : start + CHUNK]
            unpack(corrections[start * size : (start + part.size) * size], size, part)
    else:
        Stream(seed, "multiply", number, "c").fill(out)
    e, f = opened[0], opened[-1]
    np.multiply(e, masks[-1], out=theirs)
    out += theirs
    np.multiply(masks[0], f, out=theirs)
    out += theirs
    if seat.party == 0:
        np.multiply(e, f, out=theirs)
        out += theirs
    return out.reshape(sources[0].shape)


def truncate(seat: Seat, number: int, step: text.Truncate, value: Words, seed: bytes, corrections: Bytes) -> Words:
    """Shares of x without its last `drop` bits, in a wider ring. Cost: one round of ``bits / 8`` bytes a value."""
    bits, size, top = step.bits, byte_width(step.bits), byte_width(step.width - step.bits)
    first, flat = seat.party == 0, value.reshape(-1)
    keep, shift = np.uint64((1 << bits) - 1), np.uint64(step.drop)
    offset = np.uint64(((1 << (bits - 2)) + (1 if step.drop else 0)) if first else 0)
    masks = seat.scratch("truncation masks", flat.size)
    Stream(seed, "truncate", number, "masks").fill(masks)
    opened = seat.scratch("opened", flat.size)
    seat.settle()
    opening = seat.round("open", flat.size, size)
    for start in range(0, flat.size, CHUNK):
        own = opened[start : start + CHUNK]
        np.right_shift(flat[start : start + CHUNK], shift, out=own)
        np.add(own, masks[start : start + CHUNK], out=own)
        np.add(own, offset, out=own)
        np.bitwise_and(own, keep, out=own)
        end = (start + own.size) * size
        pack(own, size, opening.out[start * size : end])
        opening.wrote(end)
    top_stream = Stream(seed, "truncate", number, "tops")
    out = np.empty(flat.size, dtype=np.uint64)
    for start in range(0, flat.size, CHUNK):
        c, result = opened[start : start + CHUNK], out[start : start + CHUNK]
        end = (start + c.size) * size
        opening.need(end)
        theirs, tops = seat.scratch("theirs", c.size), seat.scratch("tops", c.size)
        unpack(opening.back[start * size : end], size, theirs)
        np.add(c, theirs, out=c)
        np.bitwise_and(c, keep, out=c)
        mask = masks[start : start + CHUNK]
        if first:
            top_stream.fill(tops)
            np.subtract(c, np.uint64(1 << (bits - 2)), out=result)
            np.subtract(result, mask, out=result)
        else:
            np.bitwise_and(mask, keep, out=mask)
            np.negative(mask, out=result)
            if top:
                base, middle = 2 * start * top, (2 * start + c.size) * top
                unpack(corrections[base:middle], top, tops)  # the mask's upper bits
                np.left_shift(tops, np.uint64(bits), out=tops)
                np.subtract(result, tops, out=result)
                unpack(corrections[middle : middle + c.size * top], top, tops)
        if top:
            np.right_shift(c, np.uint64(bits - 1), out=c)
            np.left_shift(c, np.uint64(bits), out=c)
            np.multiply(c, tops, out=c)
            np.subtract(result, c, out=result)
    return out.reshape(value.shape)
