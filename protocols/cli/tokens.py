"""`secureimg token`: hand out and take back what owners without a certificate show to the web interfaces."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from protocols.cli.console import err, out, write_json
from protocols.cli.options import Json
from protocols.web.tokens import (
    DAYS,
    MOST_DAYS,
    Entry,
    TokenRole,
    add_entry,
    file_name,
    make_entry,
    new_secret,
    owner_id,
    read_entries,
    remove_entries,
    shown_to,
)
from secureimg.errors import KeyMaterialError

__all__ = ["app"]

app = typer.Typer(
    name="token",
    help="Tokens of owners who use the web page or HTTPS, and have no certificate.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Where(enum.StrEnum):
    """Who is to accept a token."""

    PARTIES = "parties"
    SERVER = "server"


_ROLES: Final[dict[Where, tuple[TokenRole, ...]]] = {Where.PARTIES: ("party0", "party1"), Where.SERVER: ("server",)}

OutDir = Annotated[Path, typer.Option("--out-dir", metavar="DIR", help="Where the token files are to be.")]
Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the token files are.")]
For = Annotated[Where, typer.Option("--for", help="Who accepts the token: the two parties, or the CKKS server.")]


@app.callback()
def token() -> None:
    """Tokens of owners who use the web page or HTTPS, and have no certificate."""


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who gets the token.")],
    out_dir: OutDir = Path(),
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, metavar="N", help="How long it is valid.")] = DAYS,
    where: For = Where.PARTIES,
    as_json: Json = False,
) -> None:
    """Make a token, print it, this one time, and add it to the token file of each process that is to accept it.

    Take each file to its own process (key web.tokens, mode 0600), which reads it anew by itself. The files do not hold the
    token, and neither party's file helps to ask the other one.
    """
    secret = new_secret()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    expires = now + datetime.timedelta(days=days)
    files = {role: out_dir / file_name(role) for role in _ROLES[where]}
    entries = {role: make_entry(role, name, secret, expires) for role in files}
    _make_directory(out_dir)
    for path in files.values():  # before any of them is written
        if path.exists() and any(entry.name == name for entry in read_entries(path)):
            raise KeyMaterialError(
                f"{path} has an owner {name!r} already: revoke that token first, or use another name"
            )
    for role, path in files.items():
        add_entry(path, entries[role])
    if as_json:
        write_json(
            {
                "name": name, "token": secret, "owner": owner_id(secret), "expires": expires.isoformat(),
                "files": {role: str(path) for role, path in files.items()},
                "bearer": {role: shown_to(role, secret) for role in files},
            }
        )  # fmt: skip
        return
    out.print(secret, soft_wrap=True)
    taken = ", ".join(f"{path} to {role}" for role, path in files.items())
    err.print(escape(f"for {name}, until {expires:%Y-%m-%d}; it is shown this one time. Take {taken}."), soft_wrap=True)


@app.command("list")
def show(directory: Directory = Path(), where: For = Where.PARTIES, as_json: Json = False) -> None:
    """List the owners in the token files of a directory."""
    found = {role: read_entries(directory / file_name(role)) for role in _ROLES[where]}
    now = datetime.datetime.now(datetime.UTC)
    if as_json:
        write_json({"owners": {role: [_facts(entry, now) for entry in entries] for role, entries in found.items()}})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "owner", "expires", *found):
        table.add_column(title)
    every = {entry.id: entry for entries in found.values() for entry in entries}
    for entry in sorted(every.values(), key=lambda entry: entry.name):
        expires = f"{entry.expires:%Y-%m-%d}" + ("" if now < entry.expires else " (expired)")
        held = ["yes" if any(other.id == entry.id for other in entries) else "no" for entries in found.values()]
        table.add_row(escape(entry.name), entry.id[:12], expires, *held)
    out.print(table if every else "no owner yet")


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token.")],
    directory: Directory = Path(),
    where: For = Where.PARTIES,
    as_json: Json = False,
) -> None:
    """Remove an owner from the token files of a directory. It counts once each file is at its process."""
    paths = [directory / file_name(role) for role in _ROLES[where]]
    for path in paths:
        read_entries(path)  # all of them can be read, or none is changed
    changed = [path for path in paths if remove_entries(path, (name,))]
    if not changed:
        raise KeyMaterialError(f"no owner {name!r} in {', '.join(map(str, paths))}: `secureimg token list` shows them")
    if as_json:
        write_json({"name": name, "files": [str(path) for path in changed]})
        return
    out.print(
        escape(f"{name} is removed from {', '.join(map(str, changed))}: take them to their processes"), soft_wrap=True
    )


def _facts(entry: Entry, now: datetime.datetime) -> dict[str, object]:
    return {
        "name": entry.name, "owner": entry.id, "expires": entry.expires.isoformat(), "expired": now >= entry.expires
    }  # fmt: skip


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be made: {error.strerror}: name another directory") from None
