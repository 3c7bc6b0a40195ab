"""From a graph to the three kinds of step that CKKS evaluates: linear maps, monic polynomials, products.

A quadratic `a x^2 + b x + c` is brought into the form `a ((x + s)^2 + t)`: the shift s moves into the bias of the linear
map before it, a and t into the linear map behind it, and what is left is a square, which costs one level and no
plaintext product. Higher degrees are made monic in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from secureimg.errors import CompileError
from secureimg.graph import Graph, LinearMap, Multiply, Polynomial, Square, fuse_linear, simplify

__all__ = ["LinearStep", "Lowered", "PolynomialStep", "ProductStep", "Step", "lower"]

Array = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LinearStep:
    """`y = sum_k M_k x_k + bias` on flattened tensors; `shape` is y's, `input_shapes` the x_k's."""

    name: str
    inputs: tuple[str, ...]
    matrices: tuple[sparse.csr_array, ...]
    bias: Array
    shape: Shape
    input_shapes: tuple[Shape, ...]


@dataclass(frozen=True, eq=False)
class PolynomialStep:
    """`y = x^d + ... + c_1 x + c_0`, elementwise; `coefficients` holds c_0 ... c_d with c_d = 1."""

    name: str
    inputs: tuple[str]
    coefficients: tuple[float, ...]

    @property
    def is_square(self) -> bool:
        """Whether the polynomial is x^2 alone."""
        return self.coefficients == (0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class ProductStep:
    """`y = a * b`, elementwise."""

    name: str
    inputs: tuple[str, str]


Step = LinearStep | PolynomialStep | ProductStep


@dataclass(frozen=True, eq=False)
class Lowered:
    """Steps in topological order; the last linear step makes the output."""

    input: str
    input_shape: Shape
    steps: tuple[Step, ...]
    output: str
    output_shape: Shape

    def consumers(self, name: str) -> tuple[Step, ...]:
        """Steps that read a value."""
        return tuple(step for step in self.steps if name in step.inputs)

    def run(self, batch: Array) -> dict[str, Array]:
        """Every stored value, flattened, for a batch of shape (N, *input_shape): the meaning of the steps."""
        values = {self.input: np.asarray(batch, dtype=np.float64).reshape(len(batch), -1)}
        for step in self.steps:
            if isinstance(step, LinearStep):
                total: Array = np.zeros((len(batch), step.bias.size)) + step.bias
                for name, matrix in zip(step.inputs, step.matrices, strict=True):
                    total += (matrix @ values[name].T).T
                values[step.name] = total
            elif isinstance(step, PolynomialStep):
                argument = values[step.inputs[0]]
                values[step.name] = np.asarray(
                    np.polynomial.polynomial.polyval(argument, step.coefficients), np.float64
                )
            else:
                values[step.name] = values[step.inputs[0]] * values[step.inputs[1]]
        return values


def _refuse(nodes: list[tuple[str, str]]) -> CompileError:
    listed = ", ".join(f"{name} ({kind})" for name, kind in nodes)
    return CompileError(
        f"CKKS evaluates linear maps and polynomials only, and this model has {len(nodes)} other layer(s): {listed}. "
        "Two ways out: replace them by polynomials with secureimg.graph.replace_activations(graph, samples, degree) "
        "(command line: --replace-activations DEGREE --samples FILE.npy), which reports the fitted range and error; or "
        "run the model on the sharing executor, where ReLU and max pool are exact."
    )


class _Lowering:
    """Walks a fused graph and keeps, for each value, the view `true = alpha * stored + beta`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.views: dict[str, tuple[float, float]] = {graph.input: (1.0, 0.0)}

    def shape(self, name: str) -> Shape:
        return self.graph.shapes[name.split("#")[0]]

    def linear(self, name: str, inputs: tuple[str, ...], op: LinearMap, shift: float) -> None:
        bias = np.array(op.bias, dtype=np.float64).reshape(-1).copy()
        matrices = []
        for source, matrix in zip(inputs, op.matrices, strict=True):
            alpha, beta = self.views[source]
            scaled = sparse.csr_array(matrix, dtype=np.float64) * alpha
            if beta:
                bias += np.asarray(matrix.sum(axis=1)).reshape(-1) * beta
            scaled.eliminate_zeros()
            if not scaled.nnz:  # a map of nothing but zeros still has a place to come from
                scaled = sparse.csr_array((np.zeros(1), (np.zeros(1, int), np.zeros(1, int))), shape=scaled.shape)
            matrices.append(scaled)
        shapes = tuple(self.shape(source) for source in inputs)
        self.steps.append(LinearStep(name, inputs, tuple(matrices), bias + shift, op.shape, shapes))
        self.views[name] = (1.0, -shift)

    def identity(self, source: str, suffix: str) -> str:
        """A copy of a value through an identity linear step, with a plain view (costs a level)."""
        name = f"{source}#{suffix}"
        shape = self.shape(source)
        size = int(np.prod(shape))
        eye = sparse.csr_array(sparse.eye_array(size, format="csr"))
        self.linear(name, (source,), LinearMap(matrices=(eye,), bias=np.zeros(size), shape=shape), 0.0)
        return name

    def polynomial(self, name: str, source: str, coefficients: tuple[float, ...]) -> None:
        alpha, beta = self.views[source]
        outer = np.polynomial.Polynomial(np.trim_zeros(np.asarray(coefficients, dtype=np.float64), "b"))
        composed = np.asarray(outer(np.polynomial.Polynomial([beta, alpha])).coef, dtype=np.float64)
        lead = float(composed[-1])
        monic = composed / lead
        constant = float(monic[0])
        monic[0] = 0.0
        monic[np.abs(monic) < 1e-12 * np.max(np.abs(monic))] = 0.0
        self.steps.append(PolynomialStep(name, (source,), tuple(float(c) for c in monic)))
        self.views[name] = (lead, lead * constant)


