"""Rule: every function keeps its stated error on its stated range, between two parties as in the cleartext twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg import sharing
from secureimg.errors import CompileError
from secureimg.graph import Graph, GraphBuilder, Sigmoid, Slice, Tanh, ops, run_plain
from secureimg.sharing.curves import curve_within, fit_curve, sigmoid_curve, tanh_curve

from .two_party import run_two_party

RELATIVE = 2.0**-9
UNIT = 2.0**-16
POWERS = ("reciprocal", "inverse_sqrt", "sqrt")


def one(kind: str, *ends: float, size: int = 2000) -> Graph:
    builder = GraphBuilder("one", (size,))
    return builder.build(getattr(builder, kind)(builder.input, *ends))


def over(low: float, high: float, size: int = 2000, places: int = 16) -> np.ndarray:
    """Numbers all over a range, both ends too, that fixed point holds exactly."""
    half = size // 2
    x = np.concatenate([np.linspace(low, high, size - half), np.geomspace(max(low, 1e-3), high, half)])
    return (
        np.clip(np.rint(x * 2.0**places), np.ceil(low * 2.0**places), np.floor(high * 2.0**places))[None] / 2.0**places
    )


def compiled(graph: Graph, x: np.ndarray, **options) -> sharing.Program:
    return sharing.compile(graph, input_range=(float(x.min()) - 1e-9, float(x.max())), samples=x, **options)


@pytest.mark.parametrize("kind", POWERS)
@pytest.mark.parametrize(
    ("low", "high"), [(1, 2), (0.25, 4), (1, 17), (0.1, 5), (1, 1024), (0.25, 1024), (100, 409600)]
)
def test_relative_error_of_inverses_and_roots(kind, low, high):
    graph, x = one(kind, low, high), over(low, high)
    program, wanted = compiled(graph, x), run_plain(graph, x)
    for got in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert np.abs(got / wanted - 1).max() <= RELATIVE


@settings(max_examples=25)
@given(kind=st.sampled_from(POWERS), low=st.floats(-3, 8), octaves=st.floats(0.1, 12), bits=st.integers(14, 22))
def test_relative_error_over_any_range(kind, low, octaves, bits):
    low, high = 2.0**low, 2.0 ** (low + octaves)
    graph, x = one(kind, low, high, size=500), over(low, high, 500, bits)
    program, wanted = compiled(graph, x, fraction_bits=bits), run_plain(graph, x)
    assert np.abs(sharing.run_clear(program, x) / wanted - 1).max() <= RELATIVE
    assert np.abs(run_two_party(program, x) / wanted - 1).max() <= RELATIVE


@pytest.mark.parametrize("error", [2.0**-6, 2.0**-11, 2.0**-12])
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("Sqrt", 2.0**-9, 64), ("Sqrt", 2.0**-15, 2), ("InverseSqrt", 0.01, 8), ("Reciprocal", 0.5, 6)],
)
def test_an_error_may_be_asked_for(kind, low, high, error):
    """Larger and smaller than the usual one; of a root over 17 octaves, too."""
    b = GraphBuilder("asked", (2000,))
    graph = b.build(b.apply(getattr(ops, kind)(low, high, error), b.input))
    x = over(low, high, places=24)
    program, wanted = compiled(graph, x, fraction_bits=24), run_plain(graph, x)
    kept = x >= low
    assert (np.abs(run_two_party(program, x) / wanted - 1).max(where=kept, initial=0.0)) <= error


@pytest.mark.parametrize("weights", ["public", "party 1"])
def test_a_step_is_exact_where_values_are_whole_units(rng, weights):
    """Zero counts as positive; the smallest negative number does not."""
    b = GraphBuilder("step", (3, 40))
    x = b.affine(b.input, 2.0, -1.0)
    graph = b.build(b.step(x))
    x = rng.integers(0, 2**10, (2, 3, 40)) / 2.0**10
    x[0, 0] = 0.5
    x[0, 1] = 0.5 - 2.0**-10
    program = sharing.compile(graph, weights=weights)
    assert np.array_equal(run_two_party(program, x), run_plain(graph, x))
    assert np.array_equal(sharing.run_clear(program, x), run_plain(graph, x))


@pytest.mark.parametrize("shift", [0.5, -1.5, 0.3])
def test_what_is_added_to_whole_numbers_need_not_be_whole(rng, shift):
    """A step has no fractional bits, and a sum of steps with whole weights needs none: a shift keeps its own."""
    b = GraphBuilder("shift", (4, 30))
    graph = b.build(b.affine(b.step(b.affine(b.input, 1.0, -0.5)), 3.0, shift))
    x = rng.uniform(0, 1, (2, 4, 30))
    program = sharing.compile(graph, weights="public")
    for found in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert np.abs(found - run_plain(graph, x)).max() <= (UNIT / 2 if shift == 0.3 else 0.0)


@pytest.mark.parametrize(("kind", "low", "high", "rounds", "comparisons"), [
    ("abs", None, None, 3, 1),
    ("exp", -20, 3, 3, 25),
    ("sqrt", 1, 4096, 3, 36),
    ("sqrt", 0, 1000, 3, 36),
    ("reciprocal", 1, 16, 3, 33),
    ("reciprocal", 1, 4096, 7, 16),
    ("inverse_sqrt", 1, 64, 3, 31),
    ("inverse_sqrt", 1, 4096, 9, 12),
])  # fmt: skip
def test_stated_costs(kind, low, high, rounds, comparisons):
    ends = () if low is None else (low, high)
    program = sharing.compile(
        one(kind, *ends, size=10), samples=over(low or 1.0, high or 2.0, 10), input_range=(-1, 4096)
    )
    cost = sharing.cost_of(program.public)
    assert cost.rounds == rounds
    assert 0 < sum(layer.comparisons for layer in cost.layers) <= 10 * comparisons


@pytest.mark.parametrize("high", [1.0, 1000.0])
def test_a_root_down_to_zero(high):
    graph, x = one("sqrt", 0.0, high), over(0.0, high)
    edge = max(high / 2**12, 2**7 * UNIT)
    program, wanted = compiled(graph, x), run_plain(graph, x)
    error = np.abs(run_two_party(program, x) - wanted)
    assert (error <= np.where(x < edge, np.sqrt(edge) / 3, RELATIVE * wanted)).all()


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-5, 0), (-20, 3), (-4, 10), (29.5, 30)])
def test_error_of_the_exponential(low, high):
    graph = one("exp", low, high)
    x = np.rint(np.linspace(low, high, 2000) / UNIT)[None] * UNIT
    program, wanted = compiled(graph, x), run_plain(graph, x)
    for got in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert np.abs(got - wanted).max() <= 1e-3 * np.exp(high)


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@pytest.mark.parametrize("bounds", ["measured", "proved"])
def test_error_of_sigmoid_and_tanh_everywhere(kind, bounds):
    builder = GraphBuilder("one", (4000,))
    graph = builder.build(builder.apply({"sigmoid": Sigmoid(), "tanh": Tanh()}[kind], builder.input))
    x = np.concatenate([np.linspace(-9, 9, 3000), np.linspace(-60, 60, 1000)])[None]
    program = compiled(graph, x, bounds=bounds)
    for got in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert np.abs(got - run_plain(graph, x)).max() <= 1e-3


def test_an_absolute_value_is_exact_but_for_signs_below_the_threshold(rng):
    graph, x = one("abs"), np.rint(rng.uniform(-3, 3, (1, 2000)) / UNIT) * UNIT
    program = compiled(graph, x)
    threshold = max(layer.threshold for layer in sharing.cost_of(program.public).layers)
    error = np.abs(run_two_party(program, x) - np.abs(x))
    assert threshold <= 3 * 2**-11
    assert (error[np.abs(x) >= threshold] == 0).all()
    assert error.max() <= 2 * threshold


@settings(max_examples=15)
@given(
    low=st.floats(-3, 4), octaves=st.floats(0.5, 10), size=st.sampled_from([0.01, 1.0, 30.0]), seed=st.integers(0, 99)
)
def test_error_of_a_quotient(low, octaves, size, seed):
    low, high = 2.0**low, 2.0 ** (low + octaves)
    builder = GraphBuilder("ratio", (2, 400))
    top = builder.reshape(builder.apply(slice_of(0), builder.input), (400,))
    bottom = builder.reshape(builder.apply(slice_of(1), builder.input), (400,))
    graph = builder.build(builder.divide(top, bottom, low, high))
    generator = np.random.default_rng(seed)
    top_values = np.rint(size * generator.uniform(-1, 1, (1, 400)) / UNIT) * UNIT
    x = np.stack([top_values, over(low, high, 400)], axis=1)
    program, wanted = compiled(graph, x), run_plain(graph, x)
    for got in (run_two_party(program, x), sharing.run_clear(program, x)):
        assert (np.abs(got - wanted) <= RELATIVE * np.abs(wanted) + UNIT * (2 / low + 1)).all()


def slice_of(row: int):
    return Slice((row, 0), (1, 400), (1, 1))


@pytest.mark.parametrize("bounds", ["measured", "proved"])
def test_ranges_come_from_the_bounds_if_none_is_stated(rng, bounds):
    x = rng.uniform(1.0, 8.0, (4, 300))
    for kind in (*POWERS, "exp"):
        graph = one(kind, size=300)
        wanted = run_plain(graph, x)
        program = sharing.compile(graph, input_range=(1.0, 8.0), samples=x, bounds=bounds)
        # an exponential's error is a share of the largest one there is room for
        allowed = RELATIVE * wanted + 2 * UNIT if kind != "exp" else 1e-3 * 8 * np.exp(8.0)
        assert (np.abs(run_two_party(program, x) - wanted) <= allowed).all()


def test_between_other_layers(rng):
    """Values come with any scale and factor, and go on to any layer."""
    builder = GraphBuilder("mixed", (1, 8, 8))
    across = builder.conv(builder.input, np.array([-1.0, 0, 1]).reshape(1, 1, 1, 3), pads=(0, 1, 0, 1))
    down = builder.conv(builder.input, np.array([-1.0, 0, 1]).reshape(1, 1, 3, 1), pads=(1, 0, 1, 0))
    size = builder.sqrt(builder.add(builder.square(across), builder.square(down)), 0.0, 3.0)
    mean = builder.average_pool(size, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    most = builder.max_pool(size, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    safe = builder.affine(mean, 1.0, 0.25)
    parts = [
        builder.divide(most, safe, 0.25, 2.0),
        builder.reciprocal(safe, 0.25, 8.0),
        builder.inverse_sqrt(builder.affine(most, 2.0, 0.125), 0.125, 6.0),
        builder.exp(builder.relu(builder.affine(mean, -1.0, 0.5)), 0.0, 0.5),
        builder.abs(builder.affine(most, 1.0, -0.7)),
    ]
    joined = builder.relu(builder.concat(*parts))
    graph = builder.build(builder.dense(builder.flatten(joined), rng.normal(0, 0.1, (6, 80))))
    x = rng.uniform(0, 1, (3, 1, 8, 8))
    for weights in ("party 1", "public"):
        program = sharing.compile(graph, samples=x, weights=weights)
        wanted = run_plain(graph, x)
        clear = sharing.run_clear(program, x)
        assert np.abs(clear - wanted).max() <= 0.01 * np.abs(wanted).max()
        assert np.abs(run_two_party(program, x) - clear).max() <= 2e-3 * np.abs(wanted).max()


def test_a_divisor_that_can_be_zero_is_refused(rng):
    x = rng.uniform(-1.0, 1.0, (4, 50))
    for kind in ("reciprocal", "inverse_sqrt"):
        for bounds in ("measured", "proved"):
            with pytest.raises(CompileError, match=rf"{kind.replace('_', '')}1"):
                sharing.compile(one(kind, size=50), input_range=(-1.0, 1.0), samples=x, bounds=bounds)
    with pytest.raises(CompileError, match=r"reciprocal1.*can be -2.*above 0: clip.*state the op's range"):
        sharing.compile(one("reciprocal", size=50), input_range=(-2.0, -1.0), samples=-1 - np.abs(x))
    with pytest.raises(CompileError, match=r"sqrt1.*at least 0"):
        sharing.compile(one("sqrt", size=50), input_range=(-1.0, 1.0), bounds="proved")


def test_ranges_that_are_too_much_are_refused(rng):
    x = rng.uniform(1.0, 2.0, (1, 50))

    def refused(kind: str, low: float, high: float, what: str, **options) -> None:
        with pytest.raises(CompileError, match=what):
            sharing.compile(one(kind, low, high, size=50), input_range=(1.0, 2.0), samples=x, **options)

    refused("reciprocal", 1.0, 5000.0, r"reciprocal1.*ratio of 5000, the limit is 4096.*narrower")
    refused("inverse_sqrt", 1.0, 5000.0, r"inversesqrt1.*ratio of 5000, the limit is 4096.*narrower")
    refused("exp", 0.0, 31.0, r"exp1.*up to 31, the limit is 30.*clip")
    refused("reciprocal", 2.0**-7, 1.0, r"reciprocal1.*small as 0.0078.*the limit is 0.0156.*fraction_bits")
    refused("sqrt", 0.0, 2.0**-9, r"sqrt1.*fraction_bits")
    sharing.compile(one("reciprocal", 2.0**-7, 1.0, size=50), input_range=(1.0, 2.0), samples=x, fraction_bits=18)


def test_a_fitted_curve_has_the_error_it_states():
    x = np.linspace(0.5, 64.0, 100_003)
    for function in (np.sqrt, np.log1p, lambda v: 1 / v):
        for relative in (False, True):
            curve = fit_curve(function, 0.5, 64.0, 20, relative=relative)
            error = np.abs(curve(x) - function(x)) / (np.abs(function(x)) if relative else 1.0)
            assert error.max() == pytest.approx(curve.error, rel=0.02)
            assert curve(np.array([-9.0]))[0] == curve(np.array([0.5]))[0]
            assert curve(np.array([1e6]))[0] == pytest.approx(curve(np.array([64.0]))[0], rel=1e-6)
    assert max(sigmoid_curve().error, tanh_curve().error) <= 8e-4
    assert len(curve_within(np.exp, -8.0, 0.0, 1e-4).knots) > len(curve_within(np.exp, -8.0, 0.0, 1e-3).knots)
    with pytest.raises(CompileError, match="more than 256 knots"):
        curve_within(np.exp, -8.0, 0.0, 1e-9)
