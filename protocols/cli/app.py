"""The command's entry: all subcommands, and errors as one line with a remedy, never a traceback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import typer

from protocols.cli import (
    advise,
    audit,
    batch,
    config,
    console,
    demo,
    doctor,
    enroll,
    features,
    federate,
    files,
    inspecting,
    match,
    pki,
    publish,
    run,
    sealing,
    serving,
    stock,
    tokens,
)
from protocols.cli.found_commands import add_found
from protocols.operations.logs import configure
from secureimg.errors import SecureImgError

__all__ = ["app", "main"]

app = typer.Typer(
    name="secureimg",
    help="Image computation on data that nobody but its owner may see.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

_PANELS: Final[dict[str, dict[str, Callable[..., Any] | typer.Typer]]] = {
    "A model on a picture that nobody sees": {
        "demo": demo.demo, "run": run.run, "inspect": inspecting.inspect, "advise": advise.advise,
        "models": inspecting.models, "batch": batch.batch,
    },
    "Features and galleries": {"features": features.features, "enroll": enroll.enroll, "match": match.match},
    "Images that leave their owner": {
        "publish": publish.publish, "keypair": sealing.keypair, "seal": sealing.seal, "open": sealing.open_sealed,
    },
    "Training across owners": {"federate": federate.federate},
    "Ciphertexts as files": {
        "keygen": files.keygen, "encrypt": files.encrypt, "evaluate": files.evaluate, "decrypt": files.decrypt,
    },
    "Machines of their own": {
        "pki": pki.app, "config": config.app, "doctor": doctor.doctor, "serve": serving.serve, "infer": serving.infer,
        "stock": stock.stock, "token": tokens.app, "audit": audit.app,
    },
}  # fmt: skip
"""Commands as `secureimg --help` groups them."""

for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line; exit status 0 done, 1 our fault, 2 an error that its message explains, 130 interrupted."""
    try:
        configure(os.environ.get("SECUREIMG_LOG", "WARNING"))
        add_found(app, sys.argv[1:])
        app()
    except SecureImgError as error:
        console.fail(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: nothing to flush at exit
        sys.exit(1)
    except Exception as error:  # the user is not to read tracebacks
        logging.getLogger(__name__).debug("internal error", exc_info=True)
        console.fail(error, internal=True)
        sys.exit(1)
