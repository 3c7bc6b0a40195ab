"""``python -m benchmarks features``: features and what they are for, beside the libraries that they follow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from protocols.cli.options import DealerKind
from protocols.cli.shares import TRUST

from .feature_executors import Executors
from .feature_report import feature_markdown, show_features
from .feature_results import Curve, FeatureRow, FeatureRun, TaskRow
from .processes import pin
from .results import machine, versions

if TYPE_CHECKING:
    from .feature_subjects import Subject
    from .feature_tasks import Task

__all__ = ["features"]

_FILE_WIDTH = 180  # of tables that go to a file or a pipe
_LIBRARIES = ("scikit-image", "scikit-learn", "PyWavelets")
_SIZES = (32, 512)
_STEP = 8  # of sides: blocks of the cosine transform


@dataclass(frozen=True)
class _Plan:
    """What is asked for, checked."""

    subjects: Sequence[Subject]
    tasks: Sequence[Task]
    size: int
    repeat: int
    cores: int
    workers: int
    quick: bool


def features(
    quick: Annotated[bool, typer.Option(help="A few features of 64x64 pictures, three runs, small tasks.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw it (.svg, .png; needs the extra 'bench').")
    ] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown.")] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Counted runs of each row [default: 5; quick: 3].")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only features and tasks whose name has this in it; repeatable.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=_SIZES[0], max=_SIZES[1], help="Side of the pictures [default: 128; quick: 64].")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=64, help="All processes share so many cores.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that evaluate ciphertexts, a core each.")] = 1,
) -> None:
    """Image features in the clear, on CKKS and on shares: seconds, bytes, rounds, error against other libraries; tasks."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    side = size or (64 if quick else 128)
    if side % _STEP:
        raise typer.BadParameter(f"{side} is not a multiple of {_STEP}", param_hint="--size")
    subjects, tasks = _chosen(only, quick)
    plan = _Plan(subjects, tasks, side, repeat or (3 if quick else 5), pin(cores), workers, quick)
    run = _measure(plan, console)
    if json_file is not None:
        run.save(json_file)
    terminal = Console()
    show_features(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if markdown_file is not None:
        markdown_file.write_text(feature_markdown(run) + "\n", encoding="utf-8")
    if plot_file is not None and (run.rows or run.tasks):
        from .feature_plot import plot_features

        plot_features(run, plot_file)
    if run.failures and not run.rows and not run.tasks:
        raise typer.Exit(1)


def _chosen(only: list[str] | None, quick: bool) -> tuple[Sequence[Subject], Sequence[Task]]:
    try:
        from .feature_subjects import SUBJECTS
        from .feature_tasks import TASKS
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "protocols", "secureimg"):
            raise
        needed = ", ".join(_LIBRARIES)
        raise typer.BadParameter(
            f"features are measured against {needed}, and {error.name} is not installed: pip install 'secureimg[dev]'"
        ) from None
    if not only:
        return [subject for subject in SUBJECTS if subject.quick or not quick], TASKS
    words = [word.lower() for word in only]
    subjects = [item for item in SUBJECTS if any(word in item.name.lower() for word in words)]
    tasks = [item for item in TASKS if any(word in item.name.lower() for word in words)]
    if not subjects and not tasks:
        known = ", ".join([*(item.name for item in SUBJECTS), *(item.name for item in TASKS)])
        raise typer.BadParameter(f"in none of {known}", param_hint="--only")
    return subjects, tasks


def _measure(plan: _Plan, console: Console) -> FeatureRun:
    from .feature_measure import measure_subject, measure_task
    from .feature_pictures import COLOUR, GREY

    rows: list[FeatureRow] = []
    task_rows: list[TaskRow] = []
    curves: list[Curve] = []
    failures: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        Executors(plan.cores, plan.workers) as executors,
    ):
        bar = progress.add_task("", total=len(plan.subjects) + len(plan.tasks))
        for subject in plan.subjects:
            progress.update(bar, description=subject.name)
            found, failed = measure_subject(subject, executors, size=plan.size, repeat=plan.repeat)
            rows += found
            failures += failed
            progress.advance(bar)
        for task in plan.tasks:
            progress.update(bar, description=task.name)
            outcome, failed = measure_task(task, executors, quick=plan.quick)
            task_rows += outcome.rows
            curves += outcome.curves
            failures += failed
            progress.advance(bar)
    settings = {
        "size": plan.size, "repeat": plan.repeat, "cores": plan.cores, "workers": plan.workers, "quick": plan.quick,
        "pictures": GREY, "colour": COLOUR, "tasks": {task.name: task.words for task in plan.tasks},
    }  # fmt: skip
    return FeatureRun(
        tuple(rows), tuple(task_rows), tuple(curves), tuple(failures), settings, TRUST[DealerKind.DEALER], machine(),
        versions() | {name: metadata.version(name) for name in _LIBRARIES},
    )  # fmt: skip
