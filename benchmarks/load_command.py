"""``python -m benchmarks load``: servers under the load of many owners, beside the same work without a network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.logging import RichHandler

from secureimg.graph import load_model

from .load_results import LoadRow, LoadRun, show_load
from .load_sides import CkksInside, CkksPool, Processes, ServerLoad, SharesInside, SharesLoad
from .nets import pictures
from .results import machine, versions

__all__ = ["load"]

_FILE_WIDTH = 150  # of tables that go to a file or a pipe
_CKKS = ("mnist-cnn", "mnist-lenet")
_SHARES = ("mnist-cnn",)
_log = logging.getLogger(__name__)


class _Side(Protocol):
    def run(self, count: int) -> float:
        """Answer so many requests; return the seconds."""

    def close(self) -> None:
        """End its processes."""


def load(
    owners: Annotated[int, typer.Option(min=1, max=64, help="Owners that ask at the same time.")] = 8,
    requests: Annotated[int, typer.Option(min=8, help="Requests in a turn, of all owners together.")] = 64,
    repeat: Annotated[int, typer.Option(min=1, help="Counted turns of each side.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Only rows whose name has this in it; repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
) -> None:
    """Answers a second from a CKKS server and from a pair of parties, beside the best of the same work in-process."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    names = [*(f"CKKS server, {model}" for model in _CKKS), *(f"party pair, {model}" for model in _SHARES)]
    chosen = [name for name in names if not only or any(part.lower() in name.lower() for part in only)]
    if not chosen:
        raise typer.BadParameter(f"in none of {', '.join(names)}", param_hint="--only")
    rows = tuple(_measure(name, owners, requests, repeat) for name in chosen)
    settings = {"owners": owners, "requests": requests, "repeat": repeat}
    run = LoadRun(rows, settings, machine(), versions())
    terminal = Console()
    show_load(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if json_file is not None:
        run.save(json_file)


def _measure(name: str, owners: int, requests: int, repeat: int) -> LoadRow:
    system, model = name.split(", ")
    picture = pictures(1)[0].reshape(load_model(model).input_shape)
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:

        def open_side(make: Callable[..., Any], *given: Any) -> Any:
            return stack.enter_context(closing(make(model, picture, *given)))

        inside: Mapping[str, _Side]
        if system == "CKKS server":
            served: ServerLoad | SharesLoad = open_side(ServerLoad, owners)
            inside = {
                f"Evaluator with {cores} workers": open_side(CkksPool, owners),
                f"{cores} processes": stack.enter_context(closing(Processes(CkksInside, model, picture, cores))),
            }
        else:
            served = open_side(SharesLoad, owners)
            inside = {
                f"{count} process{'es' if count > 1 else ''}": stack.enter_context(
                    closing(Processes(SharesInside, model, picture, count))
                )
                for count in {1, cores}
            }
        rates: dict[str, list[float]] = {way: [] for way in (*inside, "")}
        for turn in range(repeat):
            for way, side in ({"": served, **inside} if turn % 2 else {**inside, "": served}).items():
                rates[way].append(requests / side.run(requests))
            _log.info("%s, turn %d: %s", name, turn + 1, {way or "served": round(r[-1], 2) for way, r in rates.items()})
    return LoadRow.of(name, owners, requests, rates.pop(""), rates, served.wrong)
