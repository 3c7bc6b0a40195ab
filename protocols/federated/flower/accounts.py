"""What a round came to: who was in it, and what it cost in privacy."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RoundReport"]


@dataclass(frozen=True)
class RoundReport:
    """One round as the strategy saw it.

    Attributes
    ----------
    round : int
        Flower's number.
    asked : int
        Owners that were sent the model.
    owners : tuple of str
        Whose updates are in the sum, as their certificates name them; empty if the round was dropped.
    left_out : dict of str to str
        Whose are not, and why, as the parties tell it.
    refused : tuple of str
        What owners told Flower that took no part.
    weight : float
        Sum of the weights.
    epsilon : float or None
        Privacy loss of all rounds so far at `delta`; None without noise.
    seconds : float
        From opening the round to the new model.
    dropped : str
        Why nothing was opened; empty if something was.
    """

    round: int
    asked: int
    owners: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    weight: float = 0.0
    epsilon: float | None = None
    seconds: float = 0.0
    dropped: str = ""
