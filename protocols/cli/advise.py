"""`secureimg advise`: which executor suits a model, what it will cost on this machine, and what leaks."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from protocols.advice import (
    Calibration,
    Network,
    Study,
    Trust,
    Verdict,
    cache_file,
    judge,
    parse_network,
    read_calibration,
    study,
    write_calibration,
)
from protocols.cli.console import amount, duration, err, out, write_json
from protocols.cli.options import (
    Batch,
    DealerKind,
    InputRange,
    Json,
    ModelName,
    ModelOptions,
    Precision,
    PublicWeights,
    Replace,
    Reveal,
    RevealOption,
    Samples,
    ShareOptions,
    Top,
    cores,
)
from protocols.cli.shares import TRUST

__all__ = ["advise"]

_CKKS_LEAKS: Final = (
    "From ciphertexts and evaluation keys the server learns nothing about the pixels or the answer, as long as ring "
    "learning with errors is hard at the chosen parameters and the server never sees a decrypted value (not IND-CPA-D). "
    "Public, to the server, the owner and in part the network: shape and number of pictures, the model's architecture, "
    "value ranges and error bound, timing and sizes of messages. The owner sees answers, and enough answers give away a "
    "model. The server is trusted to evaluate the agreed program."
)


def advise(
    model: ModelName,
    network: Annotated[
        str, typer.Option(metavar="NAME|RTT,RATE", help="loopback, lan, wan, or like 20ms,50Mbit/s.")
    ] = "loopback",
    trust: Annotated[
        Trust, typer.Option(help="Who may be trusted not to collude: nobody, two parties, or these and a dealer.")
    ] = Trust.NONE,
    images: Annotated[int, typer.Option(min=1, max=10_000_000, help="Images that will be asked for.")] = 1,
    batch: Batch = 1,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    reveal: RevealOption = Reveal.SCORES,
    top: Top = 5,
    public_weights: PublicWeights = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine anew instead of using what was measured before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which executor suits MODEL, what it will cost on this machine, what leaks, and which command to run next.

    Costs are predicted from the compiled programs and from this machine's speed, measured once and kept in the cache
    directory. Nothing is encrypted, shared or sent.
    """
    chosen = parse_network(network)
    options = ModelOptions(
        model, batch, precision=precision, samples=samples, replace=replace_activations, input_range=input_range
    )
    shares = ShareOptions(reveal, top, None, public_weights)
    place = cache_file()
    calibration = Calibration.empty() if calibrate else read_calibration(place)
    known = _extent(calibration)
    with (
        err.status("compile for both executors; measure this machine") if err.is_terminal else contextlib.nullcontext()
    ):
        found = study(options, shares, calibration, chosen, images, cores())
    fresh = _extent(calibration) != known
    if fresh and not write_calibration(place, calibration):
        err.print(f"{place} cannot be written: this machine is measured again next time")
    if fresh and (busy := os.getloadavg()[0]) > cores():
        err.print(
            f"this machine was busy while it was measured (load {busy:.1f}): use --calibrate again when it is idle"
        )
    verdict = judge(found, trust, shlex.quote(model), _said(options, public_weights), duration, amount)
    if as_json:
        write_json(_report(found, verdict, trust, chosen, calibration, fresh))
    else:
        _show(found, verdict)


def _extent(calibration: Calibration) -> tuple[bool, int]:
    return bool(calibration.online), len(calibration.operations)


def _said(options: ModelOptions, public_weights: bool) -> str:
    """Return the options that the next command needs, too."""
    parts = [f" --batch {options.batch}"] if options.batch > 1 else []
    if options.precision is not None:
        parts.append(f" --precision {options.precision:g}")
    if options.samples is not None:
        parts.append(f" --samples {shlex.quote(str(options.samples))}")
    if options.replace is not None:
        parts.append(f" --replace-activations {options.replace}")
    if options.input_range is not None:
        parts.append(" --input-range {:g} {:g}".format(*options.input_range))
    if public_weights:
        parts.append(" --public-weights")
    return "".join(parts)


