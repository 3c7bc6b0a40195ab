"""Rule: chains of pointwise layers on shares equal the plain executor, up to what each layer is known to add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from secureimg import sharing
from secureimg.errors import CompileError
from secureimg.graph import (
    Add,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Graph,
    GraphBuilder,
    LeakyRelu,
    MaxPool,
    Mean,
    Multiply,
    Op,
    Pad,
    Polynomial,
    Relu,
    Sigmoid,
    Square,
    Subtract,
    Tanh,
    run_plain,
    run_plain_all,
    simplify,
)

from .two_party import run_two_party

UNIT = 2.0**-14
"""What rounding adds to a value of size 1: some last places of 2^-16."""


@dataclass
class Errors:
    """How far each value of a graph may be off, from the layers' own errors and how they pass on what comes in."""

    graph: Graph
    program: sharing.Program
    values: dict[str, np.ndarray]

    def allowed(self) -> float:
        thresholds: dict[str, float] = {}
        for layer in sharing.cost_of(self.program.public).layers:
            thresholds[layer.name] = max(thresholds.get(layer.name, 0.0), layer.threshold)
        found = {self.graph.input: UNIT}
        for node in self.graph.nodes:
            sizes = [float(np.abs(self.values[name]).max()) for name in node.inputs]
            incoming = [found[name] for name in node.inputs]
            own = thresholds.get(node.name, 0.0)
            found[node.name] = self._after(node.op, sizes, incoming, own)
        return found[self.graph.output]

    def _after(self, op: Op, sizes: list[float], incoming: list[float], threshold: float) -> float:
        before, size = max(incoming), max(sizes)
        round_off = UNIT * (1 + size)
        if isinstance(op, Add | Subtract):
            return sum(incoming) + round_off
        if isinstance(op, Multiply):
            return incoming[0] * (sizes[1] + incoming[1]) + incoming[1] * sizes[0] + round_off
        if isinstance(op, Square):
            return before * (2 * size + before) + round_off
        if isinstance(op, Polynomial):
            reach = size + before
            slope = sum(abs(c) * i * reach ** (i - 1) for i, c in enumerate(op.coefficients) if i)
            return before * slope + UNIT * sum(max(1.0, reach) ** i for i in range(len(op.coefficients)))
        if isinstance(op, Affine):
            return before * float(np.abs(op.scale).max()) + round_off
        if isinstance(op, Sigmoid | Tanh):
            return before + 1e-3
        if isinstance(op, LeakyRelu):
            return before * max(1.0, abs(op.alpha)) + threshold * (1 + abs(op.alpha)) + round_off
        return before + 4 * threshold + round_off  # the longest knock-out here has 4 levels


def chain(data: st.DataObject, generator: np.random.Generator) -> Graph:
    builder = GraphBuilder("chain", (3, 6, 6))
    seen = [
        builder.affine(builder.input, data.draw(st.sampled_from([0.3, 1.0, 4.0])), generator.uniform(-1, 1, (3, 1, 1)))
    ]
    kinds = st.sampled_from([
        "relu", "leaky", "clip", "above", "below", "sigmoid", "tanh", "square", "polynomial", "affine", "add", "subtract",
        "multiply", "abs", "max pool", "average pool", "mean", "concat", "pad",
    ])  # fmt: skip
    for _ in range(data.draw(st.integers(1, 5))):
        kind, x = data.draw(kinds), seen[-1]
        same = [name for name in seen if builder.shape(name) == builder.shape(x)]
        other = data.draw(st.sampled_from(same))
        low = generator.uniform(-1, 0.5)
        ops: dict[str, Op] = {
            "relu": Relu(), "leaky": LeakyRelu(data.draw(st.sampled_from([0.01, 0.5, -0.3, 1.5]))), "sigmoid": Sigmoid(),
            "tanh": Tanh(), "square": Square(), "clip": Clip(low, low + generator.uniform(0, 1)), "above": Clip(low=low),
            "below": Clip(high=low), "polynomial": Polynomial(tuple(generator.uniform(-0.5, 0.5, 4))),
            "affine": Affine(generator.uniform(-1, 1, (builder.shape(x)[0], 1, 1)), generator.uniform(-1, 1, ())),
            "max pool": MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), "average pool": AveragePool((3, 2), (1, 1), (1, 0, 1, 1)),
            "mean": Mean((2,), True), "pad": Pad(((0, 0), (1, 0), (0, -1)), 0.25) if builder.shape(x)[2] > 1 else Relu(),
        }  # fmt: skip
        if kind in ("add", "subtract", "multiply"):
            two = {"add": Add(), "subtract": Subtract(), "multiply": Multiply()}[kind]
            seen.append(builder.apply(two, x, other))
        elif kind == "concat":
            seen.append(builder.apply(Concat(0), x, other))
        elif kind == "abs":
            seen.append(builder.abs(x))
        else:
            seen.append(builder.apply(ops[kind], x))
    return builder.build(seen[-1])


@pytest.mark.parametrize("bounds", ["measured", "proved"])
@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_chains_of_pointwise_layers(bounds, data, seed):
    generator = np.random.default_rng(seed)
    graph = simplify(chain(data, generator))  # as it is compiled, with the names in the cost report
    x = generator.uniform(-1, 1, (2, *graph.input_shape))
    weights = data.draw(st.sampled_from(["party 1", "public"]))
    try:
        program = sharing.compile(graph, input_range=(-1, 1), samples=x, bounds=bounds, weights=weights)
    except CompileError as error:
        if "the limit is 6" not in str(error) and "need a comparison of" not in str(
            error
        ):  # high powers of large values
            raise
        reject()
    values = run_plain_all(graph, x)
    allowed = Errors(graph, program, values).allowed()
    wanted = run_plain(graph, x)
    assert np.abs(sharing.run_clear(program, x) - wanted).max() <= allowed
    assert np.abs(run_two_party(program, x) - wanted).max() <= allowed


def test_a_scale_that_gives_a_value_a_new_axis(rng):
    builder = GraphBuilder("wider", (3,))
    graph = builder.build(
        builder.affine(builder.relu(builder.input), rng.uniform(1, 2, (2, 1)), rng.uniform(1, 2, (2, 3)))
    )
    x = rng.uniform(-1, 1, (2, 3))
    program = sharing.compile(graph, input_range=(-1, 1), samples=x)
    for got in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert np.abs(got - run_plain(graph, x)).max() <= 2.0**-10


@pytest.mark.parametrize("op", [Pad(((1, 1), (0, 0)), 0.75), Polynomial((0.0, 0.0, 0.5, 0.5))])
def test_what_is_larger_on_the_way_than_its_input_and_output(rng, op):
    """A fill next to small values; coefficients, which meet the powers of a small value only later."""
    builder = GraphBuilder("small", (3, 6))
    graph = builder.build(builder.relu(builder.apply(op, builder.relu(builder.input))))
    x = rng.uniform(-(2.0**-8), 2.0**-8, (3, 3, 6))
    for bounds in ("measured", "proved"):
        program = sharing.compile(graph, input_range=(-(2.0**-8), 2.0**-8), samples=x, bounds=bounds)
        for got in (run_two_party(program, x), sharing.run_clear(program, x)):
            assert np.abs(got - run_plain(graph, x)).max() <= 2.0**-13
