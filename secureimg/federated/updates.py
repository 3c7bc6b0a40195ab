"""An owner's update: clipped, weighted, rounded to whole units, split into two additive shares modulo 2^32."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import ParameterError
from secureimg.federated.terms import Terms
from secureimg.sharing.streams import Stream, fresh_seed

__all__ = ["PIECE", "Shares", "quantise", "seed_stream", "share_update"]

Units = NDArray[np.uint32]

PIECE = 1 << 16
"""Coordinates that are worked on at a time: they fit the cache."""


def quantise(terms: Terms, update: ArrayLike, weight: float = 1.0) -> Units:
    """Clip an update, weight it, and round it to whole units.

    Parameters
    ----------
    terms : Terms
    update : array_like, shape (parameters,)
        Any real type.
    weight : float
        In (0, 1]. 1 if the terms are not weighted.

    Returns
    -------
    ndarray of uint32, shape (terms.length,)
        Two's complement. Its L2 norm is at most `terms.bound`, for any input.

    Raises
    ------
    ParameterError
        If the update has another length or is not finite, or the weight is out of range.
    """
    values = np.asarray(update)
    if values.shape != (terms.parameters,) or values.dtype.kind not in "fiu":
        raise ParameterError(
            f"an update of shape {values.shape} and type {values.dtype}, the round takes {terms.parameters} real numbers"
        )
    if not (0.0 < weight <= 1.0) or (not terms.weighted and weight != 1.0):
        raise ParameterError(f"weight {weight} is outside (0, 1]" + ("" if terms.weighted else ": the round has none"))
    values = np.ascontiguousarray(values, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    norm = _norm(values)
    if not math.isfinite(norm):
        raise ParameterError("the update has elements that are not finite: training diverged? lower its step size")
    limit = terms.unit * weight
    factor = limit / max(norm, terms.clip)
    out = np.zeros(terms.length, dtype=np.uint32)
    if terms.weighted:
        out[-1] = int(limit)
    while True:
        squares = _round(values, factor, out)
        # rounding can lengthen: a little shorter, until it does not; rounding towards zero would lean every update inwards
        if squares <= limit * limit:
            return out
        factor *= min(1.0 - 1e-9, math.sqrt(max(limit * limit, 1.0) / squares) * (1.0 - 1e-9))
        if factor * float(np.abs(values).max(initial=0.0)) < 0.5:
            out[: terms.parameters] = 0
            return out


@numba.njit(cache=True, nogil=True)
def _norm(values: NDArray[np.floating]) -> float:
    total = 0.0
    for i in range(values.size):
        total += float(values[i]) * float(values[i])
    return math.sqrt(total)


@numba.njit(cache=True, nogil=True)
def _round(values: NDArray[np.floating], factor: float, out: Units) -> float:
    squares = 0.0
    for i in range(values.size):
        rounded = np.rint(float(values[i]) * factor)
        squares += rounded * rounded
        out[i] = np.uint32(np.int64(rounded) & 0xFFFFFFFF)
    return squares


class Shares:
    """An owner's two shares: whoever has one alone has noise.

    Attributes
    ----------
    seed : bytes
        Party 0's: 32 bytes, from which it makes its share.
    words : ndarray of uint32, shape (terms.length,)
        Party 1's.
    """

    def __init__(self, seed: bytes, words: Units) -> None:
        self.seed, self.words = seed, words

    def __repr__(self) -> str:
        return "Shares(…)"


def seed_stream(seed: bytes) -> Stream:
    """The stream that party 0's share is, 32 bits a coordinate."""
    return Stream(seed, "federated", "share")


def share_update(units: Units) -> Shares:
    """Split units into two shares; `units` becomes party 1's. Cost: a pass of AES over 4 bytes a coordinate."""
    seed = fresh_seed()
    stream, buffer = seed_stream(seed), np.empty(PIECE, dtype=np.uint32)
    for start in range(0, units.size, PIECE):
        part = units[start : start + PIECE]
        mask = buffer[: part.size]
        stream.fill(mask)
        np.subtract(part, mask, out=part)
    return Shares(seed, units)
