"""The discrete Laplace distribution, drawn exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy.coins import Words, below_large, exp_one, exp_ratio, run, shift_for
from secureimg.sharing.streams import Stream

__all__ = ["add_discrete_laplace", "discrete_laplace", "laplace_scale"]

_BITS: Final = 55  # of the numerator: 127 times it stays below 2^62
_FINEST: Final = 20  # bits after the point of a scale that is rounded up

_0, _1, _63 = np.uint64(0), np.uint64(1), np.uint64(63)
_MOST_TURNS = np.uint64(127)


def laplace_scale(sensitivity: int, epsilon: float) -> tuple[int, int]:
    """Return the scale ``sensitivity / epsilon`` of noise for pure differential privacy, as a fraction.

    Parameters
    ----------
    sensitivity : int
        The most that neighbours may differ by in L1, in units of the integers that are released; at least 1.
    epsilon : float

    Returns
    -------
    numerator, denominator : int
        For `discrete_laplace`. If the quotient has no such fraction it is rounded up, by at most 2^-20 or by its 54th bit:
        the privacy loss is then a little below `epsilon`, never above.

    Raises
    ------
    PublishingError
        If epsilon is not a positive number, or the scale would be 2^55 or more.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise PublishingError(f"epsilon is {epsilon}: a number above 0 is needed")
    if sensitivity < 1:
        raise PublishingError(f"a sensitivity of {sensitivity} needs no noise: 1 or more is meant")
    scale = Fraction(sensitivity) / Fraction(epsilon)
    whole = math.ceil(scale).bit_length()
    if whole > _BITS:
        raise PublishingError(
            f"epsilon {epsilon:g} for a sensitivity of {sensitivity} takes noise of scale {float(scale):.3g}, the limit is "
            f"2^{_BITS}: take a larger epsilon"
        )
    denominator = 1 << min(_FINEST, _BITS - whole)
    return math.ceil(scale * denominator), denominator


def discrete_laplace(numerator: int, denominator: int, count: int, stream: Stream) -> NDArray[np.int64]:
    """Draw integers x with probability proportional to exp(-|x| denominator / numerator).

    Parameters
    ----------
    numerator, denominator : int
        The scale as a fraction: ``1 <= numerator < 2^56`` and ``1 <= denominator < 2^56``.
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
        If a parameter is out of range.

    Notes
    -----
    Canonne, Kamath and Steinke, NeurIPS 2020, algorithm 2, with their exact coins. A draw whose geometric part exceeds 127
    is made again so that integers stay below 2^63: that is a distance of exp(-128) < 2^-184 from the exact distribution,
    and the only one if the stream's words are uniform; they are as far as AES-128 is a pseudo-random permutation. How long
    a draw takes depends on its value: do not let an observer time single draws.

    Cost: about 75 ns and 8 words of the stream a draw; 128 KB beside the result.
    """
    if count < 0:
        raise PublishingError(f"{count} draws of noise: ask for 0 or more")
    out = np.zeros(count, dtype=np.int64)
    add_discrete_laplace(numerator, denominator, out, stream)
    return out


def add_discrete_laplace(numerator: int, denominator: int, into: NDArray[Any], stream: Stream) -> None:
    """Add a draw to each element of a flat contiguous int64 array, in place; see `discrete_laplace`."""
    for name, value in (("numerator", numerator), ("denominator", denominator)):
        if not 1 <= value < 1 << (_BITS + 1):
            raise PublishingError(f"the {name} of a scale is {value}: from 1 to 2^{_BITS + 1} - 1 is needed")
    if into.ndim != 1 or not into.flags.c_contiguous or into.dtype != np.int64:
        raise PublishingError(
            f"noise cannot be added to an array of {into.dtype} and shape {into.shape}: a flat contiguous one of int64 is "
            "needed"
        )
    t, s, shift = np.uint64(numerator), np.uint64(denominator), np.uint64(shift_for(numerator))
    run(lambda words, done: _draws(words, done, t, s, shift, into), into.size, stream)


@numba.njit(cache=True, nogil=True)
def _draws(
    words: Words, done: int, t: np.uint64, s: np.uint64, shift: np.uint64, out: NDArray[np.int64]
) -> tuple[int, int]:
    """Add draws to out[done:] while the words last; return how many are done and where the next one starts."""
    mask, at, start = words.size - 1, 0, 0
    while done < out.size:
        rest, at = below_large(words, at, t, shift)
        keep, at = exp_ratio(words, at, rest, t, shift)
        if not keep:
            continue
        turns = _0
        heads, at = exp_one(words, at)
        while heads:
            turns += _1
            heads, at = exp_one(words, at)
        if turns > _MOST_TURNS:
            continue
        size = np.int64((rest + t * turns) // s)
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
