"""What a task counts: how many are found, and how well genuine and impostor pairs are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["auc", "corners", "part_equal", "roc", "roc_difference", "tpr_at"]

Array = NDArray[np.float64]
Roc = tuple[Array, Array]


def part_equal(found: ArrayLike, wanted: ArrayLike) -> float:
    """The part of values that are equal once rounded to whole numbers."""
    return float(np.mean(np.rint(np.ravel(found)) == np.rint(np.ravel(wanted))))


def roc(genuine: ArrayLike, impostor: ArrayLike) -> Roc:
    """False and true positive rates at every threshold, from none accepted to all.

    Parameters
    ----------
    genuine, impostor : array_like
        Scores of pairs that belong together and of those that do not, the higher the more alike. At least one each.

    Returns
    -------
    (ndarray, ndarray)
        As of `sklearn.metrics.roc_curve` with ``drop_intermediate=False``.
    """
    positive, negative = (np.asarray(scores, dtype=np.float64).ravel() for scores in (genuine, impostor))
    scores = np.concatenate([positive, negative])
    order = np.argsort(-scores, kind="stable")
    belongs = np.arange(len(scores))[order] < len(positive)
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are accepted together
    true, false = np.cumsum(belongs)[last], np.cumsum(~belongs)[last]
    return np.append(0.0, false / len(negative)), np.append(0.0, true / len(positive))


def corners(curve: Roc) -> Roc:
    """The same curve without the points within a horizontal or vertical line."""
    false, true = curve
    across, up = np.diff(false) > 0, np.diff(true) > 0
    straight = (across[1:] == across[:-1]) & (up[1:] == up[:-1]) & (across[1:] != up[1:])
    kept = np.concatenate([[True], ~straight, [True]])
    return false[kept], true[kept]


def auc(curve: Roc) -> float:
    """Area under a curve: how often a genuine pair scores higher than an impostor's."""
    return float(np.trapezoid(curve[1], curve[0]))


def tpr_at(curve: Roc, rates: ArrayLike) -> Array:
    """Largest true positive rate at which the false positive rate is at most each of some."""
    false, true = curve
    return np.asarray(true[np.searchsorted(false, np.asarray(rates, dtype=np.float64), side="right") - 1])


def roc_difference(one: Roc, other: Roc) -> float:
    """Largest difference of the true positive rates of two curves at any false positive rate."""
    rates = np.union1d(one[0], other[0])
    return float(np.abs(tpr_at(one, rates) - tpr_at(other, rates)).max())
