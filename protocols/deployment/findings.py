"""What an examination found: one line for each check."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Verdict", "fine", "warning", "wrong"]


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : Verdict
    found : str
        What was found.
    remedy : str
        What to do; never empty if something is wrong.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def fine(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """It works, but look."""
    return Finding(check, Verdict.WARNING, found, remedy)


def wrong(check: str, found: str, remedy: str = "") -> Finding:
    """It will not work. Our errors end in their remedy, after the last colon: without one given, that is it."""
    if not remedy:
        found, _, remedy = found.rpartition(": ")
    return Finding(check, Verdict.WRONG, found or remedy, remedy)
