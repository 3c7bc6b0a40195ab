"""`secureimg features`: a feature of a picture, in the clear, on ciphertexts or on shares, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from protocols.cli.console import out, write_json
from protocols.cli.inputs import Inputs
from protocols.cli.keypoints import SIFT, SIFT_PARAMETERS, SIFT_SUMMARY, find_keypoints
from protocols.cli.options import (
    DealerOption,
    Executor,
    Json,
    ModelOptions,
    ShareOptions,
    Workers,
)
from protocols.cli.output_files import check_new, save_array
from protocols.cli.plates import hog_plate, map_plate
from protocols.cli.run import execute, show_cost
from protocols.cli.terminal import picture, side_by_side
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import SecureImgError
from secureimg.features import FEATURES, build, find, parse_sides, spell
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
    feature = None if name == SIFT else find(name)
    if image is None:
        raise SecureImgError(f"feature {name!r} of which picture? give an image file")
    if feature is None:
        if colour:
            raise SecureImgError(f"feature {name!r} takes grey pictures: leave --colour away")
        check_new(*(path for path in (result, plate) if path is not None))
        original = load_image(image)
        sides, files = _sides(original, size), (result, plate)
        find_keypoints(image, original, sides, on, dealer, _parameters(given or []), files, as_json=as_json)
        return
    if on.value not in feature.executors and not given:  # with other parameters it may: the compiler knows
        other = f"; {name}_polynomial does" if f"{name}_polynomial" in FEATURES else ""
        runs = ", ".join(feature.executors)
        raise SecureImgError(f"feature {name!r} does not run on {on.value}: it runs on {runs}{other}")
    if colour and 3 not in feature.channels:
        raise SecureImgError(f"feature {name!r} takes grey pictures: leave --colour away")
    colour = colour or 1 not in feature.channels
    check_new(*(path for path in (result, plate) if path is not None))
    original = load_image(image)
    sides, parameters = _sides(original, size), _parameters(given or [])
    shape = (3, *sides) if colour else sides
    text = spell(name, shape, parameters)
    options = ModelOptions(text)
    loaded = options.load()
    prepared = prepare_picture(original, loaded.graph.input_shape, preparation_of(loaded.graph), str(image))
    inputs = Inputs(prepared[None], (image.name,), None)
    report, outputs = execute(on, options, ShareOptions(public_weights=True), dealer, loaded, inputs, workers)
    values = outputs[0]
    report = {"feature": text, "shape": list(values.shape)} | {
        key: item for key, item in report.items() if key not in _NOT_OURS
    }
    shown = _plate(name, values, shape, parameters)
    if result is not None:
        save_array(result, values)
    if plate is not None:
        if shown is None:
            raise SecureImgError(f"values of shape {values.shape} are no picture: leave --picture away")
        save_image(plate, shown)
    if as_json:
        write_json(report)
        return
    titled = [(image.name, picture(original, _WIDTH))]
    out.print(side_by_side(*titled, *([] if shown is None else [(name, picture(shown, _WIDTH))])))
    out.print(f"{text}: {' x '.join(map(str, values.shape))} values")
    show_cost(report)
    for path in filter(None, (result, plate)):
        out.print(f"saved {path}", soft_wrap=True)


def _sides(original: Array, size: str | None) -> tuple[int, ...]:
    sides = original.shape[:2] if size is None else parse_sides(size)
    if len(sides) != 2:
        raise SecureImgError(f"--size {size!r} is not HxW: write it like 128x128")
    return sides


def _parameters(given: list[str]) -> dict[str, str]:
    parameters = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key or "," in word or ":" in word:
            raise SecureImgError(f"--set {word!r} is not NAME=VALUE: write it like orientations=9")
        parameters[key] = value
    return parameters


def _plate(name: str, values: Array, shape: tuple[int, ...], parameters: dict[str, str]) -> Array | None:
    """The feature as a picture, if it is one."""
    if name == "hog":
        blocks = build(spell(name, shape, {**parameters, "feature_vector": "false"})).output_shape
        return hog_plate(values.reshape(blocks))
    return map_plate(values) if values.ndim == 3 and min(values.shape[1:]) > 1 else None


def _list(as_json: bool) -> None:
    rows: list[tuple[str, str, tuple[str, ...], tuple[int, ...], dict[str, str]]] = [
        (name, item.summary, item.executors, item.channels, item.defaults) for name, item in FEATURES.items()
    ]
    rows.append(
        (SIFT, SIFT_SUMMARY, ("plain", "shares"), (1,), {key: str(value) for key, value in SIFT_PARAMETERS.items()})
    )
    if as_json:
        write_json({"features": [
            {"name": name, "summary": summary, "executors": list(executors), "channels": list(channels),
             "parameters": parameters}
            for name, summary, executors, channels, parameters in rows
        ]})  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "runs on", "what", "parameters"):
        table.add_column(title)
    for name, summary, executors, _, parameters in rows:
        words = " ".join(f"{key}={value}" for key, value in parameters.items())
        table.add_row(name, " ".join(executors), summary, words)
    out.print(table)
