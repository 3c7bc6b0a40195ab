"""Activations CKKS cannot compute, replaced by polynomials fitted to what the model's values really are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial import Polynomial as PowerSeries
from numpy.typing import ArrayLike

from secureimg.errors import GraphError
from secureimg.graph import ops
from secureimg.graph.graph import Graph, Node
from secureimg.graph.ops import FloatArray, Op
from secureimg.graph.plain import run_op

__all__ = ["MAX_DEGREE", "ActivationFit", "replace_activations"]

MAX_DEGREE = 31
"""Highest degree fitted: 5 levels of CKKS, and about what power coefficients in float64 can hold."""

_REPLACED = (ops.Relu, ops.LeakyRelu, ops.Clip, ops.Sigmoid, ops.Tanh)
_MARGIN = 0.1  # of the measured width, on each side: other images reach a little further
_FLOOR = 0.2  # share of the weight spread evenly over the range, so that the fit stays tame between the samples
_BINS = 512


@dataclass(frozen=True)
class ActivationFit:
    """How one activation was replaced.

    Attributes
    ----------
    name : str
        Of the node.
    op : str
        What it was: "Relu", "MaxPool", ...
    low, high : float
        Range of its input the replacement was fitted on.
    degree : int
        Of the polynomial; 1 for a max pool, which becomes an average pool.
    max_error : float
        Largest difference over the range (for a max pool: over the samples).
    rms_error : float
        Root mean square of the difference over the samples.
    """

    name: str
    op: str
    low: float
    high: float
    degree: int
    max_error: float
    rms_error: float


def replace_activations(graph: Graph, samples: ArrayLike, degree: int = 4) -> tuple[Graph, tuple[ActivationFit, ...]]:
    """Replace ReLU, LeakyReLU, Clip, Sigmoid and Tanh by polynomials and max pools by average pools.

    Each polynomial is the weighted least-squares fit on the range its input has on the samples (a tenth wider on each
    side); the weight is the distribution of that input plus an even floor. A layer's input is measured behind the
    replacements of the layers before it. Accuracy usually drops; train the result further, or check it on images.

    Parameters
    ----------
    graph : Graph
    samples : array_like, shape (N, *graph.input_shape)
        Typical inputs, N at least 1; some hundred are enough. All their values stay in memory.
    degree : int
        Of the polynomials, 1 to `MAX_DEGREE`.

    Returns
    -------
    graph : Graph
    fits : tuple of ActivationFit
        One for each node replaced, in order.

    Raises
    ------
    GraphError
        If the samples do not fit or are not finite, the degree is out of range, or a max pool is dilated.
    """
    if not 1 <= degree <= MAX_DEGREE:
        raise GraphError(f"replace_activations: degree must be 1 to {MAX_DEGREE}, got {degree}")
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != len(graph.input_shape) + 1 or array.shape[1:] != graph.input_shape or array.shape[0] == 0:
        raise GraphError(f"replace_activations: samples must have shape (N, *{graph.input_shape}), got {array.shape}")
    if not np.isfinite(array).all():
        raise GraphError("replace_activations: the samples hold NaN or infinite values")
    values = {graph.input: array}
    last = {name: node.name for node in graph.nodes for name in node.inputs}
    nodes: list[Node] = []
    fits: list[ActivationFit] = []
    for node in graph.nodes:
        op, inputs = node.op, [values[name] for name in node.inputs]
        if isinstance(op, _REPLACED):
            op, fit = _fitted(node.name, op, inputs[0], degree)
            fits.append(fit)
        elif isinstance(op, ops.MaxPool):
            op, fit = _averaged(node.name, op, inputs[0])
            fits.append(fit)
        result = run_op(op, *inputs)
        if not np.isfinite(result).all():
            raise GraphError(f"replace_activations: {node.name!r} overflows on the samples; use a lower degree")
        values[node.name] = result
        nodes.append(Node(node.name, op, node.inputs))
        for name in set(node.inputs):
            if last[name] == node.name:
                del values[name]
    return graph.replace(nodes=tuple(nodes)), tuple(fits)


def _errors(wanted: FloatArray, got: FloatArray) -> tuple[float, float]:
    difference = np.abs(wanted - got)
    return float(difference.max()), float(np.sqrt(np.mean(difference**2)))


def _fitted(name: str, op: Op, x: FloatArray, degree: int) -> tuple[Op, ActivationFit]:
    low, high = float(x.min()), float(x.max())
    width = high - low
    margin = _MARGIN * width if width > 1e-9 * max(1.0, abs(low), abs(high)) else 1.0
    low, high = low - margin, high + margin
    counts, edges = np.histogram(x, bins=_BINS, range=(low, high))
    points = (edges[:-1] + edges[1:]) / 2
    weight = (1.0 - _FLOOR) * counts / counts.sum() + _FLOOR / _BINS
    # sqrt: the fit minimizes the sum of (weight * difference) squared
    series = Chebyshev.fit(points, run_op(op, points), degree, domain=(low, high), w=np.sqrt(weight))
    coefficients = series.convert(kind=PowerSeries, domain=(-1.0, 1.0), window=(-1.0, 1.0)).coef
    result = ops.Polynomial(tuple(float(c) for c in coefficients))
    grid = np.linspace(low, high, 4 * _BINS + 1)
    worst, _ = _errors(run_op(op, grid), run_op(result, grid))
    largest, rms = _errors(run_op(op, x), run_op(result, x))
    return result, ActivationFit(name, op.kind, low, high, result.degree, max(worst, largest), rms)


def _averaged(name: str, op: ops.MaxPool, x: FloatArray) -> tuple[Op, ActivationFit]:
    if op.dilations != (1, 1):
        raise GraphError(
            f"node {name!r}: a dilated max pool has no average pool of its shape; use one without dilations"
        )
    result = ops.AveragePool(op.kernel, op.strides, op.pads, False, op.ceil_mode)
    worst, rms = _errors(run_op(op, x), run_op(result, x))
    return result, ActivationFit(name, op.kind, float(x.min()), float(x.max()), 1, worst, rms)
