"""What rounds of training cost each owner in privacy."""

from __future__ import annotations

from secureimg.federated.terms import Terms
from secureimg.privacy import gaussian_epsilon

__all__ = ["epsilon_after"]


def epsilon_after(terms: Terms, rounds: int, delta: float) -> float | None:
    """Privacy loss of an owner, for all its pictures together, after so many opened rounds; None without noise.

    Parameters
    ----------
    terms : Terms
    rounds : int
        Rounds opened, with this owner in each.
    delta : float

    Notes
    -----
    Neighbours: the same round with and without the owner. Against either party, which knows its own noise and faces the
    other's: one party's noise counts. Whoever sees only the sums faces both, and learns less than this says.
    """
    if not terms.sigma:
        return None
    return gaussian_epsilon(float(terms.sigma), float(terms.bound), rounds, delta)
