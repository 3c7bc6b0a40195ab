"""Small programs on shares, each mostly one kind of step, that are timed between two processes of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from secureimg import sharing
from secureimg.graph import Graph, GraphBuilder

__all__ = ["COLD", "KERNELS", "compile_kernel"]

COLD: Final = "network"
"""The kernel that is timed first: its first run finds every process cold."""

_SMALL: Final = (1, 8, 8)
_LARGE: Final = (1, 256, 256)
_MIDDLE: Final = (1, 128, 160)


def _one(shape: tuple[int, ...], op: Callable[[GraphBuilder], str]) -> Callable[[], Graph]:
    def make() -> Graph:
        builder = GraphBuilder("kernel", shape)
        return builder.build(op(builder))

    return make


def _chain(builder: GraphBuilder, op: Callable[[str], str], times: int) -> str:
    value = builder.input
    for _ in range(times):
        value = op(value)
    return value


def _layers(builder: GraphBuilder, width: int, count: int) -> str:
    weight = np.sin(np.arange(width * width, dtype=np.float64)).reshape(width, width) / width
    value = builder.flatten(builder.input)
    for _ in range(count):
        value = builder.dense(value, weight)
    return value


def _mixed(builder: GraphBuilder) -> str:
    """Convolutions of one pixel: mostly blinding and the dealer's corrections."""
    weight = np.linspace(-1, 1, 8).reshape(8, 1, 1, 1)
    return builder.conv(builder.input, weight)


def _layer(builder: GraphBuilder) -> str:
    """Between two hidden maps: a ReLU that cuts fractional bits off and widens the ring."""
    weight = np.linspace(-1, 1, 16).reshape(16, 1, 1, 1)
    value = builder.relu(builder.conv(builder.input, weight))
    return builder.mean(builder.conv(value, weight.reshape(1, 16, 1, 1).repeat(4, axis=0)), (1, 2))


def _network(builder: GraphBuilder) -> str:
    """A little of everything, as the first run after the processes' start."""
    weight = np.cos(np.arange(8 * 9, dtype=np.float64)).reshape(8, 1, 3, 3) / 3
    value = builder.max_pool(builder.relu(builder.conv(builder.input, weight)), (2, 2))
    value = builder.flatten(builder.square(value))
    terms = builder.shape(value)[0]
    return builder.dense(value, np.sin(np.arange(10 * terms, dtype=np.float64)).reshape(10, terms) / terms)


def _pieces(builder: GraphBuilder) -> str:
    """Steps that talk to nobody."""
    value, (_, height, width) = builder.input, builder.shape(builder.input)
    for _ in range(4):
        turned = builder.transpose(value, (0, 2, 1))
        value = builder.transpose(builder.add(turned, turned), (0, 2, 1))
    return builder.mean(builder.reshape(value, (1, height, width)), (1, 2))


KERNELS: Final[dict[str, Callable[[], Graph]]] = {
    COLD: _one((1, 30, 30), _network),
    "answer": _one(_SMALL, lambda b: b.flatten(b.input)),
    "input": _one(_LARGE, lambda b: b.mean(b.input, (1, 2))),
    "output": _one(_LARGE, lambda b: b.flatten(b.input)),
    "pieces": _one(_MIDDLE, _pieces),
    "pieces, small": _one(_SMALL, _pieces),
    "relu, small": _one(_SMALL, lambda b: b.relu(b.input)),
    "relu": _one(_LARGE, lambda b: b.relu(b.input)),
    "relu, middle": _one(_MIDDLE, lambda b: b.relu(b.input)),
    "relu, wider ring": _one(_LARGE, lambda b: b.square(b.relu(b.input))),
    "sign": _one(_LARGE, lambda b: b.step(b.input)),
    "sign, fine": _one(_MIDDLE, lambda b: b.step(b.square(b.square(b.input)))),
    "layer": _one((1, 64, 64), _layer),
    "function": _one((1, 24, 24), lambda b: b.exp(b.input, 0.0, 1.0)),
    "max pool": _one(_LARGE, lambda b: b.max_pool(b.input, (2, 2))),
    "max pool, small": _one(_SMALL, lambda b: b.max_pool(b.max_pool(b.input, (2, 2)), (2, 2))),
    "squares": _one(_LARGE, lambda b: _chain(b, b.square, 2)),
    "squares, small": _one(_SMALL, lambda b: _chain(b, b.square, 8)),
    "product": _one(_LARGE, lambda b: b.multiply(b.input, b.transpose(b.input, (0, 2, 1)))),
    "layers, small": _one(_SMALL, lambda b: _layers(b, 64, 8)),
    "layers and relu, small": _one(_SMALL, lambda b: b.relu(_layers(b, 64, 3))),
    "blinding": _one(_LARGE, _mixed),
    "blinding, middle": _one(_MIDDLE, _mixed),
}
"""Graphs by name. None of them is a model that anybody runs."""


def compile_kernel(name: str) -> sharing.Program:
    """Compile a kernel; equal names give equal programs in every process."""
    return sharing.compile(KERNELS[name]())
