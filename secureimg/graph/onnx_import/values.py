"""What the importer knows while it walks a file: constants, computed values, one node's inputs and attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph.graph import Node
from secureimg.graph.ops import Op, Reshape, Shape, elements

__all__ = ["Const", "Emitter", "Handler", "NodeView", "Refused", "Result", "Value", "across_batch"]

Array = NDArray[Any]


class Refused(Exception):  # never leaves the importer: the translator collects it into one error
    """A node that cannot be imported, with the reason and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")


@dataclass(frozen=True, eq=False)
class Const:
    """A tensor known at import time; floats are float64, integers and booleans keep their type."""

    array: Array


@dataclass(frozen=True)
class Value:
    """A tensor computed from the image.

    Attributes
    ----------
    name : str
        Of the graph's value that holds it.
    full : tuple of int
        Shape in the file for a batch of one image. If its first side is 1 that side is taken as the batch axis.
    """

    name: str
    full: Shape

    @property
    def lead(self) -> int:
        """How many leading axes the graph does not have: 1 for the batch axis, else 0."""
        return 1 if self.full and self.full[0] == 1 else 0

    @property
    def image(self) -> Shape:
        """Per-image shape."""
        return self.full[self.lead :]

    def axis(self, axis: int) -> int:
        """Turn an axis of the file's tensor into one of the per-image value."""
        rank = len(self.full)
        if not -rank <= axis < rank:
            raise Refused(f"axis {axis} is outside a tensor of {rank} axes", "re-export the model")
        axis %= rank
        if axis < self.lead:
            raise across_batch()
        return axis - self.lead


def across_batch() -> Refused:
    """Refusal of an op that would mix images of one batch."""
    return Refused("it works across the images of a batch", "keep the first axis for the batch in every layer")


Result = Const | Value | tuple[Const | Value, ...]


@dataclass
class NodeView:
    """One node of the file with its inputs resolved; remembers which attributes were looked at."""

    label: str
    kind: str
    output: str
    version: int
    inputs: list[Const | Value | None]
    attributes: dict[str, Any]
    outputs: int = 1
    read: set[str] = field(default_factory=set)

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value, of the type of `default`'s kind, or `default` itself."""
        self.read.add(name)
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attribute(name, default)
        if not isinstance(value, int):
            raise GraphError(f"node {self.label!r} ({self.kind}): attribute {name!r} must be an integer")
        return value

    def number(self, name: str, default: float) -> float:
        """A floating-point attribute."""
        value = self.attribute(name, default)
        if not isinstance(value, (int, float)):
            raise GraphError(f"node {self.label!r} ({self.kind}): attribute {name!r} must be a number")
        return float(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the attribute is absent."""
        value = self.attribute(name, None)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, int) for v in value):
            raise GraphError(f"node {self.label!r} ({self.kind}): attribute {name!r} must be a list of integers")
        return tuple(value)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Const | Value:
        """A required input of either sort."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise GraphError(f"node {self.label!r} ({self.kind}): its input {index} is missing")
        return found

    def value(self, index: int = 0) -> Value:
        """A required input computed from the image."""
        found = self.operand(index)
        if isinstance(found, Const):
            raise Refused(f"its input {index} is a constant", "let the layer take a value computed from the image")
        return found

    def const(self, index: int, what: str) -> Array:
        """A required input known at import time."""
        found = self.operand(index)
        if isinstance(found, Value):
            raise Refused(f"its {what} depend(s) on the image", "make it a constant of the model")
        return found.array

    def const_integers(self, index: int, what: str) -> tuple[int, ...]:
        """A required input known at import time, as integers."""
        return tuple(int(v) for v in self.const(index, what).reshape(-1))

    def axes(self, since: int, index: int = 1) -> tuple[int, ...] | None:
        """Axes, which are an attribute before opset `since` and an input from it on; None where absent."""
        found = self.integers("axes")
        if found is None and self.version >= since and self.has(index):
            found = self.const_integers(index, "axes")
        return found

    def normal_axes(self, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
        """Axes of a tensor of `rank` axes, none below 0, none twice."""
        if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
            raise GraphError(f"node {self.label!r} ({self.kind}): axes {axes} do not fit a tensor of {rank} axes")
        return tuple(axis % rank for axis in axes)


Handler = Callable[["NodeView", "Emitter"], Result]


class Emitter:
    """Collects the nodes of the graph that is being made.

    Parameters
    ----------
    name : str
        Of the input value.
    full : tuple of int
        Shape of the file's input for a batch of one image.
    batch : int
        The batch size fixed in the file; shapes written for it are read as for one image.
    """

    def __init__(self, name: str, full: Shape, batch: int = 1) -> None:
        self.nodes: list[Node] = []
        self.batch = batch
        self._used = {name}
        self._owned: set[str] = set()
        self.input = Value(name, full)

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._used:
            count += 1
            name = f"{wanted}.{count}"
        self._used.add(name)
        return name

    def emit(self, node: NodeView, op: Op, values: tuple[Value, ...], full: Shape | None = None) -> Value:
        """Add an op on per-image values.

        `full` is the shape the result has in the file, for a batch of one image; by default the op's result with the
        inputs' batch axis put back.
        """
        for value in values:
            if value.name in self._owned and not op.owner:
                raise Refused(
                    f"it takes the result of {value.name!r}, a softmax or argmax, which only the owner computes",
                    "leave softmax and argmax to the end of the model",
                )
        shape = op.infer(*(value.image for value in values))
        if full is None:
            full = (1,) * values[0].lead + shape
        name = self._fresh(node.output)
        self.nodes.append(Node(name, op, tuple(value.name for value in values)))
        if op.owner:
            self._owned.add(name)
        return self.reshape(node, Value(name, (1, *shape)), full)

    def reshape(self, node: NodeView, value: Value, full: Shape) -> Value:
        """Give a value another shape in the file; a node is added only if the per-image shape changes."""
        target = Value(value.name, full)
        if target.image == value.image:
            return target
        if elements(full) != elements(value.full):
            raise GraphError(f"node {node.label!r} ({node.kind}): {value.full} does not fit the shape {full}")
        op = Reshape(target.image)
        if value.name in self._owned:
            raise Refused(
                f"it changes the shape of {value.name!r}, a softmax or argmax, which only the owner computes",
                "put the change of shape before it",
            )
        name = self._fresh(node.output)
        self.nodes.append(Node(name, op, (value.name,)))
        return Value(name, full)


def as_float(array: Array) -> NDArray[np.float64]:
    """Constants of ops are float64, whatever the file holds."""
    return np.asarray(array, dtype=np.float64)
