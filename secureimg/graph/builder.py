"""Graphs made by hand, one call for each node."""

from __future__ import annotations

from numpy.typing import ArrayLike

from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node, Preprocessing
from secureimg.graph.ops import Op, Shape, elements
from secureimg.graph.ops.windows import Pads, Pair

__all__ = ["GraphBuilder", "PublicGraphBuilder"]


class GraphBuilder:
    """Collects nodes; each method adds one and returns the name of its value.

    Parameters
    ----------
    name : str
        Name of the graph.
    input_shape : tuple of int
        Per image, without the batch axis.
    input : str
        Name of the input value.

    Examples
    --------
    >>> import numpy as np
    >>> b = GraphBuilder("tiny", (1, 4, 4))
    >>> x = b.square(b.conv(b.input, weight=np.ones((2, 1, 3, 3))))
    >>> x = b.dense(b.flatten(x), weight=np.ones((3, 8)))
    >>> b.build(x).output_shape
    (3,)
    """

    def __init__(self, name: str, input_shape: Shape, *, input: str = "input") -> None:  # noqa: A002  # the term the graph uses
        self.name = name
        self.input = input
        self._shapes: dict[str, Shape] = {input: tuple(input_shape)}
        self._nodes: list[Node] = []
        self._used: dict[str, int] = {}

    def shape(self, value: str) -> Shape:
        """Per-image shape of a value added so far."""
        return self._shapes[value]

    def apply(self, op: Op, *inputs: str, name: str | None = None) -> str:
        """Add any op; named after its kind and a number unless `name` is given."""
        if name is None:
            kind = op.kind.lower()
            while True:
                self._used[kind] = self._used.get(kind, 0) + 1
                name = f"{kind}{self._used[kind]}"
                if name not in self._shapes:
                    break
        self._shapes[name] = op.infer(*(self._shapes[value] for value in inputs))
        self._nodes.append(Node(name, op, inputs))
        return name

    def conv(
        self,
        x: str,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        strides: Pair = (1, 1),
        pads: Pads = (0, 0, 0, 0),
        dilations: Pair = (1, 1),
        groups: int = 1,
        name: str | None = None,
    ) -> str:
        """Add a `Conv`."""
        op = ops.Conv(
            weight,  # type: ignore[arg-type]  # the op converts and checks what it is given
            bias,  # type: ignore[arg-type]
            strides,
            pads,
            dilations,
            groups,
        )
        return self.apply(op, x, name=name)

    def dense(self, x: str, weight: ArrayLike, bias: ArrayLike | None = None, *, name: str | None = None) -> str:
        """Add a `Dense`: `weight` is (M, K)."""
        return self.apply(ops.Dense(weight, bias), x, name=name)  # type: ignore[arg-type]

    def affine(self, x: str, scale: ArrayLike = 1.0, shift: ArrayLike = 0.0, *, name: str | None = None) -> str:
        """Add an `Affine`: ``x * scale + shift``."""
        return self.apply(ops.Affine(scale, shift), x, name=name)  # type: ignore[arg-type]

    def add(self, x: str, y: str, *, name: str | None = None) -> str:
        """Add an `Add`."""
        return self.apply(ops.Add(), x, y, name=name)

    def subtract(self, x: str, y: str, *, name: str | None = None) -> str:
        """Add a `Subtract`."""
        return self.apply(ops.Subtract(), x, y, name=name)

    def multiply(self, x: str, y: str, *, name: str | None = None) -> str:
        """Add a `Multiply`."""
        return self.apply(ops.Multiply(), x, y, name=name)

    def square(self, x: str, *, name: str | None = None) -> str:
        """Add a `Square`."""
        return self.apply(ops.Square(), x, name=name)

    def polynomial(self, x: str, coefficients: tuple[float, ...], *, name: str | None = None) -> str:
        """Add a `Polynomial`; lowest power first."""
        return self.apply(ops.Polynomial(tuple(coefficients)), x, name=name)

    def relu(self, x: str, *, name: str | None = None) -> str:
        """Add a `Relu`."""
        return self.apply(ops.Relu(), x, name=name)

    def step(self, x: str, *, name: str | None = None) -> str:
        """Add a `Step`."""
        return self.apply(ops.Step(), x, name=name)

    def abs(self, x: str, *, name: str | None = None) -> str:
        """Add an `Abs`."""
        return self.apply(ops.Abs(), x, name=name)

    def exp(self, x: str, low: float | None = None, high: float | None = None, *, name: str | None = None) -> str:
        """Add an `Exp`, for x in [low, high]."""
        return self.apply(ops.Exp(low, high), x, name=name)

    def reciprocal(
        self,
        x: str,
        low: float | None = None,
        high: float | None = None,
        *,
        error: float = ops.USUAL_ERROR,
        name: str | None = None,
    ) -> str:
        """Add a `Reciprocal`, for x in [low, high]."""
        return self.apply(ops.Reciprocal(low, high, error), x, name=name)

    def sqrt(
        self,
        x: str,
        low: float | None = None,
        high: float | None = None,
        *,
        error: float = ops.USUAL_ERROR,
        name: str | None = None,
    ) -> str:
        """Add a `Sqrt`, for x in [low, high]."""
        return self.apply(ops.Sqrt(low, high, error), x, name=name)

    def inverse_sqrt(
        self,
        x: str,
        low: float | None = None,
        high: float | None = None,
        *,
        error: float = ops.USUAL_ERROR,
        name: str | None = None,
    ) -> str:
        """Add an `InverseSqrt`, for x in [low, high]."""
        return self.apply(ops.InverseSqrt(low, high, error), x, name=name)

    def divide(
        self, x: str, y: str, low: float | None = None, high: float | None = None, *, name: str | None = None
    ) -> str:
        """Add a `Divide`: x by y, for y in [low, high]."""
        return self.apply(ops.Divide(low, high), x, y, name=name)

    def max_pool(
        self, x: str, kernel: Pair, *, strides: Pair | None = None, pads: Pads = (0, 0, 0, 0), name: str | None = None
    ) -> str:
        """Add a `MaxPool`; strides default to the kernel."""
        return self.apply(ops.MaxPool(kernel, strides or kernel, pads), x, name=name)

    def average_pool(
        self, x: str, kernel: Pair, *, strides: Pair | None = None, pads: Pads = (0, 0, 0, 0), name: str | None = None
    ) -> str:
        """Add an `AveragePool`; strides default to the kernel, padding does not count in the mean."""
        return self.apply(ops.AveragePool(kernel, strides or kernel, pads), x, name=name)

    def mean(self, x: str, axes: tuple[int, ...], *, keepdims: bool = True, name: str | None = None) -> str:
        """Add a `Mean`."""
        return self.apply(ops.Mean(axes, keepdims), x, name=name)

    def pad(self, x: str, pads: tuple[Pair, ...], value: float = 0.0, *, name: str | None = None) -> str:
        """Add a `Pad`: (before, after) for each axis."""
        return self.apply(ops.Pad(pads, value), x, name=name)

    def concat(self, *values: str, axis: int = 0, name: str | None = None) -> str:
        """Add a `Concat`."""
        return self.apply(ops.Concat(axis), *values, name=name)

    def reshape(self, x: str, shape: Shape, *, name: str | None = None) -> str:
        """Add a `Reshape`."""
        return self.apply(ops.Reshape(shape), x, name=name)

    def flatten(self, x: str, *, name: str | None = None) -> str:
        """Add a `Reshape` to one axis, C order."""
        return self.reshape(x, (elements(self._shapes[x]),), name=name)

    def transpose(self, x: str, perm: tuple[int, ...], *, name: str | None = None) -> str:
        """Add a `Transpose`."""
        return self.apply(ops.Transpose(perm), x, name=name)

    def softmax(self, x: str, *, axis: int = -1, name: str | None = None) -> str:
        """Add a `Softmax`, which the owner computes."""
        return self.apply(ops.Softmax(axis), x, name=name)

    def argmax(self, x: str, *, axis: int = -1, name: str | None = None) -> str:
        """Add an `ArgMax`, which the owner computes."""
        return self.apply(ops.ArgMax(axis), x, name=name)

    def build(
        self, output: str, *, preprocessing: Preprocessing | None = None, labels: tuple[str, ...] | None = None
    ) -> Graph:
        """Check everything and return the graph."""
        return Graph(self.name, self.input, self._shapes[self.input], tuple(self._nodes), output, preprocessing, labels)


class PublicGraphBuilder(GraphBuilder):
    """The same for a graph whose constants are no secret."""

    def build(
        self, output: str, *, preprocessing: Preprocessing | None = None, labels: tuple[str, ...] | None = None
    ) -> Graph:
        """Check everything and return the graph."""
        return super().build(output, preprocessing=preprocessing, labels=labels).replace(public=True)
