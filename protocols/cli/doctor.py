"""`secureimg doctor`: what is wrong with a process of a deployment, and what to do."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from protocols.cli.console import err, out, write_json
from protocols.cli.options import Json
from protocols.deployment.doctor import examine, passed
from protocols.deployment.findings import Finding, Verdict

__all__ = ["doctor"]

_COLOURS: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


def doctor(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.toml", help="The process's file, from `secureimg config init`.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As `secureimg serve` would be given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check all that a process needs: file, certificate, clock, ports, peers, model, stock, memory, disk.

    The process may be running. Exit status 0: it can serve, with warnings or without; 2: something is wrong.
    """
    with err.status("looking") if err.is_terminal else contextlib.nullcontext():
        findings = list(examine(file, settings or ()))
    if as_json:
        write_json({"passed": passed(findings), "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        _show(findings)
    if not passed(findings):
        raise typer.Exit(2)


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "check", "found, and what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        told = escape(finding.found) + (f"\n[bold]{escape(finding.remedy)}[/bold]" if finding.remedy else "")
        table.add_row(f"[{colour}]{finding.verdict.value}[/{colour}]", finding.check, told)
    out.print(table)
    count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    out.print(f"{count[Verdict.OK]} ok, {count[Verdict.WARNING]} to look at, {count[Verdict.WRONG]} wrong")
