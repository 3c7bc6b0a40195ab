"""Measures one row inside a network namespace that is shaped already: ``python -m benchmarks.bench_inside DIRECTORY``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from protocols.cli.options import Layout, ModelOptions
from secureimg.images import load_tensor_npy

from .bench_measure import Plan, measure_row
from .bench_subjects import Given
from .share_network import Network

__all__ = ["run_job", "write_job"]


class _Job(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    model: dict[str, Any]
    executor: str
    network: Network
    plan: Plan


def write_job(directory: Path, given: Given, executor: str, network: Network, plan: Plan) -> None:
    """Leave in a directory what `run_job` needs."""
    model = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(given.options).items()}
    np.save(directory / "values.npy", given.values)
    (directory / "job.json").write_bytes(msgspec.json.encode(_Job(given.name, model, executor, network, plan)))


def run_job(directory: Path) -> None:
    """Measure what `write_job` left, and write ``row.json``."""
    job = msgspec.json.decode((directory / "job.json").read_bytes(), type=_Job)
    model = job.model
    model["layout"] = Layout(model["layout"])
    if model["samples"] is not None:
        model["samples"] = Path(model["samples"])
    if model["input_range"] is not None:
        model["input_range"] = tuple(model["input_range"])
    given = Given(job.name, "", ModelOptions(**model), load_tensor_npy(directory / "values.npy"), (), ())
    row = measure_row(given, job.executor, job.network, job.plan, relayed=False)
    (directory / "row.json").write_bytes(msgspec.json.encode(row))


if __name__ == "__main__":
    run_job(Path(sys.argv[1]))
