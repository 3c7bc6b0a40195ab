"""`secureimg config init`: the file of one process of a deployment."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from protocols.cli.console import out, write_json
from protocols.cli.options import Json
from protocols.cli.output_files import check_new
from protocols.deployment.config import read_value
from protocols.deployment.model_names import with_files
from protocols.deployment.settings import Role
from protocols.deployment.template import template
from secureimg.errors import SecureImgError

__all__ = ["app"]

app = typer.Typer(name="config", help="Files that say what each process of a deployment does.", no_args_is_help=True,
                  rich_markup_mode=None)  # fmt: skip


class RoleName(enum.StrEnum):
    """What a process can be."""

    SERVER = "server"
    PARTY0 = "party0"
    PARTY1 = "party1"
    DEALER = "dealer"


_BUNDLES: Final = {"server": "server.pem", "party0": "party-0.pem", "party1": "party-1.pem", "dealer": "dealer.pem"}


@app.callback()
def config() -> None:
    """Files that say what each process of a deployment does."""


@app.command("init")
def init(
    role: Annotated[RoleName, typer.Option(help="What the process is: the CKKS server, a party, or a dealer.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Server and party 1: what to serve.")] = None,
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Its bundle, from `secureimg pki issue`.")
    ] = None,
    peer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Party 0: where party 1 listens.")] = None,
    dealer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="client-aided|HOST:PORT", help="Parties: who may deal: the owner, or a dealer process. Repeatable."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key; the value in TOML's syntax.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--out", metavar="FILE.toml", help="Where. Default: ROLE.toml.")] = None,
    as_json: Json = False,
) -> None:
    """Write the file of a process, every key with its meaning and default. Never over an existing file.

    Example: secureimg config init --role party0 --peer 192.0.2.7:7441 --dealer 192.0.2.8:7440
    """
    path = file or Path(f"{role.value}.toml")
    check_new(path)
    name: Role = role.value
    given: dict[str, Any] = {
        "identity": _from(path, identity) if identity is not None else _BUNDLES[name],
        "state": f"{path.stem}-state",  # several processes may have their files in one directory
    }
    if peer is not None:
        given["peers.party1"] = peer
    for word in dealer or ():
        if word == "client-aided":
            given["dealing.client_aided"] = True
        elif "peers.dealer" in given:
            raise SecureImgError(f"--dealer {word}: a party uses one dealer process: name the nearest")
        else:
            given["peers.dealer"] = word
    if model is not None:
        given["model.name"] = with_files(model, lambda name: _from(path, Path(name)))
    for text in settings or ():
        key, value = read_value(text)
        given[key] = value
    text = template(name, given, path)
    try:
        with path.open("x", encoding="utf-8") as stream:  # nothing in it is secret: a service's own user must read it
            stream.write(text)
    except OSError as error:
        raise SecureImgError(f"{path} cannot be written: {error.strerror}: name another file") from None
    if as_json:
        write_json({"file": str(path), "role": name})
        return
    out.print(f"{path}: look through it, then `secureimg doctor {path}` and `secureimg serve {path}`", soft_wrap=True)


def _from(file: Path, path: Path) -> str:
    """A path of the command line, as it is seen from the file that will name it."""
    if path.is_absolute():
        return str(path)
    return os.path.relpath(path.absolute(), file.absolute().parent)
