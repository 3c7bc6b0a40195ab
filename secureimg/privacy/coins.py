"""Exact coins over words of a keyed stream: what the discrete samplers decide with.

Every decision compares integers, so a sampler's distribution is the stated one and not a neighbour of it in floating
point. A kernel reads words from a buffer of 2^b of them and wraps at its end: a draw that went beyond the end is not
kept, it is made again from its first word when the buffer has been refilled. Nothing is thrown away that was looked at,
so how many words a draw takes does not bias it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.sharing.streams import Stream

__all__ = ["SMALL", "Words", "below", "below_large", "exp_half", "exp_one", "exp_ratio", "run", "shift_for"]

Words = NDArray[np.uint64]

SMALL: Final = 1 << 27  # exclusive bound of `below`: its product with 37 bits stays below 2^64

_MOST: Final = 1 << 14  # words of a buffer: 128 KB, which stay in the cache
_LEAST: Final = 1 << 12  # no draw takes as many, except with probability below 2^-128: one takes 20 on average
_PER_DRAW: Final = 32

_0, _1, _27, _37 = np.uint64(0), np.uint64(1), np.uint64(27), np.uint64(37)
_LOW = np.uint64((1 << 37) - 1)
_RANGE = np.uint64(1 << 37)


@numba.njit(cache=True, nogil=True, inline="always")
def below(words: Words, at: int, n: np.uint64) -> tuple[np.uint64, int]:
    """Uniform in [0, n) for 1 <= n < 2^27, and the next word's place (Lemire, TOMACS 2019: multiply and reject)."""
    mask = words.size - 1
    while True:
        product = (words[at & mask] >> _27) * n
        at += 1
        low = product & _LOW
        if low >= n or low >= _RANGE % n:
            return product >> _37, at


@numba.njit(cache=True, nogil=True, inline="always")
def below_large(words: Words, at: int, n: np.uint64, shift: np.uint64) -> tuple[np.uint64, int]:
    """Uniform in [0, n) for n up to 2^63; `shift` leaves as many bits of a word as n - 1 has."""
    mask = words.size - 1
    while True:
        value = words[at & mask] >> shift
        at += 1
        if value < n:
            return value, at


def shift_for(n: int) -> int:
    """Return the shift that `below_large` needs for n."""
    return 64 - max(1, (n - 1).bit_length())


# A coin of exp(-g), 0 <= g <= 1, is Canonne, Kamath and Steinke, NeurIPS 2020, algorithm 1: toss coins of g / 1, g / 2,
# g / 3, ... until one fails; it comes up if that was an odd one. A coin of g / k is one of g and one of 1 / k: with the
# two apart no integer grows.


@numba.njit(cache=True, nogil=True)
def exp_half(words: Words, at: int) -> tuple[bool, int]:
    """Toss a coin of exp(-1/2)."""
    mask = words.size - 1
    heads = words[at & mask] >> np.uint64(63)
    at += 1
    if heads == _0:
        return True, at
    k = _1
    while True:
        k += _1
        value, at = below(words, at, k << _1)
        if value != _0:
            return (k & _1) == _1, at


@numba.njit(cache=True, nogil=True)
def exp_one(words: Words, at: int) -> tuple[bool, int]:
    """Toss a coin of exp(-1)."""
    k = _1
    while True:
        k += _1
        value, at = below(words, at, k)
        if value != _0:
            return (k & _1) == _1, at


@numba.njit(cache=True, nogil=True)
def exp_ratio(words: Words, at: int, a: np.uint64, n: np.uint64, shift: np.uint64) -> tuple[bool, int]:
    """Toss a coin of exp(-a / n), 0 <= a <= n <= 2^63."""
    k = _1
    while True:
        value, at = below_large(words, at, n, shift)
        if value >= a:
            return (k & _1) == _1, at
        k += _1
        value, at = below(words, at, k)
        if value != _0:
            return (k & _1) == _1, at


def run(kernel: Callable[[Words, int], tuple[int, int]], count: int, stream: Stream) -> None:
    """Refill a buffer from the stream until a kernel has made its draws.

    Parameters
    ----------
    kernel : callable
        Takes the words and how many draws were made; returns how many are made now, and the place of the first word
        that the next one starts from.
    count : int
        Draws to make.
    stream : Stream
        Read ahead by up to 128 KB: what a call has read and not used is not given to the next one.
    """
    size = min(_MOST, max(_LEAST, 1 << (_PER_DRAW * count - 1).bit_length())) if count else 0
    words: Words = np.empty(size, dtype=np.uint64)
    done, kept = 0, 0
    while done < count:
        fresh: NDArray[Any] = words[kept:]
        stream.fill(fresh)
        made, used = kernel(words, done)
        if made == done and used == 0:
            raise RuntimeError(f"a draw took more than {size} words: the stream is not random")
        done = made
        kept = size - used
        words[:kept] = words[used:].copy()