def _coefficients(op: object) -> tuple[float, ...] | None:
    if isinstance(op, Square):
        return (0.0, 0.0, 1.0)
    if isinstance(op, Polynomial):
        return tuple(float(c) for c in op.coefficients)
    return None


def _shift(graph: Graph, name: str) -> float:
    """The shift that turns the first quadratic reading `name` into a plain square."""
    for node in graph.nodes:
        if name in node.inputs:
            found = _coefficients(node.op)
            if found is not None and len(found) == 3 and found[2]:
                return found[1] / (2 * found[2])
    return 0.0


def lower(graph: Graph) -> Lowered:
    """Lower a graph without owner ops.

    Raises
    ------
    CompileError
        If the graph holds ops that are neither linear nor polynomial; all of them are named, with the two ways out.
    """
    fused = fuse_linear(simplify(graph))
    refused = [
        (node.name, type(node.op).__name__)
        for node in fused.nodes
        if not isinstance(node.op, LinearMap | Multiply) and _coefficients(node.op) is None
    ]
    if refused:
        raise _refuse(refused)
    work = _Lowering(fused)
    renamed = {fused.input: fused.input}
    for node in fused.nodes:
        sources = tuple(renamed[name] for name in node.inputs)
        renamed[node.name] = node.name
        found = _coefficients(node.op)
        if isinstance(node.op, LinearMap):
            work.linear(node.name, sources, node.op, _shift(fused, node.name))
        elif found is not None:
            work.polynomial(node.name, sources[0], found)
        else:
            left, right = sources
            if work.views[left] != (1.0, 0.0):
                left = work.identity(left, "left")
            work.steps.append(ProductStep(node.name, (left, work.identity(right, "right"))))
            work.views[node.name] = (1.0, 0.0)
    output = renamed[fused.output]
    last = work.steps[-1] if work.steps else None
    if work.views[output] != (1.0, 0.0) or not isinstance(last, LinearStep) or last.name != output:
        output = work.identity(output, "output")
    return Lowered(fused.input, fused.input_shape, tuple(work.steps), output, fused.output_shape)
