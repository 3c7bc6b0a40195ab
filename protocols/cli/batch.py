"""`secureimg batch`: a folder of pictures, encrypted, on worker processes or a Ray cluster."""

from __future__ import annotations

import contextlib
import enum
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.batch import BatchError, Journal, Line, LocalEngine, RayEngine, Subject, Work, pictures_in, run_batch
from protocols.cli.console import duration, err, out, write_json
from protocols.cli.options import (
    Batch,
    InputRange,
    Json,
    Layout,
    LayoutOption,
    LoadedModel,
    ModelName,
    ModelOptions,
    Precision,
    Replace,
    Samples,
    Workers,
    cores,
)
from protocols.cli.remote import apply_tail, labels_of
from protocols.preparation import preparation_of
from secureimg.ckks import OwnerKeys, Program

__all__ = ["batch"]


class Where(enum.StrEnum):
    """Who evaluates."""

    LOCAL = "local"
    RAY = "ray"


class On(enum.StrEnum):
    """What a batch can run on: two parties hold sessions with one another, which do not travel."""

    CKKS = "ckks"


def batch(
    model: ModelName,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures; hidden files are left out.")],
    engine: Annotated[
        Where, typer.Option(help="Processes of this machine, or a Ray cluster (extra 'ray').")
    ] = Where.LOCAL,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="A Ray cluster that runs. Without: one on this machine.")
    ] = None,
    workers: Workers = None,
    on: Annotated[On, typer.Option("--on", help="What evaluates.")] = On.CKKS,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    result: Annotated[
        Path, typer.Option("--out", metavar="FILE.jsonl", help="Results, a line for each picture; gone on with.")
    ] = Path("results.jsonl"),
    as_json: Json = False,
) -> None:
    """Run MODEL on the pictures of FOLDER; this process encrypts and decrypts, workers see ciphertexts only.

    If it is stopped, the same command goes on where it stopped. A worker that dies loses nothing. With Ray, every member of
    the cluster can learn the model and the evaluation keys, but no picture and no result.
    """
    if address is not None and engine is not Where.RAY:
        raise BatchError("--address is a Ray cluster's: give --engine ray with it")
    started = time.perf_counter()
    files = pictures_in(folder, result)
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    loaded = options.load()
    program, compile_seconds = options.compile(loaded.graph)
    subject = Subject(loaded.graph.name, program.public.fingerprint, files)
    with Journal(result, subject) as journal, contextlib.ExitStack() as stack:
        before = journal.done
        report: dict[str, Any] = {
            "model": subject.model, "program": subject.program, "on": on.value, "engine": engine.value, "out": str(result),
            "resumed_at": before,
        }  # fmt: skip
        if before < len(files):
            report |= _run(program, loaded, files, journal, _Choice(engine, address, workers), stack)
    report["seconds"] = {"compile": compile_seconds, **report.get("seconds", {})}
    report["seconds"]["total"] = time.perf_counter() - started
    if as_json:
        write_json(report)
    else:
        _show(report, len(files))


class _Choice:
    """The engine that is asked for."""

    def __init__(self, engine: Where, address: str | None, workers: int | None) -> None:
        self.engine, self.address, self.workers = engine, address, workers

    def build(self, work: Work, name: str) -> LocalEngine | RayEngine:
        if self.engine is Where.RAY:
            return RayEngine(work, name, self.workers, self.address)
        return LocalEngine(work, self.workers or cores())


def _run(
    program: Program,
    model: LoadedModel,
    files: list[Path],
    journal: Journal,
    choice: _Choice,
    stack: contextlib.ExitStack,
) -> dict[str, Any]:
    _, tail = model.graph.body_and_tail()
    names = model.graph.labels

    def read(name: str, values: NDArray[np.float64]) -> Line:
        label = labels_of(values[None])[0]
        known = names[label] if names is not None and label < len(names) else None
        return Line(name, label, known, apply_tail(values[None], tail).ravel().tolist())

    start = time.perf_counter()
    keys = OwnerKeys.generate(program.public)
    work = Work.of(program, keys.evaluation_keys())
    made = time.perf_counter()
    engine = choice.build(work, f"{program.public.fingerprint} {keys.key_id}")
    stack.enter_context(engine)
    ready = time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    progress = stack.enter_context(Progress(*columns, console=err, transient=True, disable=not err.is_terminal))
    task = progress.add_task(
        f"{model.graph.name} on {engine.workers} workers", total=len(files), completed=journal.done
    )
    totals = run_batch(
        files,
        keys,
        preparation_of(model.graph),
        engine,
        journal,
        read,
        lambda done: progress.update(task, completed=done),
    )
    seconds = time.perf_counter() - ready
    return {
        "workers": engine.workers,
        "images": totals.images,
        "unreadable": totals.unreadable,
        "restarts": engine.restarts,
        "bytes": {"evaluation_keys": len(work.keys), "up": totals.bytes_up, "down": totals.bytes_down},
        "seconds": {"keygen": made - start, "start": ready - made, **totals.seconds, "run": seconds},
        "images_per_second": totals.images / seconds,
    }


def _show(report: dict[str, Any], count: int) -> None:
    if "images" not in report:
        out.print(f"{report['out']} has all {count} results already", soft_wrap=True)
        return
    seconds = report["seconds"]
    went_on = f", after {report['resumed_at']} that were there" if report["resumed_at"] else ""
    out.print(
        f"{report['out']}: {report['images']} pictures{went_on}, {report['unreadable']} unreadable, in "
        f"{duration(seconds['run'])} on {report['workers']} workers ({report['images_per_second']:.3g} a second; evaluation "
        f"{duration(seconds['evaluate'])} in all workers, encryption {duration(seconds['encrypt'])})",
        soft_wrap=True,
    )
