"""A checked image computation: named nodes in topological order, shapes, a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph.ops import Op, Shape
from secureimg.graph.ops.base import checked_shape

__all__ = ["Graph", "Node", "Preprocessing"]

T = TypeVar("T")


@dataclass(frozen=True)
class Preprocessing:
    """What a model wants from an image with values in [0, 1].

    The image is converted to `mode`, resized to `size`, then ``(x - mean) / std`` per channel, as (C, H, W).

    Attributes
    ----------
    mode : "L" or "RGB"
    size : (height, width) or None
        None keeps the image's own size.
    mean, std : tuple of float
        One for each channel.
    """

    mode: str = "L"
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        channels = {"L": 1, "RGB": 3}.get(self.mode)
        if channels is None:
            raise GraphError(f"Preprocessing: mode {self.mode!r} is neither 'L' nor 'RGB'")
        if len(self.mean) != channels or len(self.std) != channels:
            raise GraphError(f"Preprocessing: mode {self.mode!r} needs {channels} value(s) in mean and in std")
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise GraphError("Preprocessing: mean and std must be finite and std above 0")
        if self.size is not None:
            checked_shape(self.size, "Preprocessing size")

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value a preprocessed image can hold."""
        lows = [(0.0 - m) / s for m, s in zip(self.mean, self.std, strict=True)]
        highs = [(1.0 - m) / s for m, s in zip(self.mean, self.std, strict=True)]
        return min(lows), max(highs)


