"""``secureimg bench``: what encryption costs for a model and pictures, measured and shown; and two such runs compared.

This module is loaded by every call of ``secureimg``: what takes time to import is imported where it is used.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import click
import typer
from typer.core import TyperGroup

from protocols.cli.options import DealerKind, Executor, InputRange, ModelOptions, Precision, Replace, Samples

if TYPE_CHECKING:
    from rich.console import Console

    from .bench_run import Wanted
    from .bench_subjects import Given

__all__ = ["app"]

_NETWORKS: Final = ("loopback", "lan", "wan")
_OUT: Final = Path("secureimg-bench")
_FILE_WIDTH: Final = 180  # of tables that go to a file or a pipe


class _Group(TyperGroup):
    """Takes everything but ``compare`` for the measuring command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group, name="bench", help="What encryption costs: your model on your pictures, or the standard suite.",
    rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip


@app.command("run")
def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="As of `secureimg run`. Default: the standard suite.")
    ] = None,
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Image files, or one .npy. Default: made-up pictures.")
    ] = None,
    suite: Annotated[bool, typer.Option("--suite", help="The standard suite, which is the default.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of the suite only what has this in its name; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer runs; of the suite the small models.")] = False,
    on: Annotated[str, typer.Option("--on", metavar="LIST", help="Executors, by commas.")] = "plain,ckks,shares",
    repeat: Annotated[int | None, typer.Option(min=1, help="Counted runs at least [default: 7; quick: 3].")] = None,
    network: Annotated[str, typer.Option(metavar="LIST", help="Networks, by commas.")] = ",".join(_NETWORKS),
    dealer: Annotated[
        DealerKind, typer.Option(help="Shares: the owner deals, or a third process.")
    ] = DealerKind.DEALER,
    cores: Annotated[int, typer.Option(min=1, max=256, help="All processes share so many cores.")] = 2,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PYTHON", help="Run another system, too; repeatable (docs/measuring.md)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"Rows, bench.json, bench.html [default: {_OUT}].")
    ] = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    precision: Precision = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout, too.")] = False,
) -> None:
    """Measure MODEL on the INPUTs, in the clear, on CKKS and on shares; write bench.json and bench.html to DIR.

    Without MODEL: the standard suite. Rows that DIR has already are not measured again. `secureimg bench compare A B` says
    which differences between two reports are more than noise.
    """
    if model is None and (inputs or samples or replace_activations or input_range or precision):
        raise typer.BadParameter("these options are about a MODEL, and none is given", param_hint="MODEL")
    if model is not None and suite:
        raise typer.BadParameter("give either a MODEL or --suite", param_hint="--suite")
    if model is not None and only:
        raise typer.BadParameter("it chooses from the suite, and a MODEL is given", param_hint="--only")
    options = None
    if model is not None:
        options = ModelOptions(
            model, samples=samples, replace=replace_activations, input_range=input_range, precision=precision
        )
    _bench(
        options, inputs or [], out or _OUT, executors=_listed(on, [each.value for each in Executor], "--on"),
        networks=_listed(network, _NETWORKS, "--network"), repeat=repeat or (3 if quick else 7), quick=quick,
        dealer=dealer, cores=cores, peers=peer or [], only=only or [], as_json=as_json,
    )  # fmt: skip


def _listed(text: str, known: Any, hint: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(known)}", param_hint=hint)
    if not names:
        raise typer.BadParameter(f"name at least one of {', '.join(known)}", param_hint=hint)
    return names


