"""`secureimg serve` and `infer`: a process of a deployment, and an owner who asks it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.cli.console import amount, err, out, write_json
from protocols.cli.inputs import load_inputs
from protocols.cli.options import DealerOption, Json, parse_address
from protocols.cli.output_files import check_new, save_array
from protocols.cli.owner_ops import finish
from protocols.cli.passphrases import PassphraseFile, PassphrasePrompt, read_passphrase
from protocols.cli.remote import labels_of
from protocols.cli.shares import Inferred, infer_on_shares, require_dealer
from protocols.client import OwnerClient
from protocols.deployment.processes import Process
from secureimg.ckks import OwnerKeys
from secureimg.errors import SecureImgError

__all__ = ["infer", "serve"]


def serve(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="What it is, from `secureimg config init`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Instead of what the file says; the value in TOML's syntax."),
    ] = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Run one process of a deployment: the CKKS server, a party, or a dealer, as FILE.toml says.

    SIGTERM or Ctrl-C stops it when what is under way is done, a second one at once. SIGHUP re-reads certificates and model.
    """
    process = Process(file, settings or ())
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(process,), daemon=True).start()
    process.run(write_json if as_json else _tell_ready)
    if not as_json:
        err.print("stopped")


def _tell_ready(facts: dict[str, Any]) -> None:
    what = f", model {facts['model']}" if "model" in facts else ""
    out.print(f"{facts['role']} on {facts['host']}:{facts['port']}{what}; Ctrl-C stops", soft_wrap=True)
    for name in ("web", "operations"):
        if name in facts:
            out.print(f"{name} on https://{facts[name]['host']}:{facts[name]['port']}", soft_wrap=True)
    if "rounds" in facts:
        out.print(
            f"{facts['rounds']} rounds; {amount(facts['online_bytes'])} between the parties and "
            f"{amount(facts['offline_bytes'])} of corrections for an image; reveals {facts['reveal']}"
        )


def _watch_stdin(process: Process) -> None:
    """Stop when the process that started this one closes the pipe, or dies."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    process.stop()


def infer(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files, or one .npy (N, C, H, W).")],
    tls: Annotated[Path, typer.Option(metavar="FILE", help="The owner's bundle, or a directory with owner.pem.")],
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="CKKS: where the server listens.")] = None,
    parties: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="HOST:PORT HOST:PORT", help="Shares: where party 0 and party 1 listen."),
    ] = None,
    dealer: DealerOption = None,
    model: Annotated[str | None, typer.Option(help="Refuse any other model than this.")] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key file to use; made if missing. Default: keys for this call.")
    ] = None,
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    result: Annotated[Path | None, typer.Option("--out", metavar="FILE.npy", help="Save the outputs.")] = None,
    as_json: Json = False,
) -> None:
    """Have INPUTs evaluated unseen: encrypted by a server (--server), or on shares by two parties (--parties, --dealer)."""
    if result is not None:
        check_new(result)
    if (server is None) == (parties is None):
        raise SecureImgError("name either --server HOST:PORT (CKKS) or --parties HOST:PORT HOST:PORT (shares)")
    if parties is not None:
        done = infer_on_shares(inputs, parties, tls, require_dealer(dealer), model)
        _tell(done, result, as_json=as_json)
        return
    assert server is not None
    host, number = parse_address(server, "--server")
    secret = read_passphrase(passphrase, passphrase_file, confirm=key is not None and not key.exists())
    with OwnerClient(host, number, tls, model=model) as client:
        given = load_inputs(inputs, client.program.input_shape, client.offer.preparation)
        if key is not None and key.exists():
            keys = OwnerKeys.load(key, client.program, secret)
        else:
            keys = OwnerKeys.generate(client.program)
            if key is not None:
                keys.save(key, secret)
        sent = client.register(keys)
        values = client.infer(given.values)
        outputs, labels = finish(values, client.program), labels_of(values)
        traffic = {"evaluation_keys": sent, "sent": client.bytes_sent, "received": client.bytes_received}
    done = Inferred(given.names, outputs, labels, client.program.labels, traffic)
    _tell(done, result, as_json=as_json)


def _tell(done: Inferred, result: Path | None, *, as_json: bool) -> None:
    if result is not None:
        save_array(result, done.outputs)
    if as_json:
        outputs = [row.ravel().tolist() for row in done.outputs]
        write_json({"outputs": outputs, "labels": done.labels, "bytes": done.traffic})
        return
    names = done.label_names
    for title, label in zip(done.names, done.labels, strict=True):
        out.print(f"{title}: {names[label] if names is not None and label < len(names) else label}", soft_wrap=True)
    out.print(f"sent {amount(done.traffic['sent'])}, received {amount(done.traffic['received'])}")
