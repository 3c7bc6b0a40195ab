"""`secureimg inspect` and `secureimg models`: what a model costs before any key exists, and what ships."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from protocols.cli.console import amount, duration, out, write_json
from protocols.cli.options import (
    Batch,
    BoundsOption,
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
)
from protocols.cli.remote import parameters_of
from secureimg.ckks import Program, measure_machine
from secureimg.graph import shipped_models
from secureimg.sharing import CostReport, LayerCost, cost_of
from secureimg.sharing import PublicProgram as SharedProgram

__all__ = ["inspect", "models"]


def inspect(
    model: ModelName,
    on: Annotated[Executor, typer.Option("--on", help="The executor to inspect the model for.")] = Executor.CKKS,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    reveal: RevealOption = Reveal.SCORES,
    top: Top = 5,
    bounds: BoundsOption = None,
    public_weights: PublicWeights = False,
    as_json: Json = False,
) -> None:
    """Show what MODEL costs, layer by layer, before any key is made; or why it cannot run, and the ways out."""
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    loaded = options.load()
    report: dict[str, Any] = {
        "model": loaded.graph.name,
        "fingerprint": loaded.graph.fingerprint,
        "on": on.value,
        "input_shape": list(loaded.graph.input_shape),
        "output_shape": list(loaded.graph.output_shape),
        "nodes": [[str(cell) for cell in row] for row in loaded.graph.describe()],
        "replacements": [dataclasses.asdict(fit) for fit in loaded.fits],
    }
    if on is Executor.SHARES:
        start = time.perf_counter()
        shared = ShareOptions(reveal, top, bounds, public_weights).compile(options)
        public_shared, cost = shared.public, cost_of(shared.public, batch)
        report |= {
            "program": public_shared.fingerprint,
            "reveal": public_shared.reveal,
            "weights": public_shared.weights,
            "input_range": list(public_shared.input_range),
            "seconds": {"compile": time.perf_counter() - start},
            "share_bytes": public_shared.share_bytes(batch),
            "cost": cost.as_dict(),
        }
        if as_json:
            write_json(report)
        else:
            _show_shares(public_shared, cost)
        return
    program = None
    if on is Executor.CKKS:
        program, seconds = options.compile(loaded.graph, measure_machine())
        public = program.public
        report |= {
            "program": public.fingerprint,
            "parameters": parameters_of(public),
            "error_bound": public.error_bound,
            "output_bound": public.output_bound,
            "output_range": [-public.output_bound, public.output_bound],
            "rotations": public.rotations,
            "levels": public.levels,
            "seconds": {"compile": seconds},
            "cost": program.cost.as_dict(),
        }
    if as_json:
        write_json(report)
    else:
        _show(loaded, program)


def models(as_json: Json = False) -> None:
    """List the models that ship with the package."""
    cards = shipped_models()
    if as_json:
        rows = [{**dataclasses.asdict(card)} for card in cards]
        write_json({"models": rows})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "what", "accuracy", "trained on"):
        table.add_column(title)
    for card in cards:
        table.add_row(
            card.name,
            card.title,
            "\n".join(f"{100 * share:.2f} % {held}" for held, share in card.accuracy.items()),
            card.trained_on,
        )
    out.print(table)


def _show(model: LoadedModel, program: Program | None) -> None:
    if program is None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("node", "op", "shape", "parameters"):
            table.add_column(title)
        for row in model.graph.describe():
            table.add_row(*(str(cell) for cell in row))
        out.print(table)
        return
    cost, public = program.cost, program.public
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "primes", "rotations", "products", "squares", "time, one core", "plan"):
        table.add_column(title, justify="left" if title in ("layer", "plan") else "right")
    for layer in cost.layers:
        table.add_row(
            layer.name,
            str(layer.primes),
            str(layer.rotations),
            str(layer.products),
            str(layer.multiplications),
            duration(layer.milliseconds / 1000),
            layer.plan,
        )
    table.add_row(
        "total",
        "",
        str(cost.rotations),
        str(cost.products),
        str(cost.multiplications),
        duration(cost.milliseconds / 1000),
    )
    out.print(table)
    bits = public.parameters.bits
    out.print(
        f"N = {public.parameters.ring_degree}, primes of {', '.join(map(str, bits.data))} + {bits.special} bits "
        f"({bits.total} in all), 128-bit security; {public.levels} levels; {public.batch} image(s) at a time"
    )
    out.print(
        f"evaluation keys {amount(cost.evaluation_key_bytes)} ({cost.galois_keys} rotation keys), "
        f"up {amount(cost.input_bytes)}, down {amount(cost.output_bytes)}; "
        f"server's plaintexts {amount(cost.plaintext_bytes)}"
    )
    out.print(
        f"inputs in [{public.input_range[0]:g}, {public.input_range[1]:g}]; answers within ±{public.output_bound:.4g}, "
        f"error at most {public.error_bound:.2g}"
    )
    for fit in model.fits:
        out.print(
            f"{fit.name}: {fit.op} replaced by degree {fit.degree} on [{fit.low:.3g}, {fit.high:.3g}], "
            f"error at most {fit.max_error:.3g}, typically {fit.rms_error:.3g}"
        )


def _show_shares(public: SharedProgram, cost: CostReport) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "steps", "rounds", "online", "offline", "weights", "products", "comparisons"):
        table.add_column(title, justify="left" if title in ("layer", "steps") else "right")
    for name, group in itertools.groupby(cost.layers, key=lambda layer: layer.name):
        parts = [layer for layer in group if layer.rounds or layer.products]
        if parts:
            table.add_row(name, ", ".join(dict.fromkeys(layer.kind for layer in parts)), *_totals(parts))
    table.add_row("total", "", *_totals(cost.layers))
    out.print(table)
    out.print(
        f"{cost.images} image(s): online = both directions between the parties, while the image is there; offline = "
        "dealer to party 1, before; weights = party 1 to party 0, once for a model and dealer"
    )
    out.print(
        f"inputs in [{public.input_range[0]:g}, {public.input_range[1]:g}]; {public.fraction_bits} fractional bits; reveals "
        f"{public.reveal}; weights known to {'both parties' if public.weights == 'public' else 'party 1 alone'}"
    )


def _totals(parts: Sequence[LayerCost]) -> list[str]:
    numbers = [
        sum(layer.rounds for layer in parts),
        sum(layer.online_0 + layer.online_1 for layer in parts),
        sum(layer.offline for layer in parts),
        sum(layer.masked_weights for layer in parts),
        sum(layer.products for layer in parts),
        sum(layer.comparisons for layer in parts),
    ]
    sized = [amount(number) if number else "" for number in numbers[1:4]]
    return [str(numbers[0] or ""), *sized, *(f"{number:,}" if number else "" for number in numbers[4:])]
