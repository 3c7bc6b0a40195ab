"""Models that ship with the package, and models from files, by one name."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph.graph import Graph, Preprocessing
from secureimg.graph.onnx_import import load_onnx

__all__ = ["ModelCard", "load_model", "read_card", "shipped_models"]

_MAX_CARD_BYTES = 2**20
_MAX_TYPICAL_BYTES = 2**22


@dataclass(frozen=True)
class ModelCard:
    """What is known about a shipped model.

    Attributes
    ----------
    name : str
        What `load_model` takes.
    title : str
        One line for people.
    file : str
        Name of the ONNX file beside the card.
    preprocessing : Preprocessing
        What the model wants from an image.
    labels : tuple of str
        Names of the output's elements.
    accuracy : dict of str to float
        Share of each held-out set answered right, in the clear.
    trained_on : str
        The data, and what was left out.
    sha256 : str
        Of the ONNX file, hex.
    seed : int
        Of the training run.
    typical : ndarray of uint8, shape (N, height, width), or None
        Grey pictures made from statistics of the training data, that are like those the model is for.
    """

    name: str
    title: str
    file: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    accuracy: dict[str, float]
    trained_on: str
    sha256: str
    seed: int
    typical: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)


def read_card(text: str | bytes, where: str) -> ModelCard:
    """Parse a model card.

    Parameters
    ----------
    text : str or bytes
        JSON: {"name", "title", "file", "preprocessing": {"mode", "size", "mean", "std"}, "labels",
        "accuracy": {held-out set: share}, "trained_on", "sha256", "seed"}, and "typical", if any: the bytes of grey
        pictures of that size, one after another, compressed by zlib, in base 64.
    where : str
        How messages call the card.

    Raises
    ------
    GraphError
        If it is larger than 1 MiB, not JSON, or an entry is missing or of the wrong type.
    """
    if len(text) > _MAX_CARD_BYTES:
        raise GraphError(f"{where}: is larger than the limit of {_MAX_CARD_BYTES} bytes")
    try:
        data = json.loads(text)
        wants = data["preprocessing"]
        size = wants.get("size")
        preprocessing = Preprocessing(
            _text(wants["mode"]),
            None if size is None else (int(size[0]), int(size[1])),
            tuple(float(v) for v in wants["mean"]),
            tuple(float(v) for v in wants["std"]),
        )
        return ModelCard(
            name=_text(data["name"]),
            title=_text(data["title"]),
            file=_text(data["file"]),
            preprocessing=preprocessing,
            labels=tuple(_text(v) for v in data["labels"]),
            accuracy={_text(k): float(v) for k, v in data["accuracy"].items()},
            trained_on=_text(data["trained_on"]),
            sha256=_text(data["sha256"]),
            seed=int(data["seed"]),
            typical=None if data.get("typical") is None else _pictures(_text(data["typical"]), preprocessing),
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise GraphError(f"{where}: is not a model card ({reason}); see ModelCard for its entries") from None


def _pictures(text: str, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    if preprocessing.size is None or preprocessing.mode != "L":
        raise ValueError("typical pictures are grey, and of the size that the model takes")
    height, width = preprocessing.size
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(base64.b64decode(text, validate=True), _MAX_TYPICAL_BYTES)
    except zlib.error as error:
        raise ValueError(f"typical pictures cannot be unpacked ({error})") from None
    if not data or len(data) % (height * width) or not decoder.eof or decoder.unused_data:
        raise ValueError(f"{len(data)} bytes of typical pictures are not pictures of {height}x{width}")
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, height, width)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def _folder() -> Traversable:
    return resources.files("secureimg.graph") / "models"


@cache
def shipped_models() -> tuple[ModelCard, ...]:
    """Cards of the models that ship with the package, by name."""
    folder = _folder()
    if not folder.is_dir():
        return ()
    cards = [read_card(f.read_bytes(), f"model card {f.name!r}") for f in folder.iterdir() if f.name.endswith(".json")]
    return tuple(sorted(cards, key=lambda card: card.name))


def load_model(name: str | Path) -> Graph:
    """A shipped model by name, or any ONNX file by path.

    Parameters
    ----------
    name : str or Path
        Name of a shipped model (see `shipped_models`), or path of an .onnx file. A shipped name wins over a file of
        that name: write ``./name`` for the file.

    Returns
    -------
    Graph
        A shipped one knows its preprocessing and labels; one from a file does not.

    Raises
    ------
    UnsupportedModelError
        With every part of the file that cannot be imported.
    GraphError
        If there is no such model, or the file is not sound (see `load_onnx`).
    """
    cards = {card.name: card for card in shipped_models()}
    card = cards.get(name) if isinstance(name, str) else None
    if card is not None:
        return _load_shipped(card)
    path = Path(name)
    if path.suffix.lower() == ".onnx" or path.is_file():
        return load_onnx(path)
    known = ", ".join(sorted(cards)) or "none"
    raise GraphError(f"no model {str(name)!r}: give the path of an .onnx file or a shipped model's name ({known})")


def _load_shipped(card: ModelCard) -> Graph:
    data = (_folder() / card.file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise GraphError(
            f"shipped model {card.name!r}: SHA-256 of {card.file!r} is {digest}, its card says {card.sha256}; "
            "install the package again"
        )
    graph = load_onnx(data)
    samples = None
    if card.typical is not None:
        wants = card.preprocessing
        samples = ((card.typical / 255.0 - wants.mean[0]) / wants.std[0]).reshape(-1, *graph.input_shape)
    return graph.replace(name=card.name, preprocessing=card.preprocessing, labels=card.labels, samples=samples)
