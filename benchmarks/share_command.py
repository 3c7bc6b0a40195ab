"""``python -m benchmarks shares``: inference on shares, beside the clear and beside other systems in the same run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from protocols.cli.options import DealerKind
from protocols.cli.shares import TRUST

from .processes import ChildError, pin
from .results import machine, versions
from .share_measure import measure_work
from .share_network import NETWORKS, Network, has_netem, inside
from .share_peers import PEERS, parse_peer
from .share_report import plot_shares, share_markdown, show_shares
from .share_results import ShareRow, ShareRun
from .share_rows import WORKS, Work

__all__ = ["shares"]

_FILE_WIDTH = 180  # of tables that go to a file or a pipe
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """What is asked for, checked."""

    works: tuple[Work, ...]
    networks: tuple[Network, ...]
    dealer: DealerKind
    repeat: int
    cores: int
    peers: Mapping[str, Path]
    inside: bool


def shares(
    quick: Annotated[bool, typer.Option(help="Three runs, without the networks on 224x224 pictures.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw it (.svg; needs the extra 'bench').")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table as Markdown.")] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Counted runs of each row [default: 7; quick: 3].")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only rows whose name has this in it; repeatable.")] = None,
    dealer: Annotated[DealerKind, typer.Option(help="The owner deals, or a process of its own.")] = DealerKind.DEALER,
    cores: Annotated[int, typer.Option(min=1, max=2, help="All processes share so many cores.")] = 2,
    network: Annotated[list[str] | None, typer.Option(help=f"{', '.join(NETWORKS)}; repeatable.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PYTHON", help=f"Run {' or '.join(PEERS)} too; repeatable.")
    ] = None,
    inside_namespace: Annotated[bool, typer.Option("--inside-namespace", hidden=True)] = False,
) -> None:
    """Inference on additive shares between real processes: seconds, bytes, rounds, error, memory."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    plan = _Plan(
        works=_works(only, quick),
        networks=_networks(network),
        dealer=dealer,
        repeat=repeat or (3 if quick else 7),
        cores=pin(cores),
        peers=_peers(peer),
        inside=inside_namespace,
    )
    rows = _measure(plan, console)
    settings = {
        "repeat": plan.repeat, "cores": plan.cores, "dealer": dealer.value, "quick": quick,
        "networks": {one.name: one.words for one in plan.networks},
    }  # fmt: skip
    run = ShareRun(tuple(rows), settings, TRUST[dealer], machine(), versions())
    if json_file is not None:
        run.save(json_file)
    if inside_namespace:  # the process that started this one shows them
        return
    terminal = Console()
    show_shares(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if markdown_file is not None:
        markdown_file.write_text(share_markdown(run) + "\n", encoding="utf-8")
    if plot_file is not None and rows:
        plot_shares(run, plot_file)
    if not rows:
        raise typer.Exit(1)


def _works(only: list[str] | None, quick: bool) -> tuple[Work, ...]:
    if not only:
        return tuple(work for work in WORKS if not (quick and work.long))
    found = tuple(work for work in WORKS if any(part.lower() in work.name.lower() for part in only))
    if not found:
        raise typer.BadParameter(f"in none of {', '.join(work.name for work in WORKS)}", param_hint="--only")
    return found


def _networks(names: list[str] | None) -> tuple[Network, ...]:
    for name in names or ():
        if name not in NETWORKS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(NETWORKS)}", param_hint="--network")
    return tuple(NETWORKS[name] for name in dict.fromkeys(names or ["loopback"]))


def _peers(texts: list[str] | None) -> dict[str, Path]:
    try:
        return dict(parse_peer(text) for text in texts or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--peer") from None


def _measure(plan: _Plan, console: Console) -> list[ShareRow]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    rows = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(plan.works) * len(plan.networks))
        for number, network, work in _order(plan):
            progress.update(task, completed=number, description=f"{work.name}, {network.words}")
            try:
                row = _row(plan, network, work)
            except ChildError as error:  # the other rows are still worth having
                _log.error("%s, %s: %s", work.name, network.name, str(error).strip().splitlines()[-1])
                continue
            rows.append(row)
            _log.info(
                "%s: online %.4f s, offline %.4f s, %.2f MB, %d rounds",
                row.title, row.online.median, row.offline.median, row.online_bytes / 1e6, row.rounds,
            )  # fmt: skip
    return rows


def _order(plan: _Plan) -> Iterator[tuple[int, Network, Work]]:
    number = 0
    for network in plan.networks:
        for work in plan.works:
            yield number, network, work
            number += 1


def _row(plan: _Plan, network: Network, work: Work) -> ShareRow:
    shaped = network.rate is not None
    if shaped and not plan.inside and has_netem():
        return _row_inside(plan, network, work)
    relayed = shaped and not plan.inside
    return measure_work(
        work, plan.dealer, network, repeat=plan.repeat, threads=plan.cores, relayed=relayed,
        peers={} if relayed else plan.peers,  # the relays carry our links only
    )  # fmt: skip


def _row_inside(plan: _Plan, network: Network, work: Work) -> ShareRow:
    """Measure a row by this same command inside a namespace whose loopback is the network."""
    with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
        file = Path(home) / "row.json"
        words = [
            *("--only", work.name, "--network", network.name, "--dealer", plan.dealer.value),
            *("--repeat", str(plan.repeat), "--cores", str(plan.cores), "--json", str(file), "--inside-namespace"),
            *(word for name, python in plan.peers.items() for word in ("--peer", f"{name}={python}")),
        ]
        done = subprocess.run(
            inside(network, [sys.executable, "-m", "benchmarks", "shares", *words]),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        rows = json.loads(file.read_text())["rows"] if file.is_file() else []
        if done.returncode or len(rows) != 1:
            raise ChildError((done.stderr or "no message").strip())
        return ShareRow.from_dict(rows[0])