def _bench(
    options: ModelOptions | None,
    inputs: list[Path],
    out: Path,
    *,
    executors: list[str],
    networks: list[str],
    repeat: int,
    quick: bool,
    dealer: DealerKind,
    cores: int,
    peers: list[str],
    only: list[str],
    as_json: bool,
) -> None:
    import tempfile

    from rich.console import Console

    from protocols.cli.shares import TRUST

    from .bench_journal import Journal
    from .bench_measure import Plan
    from .bench_run import Wanted
    from .processes import pin
    from .share_network import NETWORKS
    from .share_peers import CKKS_PEERS, PEERS, parse_peer

    try:
        asked = dict(parse_peer(text, (*PEERS, *CKKS_PEERS)) for text in peers)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--peer") from None
    chosen = [NETWORKS[name] for name in networks]
    with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
        subjects = _subjects(options, inputs, executors, only, Path(home), quick=quick)
        journal = Journal(out)  # only now: what was typed wrong leaves no directory
        plan = Plan(repeat, pin(cores), dealer)
        settings = {
            "repeat": repeat, "cores": plan.cores, "quick": quick, "dealer": dealer.value, "on": executors,
            "networks": {each.name: each.words for each in chosen}, "trust": TRUST[dealer],
        }  # fmt: skip
        wanted = Wanted(subjects, executors, chosen, options is not None or not quick, plan, asked)
        command = "secureimg bench " + shlex.join(_words())
        report = _measure(wanted, journal, settings, command.strip())
    page, file = out / "bench.html", out / "bench.json"
    text = _write(report, page, file)
    if as_json:
        sys.stdout.write(text)
    else:
        terminal = Console()
        _show(file, terminal if terminal.is_terminal else Console(width=_FILE_WIDTH))
        terminal.print(f"{file}\n{page}", highlight=False)
    if not report.rows:
        raise typer.Exit(1)


def _subjects(
    options: ModelOptions | None, inputs: list[Path], executors: list[str], only: list[str], home: Path, *, quick: bool
) -> Sequence[Given]:
    from .bench_subjects import own_model, suite

    if options is not None:
        return [own_model(options, inputs)]
    found = suite(home, quick=quick, on=executors)
    chosen = [given for given in found if not only or any(word.lower() in given.name.lower() for word in only)]
    if not chosen:
        raise typer.BadParameter(f"in none of {', '.join(given.name for given in found)}", param_hint="--only")
    return chosen


def _words() -> list[str]:
    """What was typed behind ``bench``; inputs that are many by their number."""
    words = sys.argv[2:] if sys.argv[1:2] == ["bench"] else []
    return words if len(words) <= 24 else [*words[:24], f"... and {len(words) - 24} more words"]


def _measure(wanted: Wanted, journal: Any, settings: dict[str, Any], command: str) -> Any:
    import logging

    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from protocols.cli.console import err

    from .bench_run import run

    logger = logging.getLogger("benchmarks")
    if not logger.handlers:
        logger.addHandler(RichHandler(console=err, show_path=False, show_level=False))
        logger.setLevel(logging.INFO)
        logger.propagate = False
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def tell(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=what)

        return run(wanted, journal, settings, command, tell)


def _write(report: Any, page: Path, file: Path) -> str:
    """Add the texts that are shown, write the JSON, and render the page from what was written."""
    import msgspec

    from .bench_page import page_of
    from .bench_results import load_report, report_bytes
    from .bench_texts import shown_of

    file.write_bytes(report_bytes(msgspec.structs.replace(report, shown=shown_of(report))))
    page.write_text(page_of(load_report(file)), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _show(file: Path, console: Console) -> None:
    from .bench_results import load_report
    from .bench_tables import show_report

    show_report(load_report(file), console)


@app.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="A report.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    fail: Annotated[bool, typer.Option("--fail", help="Exit status 1 if anything got slower.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show what stayed the same, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say which differences between two reports are more than noise."""
    from rich.console import Console

    from protocols.cli.console import write_json

    from .bench_compare import compare as compared
    from .bench_compare import comparison_table
    from .bench_results import load_report

    found = compared(load_report(before), load_report(after), (before, after))
    if as_json:
        write_json(found.as_dict())
    else:
        terminal = Console(highlight=False)
        console = terminal if terminal.is_terminal else Console(width=_FILE_WIDTH, highlight=False)
        changed = [change for change in found.changes if change.verdict != "same"]
        if changed or everything:
            console.print(comparison_table(found, everything=everything))
        console.print(f"{len(found.changes)} figures compared, {len(changed)} changed, {len(found.slower)} slower")
        for remark in found.remarks:
            console.print(f"- {remark}")
    if fail and found.slower:
        raise typer.Exit(1)
