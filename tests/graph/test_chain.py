"""Rule: a chain computes what its graphs compute one after the other, on every executor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureimg import ckks, sharing
from secureimg.errors import GraphError
from secureimg.graph import Graph, GraphBuilder, Preprocessing, chain, run_plain


def dense(name: str, inputs: int, outputs: int, seed: int = 0, **parts: object) -> Graph:
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name, (inputs,))
    return b.build(b.dense(b.input, rng.normal(size=(outputs, inputs)) / inputs), **parts)  # type: ignore[arg-type]


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_composition(sizes: list[int], seed: int) -> None:
    """Of any number of graphs that all use the same names."""
    graphs = [dense("layer", one, two, seed + place) for place, (one, two) in enumerate(itertools.pairwise(sizes))]
    x = np.random.default_rng(seed).normal(size=(2, sizes[0]))
    wanted = x
    for graph in graphs:
        wanted = run_plain(graph, wanted)
    joined = chain(*graphs)
    assert len({node.name for node in joined.nodes}) == len(graphs)
    np.testing.assert_array_equal(run_plain(joined, x), wanted)


def test_names_that_look_like_made_ones_do_not_clash(rng: np.random.Generator) -> None:
    """A second graph may itself hold the name that its clashing node would get, and a node named as the first's input."""
    first = dense("a", 3, 3)
    b = GraphBuilder("b", (3,), input="x")
    x = b.affine(b.square(b.input, name="dense1"), 2.0, name="b.dense1")
    second = b.build(b.add(x, b.input, name="input"))
    x = rng.normal(size=(4, 3))
    np.testing.assert_array_equal(run_plain(chain(first, second), x), run_plain(second, run_plain(first, x)))
    np.testing.assert_array_equal(run_plain(chain(second, first), x), run_plain(first, run_plain(second, x)))


def test_preprocessing_of_the_first_and_labels_of_the_last() -> None:
    """A picture is prepared as the first graph asks, and the last names its outputs."""
    prepared = Preprocessing("L", (2, 2), (0.5,), (0.25,))
    b = GraphBuilder("first", (1, 2, 2))
    first = b.build(b.flatten(b.input), preprocessing=prepared, labels=("p", "q", "r", "s"))
    joined = chain(first, dense("second", 4, 2, labels=("yes", "no")), name="both")
    assert (joined.preprocessing, joined.labels, joined.name) == (prepared, ("yes", "no"), "both")
    assert chain(first, dense("second", 4, 2)).labels is None


def test_a_later_graphs_mean_and_deviation_are_applied(rng: np.random.Generator) -> None:
    """A filter in front of a network: the network still sees what it was trained on."""
    prepared = Preprocessing("RGB", None, (0.2, 0.4, 0.6), (0.5, 1.0, 2.0))
    b = GraphBuilder("network", (3, 4, 4))
    network = b.build(b.square(b.input), preprocessing=prepared)
    b = GraphBuilder("filter", (3, 4, 4))
    blur = b.build(b.average_pool(b.input, (3, 3), strides=(1, 1), pads=(1, 1, 1, 1)))
    x = rng.uniform(size=(2, 3, 4, 4))
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (prepared.mean, prepared.std))
    wanted = ((run_plain(blur, x) - mean) / std) ** 2
    np.testing.assert_allclose(run_plain(chain(blur, network), x), wanted, rtol=1e-12, atol=1e-14)


def test_a_graph_without_nodes(rng: np.random.Generator) -> None:
    """Nothing before or behind a graph leaves the graph."""
    nothing, graph = Graph("nothing", "input", (3,), (), "input"), dense("graph", 3, 3)
    x = rng.normal(size=(2, 3))
    for joined in (chain(nothing, graph), chain(graph, nothing)):
        np.testing.assert_array_equal(run_plain(joined, x), run_plain(graph, x))


@pytest.mark.parametrize(
    ("second", "said"),
    [((5,), r"gives \(4,\), 'second' takes \(5,\); build one"), ((2, 2), r"both have 4 elements.*Reshape to \(2, 2\)")],
)
def test_shapes_that_do_not_fit(second: tuple[int, ...], said: str) -> None:
    """The error names both graphs and shapes, and what to do."""
    b = GraphBuilder("second", second)
    with pytest.raises(GraphError, match=said):
        chain(dense("first", 3, 4), b.build(b.square(b.input)))


def test_nothing_follows_what_the_owner_computes() -> None:
    """A softmax or argmax may only end the last graph."""
    b = GraphBuilder("classifier", (4,))
    classifier = b.build(b.softmax(b.input))
    with pytest.raises(GraphError, match=r"'classifier' ends in Softmax.*body_and_tail"):
        chain(classifier, dense("second", 4, 2))
    assert chain(dense("first", 3, 4), classifier).body_and_tail()[1]


def test_on_ciphertexts_and_on_shares(rng: np.random.Generator) -> None:
    """As one program."""
    b = GraphBuilder("filter", (1, 8, 8))
    blur = b.build(b.flatten(b.square(b.average_pool(b.input, (2, 2)))))
    joined = chain(blur, dense("classifier", 16, 3))
    x = rng.uniform(size=(1, 1, 8, 8))
    wanted = run_plain(joined, x)
    assert np.abs(sharing.run_together(sharing.compile(joined), x) - wanted).max() < 1e-3
    program = ckks.compile(joined, precision=2.0**-10)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program) as evaluator:
        found = keys.decrypt(evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(x)), 1)
    assert np.abs(found - wanted).max() <= 2.0**-10 * np.abs(wanted).max()
