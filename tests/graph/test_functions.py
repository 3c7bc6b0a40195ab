"""Rule: division, roots, exponential and absolute value are the true functions in the clear, from every source."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

from secureimg import ckks
from secureimg.errors import CompileError, GraphError
from secureimg.graph import (
    Divide,
    Exp,
    GraphBuilder,
    InverseSqrt,
    Reciprocal,
    Sqrt,
    calibrate,
    propagate_ranges,
    run_plain,
)

NUMPY = {
    "abs": np.abs,
    "exp": np.exp,
    "reciprocal": lambda x: 1 / x,
    "sqrt": np.sqrt,
    "inverse_sqrt": lambda x: x**-0.5,
}


def one(kind: str, *ends: float):
    builder = GraphBuilder("one", (7,))
    return builder.build(getattr(builder, kind)(builder.input, *ends))


@pytest.mark.parametrize("kind", NUMPY)
@pytest.mark.parametrize("ends", [(), (0.5, 2.0)])
def test_the_plain_executor_computes_the_true_function_also_outside_of_the_stated_range(rng, kind, ends):
    x = rng.uniform(0.1, 9.0, (3, 7))
    got = run_plain(one(kind, *(ends if kind != "abs" else ())), x)
    assert np.allclose(got, NUMPY[kind](x), rtol=1e-14, atol=0)


def test_a_quotient_of_two_values(rng):
    builder = GraphBuilder("ratio", (7,))
    graph = builder.build(builder.divide(builder.affine(builder.input, -2.0, 3.0), builder.input))
    x = rng.uniform(0.1, 9.0, (3, 7))
    assert np.allclose(run_plain(graph, x), (3 - 2 * x) / x, rtol=1e-13)


@pytest.mark.parametrize("kind", ["Abs", "Exp", "Reciprocal", "Sqrt"])
@pytest.mark.parametrize("opset", [7, 13, 21])
def test_onnx_functions(model, check, kind, opset):
    low = -2.0 if kind in ("Abs", "Exp") else 0.2
    check(model([make_node(kind, ["x"], ["y"])], (2, 3), opset=opset), low=low, high=3.0)


@pytest.mark.parametrize("power", [0.5, -0.5, -1.0])
def test_onnx_powers_that_are_roots_and_inverses(model, check, power):
    check(model([make_node("Pow", ["x", "e"], ["y"])], (2, 3), {"e": np.float32(power)}), low=0.2, high=3.0)


def test_onnx_division_by_a_computed_value(model, check, rng):
    constants = {"c": rng.uniform(-1, 1, (1, 2, 3)).astype(np.float32), "one": np.float32(1)}
    check(model([make_node("Div", ["c", "x"], ["y"])], (2, 3), constants), low=0.2, high=3.0)
    nodes = [make_node("Sub", ["x", "one"], ["a"]), make_node("Div", ["a", "x"], ["y"])]
    check(model(nodes, (2, 3), constants), low=0.2, high=3.0)
    nodes = [make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=1), make_node("Div", ["x", "m"], ["y"])]
    check(model(nodes, (2, 3)), low=0.2, high=3.0)  # the divisor is repeated


@settings(max_examples=40)
@given(data=st.data(), kind=st.sampled_from([*NUMPY, "divide"]))
def test_proved_ranges_hold(data, kind):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    least = -3.0 if kind in ("abs", "exp") else 0.1
    low = generator.uniform(least, 2.0, 7)
    high = low + generator.uniform(0.0, 4.0, 7)
    builder = GraphBuilder("one", (7,))
    if kind == "divide":
        value = builder.divide(builder.affine(builder.input, -1.0, 2.0), builder.input)
    else:
        value = getattr(builder, kind)(builder.input)
    graph = builder.build(value)
    below, above = propagate_ranges(graph, low, high)[value]
    results = run_plain(graph, low + (high - low) * generator.uniform(0, 1, (50, 7)))
    assert (below <= results).all()
    assert (results <= above).all()
    if kind != "divide":  # and they are the tightest ones
        ends = run_plain(graph, np.stack([low, high]))
        assert np.allclose(above, ends.max(axis=0), rtol=1e-9, atol=1e-9)


def test_a_divisor_that_can_be_zero_is_refused_by_the_name_of_its_layer():
    for kind in ("reciprocal", "inverse_sqrt"):
        with pytest.raises(GraphError, match=rf"{kind.replace('_', '')}1.*between 0 and 2.*must be above 0.*state"):
            propagate_ranges(one(kind), 0.0, 2.0)
    with pytest.raises(GraphError, match=r"sqrt1.*between -1 and 2.*at least 0"):
        propagate_ranges(one("sqrt"), -1.0, 2.0)
    with pytest.raises(GraphError, match=r"exp1.*up to 800"):
        propagate_ranges(one("exp"), 0.0, 800.0)
    with pytest.raises(GraphError, match=r"reciprocal1.*undefined"):
        calibrate(one("reciprocal"), np.zeros((1, 7)))
    assert propagate_ranges(one("reciprocal", 0.5, 4.0), 0.0, 2.0)["reciprocal1"][1].max() == pytest.approx(2.0)


def test_ranges_that_are_none_are_refused():
    for op in (Divide, InverseSqrt, Reciprocal):
        for ends in ((0.0, 1.0), (-1.0, 1.0)):
            with pytest.raises(GraphError, match="must be above 0"):
                op(*ends)
    with pytest.raises(GraphError, match="at least 0"):
        Sqrt(-0.5, 1.0)
    for ends in ((2.0, 1.0), (1.0, 1.0), (1.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(GraphError, match="finite, low below high"):
            Exp(*ends)
    with pytest.raises(GraphError, match="give both or none"):
        Exp(low=1.0)


@pytest.mark.parametrize("kind", NUMPY)
def test_ciphertexts_have_none_of_them_and_the_refusal_says_so(kind):
    with pytest.raises(CompileError, match=f"{kind.replace('_', '')}1"):
        ckks.compile(one(kind, *((0.5, 2.0) if kind != "abs" else ())), input_range=(0.5, 2.0))
