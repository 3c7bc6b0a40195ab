"""`secureimg run`: a model on images, in the clear or encrypted between two processes."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from protocols.cli.console import Steps, amount, duration, err, out, write_json
from protocols.cli.inputs import Inputs, load_inputs
from protocols.cli.options import (
    Batch,
    BoundsOption,
    DealerKind,
    DealerOption,
    Executor,
    InputRange,
    Json,
    Layout,
    LayoutOption,
    LoadedModel,
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
    Workers,
    cores,
)
from protocols.cli.output_files import check_new, save_array
from protocols.cli.remote import labels_of, parameters_of, run_encrypted
from protocols.cli.shares import TRUST, plain_answer, require_dealer, run_on_shares
from protocols.memory_use import peak_memory
from protocols.preparation import preparation_of
from secureimg.graph import run_plain

__all__ = ["execute", "run", "shares_cost", "show_cost"]


def run(
    model: ModelName,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Image files, or one .npy (N, C, H, W) of input values.")
    ],
    on: Annotated[
        Executor, typer.Option("--on", help="In the clear, on CKKS ciphertexts, or on shares between two parties.")
    ] = Executor.CKKS,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    workers: Workers = None,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    dealer: DealerOption = None,
    reveal: RevealOption = Reveal.SCORES,
    top: Top = 5,
    bounds: BoundsOption = None,
    public_weights: PublicWeights = False,
    result: Annotated[Path | None, typer.Option("--out", metavar="FILE.npy", help="Save the outputs.")] = None,
    as_json: Json = False,
) -> None:
    """Run MODEL on INPUTs; encrypted or on shares: every role is a process, and they talk over TLS.

    On shares ReLU and max pool are exact and depth costs nothing; --dealer says who makes the correlated randomness.

    The server is told the range of the input values. For pictures it follows from the model; for a .npy file it is the
    data's own smallest and largest value, rounded outwards, unless --input-range says otherwise.
    """
    if result is not None:
        check_new(result)
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    loaded = options.load()
    given = load_inputs(inputs, loaded.graph.input_shape, preparation_of(loaded.graph))
    shares = ShareOptions(reveal, top, bounds, public_weights)
    report, outputs = execute(on, options, shares, dealer, loaded, given, workers)
    if result is not None:
        save_array(result, outputs)
    if as_json:
        write_json(report)
    else:
        _show(report, given)


def execute(
    on: Executor,
    options: ModelOptions,
    shares: ShareOptions,
    dealer: DealerKind | None,
    model: LoadedModel,
    given: Inputs,
    workers: int | None,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Run a model on one of the executors; return what --json says, and the outputs."""
    if on is Executor.PLAIN:
        return _plain(model, given)
    if options.input_range is None and given.range is not None:
        options = dataclasses.replace(options, input_range=given.range)
    if on is Executor.SHARES:
        return _on_shares(options, shares, require_dealer(dealer), model, given)
    return _encrypted(options, model, given, workers or cores())


def _plain(model: LoadedModel, given: Inputs) -> tuple[dict[str, Any], NDArray[np.float64]]:
    start = time.perf_counter()
    outputs = run_plain(model.graph, given.values)
    seconds = time.perf_counter() - start
    body, _ = model.graph.body_and_tail()
    labels = labels_of(run_plain(body, given.values))
    return {
        "model": model.graph.name,
        "on": "plain",
        **_answers(model, outputs, labels),
        "max_abs_error": 0.0,
        "seconds": {
            "compile": 0.0,
            "keygen": 0.0,
            "encrypt": 0.0,
            "evaluate": seconds,
            "decrypt": 0.0,
            "total": seconds,
        },
        "seconds_per_image": {"evaluate": seconds / len(given.values)},
        "bytes": {"evaluation_keys": 0, "up": 0, "down": 0},
        "peak_rss": {"owner": peak_memory(children=False), "server": None},
        "parameters": None,
        "rotations": 0,
        "levels": 0,
        "error_bound": 0.0,
        "output_bound": None,
    }, outputs


