"""Small programs and keys that targets decode against: made once, the same ones every time where that is possible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from secureimg import ckks, sharing
from secureimg.graph import Graph, GraphBuilder, Preprocessing

__all__ = ["KEY_ID", "CkksWorld", "ckks_programs", "ckks_world", "share_programs"]

KEY_ID: Final = "0123456789abcdef" * 2


def _network(hidden: bool) -> Graph:
    """Convolution, activation (a square where `hidden` is false), pooling, two dense layers."""
    rng = np.random.default_rng(5)
    b = GraphBuilder("net", (1, 6, 6))
    x = b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3)) / 3, bias=rng.normal(size=2) / 10)
    x = b.max_pool(b.relu(x), kernel=(2, 2), strides=(2, 2)) if hidden else b.square(x)
    size = int(np.prod(b.shape(x)))
    return b.build(b.softmax(b.dense(b.flatten(x), rng.normal(size=(3, size)) / np.sqrt(size))))


def _convolution() -> Graph:
    b = GraphBuilder("convolution", (1, 2, 2))
    return b.build(b.conv(b.input, weight=np.array([[[[0.5, -0.25]]]])))


def _labelled(graph: Graph) -> Graph:
    return graph.replace(labels=("a", "b", "c"), preprocessing=Preprocessing("L", (6, 6), (0.5,), (0.25,)))


@dataclass(frozen=True)
class CkksWorld:
    """A program, its owner's keys, and one of every blob."""

    public: ckks.PublicProgram
    keys: ckks.OwnerKeys
    evaluation_keys: bytes
    input: bytes
    output: bytes


@cache
def ckks_world() -> CkksWorld:
    """A program with two rotations or so."""
    program = ckks.compile(_convolution())
    keys = replace(ckks.OwnerKeys.generate(program.public), key_id=KEY_ID)
    loaded = keys.evaluation_keys()
    picture = keys.encrypt(np.full((1, 2, 2), 0.5))
    return CkksWorld(
        program.public, keys, loaded.to_bytes(), picture, ckks.Evaluator(program).evaluate(loaded, picture)
    )


@cache
def ckks_programs() -> tuple[ckks.PublicProgram, ...]:
    """Public programs of several shapes: plain, with squares and the owner's softmax, and one image a slot."""
    return (
        ckks_world().public,
        ckks.compile(_labelled(_network(hidden=False))).public,
        ckks.compile(_convolution(), layout="throughput").public,
    )


@cache
def share_programs() -> tuple[sharing.Program, ...]:
    """Programs on shares: every choice of what is revealed and of who knows the weights."""
    network = _labelled(_network(hidden=True))
    return (
        sharing.compile(network, reveal="scores"),
        sharing.compile(network, reveal="label"),
        sharing.compile(network, reveal="top-k", top=2),
        sharing.compile(_network(hidden=False), reveal="scores", weights="public"),
        sharing.compile(_convolution(), reveal="shares", weights="shared"),
    )
