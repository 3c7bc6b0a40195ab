"""Command line of the benchmarks: ``python -m benchmarks ckks``, ``shares``, ``features``, ``publishing`` and ``load``."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from .bench_command import app as bench
from .feature_command import features
from .federated_command import federated
from .load_command import load
from .measure import measure_net, peer_child, turns
from .nets import WEIGHTS, Net, pictures, published, shipped, tutorial4
from .publishing_command import publishing
from .report import markdown, show
from .results import Peer, Row, Run, Spread, machine, versions
from .share_command import shares
from .sides import Case
from .soak import soak

__all__ = ["main"]

_PICTURES = 64
_FILE_WIDTH = 130  # of tables that go to a file or a pipe

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def ckks(
    quick: Annotated[bool, typer.Option(help="Three turns, without the shipped models and the batches.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was measured.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw it (.svg; needs the extra 'bench').")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the main columns as Markdown.")
    ] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Counted turns of each row [default: 7; quick: 3].")] = None,
    peer: Annotated[bool, typer.Option("--peer-tutorial/--no-peer", help="Take turns with TenSEAL's tutorial.")] = True,
    only: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    weights: Annotated[str, typer.Option(help=f"Made-up weights: {' or '.join(WEIGHTS)}.")] = WEIGHTS[0],
    cores: Annotated[int, typer.Option(min=1, max=2, help="Measure up to so many cores.")] = 2,
) -> None:
    """Encrypted inference on CKKS, beside the clear and beside TenSEAL's tutorial path in the same run."""
    chosen = next((kind for kind in WEIGHTS if kind == weights), None)
    if chosen is None:
        raise typer.BadParameter(f"{weights!r} is not one of {', '.join(WEIGHTS)}", param_hint="--weights")
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    images = pictures(_PICTURES)
    tutorial = tutorial4(images, chosen)
    nets = [*published(images, chosen), *(() if quick else shipped(images))]
    todo = [(net, cases) for net, cases in turns(nets, cores, batches=not quick) if not only or net.name in only]
    if not todo:
        raise typer.BadParameter(f"none of {', '.join(net.name for net in nets)}", param_hint="--only")
    counted = repeat or (3 if quick else 7)
    run = _run(tutorial, todo, counted, peer)
    run.settings.update(weights=chosen, quick=quick)
    terminal = Console()
    show(run, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
    if json_file is not None:
        run.save(json_file)
    if markdown_file is not None:
        markdown_file.write_text(markdown(run) + "\n", encoding="utf-8")
    if plot_file is not None:
        from .plot import plot

        plot(run, plot_file)


app.add_typer(bench, name="bench")
app.command()(shares)
app.command()(features)
app.command()(federated)
app.command()(soak)
app.command()(load)
app.command()(publishing)


def _run(tutorial: Net, todo: list[tuple[Net, tuple[Case, ...]]], repeat: int, with_peer: bool) -> Run:
    rows: list[Row] = []
    times: list[float] = []
    found = None
    with ExitStack() as stack:
        peer = stack.enter_context(peer_child(tutorial)) if with_peer else None
        if peer is not None:
            peer.call("evaluate")  # as for ours, the first one does not count
        for net, cases in todo:
            more, peer_times = measure_net(net, cases, repeat=repeat, peer=peer)
            rows += more
            times += peer_times
        if peer is not None:
            found = Peer("T4, TenSEAL tutorial", Spread.of(times), peer.call("facts"))
    return Run(tuple(rows), found, {"repeat": repeat, "pictures": _PICTURES}, machine(), versions())


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m benchmarks")


if __name__ == "__main__":
    main()
