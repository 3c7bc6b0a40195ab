"""`secureimg stock`: correlations that a party keeps for later."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from protocols.cli.console import amount, out, write_json
from protocols.cli.options import Json
from protocols.deployment import load
from secureimg.errors import SecureImgError
from secureimg.sharing import CorrelationStore

__all__ = ["stock"]


def stock(
    place: Annotated[Path, typer.Argument(metavar="FILE.toml|DIR", help="The party's file, or its state directory.")],
    as_json: Json = False,
) -> None:
    """List the correlations that a party keeps for later. The party must not be running: a stock serves one process."""
    directory = place if place.is_dir() else load(place).state
    if not (directory / "correlations").is_dir():
        raise SecureImgError(
            f"{directory} holds no stock: name the file or the state directory of a party that has run"
        )
    with CorrelationStore(directory / "correlations") as store:
        items, counts = store.available(), store.counts()
    if as_json:
        write_json({"counts": counts, "correlations": [dataclasses.asdict(item) for item in items]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "program", "images", "bytes", "made"):
        table.add_column(title)
    for item in items:
        made = datetime.datetime.fromtimestamp(item.created, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        table.add_row(item.id, item.program[:12], str(item.images), amount(item.size), made)
    out.print(table)
    out.print(f"{counts['available']} to use, {counts['spent']} spent, {amount(counts['bytes'])}")
