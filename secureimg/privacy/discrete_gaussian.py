"""The discrete Gaussian, drawn exactly."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy.coins import SMALL, Words, below, exp_half, run
from secureimg.sharing.streams import Stream

__all__ = ["MAX_SIGMA", "add_discrete_gaussian", "discrete_gaussian"]

MAX_SIGMA: Final = SMALL - 1

_0, _1, _63 = np.uint64(0), np.uint64(1), np.uint64(63)


def discrete_gaussian(sigma: int, count: int, stream: Stream) -> NDArray[np.int64]:
    """Draw from N_Z(0, sigma^2): integers x with probability proportional to exp(-x^2 / (2 sigma^2)).

    Parameters
    ----------
    sigma : int
        1 <= sigma < 2^27.
    count : int
        Draws.
    stream : Stream
        Where the randomness comes from; nothing else is random.

    Returns
    -------
    (count,) int64

    Raises
    ------
    PublishingError
        If `sigma` or `count` is out of range.

    Notes
    -----
    Karney, ACM TOMS 42:3 (2016), algorithm D in its form for integers: k >= 0 with probability proportional to
    exp(-k^2/2); j uniform below sigma; accepted with probability exp(-j (2 k sigma + j) / (2 sigma^2)), tossed as k coins
    of exp(-j/sigma) and one of exp(-(j/sigma)^2 / 2), each by Canonne, Kamath and Steinke, NeurIPS 2020, algorithm 1;
    a sign; minus zero is drawn again. All integers stay below 2^64 as sigma is below 2^27.

    The distribution is exact if the stream's words are uniform; they are as far as AES-128 is a pseudo-random
    permutation. How long a draw takes depends on its value: do not let an observer time single draws.

    Cost: about 75 ns and 15 words of the stream a draw; 128 KB beside the result.
    """
    if count < 0:
        raise PublishingError(f"{count} draws of noise: ask for 0 or more")
    out = np.zeros(count, dtype=np.int64)
    add_discrete_gaussian(sigma, out, stream)
    return out


def add_discrete_gaussian(sigma: int, into: NDArray[Any], stream: Stream) -> None:
    """Add a draw of N_Z(0, sigma^2) to each element of an array, in place; see `discrete_gaussian`.

    Parameters
    ----------
    sigma : int
        1 <= sigma < 2^27.
    into : (n,) int32, int64, uint32 or uint64, contiguous
        Sums wrap: unsigned ones are elements of Z_2^32 or Z_2^64.
    stream : Stream

    Raises
    ------
    PublishingError
        If `sigma` is out of range or the array is of another kind.
    """
    if not 1 <= sigma <= MAX_SIGMA:
        raise PublishingError(f"discrete Gaussian noise of sigma {sigma}: an integer from 1 to {MAX_SIGMA} is needed")
    if into.ndim != 1 or not into.flags.c_contiguous or into.dtype not in (np.int32, np.int64, np.uint32, np.uint64):
        raise PublishingError(
            f"noise cannot be added to an array of {into.dtype} and shape {into.shape}: a flat contiguous one of 32- or "
            "64-bit integers is needed"
        )
    run(lambda words, done: _draws(words, done, np.uint64(sigma), into), into.size, stream)


@numba.njit(cache=True, nogil=True)
def _exp_first(words: Words, at: int, j: np.uint64, sigma: np.uint64) -> tuple[bool, int]:
    """Toss a coin of exp(-j / sigma)."""
    k = _1
    while True:
        value, at = below(words, at, sigma)
        if value >= j:
            return (k & _1) == _1, at
        k += _1
        value, at = below(words, at, k)
        if value != _0:
            return (k & _1) == _1, at


@numba.njit(cache=True, nogil=True)
def _exp_second(words: Words, at: int, j: np.uint64, sigma: np.uint64) -> tuple[bool, int]:
    """Toss a coin of exp(-(j / sigma)^2 / 2)."""
    k = _1
    while True:
        value, at = below(words, at, k << _1)
        if value != _0:
            return (k & _1) == _1, at
        value, at = below(words, at, sigma)
        if value >= j:
            return (k & _1) == _1, at
        value, at = below(words, at, sigma)
        if value >= j:
            return (k & _1) == _1, at
        k += _1


@numba.njit(cache=True, nogil=True)
def _steps(words: Words, at: int) -> tuple[np.uint64, int]:
    """Draw k >= 0 with probability proportional to exp(-k^2 / 2)."""
    while True:
        k = _0
        heads, at = exp_half(words, at)
        while heads:
            k += _1
            heads, at = exp_half(words, at)
        left = k * (k - _1) if k > _1 else _0
        heads = True
        while heads and left > _0:
            heads, at = exp_half(words, at)
            left -= _1
        if heads:
            return k, at


@numba.njit(cache=True, nogil=True)
def _draws(words: Words, done: int, sigma: np.uint64, out: NDArray[Any]) -> tuple[int, int]:
    """Add draws to out[done:] while the words last; return how many are done and where the next one starts."""
    mask, at, start = words.size - 1, 0, 0
    while done < out.size:
        k, at = _steps(words, at)
        j, at = below(words, at, sigma)
        keep, at = _exp_second(words, at, j, sigma)
        left = k
        while keep and left > _0:
            keep, at = _exp_first(words, at, j, sigma)
            left -= _1
        if not keep:
            continue
        size = np.int64(k * sigma + j)
        minus = (words[at & mask] >> _63) != _0
        at += 1
        if minus and size == 0:
            continue
        if at > words.size:
            break
        out[done] += -size if minus else size
        done += 1
        start = at
    return done, start
