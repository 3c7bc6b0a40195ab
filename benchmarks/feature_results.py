"""What a run on features returns, and how it is written to JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .feature_executors import Figures
from .results import Spread

__all__ = ["SCHEMA", "Curve", "FeatureRow", "FeatureRun", "Outcome", "TaskRow"]

SCHEMA = "secureimg-benchmark-features/1"


@dataclass(frozen=True)
class FeatureRow:
    """One feature on one executor. Times in seconds, sizes in bytes, for one picture.

    `error` is the largest over all pictures of the largest error over the reference's largest value; `equal` is the part of
    values that are the reference's (where values are codes or counts; then there is no `error`). `reference_seconds` is what
    the reference took.
    """

    feature: str
    executor: str
    source: str
    size: int
    pictures: int
    error: float | None
    equal: float | None
    figures: Figures
    reference_seconds: Spread


@dataclass(frozen=True)
class TaskRow:
    """One measure of one task on one executor.

    `clear` is what the reference reaches in the clear (None for a measure that compares with it), `found` what the executor
    does, `agree` the part of answers that are those of the clear; `count` says of how many. `figures` are for one picture.
    """

    task: str
    executor: str
    measure: str
    clear: float | None
    found: float
    agree: float | None
    count: int
    figures: Figures


@dataclass(frozen=True)
class Curve:
    """A ROC curve: false and true positive rates."""

    task: str
    executor: str
    false: tuple[float, ...]
    true: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What a task found."""

    rows: tuple[TaskRow, ...]
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class FeatureRun:
    """Everything that one run measured, with what is needed to judge it. `failures` holds what could not run, and why."""

    rows: tuple[FeatureRow, ...]
    tasks: tuple[TaskRow, ...]
    curves: tuple[Curve, ...]
    failures: tuple[str, ...]
    settings: dict[str, Any]
    trust: str
    machine: dict[str, Any]
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON file."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
