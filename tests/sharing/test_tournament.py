"""Maxima: max pools of every shape, labels, and the largest few in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secureimg import sharing
from secureimg.errors import CompileError, GraphError
from secureimg.graph import GraphBuilder, MaxPool, run_plain

from .two_party import last_place_errors, record, run_two_party

UNIT = 2.0**-16


def multiples(rng: np.random.Generator, shape: tuple[int, ...], kinds: int = 1 << 16) -> np.ndarray:
    """Values that fixed point holds exactly, in [-1, 1)."""
    return rng.integers(-kinds, kinds, shape) / kinds


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_max_pools_of_every_shape(data: st.DataObject, seed: int) -> None:
    """Kernels, strides, pads, dilations and partial windows: every window's largest value, to the bit.

    Of two values closer than the window of the comparison can tell, the smaller may win: `last_place_errors` says by how
    much.
    """
    side = st.integers(1, 4)
    kernel, strides = (data.draw(side), data.draw(side)), (data.draw(side), data.draw(side))
    pads = tuple(data.draw(st.integers(0, kernel[k % 2] // 2)) for k in range(4))
    dilations = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)))
    shape = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 10)), data.draw(st.integers(1, 10)))
    builder = GraphBuilder("pool", shape)
    try:
        x = builder.apply(MaxPool(kernel, strides, pads, dilations, data.draw(st.booleans())), builder.input)
    except GraphError:
        assume(False)
    graph, rng = builder.build(x), np.random.default_rng(seed)
    images = multiples(rng, (data.draw(st.sampled_from([1, 3])), *shape))
    wanted = run_plain(graph, images)
    assume(np.isfinite(wanted).all())  # a window that lies in the padding has no largest value
    program = sharing.compile(graph, input_range=(-1.0, 1.0))
    off = last_place_errors(program, images)[program.public.output] * UNIT
    found = run_two_party(program, images)
    assert np.abs(found - wanted).max() <= off <= 2.0**-7
    assert np.array_equal(sharing.run_clear(program, images), wanted)
    assert np.mean(found == wanted) > 0.9  # the blind spot is narrow: hardly any window ends in it


def test_a_pool_of_negative_values_ignores_its_padding() -> None:
    """Padding is lower than the lowest value that the program has room for, not 0."""
    builder = GraphBuilder("pool", (1, 5, 5))
    graph = builder.build(builder.max_pool(builder.input, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    program = sharing.compile(graph, input_range=(-1.0, 1.0))
    images = np.full((2, 1, 5, 5), -1.0)
    assert np.array_equal(run_two_party(program, images), np.full((2, 1, 3, 3), -1.0))


@pytest.mark.parametrize("bounds", ["measured", "proved"])
@pytest.mark.parametrize("edge", [0.99996, 0.9999, 0.999, 1.0, 0.5])
def test_values_at_the_very_end_of_their_range(bounds: str, edge: float) -> None:
    """The largest value that a program has room for is still told from padding and from its negative."""
    builder = GraphBuilder("edge", (1, 4, 4))
    x = builder.max_pool(builder.relu(builder.input), (3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    graph = builder.build(x)
    program = sharing.compile(graph, input_range=(-edge, edge), bounds=bounds)
    images = (
        np.array([[0.0, edge], [edge, -edge], [-edge, 0.0], [0.0, 0.0]])
        .repeat(2, axis=1)
        .repeat(2, axis=0)[:, None, None]
    )
    images = np.broadcast_to(images, (8, 1, 4, 4)).copy()
    assert np.abs(run_two_party(program, images) - run_plain(graph, images)).max() <= 2 * UNIT


def scores_graph(size: int) -> GraphBuilder:
    return GraphBuilder("scores", (size,))


@settings(max_examples=25)
@given(size=st.integers(2, 40), seed=st.integers(0, 2**32 - 1), kinds=st.sampled_from([2, 1 << 16]))
def test_the_label_is_the_first_of_the_largest(size: int, seed: int, kinds: int) -> None:
    """argmax, also where many scores are equal; only the place is revealed."""
    rng, builder = np.random.default_rng(seed), scores_graph(size)
    program = sharing.compile(builder.build(builder.input), reveal="label", input_range=(-1.0, 1.0))
    images = multiples(rng, (3, size), kinds)
    run = record(program, images)
    assert run.result[:, 0].tolist() == np.argmax(images, axis=1).tolist()
    bits = (size - 1).bit_length()
    assert program.public.registers[program.public.output].width == bits
    assert all(len(share) == 3 and max(share) < 1 << bits for share in run.result_shares)


@settings(max_examples=25)
@given(size=st.integers(2, 40), seed=st.integers(0, 2**32 - 1), kinds=st.sampled_from([2, 1 << 16]), data=st.data())
def test_the_largest_few_come_in_order(size: int, seed: int, kinds: int, data: st.DataObject) -> None:
    """Largest first, equal ones in the order of their places, as a stable argsort has them."""
    top = data.draw(st.integers(1, size))
    rng, builder = np.random.default_rng(seed), scores_graph(size)
    program = sharing.compile(builder.build(builder.input), reveal="top-k", top=top, input_range=(-1.0, 1.0))
    images = multiples(rng, (2, size), kinds)
    wanted = np.argsort(-images, axis=1, kind="stable")[:, :top]
    assert run_two_party(program, images).tolist() == wanted.tolist()
    assert sharing.run_clear(program, images).tolist() == wanted.tolist()


def test_the_label_of_a_single_score_is_its_sign() -> None:
    """One output stands for two labels: whether it is above 0."""
    builder = scores_graph(1)
    program = sharing.compile(builder.build(builder.input), reveal="label", input_range=(-1.0, 1.0))
    images = np.array([[-1.0], [-UNIT], [0.0], [UNIT], [1.0]])
    assert run_two_party(program, images).tolist() == [[0.0], [0.0], [0.0], [1.0], [1.0]]


@pytest.mark.parametrize("top", [0, 4])
def test_more_places_than_outputs_are_refused(top: int) -> None:
    """The error names k and the number of outputs."""
    builder = scores_graph(3)
    with pytest.raises(CompileError, match=f"k = {top} of 3"):
        sharing.compile(builder.build(builder.input), reveal="top-k", top=top)


def test_a_thousand_classes_take_ten_levels() -> None:
    """Rounds grow with the logarithm: 10 gates of 3 rounds for a label, 55 for places in order."""
    builder = scores_graph(1000)
    graph = builder.build(builder.input)
    assert sharing.cost_of(sharing.compile(graph, reveal="label").public).rounds == 30
    assert sharing.cost_of(sharing.compile(graph, reveal="top-k", top=5).public).rounds == 165
