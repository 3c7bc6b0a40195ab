"""What is measured: a user's model on the user's pictures, or the standard suite."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.inputs import load_inputs
from protocols.cli.options import ModelOptions, ShareOptions
from protocols.cli.publish_plots import picture_uri
from protocols.preparation import preparation_of
from secureimg.graph import Graph
from secureimg.images import load_image

from .bench_results import Picture, Subject
from .nets import Net, lenet, pictures, shipped, tutorial4
from .share_nets import random_images, resnet18
from .share_onnx import save_onnx

__all__ = ["EXECUTORS", "SAMPLES", "Given", "own_model", "suite"]

Array = NDArray[np.float64]
EXECUTORS: Final = ("plain", "ckks", "shares")
SAMPLES: Final = 6
"""Pictures that the page shows."""

_MADE: Final = 4  # pictures that are made up where none are given
_FEATURE: Final = 64  # side of the pictures that features are measured on
_LONGEST: Final = 160
_LONG: Final = {"mnist-lenet"}
_SHIPS: Final = "ships with secureimg"


@dataclass(frozen=True, eq=False)
class Given:
    """A model with the inputs that it is measured on.

    Attributes
    ----------
    values : (N, *input_shape) float64
        The model's own input values.
    names : tuple of str
    shown : tuple of ndarray
        The first pictures as people see them, (H, W) or (H, W, 3) in [0, 1].
    executors : tuple of str
        That the suite measures it on.
    """

    name: str
    about: str
    options: ModelOptions
    values: Array
    names: tuple[str, ...]
    shown: tuple[Array, ...]
    executors: tuple[str, ...] = EXECUTORS
    tutorial: Net | None = None

    @cached_property
    def graph(self) -> Graph:
        """The model as it runs."""
        return self.options.load().graph

    @property
    def shares(self) -> ShareOptions:
        """How it is compiled for two parties."""
        return ShareOptions(public_weights=self.graph.public)

    @cached_property
    def digest(self) -> str:
        """Of the model, how it is compiled, and the inputs."""
        told = (self.graph.fingerprint, self.options.precision, self.options.input_range, self.options.batch)
        found = hashlib.sha256(repr(told).encode())
        samples = self.options.read_samples()
        for array in (self.values, *(() if samples is None else (samples,))):
            found.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        return found.hexdigest()

    def label(self, place: int) -> str:
        """The name of an output."""
        names = self.graph.labels
        return names[place] if names is not None and place < len(names) else str(place)

    def subject(self) -> Subject:
        """What the report says of it."""
        shown = zip(self.names, self.shown, strict=False)
        return Subject(
            name=self.name, about=self.about, digest=self.graph.fingerprint, input_shape=self.graph.input_shape,
            output_shape=self.graph.output_shape, nodes=len(self.graph.nodes), weights=_weights(self.graph),
            images=len(self.values),
            pictures=tuple(Picture(name=name, png=picture_uri(image, _LONGEST)) for name, image in shown),
        )  # fmt: skip


def own_model(options: ModelOptions, inputs: Sequence[Path]) -> Given:
    """A user's model on the user's pictures; on made-up ones if there are none.

    Raises
    ------
    SecureImgError
        If the model or a picture cannot be loaded, or they do not fit.
    """
    graph = options.load().graph
    if inputs:
        found = load_inputs(inputs, graph.input_shape, preparation_of(graph))
        if found.range is not None and options.input_range is None:
            options = replace(options, input_range=found.range)
        arrays = inputs[0].suffix.lower() == ".npy"
        shown = _seen(found.values) if arrays else tuple(load_image(path) for path in inputs[:SAMPLES])
        return Given(graph.name, "your model", options, found.values, found.names, shown)
    for net in shipped(pictures(_MADE)) if options.model == graph.name else ():
        if net.name == graph.name:
            names = _numbered("sample", net.images)
            return Given(net.name, _SHIPS, options, net.images, names, _seen(net.images))
    low, high = options.input_range or ((0.0, 1.0) if graph.preprocessing is None else graph.preprocessing.range)
    if len(graph.input_shape) == 3:
        values = low + (high - low) * random_images(graph, _MADE)
    else:
        values = low + (high - low) * np.random.default_rng(1).uniform(size=(_MADE, *graph.input_shape))
    return Given(
        graph.name, "your model, on made-up pictures", options, values, _numbered("made-up", values), _seen(values)
    )


def suite(home: Path, *, quick: bool, on: Sequence[str] = EXECUTORS) -> tuple[Given, ...]:
    """The standard suite: the shipped models, TenSEAL's tutorial network, LeNet, features, ResNet-18 if not `quick`.

    Parameters
    ----------
    home : Path
        Directory for the models that do not ship.
    quick : bool
        Without both LeNets and ResNet-18.
    on : sequence of str
        Only those that run on one of these.
    """
    digits = pictures(2 * _MADE)
    found = [_shipped(net, home) for net in shipped(digits) if not (quick and net.name in _LONG)]
    found.append(_made(tutorial4(digits), "TenSEAL's tutorial 4: conv, square, 64, square, 10; made-up weights", home))
    found.append(_feature("gaussian", EXECUTORS))
    found.append(_feature("hog", ("plain", "shares")))
    if not quick:
        found.append(_made(lenet(digits), "LeNet-5 with squares; made-up weights", home))
        found.append(_resnet(home))
    return tuple(given for given in found if not set(on).isdisjoint(given.executors))


def _shipped(net: Net, home: Path) -> Given:
    options = ModelOptions(net.name, samples=_samples(net, home))
    return Given(net.name, _SHIPS, options, net.tests, _numbered("sample", net.tests), _seen(net.tests))


def _made(net: Net, about: str, home: Path) -> Given:
    path = home / f"{net.name}.onnx"
    save_onnx(net.graph, path)
    options = ModelOptions(str(path), samples=_samples(net, home), input_range=(0.0, 1.0))
    tutorial = net if net.name == "T4" else None
    return Given(
        net.name, about, options, net.tests, _numbered("digit", net.tests), _seen(net.tests), tutorial=tutorial
    )


def _samples(net: Net, home: Path) -> Path:
    """What compilers may look at: never the pictures that are measured."""
    path = home / f"{net.name}.npy"
    assert net.samples is not None
    np.save(path, net.samples)
    return path


def _feature(name: str, executors: tuple[str, ...]) -> Given:
    from .feature_pictures import GREY
    from .feature_pictures import pictures as real_pictures

    values = real_pictures(_FEATURE)
    model = f"feature:{name}:{_FEATURE}x{_FEATURE}"
    return Given(name, f"a feature, {model}", ModelOptions(model), values, GREY, _seen(values), executors)


def _resnet(home: Path) -> Given:
    path, graph = home / "ResNet-18.onnx", resnet18()
    save_onnx(graph, path)
    values = random_images(graph, 2)
    return Given(
        "ResNet-18", "at 224x224, made-up weights", ModelOptions(str(path), input_range=(0.0, 1.0)), values,
        _numbered("made-up", values), _seen(values), ("plain", "shares"),
    )  # fmt: skip


def _numbered(word: str, values: Array) -> tuple[str, ...]:
    return tuple(f"{word} {number + 1}" for number in range(len(values)))


def _seen(values: Array) -> tuple[Array, ...]:
    """Inputs as pictures, each stretched to [0, 1] if it is not there already; nothing for what is not a picture."""
    if values.ndim != 4:
        return ()
    return tuple(_stretched(np.moveaxis(it, 0, -1) if len(it) == 3 else it[0]) for it in values[:SAMPLES])


def _stretched(image: Array) -> Array:
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 1:
        return image
    return (image - low) / (high - low)


def _weights(graph: Graph) -> int:
    arrays = [value for node in graph.nodes for value in vars(node.op).values() if isinstance(value, np.ndarray)]
    return sum(array.size for array in arrays)
