"""Owners, dealer and both parties of a round in one process, to try it out. It protects nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import BudgetError
from secureimg.federated.norm_check import check_input, check_program, passed
from secureimg.federated.sketch import Sketch
from secureimg.federated.tally import Reader, RoundSum, Tally, open_sum
from secureimg.federated.terms import Terms
from secureimg.federated.updates import Shares, quantise, seed_stream, share_update
from secureimg.sharing import fresh_seed, run_on_shares

__all__ = ["aggregate_together"]

TOO_LONG = "its update is longer than the bound"
"""Why an owner is left out of a sum whose update does not pass the check."""


def aggregate_together(terms: Terms, updates: Sequence[ArrayLike], weights: Sequence[float] | None = None) -> RoundSum:
    """Aggregate updates with all roles in this process.

    Parameters
    ----------
    terms : Terms
    updates : sequence of array_like, each of shape (parameters,)
    weights : sequence of float, optional
        In (0, 1]; 1 if not given.

    Returns
    -------
    RoundSum
        Owners are named by their place.

    Raises
    ------
    BudgetError
        If fewer than `terms.least` owners pass.
    """
    given = [1.0] * len(updates) if weights is None else weights
    shares = [share_update(quantise(terms, update, weight)) for update, weight in zip(updates, given, strict=True)]
    return sum_shares(terms, shares)


def sum_shares(terms: Terms, shares: Sequence[Shares]) -> RoundSum:
    """What two parties make of owners' shares, whatever those hold."""
    if len(shares) < terms.least:
        raise BudgetError(f"{len(shares)} owners, at least {terms.least} are needed for a sum: wait for more")
    coins = fresh_seed()
    readers: tuple[list[Reader], list[Reader]] = (
        [seed_stream(share.seed).fill for share in shares], [_reader(share.words) for share in shares]
    )  # fmt: skip
    tallies = Tally(terms, coins), Tally(terms, coins)
    sketches = np.zeros((2, len(shares), Sketch.values(terms.length)), dtype=np.uint32)
    for tally, own, rows in zip(tallies, readers, sketches, strict=True):
        for read, row in zip(own, rows, strict=True):
            tally.take(read, row)
    results = run_on_shares(check_program(terms), len(shares), (check_input(sketches[0]), check_input(sketches[1])))
    verdict = passed(results[0].share, results[1].share)
    long = [place for place, good in enumerate(verdict) if not good]
    for place in long:
        tallies[0].drop(seed_stream(shares[place].seed).fill)
        tallies[1].drop(_reader(shares[place].words))
    if verdict.sum() < terms.least:
        raise BudgetError(f"{int(verdict.sum())} of {len(shares)} owners pass, at least {terms.least} are needed")
    return open_sum(
        terms, tallies[0].finish(fresh_seed()), tallies[1].finish(fresh_seed()),
        tuple(str(place) for place, good in enumerate(verdict) if good),
        {str(place): TOO_LONG for place in long},
    )  # fmt: skip


def _reader(words: NDArray[np.uint32]) -> Reader:
    place = 0

    def read(buffer: NDArray[np.uint32]) -> None:
        nonlocal place
        buffer[:] = words[place : place + buffer.size]
        place += buffer.size

    return read
