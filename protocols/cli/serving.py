"""`secureimg serve`, `admit` and `infer`: owner and server on two machines."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from protocols.cli.console import amount, err, out, write_json
from protocols.cli.inputs import load_inputs
from protocols.cli.options import (
    Batch,
    DealerOption,
    InputRange,
    Json,
    Layout,
    LayoutOption,
    ModelName,
    ModelOptions,
    Precision,
    Replace,
    Samples,
    Workers,
    cores,
    parse_address,
)
from protocols.cli.output_files import check_new, save_array
from protocols.cli.owner_ops import finish
from protocols.cli.passphrases import PassphraseFile, PassphrasePrompt, read_passphrase
from protocols.cli.remote import labels_of
from protocols.cli.shares import Inferred, infer_on_shares, require_dealer
from protocols.client import OwnerClient
from protocols.engine import CkksEngine
from protocols.identity import OWNER_BUNDLE, enrol_owner, ensure_identities
from protocols.limits import Limits
from protocols.memory_use import peak_memory
from protocols.service import Service
from secureimg.ckks import OwnerKeys
from secureimg.errors import SecureImgError

__all__ = ["admit", "infer", "serve", "watch_stdin"]


def serve(
    model: ModelName,
    tls: Annotated[Path, typer.Option(metavar="DIR", help="The server's identity; made there on the first start.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7443,
    workers: Workers = None,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    queue: Annotated[int, typer.Option(min=0, max=10_000, help="Evaluations that may wait.")] = Limits.queue,
    connections: Annotated[int, typer.Option(min=1, max=4096, help="Open connections.")] = Limits.connections,
    key_memory: Annotated[int, typer.Option(min=1, metavar="MB", help="Memory for all evaluation keys.")] = 8192,
    owner_key_memory: Annotated[int, typer.Option(min=1, metavar="MB", help="Memory for one owner's keys.")] = 2048,
    idle: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest pause between requests.")
    ] = Limits.idle,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Serve MODEL to owners who hold a certificate of this server's. Stop with Ctrl-C or SIGTERM.

    The first start makes the identity. Hand `owner.pem` to the owner over a safe channel; `secureimg admit` makes more.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    made = ensure_identities(tls)
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    graph = options.load().graph
    program, seconds = options.compile(graph)
    limits = Limits(
        connections=connections,
        connections_per_owner=max(1, min(Limits.connections_per_owner, connections)),
        queue=queue,
        keys_total=key_memory << 20,
        keys_per_owner=owner_key_memory << 20,
        idle=idle,
    )
    count = workers or cores()
    with CkksEngine(graph, program, count) as engine, Service(engine, tls, limits, host, port) as service:
        threading.Thread(target=_stop_when, args=(stop, service), daemon=True).start()
        if until_stdin_closes:
            threading.Thread(target=watch_stdin, args=(stop,), daemon=True).start()
        address = service.address
        if as_json:
            write_json(
                {
                    "host": address[0],
                    "port": address[1],
                    "model": engine.model,
                    "program": engine.fingerprint,
                    "seconds": {"compile": seconds},
                    "pid": os.getpid(),
                    "peak_rss": peak_memory(),
                }
            )
        else:
            if made:
                out.print(f"made a new identity in {tls}; hand {tls / OWNER_BUNDLE} to the owner", soft_wrap=True)
            out.print(
                f"serving {engine.model} on {address[0]}:{address[1]} with {count} worker(s); Ctrl-C stops",
                soft_wrap=True,
            )
        service.run()
    if not as_json:
        err.print("stopped")


def admit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the owner in its certificate.")],
    tls: Annotated[Path, typer.Option(metavar="DIR", help="The server's identity directory.")],
    bundle: Annotated[Path, typer.Option("--out", metavar="FILE.pem", help="Where to write the owner's bundle.")],
    as_json: Json = False,
) -> None:
    """Make an identity for one more owner of a server. Each owner sees only its own keys."""
    check_new(bundle)
    enrol_owner(tls, name, bundle)
    if as_json:
        write_json({"owner": name, "bundle": str(bundle)})
    else:
        out.print(f"{bundle}: hand it to {name} over a safe channel; it holds a private key", soft_wrap=True)


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


def _stop_when(event: threading.Event, service: Service) -> None:
    event.wait()
    service.stop()


def watch_stdin(event: threading.Event) -> None:
    """Stop when the process that started this one closes the pipe, or dies."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    event.set()
