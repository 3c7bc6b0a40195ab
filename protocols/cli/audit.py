"""`secureimg audit`: check a server's audit log, and look into it."""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from protocols.cli.console import amount, err, out, write_json
from protocols.cli.options import Json
from protocols.operations.audit_chain import AuditError, Record
from protocols.operations.audit_reading import Summary, in_order, read, verify
from protocols.operations.logs import one_line
from secureimg.errors import SecureImgError

__all__ = ["app"]

app = typer.Typer(
    help="Check a server's audit log, and look into it. The server may be running.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="All files of one log, in any order.")]


@app.command("verify")
def verify_log(
    files: Files,
    expect: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="A head that was noted elsewhere, earlier: the log must have that record."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that every record follows from the one before, and print the head: the hash that stands for all of them.

    Whoever can rewrite the whole log can rewrite the whole chain. So keep the head where the server's administrator cannot
    write, and check it next time with --expect.
    """
    if expect is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", expect):
        raise SecureImgError(
            f"--expect {expect[:20]!r} is no SHA-256: give the 64 hexadecimal digits that verify printed"
        )
    summary = verify(in_order(files), expect)
    if as_json:
        write_json({**dataclasses.asdict(summary), "events": dict(summary.events), "records": summary.records})
        return
    _tell(summary)


@app.command("show")
def show(
    files: Files,
    owner: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only what concerns owners whose fingerprint begins so.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, metavar="N", help="Only the last N records; 0 shows all.")] = 50,
    as_json: Json = False,
) -> None:
    """Print records, the newest last. The chain is checked on the way."""
    wanted: collections.deque[Record] = collections.deque(maxlen=last or None)
    broken: AuditError | None = None
    try:
        for record in read(in_order(files)):
            if owner is None or (record.owner and record.owner.startswith(owner.lower())):
                wanted.append(record)
    except AuditError as error:  # what stands before the break can still be told
        broken = error
    if as_json and broken is None:
        write_json({"records": [msgspec.to_builtins(record) for record in wanted]})
    elif not as_json:
        out.print(_table(wanted))
    if broken is not None:
        raise broken


def _tell(summary: Summary) -> None:
    if not summary.records:
        out.print("no record yet")
    else:
        out.print(
            f"intact: records {summary.first} to {summary.last}, {summary.began} to {summary.ended}", soft_wrap=True
        )
        counts = ", ".join(f"{count} {name}" for name, count in summary.events.most_common(12))
        out.print(escape(one_line(f"{summary.images} images answered; {counts}")), soft_wrap=True)
        out.print(f"head {summary.head}", soft_wrap=True)
    if summary.expected is not None:
        out.print(f"the expected hash is that of record {summary.expected}: nothing up to it was changed")
    if summary.first > 1:
        err.print(f"records before {summary.first} are in files that were not named, and not checked", soft_wrap=True)
    if summary.omitted:
        err.print(
            f"{summary.omitted} refusals and session starts and ends were left out, of owners that caused too many",
            soft_wrap=True,
        )
    if summary.torn:
        err.print(
            f"the last {amount(summary.torn)} are no whole record: the server is writing it, or crashed and sets it aside "
            "when it starts again",
            soft_wrap=True,
        )


def _table(records: collections.deque[Record]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("record", "time", "event", "owner", "facts"):
        table.add_column(title, overflow="fold", no_wrap=title in ("record", "time", "event"))
    for record in records:
        facts = ", ".join(f"{key} {_short(value)}" for key, value in record.facts.items())
        cells: list[Any] = [str(record.sequence), record.time[:19] + "Z", record.event, record.owner[:12], facts]
        table.add_row(*(escape(one_line(cell)) for cell in cells))
    return table


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else text
