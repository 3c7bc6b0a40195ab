"""What one party sees is noise, and the same amount of it for every image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import chi2

from secureimg import sharing
from secureimg.graph import GraphBuilder
from secureimg.sharing import text
from secureimg.sharing.gate import Gate
from secureimg.sharing.plan import gates_of
from secureimg.sharing.ring import byte_width, unpack

from .two_party import Seeds, TwoPartyRun, record

FALSE_ALARM = 1e-14
"""Chance that one statistic fails on true noise. There are fewer than 100,000 in all, and the seeds are fixed."""

COUNT = 8
SHAPE = (2, 12, 12)


def chi_square(values: np.ndarray, kinds: int) -> float:
    """Chance that uniform values are spread at least this unevenly over `kinds`, or at least this evenly, whichever is
    less. Kinds are merged until each expects at least eight values."""
    while kinds > 2 and values.size < 8 * kinds:
        kinds //= 2
        values = values % kinds
    expected = values.size / kinds
    statistic = float(np.sum((np.bincount(values.astype(np.int64), minlength=kinds) - expected) ** 2) / expected)
    return float(min(chi2.sf(statistic, kinds - 1), chi2.cdf(statistic, kinds - 1) if kinds > 2 else 1.0))


def assert_noise(what: str, data: np.ndarray, kinds: int = 256) -> None:
    """Values, differences of neighbours, and each bit of both, are uniform."""
    assert data.size >= 64, what
    whole = data.astype(np.int64)
    for name, values in ((what, whole), (f"{what}, neighbours", (whole[1:] - whole[:-1]) % kinds)):
        assert chi_square(values, kinds) > FALSE_ALARM, name
        for bit in range(kinds.bit_length() - 1):
            assert chi_square(values >> bit & 1, 2) > FALSE_ALARM, f"{name}, bit {bit}"


def assert_noise_words(what: str, data: bytes, width: int) -> None:
    """Packed words: each bit of the `width` low ones is uniform, each byte too; what is above is empty, or noise as well.

    A part of it that tells anything of the value would show in bits that lean to one side.
    """
    size = byte_width(width)
    words = np.empty(len(data) // size, dtype=np.uint64)
    unpack(np.frombuffer(data, dtype=np.uint8), size, words)
    for place in range(size):
        bits = min(8, width - 8 * place)
        column = (words >> np.uint64(8 * place)).astype(np.uint64) & np.uint64((1 << bits) - 1)
        assert_noise(f"{what}, byte {place}", column, 1 << bits)
    above = words >> np.uint64(width) if width < 64 else np.zeros_like(words)
    if above.any():
        assert_noise(f"{what}, above bit {width}", above, 1 << (8 * size - width))


def network(rng: np.random.Generator) -> sharing.Program:
    """Every kind of step that sends something: blinding, all sorts of gates, pools, products, truncations."""
    b = GraphBuilder("network", SHAPE)
    x = b.relu(b.conv(b.input, rng.normal(size=(6, 2, 3, 3)) / 4, rng.normal(size=6) / 4))
    x = b.max_pool(x, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    x = b.relu(b.affine(b.add(x, b.square(x)), 1.0, -0.5))
    x = b.multiply(x, b.conv(x, rng.normal(size=(6, 6, 1, 1)) / 3))
    x = b.add(x, b.step(b.affine(x, 1.0, -0.25)))
    graph = b.build(b.dense(b.flatten(x), rng.normal(size=(20, 150)) / 12))
    return sharing.compile(graph, samples=rng.uniform(0, 1, (8, *SHAPE)))


def pictures(kind: str) -> np.ndarray:
    y, x = np.mgrid[0:12, 0:12] / 11.0
    natural = 0.5 + 0.3 * np.sin(5 * x + 2 * y) * np.cos(3 * y) + 0.2 * (x + y > 1)
    plane = {"zeros": np.zeros((12, 12)), "ones": np.ones((12, 12)), "natural": np.clip(natural, 0, 1)}[kind]
    return np.broadcast_to(plane, (COUNT, *SHAPE)).copy()


@pytest.fixture(scope="module")
def program() -> sharing.Program:
    return network(np.random.default_rng(11))


@pytest.fixture(scope="module")
def runs(program: sharing.Program) -> dict[str, TwoPartyRun]:
    return {kind: record(program, pictures(kind), seeds=Seeds.numbered(n)) for n, kind in enumerate(KINDS)}


KINDS = ("zeros", "ones", "natural")


def messages(
    program: sharing.Program, run: TwoPartyRun
) -> Iterator[tuple[str, int, bytes, text.Step, Gate | None, int]]:
    """Every message with its step, its gate and the gate's round, in the order of sending."""
    sides = [iter(sent) for sent in run.sent]
    for step in program.public.steps:
        if isinstance(step, text.Blind):
            yield step.name, 0, next(sides[0]), step, None, 0
        elif isinstance(step, text.Multiply | text.Truncate):
            for side in (0, 1):
                yield step.name, side, next(sides[side]), step, None, 0
        for gate in gates_of(program.public, step, COUNT):
            for turn in range(3):
                for side in (0, 1):
                    yield step.name, side, next(sides[side]), step, gate, turn
    assert not [rest for side in sides for rest in side]


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_noise(program: sharing.Program, runs: dict[str, TwoPartyRun], kind: str) -> None:
    """Each message of each party by itself: all bits that it carries are uniform, whatever the picture."""
    kinds = set()
    for name, side, data, step, gate, turn in messages(program, runs[kind]):
        what = f"{kind}: party {side} in {name}, {type(step).__name__} round {turn}"
        kinds.add((type(step).__name__, turn))
        raw = np.frombuffer(data, dtype=np.uint8)
        if gate is None:
            assert isinstance(step, text.Blind | text.Multiply | text.Truncate)
            width = step.bits if isinstance(step, text.Truncate) else step.width
            pieces = 2 if isinstance(step, text.Multiply) and step.left != step.right else 1
            for piece in range(pieces):
                part = data[piece * len(data) // pieces : (piece + 1) * len(data) // pieces]
                assert_noise_words(what, part, width)
        elif turn == 0:
            size = byte_width(gate.bits)
            for start, _, padded in gate.chunks():
                assert_noise_words(what, data[start * size : (start + padded) * size], gate.bits)
        elif turn == 1:
            assert int(raw.max()) < 64
            assert_noise(what, raw, 64)
        else:
            assert_noise(what, np.unpackbits(raw), 2)
    wanted = {("Blind", 0), ("Multiply", 0), ("Truncate", 0), *(("Relu", k) for k in range(3))}
    assert kinds >= wanted | {("MaxPool", k) for k in range(3)}


@pytest.mark.parametrize("kind", KINDS)
def test_either_share_of_a_picture_is_noise(program: sharing.Program, runs: dict[str, TwoPartyRun], kind: str) -> None:
    """Party 0 holds a seed, which the picture does not enter; party 1 what is uniform without the seed."""
    assert_noise_words(kind, runs[kind].image_share, program.public.input_width)
    first, _ = sharing.share_images(program.public, pictures("zeros"), bytes(32))
    second, _ = sharing.share_images(program.public, pictures("natural"), bytes(32))
    assert first == second == bytes(32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_result_is_noise(program: sharing.Program, kind: str) -> None:
    """Without the other party's, over many runs on one picture (each run has fresh seeds)."""
    width = program.public.registers[program.public.output].width
    for side in (0, 1):
        shares = [record(program, pictures(kind), seeds=Seeds.numbered(100 + n)).result_shares[side] for n in range(4)]
        size = byte_width(width)
        words = np.empty((4, len(shares[0]) // size), dtype=np.uint64)
        for line, share in zip(words, shares, strict=True):
            unpack(np.frombuffer(share, dtype=np.uint8), size, line)
        for place in range(size):
            bits = min(8, width - 8 * place)
            column = (words.reshape(-1) >> np.uint64(8 * place)) & np.uint64((1 << bits) - 1)
            assert_noise(f"{kind}: result share of party {side}, byte {place}", column, 1 << bits)


def test_corrections_and_masked_weights_are_noise(program: sharing.Program, runs: dict[str, TwoPartyRun]) -> None:
    """What the dealer sends to party 1, and party 1 to party 0: every byte, step by step."""
    run, place = runs["natural"], 0
    for step, layer in zip(program.public.steps, run.cost.layers, strict=True):
        if layer.offline:
            part = np.frombuffer(run.corrections, dtype=np.uint8)[place : place + layer.offline]
            place += layer.offline
            assert_noise(f"corrections of {step.name}", part)
    assert place == len(run.corrections)
    place = 0
    for step in program.public.steps:
        if isinstance(step, text.Linear):
            size = step.geometry.weights * byte_width(step.width)
            if step.geometry.weights >= 64:
                assert_noise_words(f"weights of {step.name}", run.masked_weights[place : place + size], step.width)
            place += size
    assert place == len(run.masked_weights)


def test_what_is_masked_carries_no_bit_above_its_mask(program: sharing.Program, runs: dict[str, TwoPartyRun]) -> None:
    """A mask modulo 2^w hides w bits: a carry into the bits above would tell whether value or mask is larger."""
    for name, _, data, step, _, _ in messages(program, runs["natural"]):
        if isinstance(step, text.Blind):
            assert not above(data, step.width).any(), name
    place = 0
    for step in program.public.steps:
        if isinstance(step, text.Linear):
            size = step.geometry.weights * byte_width(step.width)
            assert not above(runs["natural"].masked_weights[place : place + size], step.width).any(), step.name
            place += size


def above(data: bytes, width: int) -> np.ndarray:
    words = np.empty(len(data) // byte_width(width), dtype=np.uint64)
    unpack(np.frombuffer(data, dtype=np.uint8), byte_width(width), words)
    return words >> np.uint64(width) if width < 64 else np.zeros_like(words)


def test_sizes_and_rounds_do_not_depend_on_the_picture(runs: dict[str, TwoPartyRun]) -> None:
    """Three pictures: the same messages in the same order, of the same sizes."""
    found = {
        (
            tuple(tuple(len(message) for message in sent) for sent in run.sent),
            run.rounds,
            len(run.corrections),
            len(run.image_share),
            tuple(map(len, run.result_shares)),
        )
        for run in runs.values()
    }
    assert len(found) == 1


def test_two_runs_on_one_picture_have_nothing_in_common(program: sharing.Program, runs: dict[str, TwoPartyRun]) -> None:
    """The difference of two transcripts is noise as well: no mask and no opening comes back."""
    again = record(program, pictures("natural"), seeds=Seeds.numbered(77))
    assert np.abs(again.result - runs["natural"].result).max() < 1e-3
    pairs = zip(messages(program, runs["natural"]), messages(program, again), strict=True)
    for (name, side, data, _, gate, turn), (_, _, other, _, _, _) in pairs:
        a, b = np.frombuffer(data, dtype=np.uint8), np.frombuffer(other, dtype=np.uint8)
        what = f"party {side} in {name}, round {turn}"
        if gate is None:
            low = len(data) // 8  # bytes of the lowest plane, which are full whatever the width
            assert_noise(what, (a - b)[:low])
        elif turn == 0:
            assert_noise(what, lowest_bytes(gate, data) - lowest_bytes(gate, other))
        elif turn == 1:
            assert_noise(what, (a ^ b), 64)
        else:
            assert_noise(what, np.unpackbits(a ^ b), 2)
    for a, b in ((runs["natural"].corrections, again.corrections), (runs["natural"].image_share, again.image_share)):
        difference = np.frombuffer(a, dtype=np.uint8) - np.frombuffer(b, dtype=np.uint8)
        assert np.mean(difference == 0) < 0.2


def lowest_bytes(gate: Gate, data: bytes) -> np.ndarray:
    """The last byte of each opened value: full, whatever the width."""
    size, found = byte_width(gate.bits), []
    for start, _, padded in gate.chunks():
        words = np.empty(padded, dtype=np.uint64)
        unpack(np.frombuffer(data[start * size : (start + padded) * size], dtype=np.uint8), size, words)
        found.append(words.astype(np.uint8))
    return np.concatenate(found)


def test_the_same_seeds_repeat_a_run(program: sharing.Program, runs: dict[str, TwoPartyRun]) -> None:
    """All randomness comes from the seeds: so the tests above judge what they say they judge."""
    again = record(program, pictures("natural"), seeds=Seeds.numbered(KINDS.index("natural")))
    assert again.sent == runs["natural"].sent
    assert again.corrections == runs["natural"].corrections


def test_the_statistic_finds_what_it_looks_for() -> None:
    """A picture instead of its share, a constant, a counter and a bit that leans to one side are all told from noise."""
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, 4096)
    assert_noise("noise", noise)
    plane = (pictures("natural") * 255).astype(np.int64).reshape(-1)
    leaning = np.where(rng.random(4096) < 0.25, noise | 128, noise)
    for name, data in (
        ("picture", plane),
        ("constant", noise * 0),
        ("counter", np.arange(4096) % 256),
        ("lean", leaning),
    ):
        with pytest.raises(AssertionError, match=name):
            assert_noise(name, data)
