"""What a published image promises, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Guarantee", "Kind"]

Kind = Literal["none", "differential privacy", "metric privacy", "encryption"]
"""What sort of promise a published image comes with."""


@dataclass(frozen=True)
class Guarantee:
    """The promise of one method at one setting.

    Attributes
    ----------
    kind : {"none", "differential privacy", "metric privacy", "encryption"}
    statement : str
        One sentence: who learns what, under which assumption.
    neighbours : str
        For the two kinds of privacy: which images an observer cannot tell apart, in words; else empty.
    epsilon, delta : float or None
        The privacy loss of this release, for the two kinds of privacy. `delta` is 0 for pure differential privacy.
    in_the_clear : str
        What is released unprotected; empty if nothing but the image's shape.
    """

    kind: Kind
    statement: str
    neighbours: str = ""
    epsilon: float | None = None
    delta: float | None = None
    in_the_clear: str = ""