@dataclass(frozen=True)
class Node:
    """One op applied to named values; its result is named after the node."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """An image computation with one input and one output.

    Attributes
    ----------
    name : str
    input : str
        Name of the input value.
    input_shape : tuple of int
        Per image, without the batch axis.
    nodes : tuple of Node
        Each after the ones it takes its inputs from.
    output : str
        Name of the output value.
    preprocessing : Preprocessing or None
    labels : tuple of str or None
        Names of the output's elements.
    public : bool
        Its constants are no secret: a filter's, not a network's weights. On shares they are then not hidden, unless asked.
    samples : ndarray of shape (N, *input_shape), or None
        Typical inputs that come with the computation: compilers measure ranges on them if they are given no others. Not
        part of the fingerprint.

    Raises
    ------
    GraphError
        If names repeat or are unknown, nodes are out of order, shapes do not fit, or an owner op (softmax, argmax)
        feeds anything but owner ops.
    """

    name: str
    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    output: str
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    public: bool = False
    samples: NDArray[np.float64] | None = field(default=None, repr=False)
    shapes: dict[str, Shape] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", checked_shape(self.input_shape, f"input {self.input!r}"))
        if self.samples is not None and (self.samples.shape[1:] != self.input_shape or not len(self.samples)):
            raise GraphError(f"graph {self.name!r}: samples {self.samples.shape} are not inputs of {self.input_shape}")
        shapes: dict[str, Shape] = {self.input: self.input_shape}
        owned: set[str] = set()
        for node in self.nodes:
            if node.name in shapes:
                raise GraphError(f"graph {self.name!r}: the name {node.name!r} is used twice")
            for source in node.inputs:
                if source not in shapes:
                    raise GraphError(f"node {node.name!r}: its input {source!r} is not computed before it")
                if source in owned and not node.op.owner:
                    raise GraphError(
                        f"node {node.name!r} ({node.op.kind}): takes the result of {source!r}, which only the owner "
                        "computes; softmax and argmax may only stand at the end"
                    )
            try:
                shapes[node.name] = node.op.infer(*(shapes[source] for source in node.inputs))
            except GraphError as error:
                raise GraphError(f"node {node.name!r}: {error}") from None
            if node.op.owner:
                owned.add(node.name)
        if self.output not in shapes:
            raise GraphError(f"graph {self.name!r}: its output {self.output!r} is not computed by any node")
        object.__setattr__(self, "shapes", shapes)

    @property
    def output_shape(self) -> Shape:
        """Per-image shape of the output."""
        return self.shapes[self.output]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything that defines the computation: ops, constants, names, preprocessing, labels."""
        digest = hashlib.sha256(b"secureimg graph 1\0")
        _absorb(digest, (self.name, self.input, self.input_shape, self.output, self.preprocessing, self.labels))
        for node in self.nodes:
            _absorb(digest, (node.name, node.inputs, node.op))
        return digest.hexdigest()

    def node(self, name: str) -> Node:
        """The node that computes `name`; `GraphError` if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"graph {self.name!r} has no node named {name!r}")

    def needed(self, value: str) -> tuple[Node, ...]:
        """The nodes that a value is computed from, its own included, in order."""
        wanted = {value}
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(node.inputs)
        return tuple(node for node in self.nodes if node.name in wanted)

    def walk(
        self, first: T, compute: Callable[..., T], nodes: tuple[Node, ...] | None = None
    ) -> Iterator[tuple[str, T]]:
        """Compute values in order and yield each with its name, forgetting those that no later node takes.

        Parameters
        ----------
        first : object
            Value of the input.
        compute : callable
            Takes a node and the values of its inputs, returns the node's.
        nodes : tuple of Node, optional
            Those to compute, see `needed`; all if not given.
        """
        nodes = self.nodes if nodes is None else nodes
        last = {source: index for index, node in enumerate(nodes) for source in node.inputs}
        values = {self.input: first}
        yield self.input, first
        for index, node in enumerate(nodes):
            values[node.name] = compute(node, *(values[source] for source in node.inputs))
            yield node.name, values[node.name]
            for name in {node.name, *node.inputs}:
                if last.get(name, -1) <= index:
                    del values[name]

    def consumers(self) -> dict[str, list[Node]]:
        """For each value, the nodes that take it."""
        result: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                result[source].append(node)
        return result

    def body_and_tail(self) -> tuple[Graph, tuple[Op, ...]]:
        """Split off the owner ops at the end.

        Returns
        -------
        body : Graph
            What the server computes.
        tail : tuple of Op
            What the owner computes on the body's output, in this order.
        """
        by_name = {node.name: node for node in self.nodes}
        tail: list[Op] = []
        output = self.output
        while output in by_name and by_name[output].op.owner:
            tail.append(by_name[output].op)
            output = by_name[output].inputs[0]
        nodes = tuple(node for node in self.nodes if not node.op.owner)
        return self.replace(nodes=nodes, output=output), tuple(reversed(tail))

    def replace(self, **changes: Any) -> Graph:
        """A copy with some attributes changed, checked again."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return Graph(**{**values, **changes})

    def describe(self) -> list[tuple[str, str, Shape, int]]:
        """One row for each node: name, op, shape of the result, number of parameters."""
        rows: list[tuple[str, str, Shape, int]] = [(self.input, "Input", self.input_shape, 0)]
        rows += [(node.name, node.op.kind, self.shapes[node.name], node.op.params()) for node in self.nodes]
        return rows


def _absorb(digest: Any, value: object) -> None:
    """Feed a value into a hash: each part with its type and length, so that no two different values look alike."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        digest.update(f"array {array.dtype.str} {value.shape}\0".encode())
        digest.update(array.tobytes())
    elif isinstance(value, sp.csr_array):
        matrix = value.copy()
        matrix.sum_duplicates()
        digest.update(f"csr {matrix.shape}\0".encode())
        for part in (matrix.indptr.astype("<i8"), matrix.indices.astype("<i8"), matrix.data.astype("<f8")):
            _absorb(digest, part)
    elif isinstance(value, tuple):
        digest.update(f"tuple {len(value)}\0".encode())
        for item in value:
            _absorb(digest, item)
    elif dataclasses.is_dataclass(value):
        digest.update(f"object {type(value).__name__}\0".encode())
        for entry in dataclasses.fields(value):
            if entry.init:
                _absorb(digest, (entry.name, getattr(value, entry.name)))
    else:
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)}\0".encode())
        digest.update(text)
