"""The command's entry: all subcommands, and errors as one line with a remedy, never a traceback."""

from __future__ import annotations

import logging
import os
import sys

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
    rich_markup_mode=None,
)
app.command("advise")(advise.advise)
app.command("batch")(batch.batch)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("inspect")(inspecting.inspect)
app.command("models")(inspecting.models)
app.command("features")(features.features)
app.command("enroll")(enroll.enroll)
app.command("match")(match.match)
app.command("publish")(publish.publish)
app.command("keypair")(sealing.keypair)
app.command("seal")(sealing.seal)
app.command("open")(sealing.open_sealed)
app.command("federate")(federate.federate)
app.command("keygen")(files.keygen)
app.command("encrypt")(files.encrypt)
app.command("evaluate")(files.evaluate)
app.command("decrypt")(files.decrypt)
app.add_typer(config.app, name="config")
app.add_typer(pki.app, name="pki")
app.add_typer(tokens.app, name="token")
app.add_typer(audit.app, name="audit")
app.command("doctor")(doctor.doctor)
app.command("serve")(serving.serve)
app.command("infer")(serving.infer)
app.command("stock")(stock.stock)


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
