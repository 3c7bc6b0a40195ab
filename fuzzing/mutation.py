"""Damage to valid bytes, from a seed: the same seed and number always give the same input.

A structure-blind mutant changes bytes and lengths wherever they are. Most formats begin with a digest, a tag or lengths, at
which every such mutant would die, so a target may say how to `reseal` one; and one whose payload is a tree (msgpack, JSON)
may have the tree itself changed, see `fuzzing.trees`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["Reseal", "TreeCodec", "blind", "mutant"]

Reseal = Callable[[bytes], bytes]
"""Makes digests, tags and lengths of a damaged encoding right again, as far as that is possible."""

TreeCodec = Callable[[bytes, random.Random], bytes]
"""Changes the tree inside an encoding and returns a whole, sealed encoding."""

_INTERESTING: Final = (0, 1, 2, 3, 7, 8, 0x10, 0x20, 0x3F, 0x40, 0x7E, 0x7F, 0x80, 0x81, 0xC0, 0xFE, 0xFF)
_WIDE: Final = (0, 1, -1, 2**7, 2**8, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
                2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
_LONGEST_PIECE: Final = 64
_PLAIN_SHARE: Final = 0.03
_TREE_SHARE: Final = 0.4


def mutant(
    seeds: Sequence[bytes], seed: int, number: int, reseal: Reseal | None = None, tree: TreeCodec | None = None
) -> bytes:
    """Return input `number` of the sequence that `seed` names.

    Parameters
    ----------
    seeds : sequence of bytes
        Valid encodings, at least one.
    seed, number : int
        Together they determine the input.
    reseal : callable, optional
        Applied to every other structure-blind mutant.
    tree : callable, optional
        Makes 40 % of the mutants.
    """
    rng = random.Random((seed << 48) | number)
    chance = rng.random()
    if chance < _PLAIN_SHARE:
        return rng.randbytes(rng.choice((0, 1, 2, 4, 16, 40, 100, 1000)))
    base = seeds[int(rng.random() * len(seeds))]
    if tree is not None and chance < _PLAIN_SHARE + _TREE_SHARE:
        return tree(base, rng)
    damaged = blind(base, seeds, rng)
    if reseal is not None and rng.random() < 0.5:
        return reseal(damaged)
    return damaged


def blind(base: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage an encoding in one to eight places, mostly in one."""
    data = bytearray(base)
    for _ in range(1 if rng.random() < 0.5 else 1 + int(rng.random() * 8)):
        _MOVES[int(rng.random() * len(_MOVES))](data, seeds, rng)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Somewhere in it; half of the time near the front, where headers are."""
    size = len(data)
    if size > 2 * _LONGEST_PIECE and rng.random() < 0.5:
        size = _LONGEST_PIECE if rng.random() < 0.5 else min(size, 1024)
    return int(rng.random() * size)


def _flip(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << int(rng.random() * 8)


def _set(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] = int(rng.random() * 256)


def _interesting(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] = _INTERESTING[int(rng.random() * len(_INTERESTING))]


def _step(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """A number that is a little off: the usual damage to a count or a length."""
    if data:
        place = _place(data, rng)
        data[place] = (data[place] + rng.choice((-2, -1, 1, 2))) & 0xFF


def _wide(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """An extreme number of 2, 4 or 8 bytes, in either order: a length field, if there is one."""
    size = rng.choice((2, 4, 8))
    if len(data) >= size:
        place = min(_place(data, rng), len(data) - size)
        value = _WIDE[int(rng.random() * len(_WIDE))] % (1 << 8 * size)
        data[place : place + size] = value.to_bytes(size, "big" if rng.random() < 0.5 else "little")


def _true_length(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """The number of bytes that follow, or about that many, as a field of 1, 2, 4 or 8 bytes."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) >= size:
        place = min(_place(data, rng), len(data) - size)
        value = (len(data) - place - size + rng.choice((-1, 0, 0, 1))) % (1 << 8 * size)
        data[place : place + size] = value.to_bytes(size, "big" if rng.random() < 0.5 else "little")


def _cut(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    del data[int(rng.random() * (len(data) + 1)) :]


def _cut_a_little(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    del data[max(0, len(data) - 1 - int(rng.random() * 16)) :]


def _remove(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        place = _place(data, rng)
        del data[place : place + 1 + int(rng.random() * _LONGEST_PIECE)]


def _insert(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = rng.randbytes(1 + int(rng.random() * 8))


def _append(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    data += rng.randbytes(1 + int(rng.random() * 32))


def _repeat(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """A piece of it once more, or many times: nested and repeated structures."""
    if data:
        place = _place(data, rng)
        piece = data[place : place + 1 + int(rng.random() * _LONGEST_PIECE)]
        data[place:place] = piece * (1 if rng.random() < 0.9 else 256)


def _move(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """A piece of it written over another place."""
    if data:
        source, place = _place(data, rng), _place(data, rng)
        piece = data[source : source + 1 + int(rng.random() * _LONGEST_PIECE)]
        data[place : place + len(piece)] = piece


def _splice(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """The front of this one and the back of another."""
    other = seeds[int(rng.random() * len(seeds))]
    place = int(rng.random() * (len(data) + 1))
    start = place if rng.random() < 0.5 else int(rng.random() * (len(other) + 1))
    data[place:] = other[start:]


_MOVES: Final = (
    _flip, _flip, _set, _set, _interesting, _interesting, _step, _step, _wide, _wide, _true_length, _cut, _cut_a_little,
    _remove, _insert, _append, _repeat, _move, _splice,
)  # fmt: skip