def _encrypted(
    options: ModelOptions, model: LoadedModel, given: Inputs, workers: int
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    steps = Steps()
    done = run_encrypted(options, model, given.values, workers, steps)
    err.print(steps.table())
    body, _ = model.graph.body_and_tail()
    count = len(given.values)
    report = {
        "model": model.graph.name,
        "on": "ckks",
        **_answers(model, done.outputs, labels_of(done.values)),
        "plain_labels": labels_of(run_plain(body, given.values)),
        "max_abs_error": done.max_abs_error,
        "seconds": done.seconds,
        "seconds_per_image": {key: done.seconds[key] / count for key in ("encrypt", "evaluate", "decrypt")},
        "evaluate_calls": done.calls,
        "bytes": done.sizes,
        "peak_rss": done.peak_rss,
        "parameters": parameters_of(done.program),
        "workers": workers,
        "rotations": done.program.rotations,
        "levels": done.program.levels,
        "error_bound": done.program.error_bound,
        "output_bound": done.program.output_bound,
    }
    if model.fits:
        original, _ = model.original.body_and_tail()
        gap = np.abs(done.values - run_plain(original, given.values).reshape(done.values.shape)).max()
        report["replacements"] = [dataclasses.asdict(fit) for fit in model.fits]
        report["max_abs_error_original"] = float(gap)
    return report, done.outputs


def _on_shares(
    options: ModelOptions, shares: ShareOptions, dealer: DealerKind, model: LoadedModel, given: Inputs
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    steps = Steps()
    done = run_on_shares(options, shares, dealer, given.values, steps, options.batch)
    err.print(steps.table())
    plain = plain_answer(model, done.program, given.values)
    scores = done.program.reveal == "scores"
    error = float(np.abs(done.values - plain.reshape(done.values.shape)).max()) if scores else None
    plain_labels = labels_of(plain) if scores else [int(row[0]) for row in plain]
    report = {
        "model": model.graph.name,
        "on": "shares",
        "dealer": dealer.value,
        "trust": TRUST[dealer],
        "reveal": done.program.reveal,
        **_answers(model, done.outputs, done.labels),
        "plain_labels": plain_labels,
        "max_abs_error": error,
        "largest_output": float(np.abs(plain).max()) if scores else None,
        "seconds": done.seconds,
        "seconds_per_image": {key: done.seconds[key] / len(given.values) for key in ("offline", "online")},
        "run_seconds": done.runs,
        "bytes": done.bytes,
        "rounds": done.rounds,
        "peak_rss": done.peak_rss,
        "program": done.program.fingerprint,
        "weights": done.program.weights,
    }
    return report, done.outputs


def _answers(model: LoadedModel, outputs: NDArray[np.float64], labels: list[int]) -> dict[str, Any]:
    names = model.graph.labels
    known = names is not None and all(label < len(names) for label in labels)
    return {
        "outputs": [row.ravel().tolist() for row in outputs],
        "labels": labels,
        "label_names": [names[label] for label in labels] if names is not None and known else None,
    }


def _show(report: dict[str, Any], given: Inputs) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("input", "label", "outputs"):
        table.add_column(title)
    shown = report["label_names"] or report["labels"]
    for name, label, row in list(zip(given.names, shown, report["outputs"], strict=True))[:20]:
        values = "  ".join(f"{value:.4g}" for value in row[:10]) + (" ..." if len(row) > 10 else "")
        table.add_row(name, str(label), values)
    out.print(table)
    if len(given.names) > 20:
        out.print(f"... and {len(given.names) - 20} more: --out FILE.npy or --json has them all")
    show_cost(report)


def show_cost(report: dict[str, Any]) -> None:
    """Say what a run of `execute` took, and what it assumes."""
    if report["on"] == "plain":
        out.print(f"in the clear: {duration(report['seconds']['evaluate'])}")
        return
    if report["on"] == "shares":
        _show_shares(report)
        return
    size = report["bytes"]
    out.print(
        f"largest error against plain {report['max_abs_error']:.2g} (predicted bound {report['error_bound']:.2g}); "
        f"evaluated in {duration(report['seconds']['evaluate'])}; keys {amount(size['evaluation_keys'])}, "
        f"up {amount(size['up'])}, down {amount(size['down'])}; N = {report['parameters']['ring_degree']}, "
        f"{report['rotations']} rotations, {report['levels']} levels"
    )


def _show_shares(report: dict[str, Any]) -> None:
    error = "" if report["max_abs_error"] is None else f"largest error against plain {report['max_abs_error']:.2g}; "
    out.print(error + shares_cost(report))
    out.print(f"dealer: {report['dealer']}. {report['trust']}")


def shares_cost(report: dict[str, Any]) -> str:
    """What a run on shares took, in words."""
    size, seconds = report["bytes"], report["seconds"]
    between = size["online"]["party 0 to party 1"] + size["online"]["party 1 to party 0"]
    masked = f" and {amount(size['offline']['party 1 to party 0'])} of masked weights"
    return (
        f"online {duration(seconds['online'])}, {amount(between)} between the parties in {report['rounds']} rounds; "
        f"offline {duration(seconds['offline'])}, {amount(size['offline']['dealer to parties'])} of correlations"
        + (masked if report["weights"] != "public" else "")
    )
