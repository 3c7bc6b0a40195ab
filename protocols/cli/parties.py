"""`secureimg party`, `dealer` and `identities`: the machines of a two-party deployment."""

from __future__ import annotations

import dataclasses
import datetime
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from protocols.cli.console import amount, err, out, write_json
from protocols.cli.options import (
    BoundsOption,
    InputRange,
    Json,
    ModelOptions,
    PublicWeights,
    Replace,
    Reveal,
    RevealOption,
    Samples,
    ShareOptions,
    Top,
    parse_address,
)
from protocols.cli.serving import watch_stdin
from protocols.identity import create_party_identities
from protocols.memory_use import peak_memory
from protocols.sharing import DealerServer, PartyLimits, PartyOneServer, PartyServer, PartyZeroServer
from secureimg.errors import SecureImgError
from secureimg.sharing import CorrelationStore, cost_of, one_blas_thread, warm_up

__all__ = ["dealer", "identities", "party", "stock"]

Identity = Annotated[Path, typer.Option(metavar="FILE.pem", help="This machine's bundle, from `secureimg identities`.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Watch = Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)]


def identities(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them; must hold none yet.")],
    as_json: Json = False,
) -> None:
    """Make the identities of a two-party deployment: party 0, party 1, a dealer, an owner, and the authority that signs.

    Take each .pem file to its machine over a safe channel. `ca.key` stays behind: it can make more.
    """
    bundles = create_party_identities(directory)
    if as_json:
        write_json({"directory": str(directory), "bundles": {name: str(path) for name, path in bundles.items()}})
        return
    for name, path in bundles.items():
        out.print(f"{path}: for {name.replace('-', ' ')}", soft_wrap=True)


def party(
    number: Annotated[
        int, typer.Argument(min=0, max=1, metavar="0|1", help="Party 0 has no weights, party 1 has the model.")
    ],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="For party 1: an .onnx file or a shipped model.")
    ] = None,
    *,
    identity: Identity,
    peer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="For party 0: where party 1 listens.")] = None,
    dealers: Annotated[
        list[str],
        typer.Option(
            "--dealer",
            metavar="client-aided|HOST:PORT",
            help="Who may deal: the owner, or a dealer process. Repeatable.",
        ),
    ],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    reveal: RevealOption = Reveal.SCORES,
    top: Top = 5,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    bounds: BoundsOption = None,
    public_weights: PublicWeights = False,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep correlations made ahead here (with a dealer process).")
    ] = None,
    ahead: Annotated[
        int, typer.Option(min=0, max=10_000, help="Party 0: how many single-image correlations to keep in store.")
    ] = 0,
    connections: Annotated[int, typer.Option(min=1, max=4096, help="Open connections.")] = PartyLimits.connections,
    patience: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Longest silence of the other party before a session ends."),
    ] = PartyLimits.patience,
    idle: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest pause between an owner's requests.")
    ] = PartyLimits.idle,
    until_stdin_closes: Watch = False,
    as_json: Json = False,
) -> None:
    """Run party 0 or party 1: a server that computes on additive shares, together with the other one.

    The two parties must not collude: together they could put every image together. Party 0 learns no weights. Start party 1
    first. Stop with Ctrl-C or SIGTERM.
    """
    client_aided, address = _dealers(dealers)
    limits = PartyLimits(connections=connections, patience=patience, idle=idle)
    common: dict[str, Any] = {
        "client_aided": client_aided, "dealer": address, "host": host, "port": port, "limits": limits,
    }  # fmt: skip
    start = time.perf_counter()
    program = None
    if number == 1 or public_weights:
        if model is None:
            raise SecureImgError("party 1 needs a MODEL: an .onnx file or the name of a shipped model")
        options = ModelOptions(model, samples=samples, replace=replace_activations, input_range=input_range)
        sharing_options = ShareOptions(reveal, top, bounds, public_weights)
        program = sharing_options.compile(options)
    compiled = time.perf_counter() - start
    warm_up()
    server: PartyServer
    if number == 1:
        assert program is not None
        server = PartyOneServer(identity, program, store=store, **common)
    else:
        if peer is None:
            raise SecureImgError("party 0 needs --peer HOST:PORT: where party 1 listens")
        server = PartyZeroServer(
            identity, parse_address(peer, "--peer"), program=program, store=store, ahead=ahead, **common
        )
    facts: dict[str, Any] = {"party": number, "seconds": {"compile": compiled}}
    if program is not None:
        cost = cost_of(program.public)
        facts |= {
            "model": program.public.model, "program": program.public.fingerprint, "reveal": program.public.reveal,
            "rounds": cost.rounds, "online_bytes": cost.online_bytes, "offline_bytes": cost.offline_bytes,
        }  # fmt: skip
    try:
        _serve(server.listener.run, server.listener.stop, server.listener.address, facts, until_stdin_closes, as_json)
    finally:
        server.close()


def dealer(
    identity: Identity,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    until_stdin_closes: Watch = False,
    as_json: Json = False,
) -> None:
    """Run a dealer: makes correlated randomness for two parties. It sees no image, no share and no weights.

    It must not collude with either party: with one of them it could work out every image and activation; with party 0 also
    the weights.
    """
    warm_up()
    server = DealerServer(identity, host, port)
    listener = server.listener
    try:
        _serve(listener.run, listener.stop, listener.address, {"dealer": True}, until_stdin_closes, as_json)
    finally:
        listener.close()


def stock(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `secureimg party --store` was given.")],
    as_json: Json = False,
) -> None:
    """List the correlations that a party keeps for later. The party must not be running: a stock serves one process."""
    if not (directory / "correlations").is_dir():
        raise SecureImgError(f"{directory} holds no stock: name the directory that `secureimg party --store` was given")
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


def _dealers(words: list[str]) -> tuple[bool, tuple[str, int] | None]:
    addresses = [word for word in words if word != "client-aided"]
    if len(addresses) > 1:
        raise SecureImgError(f"--dealer names {len(addresses)} dealer processes, a party uses one: name the nearest")
    return "client-aided" in words, parse_address(addresses[0], "--dealer") if addresses else None


def _serve(
    run: Callable[[], None],
    stop: Callable[[], None],
    address: tuple[str, int],
    facts: dict[str, Any],
    watch: bool,
    as_json: bool,
) -> None:
    event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: event.set())

    def stop_when() -> None:
        event.wait()
        stop()

    threading.Thread(target=stop_when, daemon=True).start()
    if watch:
        threading.Thread(target=watch_stdin, args=(event,), daemon=True).start()
    if as_json:
        write_json({"host": address[0], "port": address[1], "pid": os.getpid(), "peak_rss": peak_memory(), **facts})
    else:
        who = "dealer" if "dealer" in facts else f"party {facts['party']}"
        what = f", model {facts['model']}" if "model" in facts else ""
        out.print(f"{who} on {address[0]}:{address[1]}{what}; Ctrl-C stops", soft_wrap=True)
        if "rounds" in facts:
            out.print(
                f"{facts['rounds']} rounds; {amount(facts['online_bytes'])} between the parties and "
                f"{amount(facts['offline_bytes'])} of corrections for an image; reveals {facts['reveal']}"
            )
    with one_blas_thread():  # for good: the matrix library's own threads would take the cores from the other processes
        run()
    if not as_json:
        err.print("stopped")
