"""What a party does with the shares of a round: one pass that sums and sketches them, then noise on its share of the sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import LocalProtocolError, RemoteProtocolError
from secureimg.federated.sketch import Sketch
from secureimg.federated.terms import Terms
from secureimg.federated.updates import PIECE
from secureimg.privacy import add_discrete_gaussian
from secureimg.sharing.streams import Stream

__all__ = ["Reader", "RoundSum", "Tally", "open_sum"]

Units = NDArray[np.uint32]
Reader = Callable[[NDArray[Any]], None]
"""Fills a buffer of uint32 with the next coordinates of a share."""


@dataclass(frozen=True)
class RoundSum:
    """What a round opens.

    Attributes
    ----------
    total : ndarray of float64, shape (parameters,)
        Sum of the clipped and weighted updates, with the noise of both parties.
    weight : float
        Sum of the weights (with noise); without weights the number of owners.
    owners : tuple of str
        Whose updates are in it.
    left_out : dict of str to str
        Whose are not, and why.
    """

    total: NDArray[np.float64]
    weight: float
    owners: tuple[str, ...]
    left_out: dict[str, str]

    def mean(self) -> NDArray[np.float64]:
        """The weighted mean of the updates. Noise can make a small weight useless: it counts as at least half an owner's."""
        return self.total / max(self.weight, 0.5)


class Tally:
    """A party's sum over a round.

    Parameters
    ----------
    terms : Terms
    coins : bytes
        32 bytes that both parties drew together when all shares were in.
    """

    def __init__(self, terms: Terms, coins: bytes) -> None:
        self._terms = terms
        self._sketch = Sketch(coins, terms.length)
        self._buffer = np.empty(min(PIECE, terms.length), dtype=np.uint32)
        self._total = np.zeros(terms.length, dtype=np.uint32)
        self._noised = False

    def take(self, read: Reader, out: Units) -> None:
        """Add an owner's share to the sum, and its sketch to `out`, shape (values,). Cost: a pass over the share."""
        for start, part in self._pieces(read):
            total = self._total[start : start + part.size]
            np.add(total, part, out=total)
            self._sketch.add(part, start, out)

    def drop(self, read: Reader) -> None:
        """Take an owner's share out of the sum again."""
        for start, part in self._pieces(read):
            total = self._total[start : start + part.size]
            np.subtract(total, part, out=total)

    def _pieces(self, read: Reader) -> Iterator[tuple[int, Units]]:
        if self._noised:
            raise LocalProtocolError("the sum has its noise already: begin another tally")
        for start in range(0, self._total.size, PIECE):
            part = self._buffer[: min(PIECE, self._total.size - start)]
            read(part)
            yield start, part

    def finish(self, seed: bytes) -> Units:
        """Return this party's share of the noisy sum.

        Parameters
        ----------
        seed : bytes
            32 bytes that this party alone has: equal seeds give equal noise, so that a round done again after a crash opens
            the same.

        Notes
        -----
        Whoever knows one party's noise still faces the other's: deviation `terms.sigma` in each coordinate, exactly discrete
        Gaussian, against a change of norm at most `terms.bound`.
        """
        self._noised = True
        if self._terms.sigma:
            add_discrete_gaussian(self._terms.sigma, self._total, Stream(seed, "federated", "noise"))
        return self._total


def open_sum(terms: Terms, first: Units, second: Units, owners: tuple[str, ...], left_out: dict[str, str]) -> RoundSum:
    """Put both parties' shares of a sum together.

    Raises
    ------
    RemoteProtocolError
        If they are not shares of one sum.
    """
    if first.shape != (terms.length,) or second.shape != (terms.length,):
        raise RemoteProtocolError(
            f"shares of a sum of {first.size} and {second.size} coordinates, the round has {terms.length}"
        )
    units = (first + second).view(np.int32)
    scale = np.float64(terms.clip / terms.unit)
    weight = float(units[-1]) / terms.unit if terms.weighted else float(len(owners))
    if terms.weighted and not terms.noise and not 0 <= weight <= len(owners) * math.sqrt(2) * 4 / 3:
        raise RemoteProtocolError(
            f"the sum of {len(owners)} weights comes out as {weight:.4g}: the two parties summed different owners"
        )
    return RoundSum(units[: terms.parameters].astype(np.float64) * scale, weight, owners, left_out)