def _leaks(verdict: Verdict) -> str | None:
    if verdict.executor is None:
        return None
    return _CKKS_LEAKS if verdict.dealer is None else TRUST[DealerKind(verdict.dealer)]


def _report(
    found: Study, verdict: Verdict, trust: Trust, network: Network, calibration: Calibration, fresh: bool
) -> dict[str, Any]:
    return {
        "model": found.model.graph.name,
        "fingerprint": found.model.graph.fingerprint,
        "images": found.images,
        "trust": trust.value,
        "network": {
            "name": network.name,
            "round_trip_seconds": network.round_trip_seconds,
            "bytes_per_second": network.bytes_per_second,
        },
        "cores": cores(),
        **found.as_dict(),
        "verdict": {
            "executor": verdict.executor,
            "dealer": verdict.dealer,
            "why": list(verdict.why),
            "alternative": verdict.alternative,
            "change": verdict.change,
            "leaks": _leaks(verdict),
            "command": verdict.command,
        },
        "calibration": {
            "machine": calibration.machine,
            "measured_at_unix_seconds": calibration.measured_at,
            "measured_now": fresh,
        },
    }


def _show(found: Study, verdict: Verdict) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"predicted, over {found.network.name}")
    for name in ("CKKS", "shares"):
        table.add_column(name, justify="right")
    for title, ckks, shares in _rows(found):
        table.add_row(title, ckks, shares)
    out.print(table)
    titles = {"ckks": "CKKS", "shares": f"shares, --dealer {verdict.dealer}"}
    out.print()
    if verdict.executor is None:
        out.print(f"[bold]Nothing fits as it is.[/bold] {verdict.change}", markup=True)
    else:
        out.print(f"[bold]Use {titles[verdict.executor]}.[/bold]")
        for reason in verdict.why:
            out.print(f"  {reason}", markup=False)
    out.print(f"Otherwise: {verdict.alternative}", markup=False)
    leaks = _leaks(verdict)
    if leaks is not None:
        out.print(f"What leaks: {leaks}", markup=False)
    out.print(f"Next: {verdict.command}", markup=False, soft_wrap=True)


def _rows(found: Study) -> list[tuple[str, str, str]]:
    """Lines of the table; an executor that cannot run the model has empty cells."""
    ckks, shares = found.ckks, found.shares
    costs = [found.costs.get(name) for name in ("ckks", "shares")]

    def line(title: str, first: object, second: object) -> tuple[str, str, str]:
        return title, str(first or ""), str(second or "")

    rows = [line("runs as it is", *("yes" if name in found.costs else "no" for name in ("ckks", "shares")))]
    for title, field in (
        ("an answer", "answer_seconds"), ("before each image", "offline_seconds"), ("once", "once_seconds"),
        (f"{found.images} image(s), everything", "total_seconds"),
    ):  # fmt: skip
        cells = [None if cost is None else getattr(cost, field) for cost in costs]
        rows.append(line(title, *(duration(value) if value else None for value in cells)))
    for title, field in (("bytes an image", "image_bytes"), ("bytes once", "once_bytes")):
        cells = [None if cost is None else getattr(cost, field) for cost in costs]
        rows.append(line(title, *(amount(value) if value else None for value in cells)))
    rows += [
        line(
            "computing on this machine",
            ckks and duration(ckks.evaluate_seconds),
            shares and duration(shares.online_seconds),
        ),
        line("keys, encrypt, decrypt", ckks and _three(ckks), None),
        line("levels; rounds", str(found.levels) if ckks else None, shares and str(shares.rounds)),
        line("comparisons", None, shares and f"{shares.comparisons:,}"),
        line("bytes dealt", None, shares and amount(shares.dealt_bytes)),
        line(
            "peak memory, server; a party",
            ckks and amount(ckks.server_peak_bytes),
            shares and amount(shares.party_peak_bytes),
        ),
    ]
    return rows


def _three(ckks: Any) -> str:
    return ", ".join(duration(value) for value in (ckks.keygen_seconds, ckks.encrypt_seconds, ckks.decrypt_seconds))
