"""Measures a feature on its executors beside its reference, and a task; what fails leaves its reason."""

from __future__ import annotations

import dataclasses
import logging
import time

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import SecureImgError

from .feature_executors import Executors
from .feature_results import FeatureRow, Outcome
from .feature_scores import part_equal
from .feature_subjects import Kind, Subject
from .feature_tasks import Task
from .processes import ChildError
from .results import Spread

__all__ = ["measure_subject", "measure_task"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_REFERENCE_CALLS = 3


def measure_subject(
    subject: Subject, executors: Executors, *, size: int, repeat: int
) -> tuple[list[FeatureRow], list[str]]:
    """Measure one feature on all its executors.

    Parameters
    ----------
    subject : Subject
    executors : Executors
    size : int
        Side of the pictures.
    repeat : int
        Counted runs at least; each picture is run at least once.

    Returns
    -------
    (list of FeatureRow, list of str)
        A row an executor, and what failed.
    """
    graph = subject.build(size)
    inputs = subject.inputs(graph, size)
    wanted, seconds = _reference(subject, inputs)
    rows, failures = [], []
    for executor in subject.executors:
        options = {} if executor == "plain" else {"ends": subject.ends}
        try:
            measured = executors.on(executor)(graph, inputs, repeat=repeat, **options)
        except (ChildError, SecureImgError) as error:
            failures.append(_failure(f"{subject.name} on {executor}", error))
            continue
        error_, equal = _compare(subject.kind, measured.values, wanted)
        rows.append(
            FeatureRow(
                subject.name, executor, subject.source, size, len(inputs), error_, equal, measured.figures, seconds
            )
        )
        _log.info(
            "%s on %s: %.4f s, %s", subject.name, executor, measured.figures.seconds.median,
            f"error {error_:.1e}" if equal is None else f"{equal:.3%} equal",
        )  # fmt: skip
    return rows, failures


def measure_task(task: Task, executors: Executors, *, quick: bool) -> tuple[Outcome, list[str]]:
    """Measure one task; an empty outcome and the reason if it fails."""
    try:
        found = task.run(executors, quick)
    except (ChildError, SecureImgError) as error:
        return Outcome(()), [_failure(task.name, error)]
    for row in found.rows:
        _log.info("%s on %s: %s %.4f", task.name, row.executor, row.measure, row.found)
    return Outcome(
        tuple(dataclasses.replace(row, task=task.name) for row in found.rows),
        tuple(dataclasses.replace(curve, task=task.name) for curve in found.curves),
    ), []


def _reference(subject: Subject, inputs: Array) -> tuple[Array, Spread]:
    values, seconds = [], []
    for given in inputs:
        for call in range(_REFERENCE_CALLS):
            started = time.perf_counter()
            found = subject.reference(given)
            seconds.append(time.perf_counter() - started)
            if not call:
                values.append(np.asarray(found, dtype=np.float64).ravel())
    return np.stack(values), Spread.of(seconds)


def _compare(kind: Kind, found: Array, wanted: Array) -> tuple[float | None, float | None]:
    """The error, or the part that is equal."""
    flat = found.reshape(wanted.shape)
    if kind == "equal":
        return None, part_equal(flat, wanted)
    return float((np.abs(flat - wanted).max(axis=1) / np.abs(wanted).max(axis=1)).max()), None


def _failure(what: str, error: Exception) -> str:
    line = f"{what}: {error.reason if isinstance(error, ChildError) else str(error).strip().splitlines()[-1]}"
    _log.error("%s", line)
    return line
