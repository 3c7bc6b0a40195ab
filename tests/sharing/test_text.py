"""The public program as bytes: a round trip, a fingerprint, and no way to be wrong but a clear error."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg import sharing
from secureimg.errors import BlobError
from secureimg.graph import GraphBuilder, Preprocessing, load_model
from secureimg.sharing import PublicProgram, text
from secureimg.sharing.checks import MAX_ELEMENTS, check_program
from secureimg.sharing.program import MAX_PROGRAM_BYTES

from .two_party import record

MAGIC = 8
LARGEST_RUN = 1_000_000


def small_programs() -> Iterator[PublicProgram]:
    """Programs that have every kind of step between them, one for each way to reveal and one with shared weights."""
    rng = np.random.default_rng(2)
    b = GraphBuilder("first", (2, 6, 6))
    x = b.max_pool(b.relu(b.conv(b.input, rng.normal(size=(4, 2, 3, 3)), pads=(1, 0, 1, 0))), (3, 2), pads=(1, 0, 1, 1))
    x = b.concat(x, b.average_pool(b.square(x), (3, 3), strides=(1, 1), pads=(1, 1, 1, 1)), axis=0)
    x = b.transpose(b.pad(b.affine(b.mean(x, (0,)), 2.0), ((0, 0), (1, 0), (0, 0))), (1, 2, 0))
    x = b.softmax(b.dense(b.flatten(x), rng.normal(size=(3, math.prod(b.shape(x))))))
    graph = b.build(x, labels=("a", "b", "c"), preprocessing=None)
    yield sharing.compile(graph).public
    yield sharing.compile(graph, reveal="label", weights="public").public
    b = GraphBuilder("second", (1, 4, 4))
    x = b.average_pool(b.input, (3, 3), strides=(1, 1), pads=(1, 1, 1, 1))  # at the edges of fewer values
    x = b.sqrt(b.affine(b.flatten(x), 1.0, 1.0), 1.0, 2.0)
    x = b.add(x, b.step(b.affine(x, 1.0, -1.5)))
    gray = Preprocessing("L", (4, 4), (0.5,), (0.5,))
    yield sharing.compile(
        b.build(b.argmax(x), preprocessing=gray), input_range=(0.0, 1.0), reveal="top-k", top=2
    ).public
    yield sharing.compile(graph, weights="shared").public


PROGRAMS = list(small_programs())
NAMES = ["scores", "label", "top-k", "shared weights"]


def decoded(data: bytes) -> PublicProgram | None:
    """A program that passes its own checks again and runs, or None if it is refused. Anything else is a failure."""
    try:
        found = PublicProgram.from_bytes(data)
    except BlobError:
        return None
    check_program(found)
    assert PublicProgram.from_bytes(found.to_bytes()).fingerprint == found.fingerprint
    cost = sharing.cost_of(found, 1)
    if (
        cost.offline_bytes + cost.masked_weight_bytes < LARGEST_RUN
        and sum(layer.products for layer in cost.layers) < LARGEST_RUN
    ):
        linear = {
            n: step.geometry for n, step in enumerate(found.steps) if isinstance(step, text.Linear | text.SharedLinear)
        }
        weights = {n: (np.ones(geometry.weight_shape, dtype=np.uint64), None) for n, geometry in linear.items()}
        run = record(sharing.Program(found, weights), np.full((1, *found.input_shape), found.input_range[0]))
        assert run.rounds == (cost.rounds, cost.rounds)
    return found


@pytest.mark.parametrize("public", PROGRAMS, ids=NAMES)
def test_a_round_trip_keeps_everything(public: PublicProgram) -> None:
    """Every attribute, the bytes, the fingerprint, the cost."""
    again = PublicProgram.from_bytes(public.to_bytes())
    assert again.to_bytes() == public.to_bytes()
    assert again.fingerprint == public.fingerprint
    for name in (
        "model",
        "input_shape",
        "labels",
        "preprocessing",
        "registers",
        "steps",
        "output",
        "code",
        "reveal",
        "top",
    ):
        assert getattr(again, name) == getattr(public, name)
    assert [type(op) for op in again.tail] == [type(op) for op in public.tail]
    assert sharing.cost_of(again, 3) == sharing.cost_of(public, 3)
    assert PublicProgram.from_bytes(bytearray(public.to_bytes())).fingerprint == public.fingerprint


def test_fingerprints_tell_programs_apart_and_are_stable() -> None:
    """Another process compiles the same model to the same bytes; other options give others."""
    code = (
        "from secureimg import sharing, graph; print(sharing.compile(graph.load_model('mnist-cnn')).public.fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    graph = load_model("mnist-cnn")
    options: list[dict[str, Any]] = [
        {}, {"reveal": "label"}, {"weights": "public"}, {"fraction_bits": 15}, {"bounds": "proved"},
        {"input_range": (0.0, 2.0)},
    ]  # fmt: skip
    found = [sharing.compile(graph, **changes).public.fingerprint for changes in options]
    assert run.stdout.strip() == found[0]
    assert len(set(found)) == len(options)


def test_a_program_holds_no_weight() -> None:
    """Two models of one architecture, measured alike, have one public program."""
    prints = set()
    for sign in (1.0, -1.0):
        b = GraphBuilder("same", (4,))
        x = b.dense(b.relu(b.affine(b.input, 1.0, -0.5)), sign * np.eye(4))
        prints.add(sharing.compile(b.build(x)).public.fingerprint)
    assert len(prints) == 1


# ----------------------------------------------------------------------------------------------------- damaged bytes


def test_what_is_no_program_is_refused() -> None:
    """Another magic, nothing at all, leftovers, and more bytes than any program has: each is one clear error."""
    data = PROGRAMS[0].to_bytes()
    for wrong in (b"", data[:7], b"SIMGSHR2" + data[8:], data[:8], data + b"\0", b"SIMGSHR1" + b"\xc1"):
        with pytest.raises(BlobError):
            PublicProgram.from_bytes(wrong)
    with pytest.raises(BlobError, match="above the limit"):
        PublicProgram.from_bytes(data + bytes(MAX_PROGRAM_BYTES))
    for depth in (100, 100_000):
        with pytest.raises(BlobError):
            PublicProgram.from_bytes(data[:8] + b"\x91" * depth)


@settings(max_examples=300)
@given(which=st.integers(0, len(PROGRAMS) - 1), changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)),
                                                                 min_size=1, max_size=4))  # fmt: skip
def test_flipped_bytes(which: int, changes: list[tuple[int, int]]) -> None:
    """Refused, or another program that holds together; never anything else."""
    data = bytearray(PROGRAMS[which].to_bytes())
    for place, flip in changes:
        data[place % len(data)] ^= flip
    decoded(bytes(data))


@settings(max_examples=100)
@given(
    which=st.integers(0, len(PROGRAMS) - 1),
    cut=st.integers(0, 2**20),
    extra=st.binary(max_size=20),
    moved=st.booleans(),
)
def test_cut_and_extended_bytes(which: int, cut: int, extra: bytes, moved: bool) -> None:
    """A program ends where it ends: what is shorter or longer is refused."""
    data = PROGRAMS[which].to_bytes()
    cut %= len(data)
    if moved:
        decoded(data[:cut] + extra + data[cut:])
    else:
        assert decoded(data[:cut] + extra) is None or data[:cut] + extra == data
    if extra:
        assert decoded(data + extra) is None


# --------------------------------------------------------------------------------------------------- structured edits

Tree = Any


def unpacked(public: PublicProgram) -> dict[str, Tree]:
    return msgspec.msgpack.decode(public.to_bytes()[MAGIC:])


def packed(tree: dict[str, Tree]) -> bytes:
    return b"SIMGSHR1" + msgspec.msgpack.encode(tree)


def leaves(tree: Tree, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values inside, of containers too."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key in tree:
            yield from leaves(tree[key], (*path, key))
    elif isinstance(tree, list):
        for place in range(len(tree)):
            yield from leaves(tree[place], (*path, place))


def at(tree: Tree, path: tuple[Any, ...]) -> Tree:
    for key in path:
        tree = tree[key]
    return tree


PATHS = [list(leaves(unpacked(public))) for public in PROGRAMS]
NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**k + d for k in (6, 8, 16, 20, 22, 26, 31, 32, 53, 62, 63) for d in (-1, 0, 1)]),
    st.sampled_from([0.0, -1.0, 0.5, 1e-300, 1e300, math.inf, -math.inf, math.nan]),
)
VALUES = st.one_of(
    NUMBERS, st.lists(NUMBERS, max_size=5), st.none(), st.booleans(), st.text(max_size=3), st.binary(max_size=9),
    st.sampled_from(["conv", "dense", "scale", "sparse", "reshape", "transpose", "slice", "pad", "shares", "public"]),
    st.just("x" * 500),
    st.lists(st.lists(NUMBERS, max_size=3), max_size=4),
)  # fmt: skip


@settings(max_examples=1200)
@given(which=st.integers(0, len(PROGRAMS) - 1), data=st.data())
def test_edited_fields(which: int, data: st.DataObject) -> None:
    """Any field set to anything of any type; numbers also shifted by one, lists cut, doubled or reversed."""
    tree = unpacked(PROGRAMS[which])
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2]))):
        path = data.draw(st.sampled_from(PATHS[which]))
        try:
            holder, old = at(tree, path[:-1]), at(tree, path)
        except (KeyError, IndexError, TypeError):
            continue  # gone with the edit before
        if isinstance(holder, str | bytes):
            continue  # a text since the edit before
        options = [VALUES]
        if isinstance(old, int | float) and not isinstance(old, bool):
            shifted = [old + 1, old - 1, old * 2, -old]
            options.append(st.sampled_from([n for n in shifted if -(2**63) <= n < 2**64 or n != n] or [0]))
        if isinstance(old, list | str | bytes):
            options.append(st.sampled_from([old[:-1], old[::-1], old + old]))
        holder[path[-1]] = data.draw(st.one_of(options))
    decoded(packed(tree))


@settings(max_examples=150)
@given(which=st.integers(0, len(PROGRAMS) - 1), data=st.data())
def test_rearranged_steps(which: int, data: st.DataObject) -> None:
    """Steps and registers dropped, doubled, or in another order."""
    tree = unpacked(PROGRAMS[which])
    rows = tree[data.draw(st.sampled_from(["steps", "registers"]))]
    action = data.draw(st.sampled_from(["drop", "double", "swap"]))
    i, j = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    if action == "drop":
        del rows[i]
    elif action == "double":
        rows.insert(j, rows[i])
    else:
        rows[i], rows[j] = rows[j], rows[i]
    decoded(packed(tree))


def step_of(tree: dict[str, Tree], tag: str) -> dict[str, Tree]:
    return next(step for step in tree["steps"] if step["step"] == tag)


def refused(which: int, change: Any, wanted: str) -> None:
    tree = unpacked(PROGRAMS[which])
    change(tree)
    with pytest.raises(BlobError, match=wanted):
        PublicProgram.from_bytes(packed(tree))


@pytest.mark.parametrize("field", ["out", "source"])
def test_registers_that_are_not_there_are_refused(field: str) -> None:
    """A step neither reads what is not written yet nor writes what is written or beyond the list."""
    for number in (0 if field == "out" else 19, 500):
        refused(0, lambda tree, n=number: step_of(tree, "linear").update({field: n}), "register")


@pytest.mark.parametrize(("which", "tag", "field", "value"), [
    (0, "relu", "width", 64), (0, "relu", "width", 20), (0, "blind", "width", 20), (0, "linear", "width", 20),
    (0, "multiply", "width", 20), (0, "linear", "hidden", False), (1, "linear", "hidden", True),
])  # fmt: skip
def test_a_step_cannot_count_other_bits_than_its_readers_need(which: int, tag: str, field: str, value: Any) -> None:
    """Fewer give wrong results, more would open more than was masked; hidden weights meet blinded values only."""
    refused(which, lambda tree: step_of(tree, tag).update({field: value}), "bits|widths|hidden")


def test_register_widths_are_computed_again() -> None:
    """No register may claim another width than its readers ask for."""
    for number in range(len(PROGRAMS[0].registers)):
        for change in (-1, 1):
            refused(0, lambda tree, n=number, d=change: tree["registers"][n].update(
                width=tree["registers"][n]["width"] + d), "width|bits|fit its type")  # fmt: skip


@pytest.mark.parametrize(("tag", "change"), [
    ("linear", {"pads": [65536] * 4, "strides": [65536] * 2}),
    ("max pool", {"pads": [65536] * 4, "strides": [65536] * 2}),
    ("sum pool", {"pads": [65536] * 4, "strides": [65536] * 2}),
])  # fmt: skip
def test_what_would_take_too_much_memory_is_refused(tag: str, change: dict[str, Any]) -> None:
    """Windows of a small result may still lie in a huge padded plane."""

    def widen(tree: dict[str, Tree]) -> None:
        step = step_of(tree, tag)
        (step["geometry"] if tag == "linear" else step).update(change)

    refused(0, widen, f"limit is {MAX_ELEMENTS}")


def test_what_is_revealed_must_be_what_the_last_step_gives() -> None:
    """A program that says "label" and hands out scores, or the other way round, is refused."""
    refused(0, lambda tree: tree.update(reveal="label"), "last step does not find the label")
    refused(0, lambda tree: tree.update(code=10), "code 10")
    refused(1, lambda tree: tree.update(reveal="scores"), "result has shape")
    refused(1, lambda tree: tree.update(code=10**9), "last step")
    refused(2, lambda tree: tree.update(top=3), "top 3")
    refused(0, lambda tree: tree.update(output_shape=[4]), "result has shape")
    refused(0, lambda tree: tree["tail"][0].update(axis=3), "what the owner does")


def test_an_image_preparation_that_is_none_is_refused() -> None:
    """The graph's own checks apply to what comes from a wire."""
    refused(2, lambda tree: tree["prepare"].update(std=[0.0]), "std")
    refused(2, lambda tree: tree["prepare"].update(mode="RGB"), "RGB")


def test_every_kind_of_step_is_among_the_programs() -> None:
    """So that the edits above reach all of them."""
    kinds = {type(step) for public in PROGRAMS for step in public.steps}
    assert {kind.__name__ for kind in kinds} == {kind.__name__ for kind in text.Step.__args__}
