"""Pictures over owners, evenly or skewed: what real hospitals look like, from a seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from secureimg.errors import ParameterError
from secureimg.federated.networks import uniform
from secureimg.sharing.streams import Stream

__all__ = ["partition", "permutation"]

Places = NDArray[np.intp]

_TRIES = 1000


def permutation(stream: Stream, count: int) -> Places:
    """The numbers below `count` in an order that the stream picks."""
    return np.argsort(stream.words(count), kind="stable")


def partition(
    labels: NDArray[np.int64], owners: int, stream: Stream, *, skew: float | None = None, least: int = 8
) -> list[Places]:
    """Deal examples out to owners.

    Parameters
    ----------
    labels : (N,) int64
    owners : int
    stream : Stream
    skew : float, optional
        Concentration of the Dirichlet distribution from which each class's shares over owners are drawn: 100 is nearly
        even, 0.5 uneven in size and labels, 0.1 leaves most owners one class. None deals evenly.
    least : int
        Examples that each owner has at least; shares are drawn anew until that holds.

    Returns
    -------
    list of ndarray of intp
        Places of each owner's examples, in random order. Each example has exactly one owner.

    Raises
    ------
    ParameterError
        If there are too few examples, or no draw of 1,000 gave each owner enough.

    Notes
    -----
    Source: Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution for federated visual
    classification", 2019; shares by class over owners as in Li et al., ICDE 2022, section IV (so sizes differ, too).
    """
    if owners < 1 or len(labels) < owners * least:
        raise ParameterError(f"{len(labels)} examples do not give {owners} owners {least} each: name fewer owners")
    order = permutation(stream, len(labels))
    if skew is None:
        return [order[owner::owners] for owner in range(owners)]
    if not (math.isfinite(skew) and skew > 0):
        raise ParameterError(f"skew is {skew}: it is a concentration above 0 (0.5 is uneven, 100 nearly even)")
    classes = np.unique(labels)
    for _ in range(_TRIES):
        dealt: list[list[Places]] = [[] for _ in range(owners)]
        for label in classes:
            members = order[labels[order] == label]
            ends = np.rint(np.cumsum(_dirichlet(skew, owners, stream)) * len(members)).astype(np.intp)
            for owner, piece in enumerate(np.split(members, ends[:-1])):
                dealt[owner].append(piece)
        parts = [np.concatenate(pieces) for pieces in dealt]
        if min(len(part) for part in parts) >= least:
            return [part[permutation(stream, len(part))] for part in parts]
    raise ParameterError(
        f"no draw of {_TRIES} gave each of {owners} owners {least} examples at skew {skew:g}: use a larger skew or fewer "
        "owners"
    )


def _dirichlet(concentration: float, count: int, stream: Stream) -> NDArray[np.float64]:
    """Shares (count,) that sum to 1: gamma variates by their quantiles, normalised."""
    variates = gammaincinv(concentration, uniform(stream, count))
    total = variates.sum()
    return variates / total if total > 0 else np.full(count, 1 / count)
