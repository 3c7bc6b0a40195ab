"""Rule: whatever the bytes, a decoder gives a valid object or exactly one error of secureimg, in bounded time."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzing.targets import Target, find_target, target_names
from fuzzing.worker import judge

pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow and numpy think of damaged files

EXAMPLES = 120
SELF_DELIMITING = (  # formats that are not pictures or models: what follows a whole object belongs to no object
    "ckks-input", "ckks-key-file", "ckks-keys", "ckks-output", "ckks-program", "ckks-sealed-key-file", "correlation-file",
    "correlation-header", "gallery", "messages-inference", "messages-sharing", "program-file", "result-shares",
    "shares-program", "tensor-npy",
)  # fmt: skip
_SEEDS: dict[str, list[bytes]] = {}


def seeds_of(name: str) -> list[bytes]:
    return _SEEDS.setdefault(name, find_target(name).seeds())


def holds(target: Target, data: bytes) -> str:
    start = time.process_time()
    outcome, trace = judge(target, data)
    spent = time.process_time() - start
    assert trace is None, f"{target.name} let an error escape on {data[:200]!r}:\n{trace}"
    assert spent < target.seconds, f"{target.name} took {spent:.1f} s over {data[:200]!r}"
    return outcome


def edits(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with a few places written over, which hypothesis can shrink to the one that matters."""

    def apply(base: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(base)
        for place, length, piece in changes:
            at = place % (len(data) + 1)
            data[at : at + length] = piece
        return bytes(data)

    change = st.tuples(st.integers(0, max(map(len, seeds))), st.integers(0, 8), st.binary(max_size=8))
    return st.builds(apply, st.sampled_from(seeds), st.lists(change, min_size=1, max_size=4))


@pytest.mark.parametrize("name", target_names())
def test_a_valid_object_or_one_error(name: str) -> None:
    target, seeds = find_target(name), seeds_of(name)
    ours = st.integers(0, 1 << 40).map(lambda number: target.input(seeds, 7, len(seeds) + number))
    sealed = edits(seeds).map(target.reseal or bytes)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.one_of(ours, ours, edits(seeds), sealed, st.binary(max_size=200)))
    def check(data: bytes) -> None:
        holds(target, data)

    check()


@pytest.mark.parametrize("name", target_names())
def test_seeds_are_valid_and_stay_so_when_sealed_again(name: str) -> None:
    """Otherwise every mutant would die at the first check, and a campaign would find nothing."""
    target, seeds = find_target(name), seeds_of(name)
    assert seeds
    for data in seeds:
        assert holds(target, data) == "valid"
        if target.reseal is not None:
            assert holds(target, target.reseal(data)) == "valid"


@pytest.mark.parametrize("name", target_names())
def test_a_campaign_gets_past_the_first_checks(name: str) -> None:
    """Some mutants are refused and some are valid: both sides of the rule are tried."""
    target, seeds = find_target(name), seeds_of(name)
    outcomes = {holds(target, target.input(seeds, 3, len(seeds) + number)) for number in range(150)}
    assert "valid" in outcomes
    assert len(outcomes) > 1


@pytest.mark.parametrize("name", target_names())
def test_the_same_seed_gives_the_same_inputs(name: str) -> None:
    target, seeds = find_target(name), seeds_of(name)
    numbers = random.Random(5).sample(range(len(seeds), 1 << 30), 40)
    first = [target.input(seeds, 11, number) for number in numbers]
    assert first == [target.input(seeds, 11, number) for number in reversed(numbers)][::-1]
    assert len(set(first)) > 20
    assert first != [target.input(seeds, 12, number) for number in numbers]


@pytest.mark.parametrize("name", SELF_DELIMITING)
def test_nothing_may_follow_an_object(name: str) -> None:
    target = find_target(name)
    for data in seeds_of(name):
        assert holds(target, data + b"\0") != "valid"
        assert holds(target, data + data) != "valid"
