"""`secureimg features`: a feature of a picture, in the clear, on ciphertexts or on shares, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from protocols.cli.console import amount, duration, out, write_json
from protocols.cli.inputs import load_inputs
from protocols.cli.options import (
    DealerKind,
    DealerOption,
    Executor,
    Json,
    ModelOptions,
    ShareOptions,
    Workers,
)
from protocols.cli.output_files import check_new, save_array
from protocols.cli.plates import hog_plate, map_plate
from protocols.cli.run import execute
from protocols.cli.shares import TRUST
from protocols.cli.terminal import picture, side_by_side
from protocols.preparation import preparation_of
from secureimg.errors import SecureImgError
from secureimg.features import FEATURES, build, spell
from secureimg.images import load_image, save_image

__all__ = ["features"]

Array = NDArray[np.float64]

_WIDTH = 36
_NOT_OURS = ("labels", "label_names", "plain_labels", "reveal")


def features(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A feature. Without one: list them all.")] = None,
    image: Annotated[Path | None, typer.Argument(metavar="IMAGE", help="An image file.")] = None,
    on: Annotated[Executor, typer.Option("--on", help="In the clear, on CKKS, or on shares.")] = Executor.PLAIN,
    dealer: DealerOption = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of the feature; a pair is written 8x8; repeatable."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Resize the picture first. Default: its own size.")
    ] = None,
    colour: Annotated[bool, typer.Option("--colour", help="Take the picture's three channels, not its luma.")] = False,
    workers: Workers = None,
    result: Annotated[Path | None, typer.Option("--out", metavar="FILE.npy", help="Save the values.")] = None,
    plate: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.png", help="Save the feature as a picture.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute feature NAME of IMAGE, where nobody but its owner may see it.

    The feature and its parameters are public, as is the picture's size; the picture and the values are its owner's. The
    same graph is a MODEL of other commands, as feature:NAME:HxW.
    """
    if name is None:
        _list(as_json)
        return
    if name not in FEATURES:
        raise SecureImgError(f"there is no feature {name!r}: it is one of {', '.join(FEATURES)}")
    feature = FEATURES[name]
    if image is None:
        raise SecureImgError(f"feature {name!r} of which picture? give an image file")
    if on.value not in feature.executors and not given:  # with other parameters it may: the compiler knows
        raise SecureImgError(f"feature {name!r} does not run on {on.value}: it runs on {', '.join(feature.executors)}")
    if colour and 3 not in feature.channels:
        raise SecureImgError(f"feature {name!r} takes grey pictures: leave --colour away")
    colour = colour or 1 not in feature.channels
    check_new(*(path for path in (result, plate) if path is not None))
    text = spell(name, _shape(image, size, colour), _parameters(given or []))
    options = ModelOptions(text)
    loaded = options.load()
    inputs = load_inputs([image], loaded.graph.input_shape, preparation_of(loaded.graph))
    report, outputs = execute(on, options, ShareOptions(public_weights=True), dealer, loaded, inputs, workers)
    values = outputs[0]
    report = {"feature": text, "shape": list(values.shape)} | {
        key: item for key, item in report.items() if key not in _NOT_OURS
    }
    shown = _plate(text, values)
    if result is not None:
        save_array(result, values)
    if plate is not None:
        if shown is None:
            raise SecureImgError(f"values of shape {values.shape} are no picture: leave --picture away")
        save_image(plate, shown)
    if as_json:
        write_json(report)
        return
    original = load_image(image)
    titled = [(image.name, picture(original, _WIDTH))]
    out.print(side_by_side(*titled, *([] if shown is None else [(name, picture(shown, _WIDTH))])))
    _show(report, on, dealer)
    for path in filter(None, (result, plate)):
        out.print(f"saved {path}", soft_wrap=True)


def _shape(image: Path, size: str | None, colour: bool) -> tuple[int, ...]:
    if size is None:
        height, width = load_image(image).shape[:2]
    else:
        sides = size.split("x")
        if len(sides) != 2 or not all(side.isascii() and side.isdigit() and 0 < len(side) < 7 for side in sides):
            raise SecureImgError(f"--size {size!r} is not HxW: write it like 128x128")
        height, width = map(int, sides)
    return (3, height, width) if colour else (height, width)


def _parameters(given: list[str]) -> dict[str, str]:
    parameters = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key or "," in word or ":" in word:
            raise SecureImgError(f"--set {word!r} is not NAME=VALUE: write it like orientations=9")
        parameters[key] = value
    return parameters


def _plate(text: str, values: Array) -> Array | None:
    """The feature as a picture, if it is one."""
    if text.startswith("feature:hog:"):
        if values.ndim == 1:
            head, _, words = text.removeprefix("feature:").partition(":")
            size, _, words = words.partition(":")
            kept = [word for word in words.split(",") if word and not word.startswith("feature_vector")]
            whole = build(f"feature:{head}:{size}:{','.join([*kept, 'feature_vector=false'])}")
            values = values.reshape(whole.output_shape)
        return hog_plate(values)
    return map_plate(values) if values.ndim == 3 and min(values.shape[1:]) > 1 else None


def _list(as_json: bool) -> None:
    if as_json:
        write_json({"features": [
            {"name": name, "summary": item.summary, "executors": list(item.executors), "channels": list(item.channels),
             "parameters": item.defaults}
            for name, item in FEATURES.items()
        ]})  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "runs on", "what", "parameters"):
        table.add_column(title)
    for name, item in FEATURES.items():
        parameters = " ".join(f"{key}={value}" for key, value in item.defaults.items())
        table.add_row(name, " ".join(item.executors), item.summary, parameters)
    out.print(table)


def _show(report: dict[str, Any], on: Executor, dealer: DealerKind | None) -> None:
    out.print(f"{report['feature']}: {' x '.join(map(str, report['shape']))} values")
    seconds, size = report["seconds"], report["bytes"]
    if on is Executor.PLAIN:
        out.print(f"in the clear: {duration(seconds['evaluate'])}")
    elif on is Executor.CKKS:
        out.print(
            f"largest error against plain {report['max_abs_error']:.2g}; evaluated in {duration(seconds['evaluate'])}; keys "
            f"{amount(size['evaluation_keys'])}, up {amount(size['up'])}, down {amount(size['down'])}"
        )
    else:
        between = size["online"]["party 0 to party 1"] + size["online"]["party 1 to party 0"]
        out.print(
            f"largest error against plain {report['max_abs_error']:.2g} of {report['largest_output']:.3g}; online "
            f"{duration(seconds['online'])}, {amount(between)} between the parties in {report['rounds']} rounds; offline "
            f"{duration(seconds['offline'])}, {amount(size['offline']['dealer to parties'])} of correlations"
        )
        assert dealer is not None
        out.print(f"dealer: {dealer.value}. {TRUST[dealer]}")
