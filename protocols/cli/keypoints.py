"""`secureimg features sift`: three programs one after the other, keypoints drawn on the picture."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from protocols.cli.console import duration, out, write_json
from protocols.cli.inputs import Inputs
from protocols.cli.options import DealerKind, Executor, ModelOptions, ShareOptions
from protocols.cli.output_files import save_array
from protocols.cli.plates import keypoint_plate
from protocols.cli.run import execute, shares_cost
from protocols.cli.terminal import picture, side_by_side
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import SecureImgError
from secureimg.features import KeyPoints, find, sift, spell
from secureimg.graph import Graph
from secureimg.images import save_image

__all__ = ["SIFT", "SIFT_PARAMETERS", "SIFT_SUMMARY", "find_keypoints"]

Array = NDArray[np.float64]

SIFT = "sift"
"""The one feature that is several graphs."""

SIFT_SUMMARY = (inspect.getdoc(sift) or "").partition("\n")[0]

SIFT_PARAMETERS: Final[dict[str, Any]] = {"nfeatures": 0, **find("sift_extrema").parameters}
"""Names and defaults, as of `secureimg.features.sift`."""

_FIELDS = ("x", "y", "size", "angle", "response")
_WIDTH = 36
_SHOWN = 8


def find_keypoints(
    image: Path,
    original: Array,
    sides: tuple[int, ...],
    on: Executor,
    dealer: DealerKind | None,
    given: dict[str, str],
    files: tuple[Path | None, Path | None],
    *,
    as_json: bool,
) -> None:
    """Find and describe keypoints, show and save them.

    Parameters
    ----------
    image : Path
    original : ndarray
        What it holds.
    sides : (H, W)
        Size to look at.
    on : Executor
    dealer : DealerKind or None
    given : dict
        Parameters as texts.
    files : (Path or None, Path or None)
        For an array (n, 5 + 128) and for a picture.
    as_json : bool

    Raises
    ------
    SecureImgError
        If a parameter is unknown or out of range, or the executor cannot do it.
    """
    if on is Executor.CKKS:
        raise SecureImgError(f"feature {SIFT!r} does not run on {on.value}: it runs on plain, shares")
    parameters = _read(given)
    reports: list[dict[str, Any]] = []
    words = {name: str(value) for name, value in parameters.items() if name != "nfeatures"}
    first = spell("sift_extrema", sides, words)

    def run(graph: Graph, images: Array) -> Array:
        text = first if graph.name == "sift_extrema" else spell(graph.name, graph.input_shape[1:], {})
        options = ModelOptions(text, batch=len(images))
        inputs = Inputs(images, tuple(f"{graph.name} {number}" for number in range(len(images))), None)
        shares = ShareOptions(public_weights=True)
        report, outputs = execute(on, options, shares, dealer, options.load(), inputs, None)
        reports.append(
            {key: value for key, value in report.items() if key not in ("outputs", "labels", "plain_labels")}
        )
        return outputs

    loaded = ModelOptions(first).load()
    values = prepare_picture(original, loaded.graph.input_shape, preparation_of(loaded.graph), str(image))
    points, descriptors = sift(values[0], run, **parameters)
    array, plate = files
    if array is not None:
        save_array(
            array, np.concatenate([np.stack([getattr(points, name) for name in _FIELDS], axis=1), descriptors], 1)
        )
    drawn = keypoint_plate(values[0], points)
    if plate is not None:
        save_image(plate, drawn)
    if as_json:
        found = [
            dict(zip(_FIELDS, row, strict=True))
            for row in zip(*(getattr(points, f).tolist() for f in _FIELDS), strict=True)
        ]
        write_json({
            "feature": SIFT, "parameters": parameters, "picture": list(sides), "places_seen_by": "owner", "keypoints": found,
            "programs": reports,
        })  # fmt: skip
        return
    out.print(side_by_side((image.name, picture(original, _WIDTH)), (SIFT, picture(drawn, _WIDTH))))
    _show(points, reports)
    for path in filter(None, files):
        out.print(f"saved {path}", soft_wrap=True)


def _read(given: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = dict(SIFT_PARAMETERS)
    for key, value in given.items():
        if key not in SIFT_PARAMETERS:
            raise SecureImgError(
                f"feature {SIFT!r} has no parameter {key!r}; its parameters are: {', '.join(SIFT_PARAMETERS)}"
            )
        try:
            found[key] = type(SIFT_PARAMETERS[key])(value)
        except ValueError:
            raise SecureImgError(
                f"feature {SIFT!r}: {key} = {value!r} is not a number like {SIFT_PARAMETERS[key]}"
            ) from None
    return found


def _show(points: KeyPoints, reports: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in _FIELDS:
        table.add_column(title, justify="right")
    for place in np.argsort(-points.response)[:_SHOWN]:
        table.add_row(*(f"{getattr(points, name)[place]:.{3 if name == 'response' else 1}f}" for name in _FIELDS))
    out.print(f"{len(points)} keypoints, each with a descriptor of 128 values; the strongest:")
    out.print(table)
    for report in reports:
        seconds = report["seconds"]
        if report["on"] == "plain":
            out.print(f"{report['model']}: in the clear {duration(seconds['evaluate'])}")
            continue
        out.print(f"{report['model']}: {shares_cost(report)}")
    if reports[0]["on"] == "shares":
        out.print("The owner alone learns where the keypoints are; the parties learn their number, rounded up to 64s.")
        out.print(f"dealer: {reports[0]['dealer']}. {reports[0]['trust']}")
