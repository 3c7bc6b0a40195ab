"""At which strength a method stops working, and what is left of the picture there: the parrot attack over strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from secureimg.errors import PublishingError
from secureimg.publishing.albums import Album
from secureimg.publishing.parrot import FIXED_SEED, MethodOfSet, ParrotResult, parrot_attack

__all__ = ["MAX_STRENGTHS", "StrengthPoint", "Sweep", "first_at_chance", "last_beaten", "strength_sweep"]

MAX_STRENGTHS: Final = 200
"""The most attacks of one sweep."""

_COPIES: Final = 3


@dataclass(frozen=True)
class Sweep:
    """A method over strengths.

    Attributes
    ----------
    method, parameter, unit : str
        What is shown beside the figures.
    strengths : tuple of float
        From the weakest obfuscation to the strongest: a cell grows, an epsilon falls.
    at : callable
        The method at one strength, as a method of a set (see `ofset`).
    """

    method: str
    parameter: str
    unit: str
    strengths: tuple[float, ...]
    at: Callable[[float], MethodOfSet]


@dataclass(frozen=True)
class StrengthPoint:
    """One attack of a sweep."""

    method: str
    parameter: str
    unit: str
    strength: float
    result: ParrotResult


def strength_sweep(
    album: Album,
    sweeps: Sequence[Sweep],
    *,
    copies: int = _COPIES,
    seed: bytes = FIXED_SEED,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[StrengthPoint, ...]:
    """Attack each method at each of its strengths, with the same split.

    Parameters
    ----------
    album : Album
    sweeps : sequence of Sweep
    copies : int
        Shifted copies of each training picture, 1 to 9. Fewer than a single attack takes by itself: a sweep is many.
    seed : bytes
        32 bytes that choose the split.
    progress : callable or None
        Told how many of how many attacks are done.

    Raises
    ------
    PublishingError
        The sweeps are none or too many, or an attack cannot be run.

    Notes
    -----
    Cost: that of `parrot_attack` times the number of strengths.
    """
    total = sum(len(sweep.strengths) for sweep in sweeps)
    if not 1 <= total <= MAX_STRENGTHS:
        raise PublishingError(f"a sweep of {total} attacks: from 1 to {MAX_STRENGTHS} are run at once")
    points = []
    for sweep in sweeps:
        for strength in sweep.strengths:
            result = parrot_attack(album, method_of_set=sweep.at(strength), copies=copies, seed=seed)
            points.append(StrengthPoint(sweep.method, sweep.parameter, sweep.unit, strength, result))
            if progress is not None:
                progress(len(points), total)
    return tuple(points)


def last_beaten(points: Sequence[StrengthPoint]) -> StrengthPoint | None:
    """Return the strongest setting of one method at which the attack still beats chance; None if at none."""
    return next((point for point in reversed(points) if point.result.beats_chance), None)


def first_at_chance(points: Sequence[StrengthPoint]) -> StrengthPoint | None:
    """Return the weakest setting from which on the attack no longer beats chance; None if it always does."""
    last = last_beaten(points)
    place = 0 if last is None else points.index(last) + 1
    return points[place] if place < len(points) else None
