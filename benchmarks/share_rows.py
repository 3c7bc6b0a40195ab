"""What is measured on shares: single operations and networks, and the values that go in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secureimg.graph import Graph, GraphBuilder, Slice

from .share_nets import NETS, random_images

__all__ = ["WORKS", "Work"]

Array = NDArray[np.float64]
_WIDE = (-8.0, 8.0)
_LONG = {"ResNet-18 at 224x224", "SqueezeNet 1.1 at 224x224", "ResNet-50 at 224x224"}


@dataclass(frozen=True)
class Work:
    """One row.

    Attributes
    ----------
    name : str
        How the tables call it.
    make : callable
        Builds the graph.
    input_range : (float, float)
        Smallest and largest input value.
    reveal : str
        "scores" or "label".
    public_weights : bool
        Both parties know them (a row that has none worth hiding).
    picture : bool
        The inputs are smooth pictures, not noise.
    long : bool
        Left out of a quick run.
    """

    name: str
    make: Callable[[], Graph]
    input_range: tuple[float, float] = (0.0, 1.0)
    reveal: Literal["scores", "label"] = "scores"
    public_weights: bool = False
    picture: bool = False
    long: bool = False

    def inputs(self, graph: Graph, count: int, seed: int = 2) -> Array:
        """Return made-up inputs of shape (count, *graph.input_shape)."""
        if self.picture:
            return random_images(graph, count, seed)
        low, high = self.input_range
        values = np.random.default_rng(seed).normal((low + high) / 2, (high - low) / 8, (count, *graph.input_shape))
        return np.clip(values, low, high)


def _product() -> Graph:
    b = GraphBuilder("product", (2, 1000, 1000))
    left, right = (b.apply(Slice((part, 0, 0), (1, 1000, 1000), (1, 1, 1)), b.input) for part in (0, 1))
    return b.build(b.multiply(left, right))


def _relu() -> Graph:
    b = GraphBuilder("relu", (1000, 1000))
    return b.build(b.relu(b.input))


def _scaled_relu() -> Graph:
    """The input times a public number has twice the fractional bits, as what comes out of any layer."""
    b = GraphBuilder("relu-truncated", (1000, 1000))
    return b.build(b.relu(b.affine(b.input, 0.7)))


def _matmul() -> Graph:
    b = GraphBuilder("matmul", (256, 256))
    return b.build(b.dense(b.input, np.random.default_rng(1).normal(scale=1 / 16, size=(256, 256))))


def _conv(shape: tuple[int, int, int], kernel: int, stride: int, pad: int) -> Graph:
    b = GraphBuilder(f"conv{kernel}x{kernel}", shape)
    scale = math.sqrt(2 / (shape[0] * kernel * kernel))
    weight = np.random.default_rng(1).normal(scale=scale, size=(64, shape[0], kernel, kernel))
    return b.build(b.conv(b.input, weight, strides=(stride, stride), pads=(pad,) * 4))


def _max_pool(kernel: int, pad: int) -> Graph:
    b = GraphBuilder(f"maxpool{kernel}x{kernel}", (64, 112, 112))
    return b.build(b.max_pool(b.input, (kernel, kernel), strides=(2, 2), pads=(pad,) * 4))


def _argmax() -> Graph:
    b = GraphBuilder("argmax", (1000, 1, 1))
    return b.build(b.flatten(b.input))


WORKS: tuple[Work, ...] = (
    Work("product, 1,000,000", _product, _WIDE),
    Work("ReLU, 1,000,000", _relu, _WIDE),
    Work("ReLU with truncation, 1,000,000", _scaled_relu, _WIDE, public_weights=True),
    Work("matmul 256x256x256", _matmul, _WIDE),
    Work("conv 3->64 7x7 s2 at 224x224", lambda: _conv((3, 224, 224), 7, 2, 3), picture=True),
    Work("conv 64->64 3x3 at 56x56", lambda: _conv((64, 56, 56), 3, 1, 1), (0.0, 4.0)),
    Work("max pool 2x2 on 64x112x112", lambda: _max_pool(2, 0), _WIDE),
    Work("max pool 3x3 s2 on 64x112x112", lambda: _max_pool(3, 1), _WIDE),
    Work("argmax of 1000", _argmax, _WIDE, reveal="label"),
    *(Work(name, make, picture=True, long=name in _LONG) for name, make in NETS.items()),
)
