"""How near the rounds come to an ideal sum-preserving cipher: exact chains for small blocks, second moments for real ones.

An ideal cipher draws a block uniformly from all with its sum. A stage draws a pair uniformly from all with its sum, so the
uniform distribution stays what it is; what is computed here is how fast every other becomes it.
"""

from __future__ import annotations

import itertools
from functools import cache
from math import comb

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2

from secureimg.publishing.thumbnail_rounds import _arrange, _mix, passes_of, run_rounds, stages_of
from secureimg.publishing.thumbnails import block_sums, encrypt_thumbnail
from secureimg.sharing.streams import Stream


def orders(count: int, passes: int, name: str) -> np.ndarray:
    """The program's own orders of positions, for a number of passes."""
    drawn = np.empty((passes, count), np.uint32)
    Stream(bytes(32), name).fill(drawn)
    order = np.empty((passes * stages_of(count), count), np.uint16)
    _arrange(drawn, order, stages_of(count))
    return order


def pairs(order: np.ndarray) -> list[tuple[int, int]]:
    count = len(order)
    return [(int(order[k]), int(order[count - count // 2 + k])) for k in range(count // 2)]


# ---------------------------------------------------------------------------------------- exact chains of small blocks


def pass_matrices(count: int, largest: int, total: int, orders_of_passes: list[np.ndarray]) -> list[np.ndarray]:
    """Transition matrices of passes over all blocks of `count` values in 0..largest with a sum."""
    states = [t for t in itertools.product(range(largest + 1), repeat=count) if sum(t) == total]
    index = {state: number for number, state in enumerate(states)}

    @cache
    def substitution(i: int, j: int) -> np.ndarray:
        matrix = np.zeros((len(states), len(states)))
        for number, state in enumerate(states):
            both = state[i] + state[j]
            values = range(max(0, both - largest), min(both, largest) + 1)
            for value in values:
                after = list(state)
                after[i], after[j] = value, both - value
                matrix[number, index[tuple(after)]] += 1 / len(values)
        return matrix

    found = []
    for order in orders_of_passes:
        matrix = np.eye(len(states))
        for stage in order:
            for i, j in pairs(stage):
                matrix = matrix @ substitution(min(i, j), max(i, j))
        found.append(matrix)
    return found


def distance(matrix: np.ndarray) -> float:
    """The largest total variation distance from uniform, over all blocks to start from."""
    return float(0.5 * np.abs(matrix - 1 / len(matrix)).sum(axis=1).max())


def every_order(count: int) -> list[np.ndarray]:
    """A pass for each permutation: a keyed one is drawn from these."""
    stages, found = stages_of(count), []
    for permutation in itertools.permutations(range(count)):
        q, rows = list(permutation), []
        for _ in range(stages):
            rows.append(q)
            skip = count - count // 2
            q = [q[k // 2 + (skip if k % 2 else 0)] for k in range(count)]
        found.append(np.array(rows))
    return found


@pytest.mark.parametrize(("count", "largest", "total", "rate"), [(3, 3, 4, 0.2), (4, 3, 6, 0.12), (5, 2, 5, 0.17)])
def test_small_blocks_come_within_2_to_the_minus_40_of_uniform(
    count: int, largest: int, total: int, rate: float
) -> None:
    """Exact, over all blocks to start from, over the draw of the permutations."""
    one_pass = sum(pass_matrices(count, largest, total, every_order(count))) / len(every_order(count))
    second = float(np.sort(np.abs(np.linalg.eigvals(one_pass)))[-2])
    assert second < rate
    assert distance(one_pass) > 1e-3, "one pass is far from enough"
    assert distance(np.linalg.matrix_power(one_pass, passes_of(count))) < 2**-40


@pytest.mark.parametrize(("count", "largest", "total"), [(4, 3, 6), (8, 1, 4), (5, 2, 5)])
def test_small_blocks_come_near_uniform_under_known_permutations_too(count: int, largest: int, total: int) -> None:
    """Blocks of a group share permutations: nothing may rest on their being secret."""
    passes = passes_of(count)
    order = orders(count, passes, f"known {count}").reshape(passes, -1, count)
    product, worst = None, []
    for matrix in pass_matrices(count, largest, total, list(order)):
        product = matrix if product is None else product @ matrix
        worst.append(distance(product))
    assert worst[0] > 0.05
    assert worst[-1] < 2**-30


# ------------------------------------------------------------------------------------- second moments of real blocks


def moment_gap(count: int, order: np.ndarray, start: np.ndarray) -> float:
    """The largest relative error of E[x_i x_j] against the ideal cipher's, exact for values without an upper bound.

    Given its sum s, a pair's values have E[a²] = s²/3 and E[ab] = s²/6; others see its mean. So second moments after a
    stage follow from those before it. Uniform on the simplex: E[x_i x_j] = S² / (n (n + 1)), and twice that for i = j.
    """
    x = start / start.sum()
    moments = np.outer(x, x)
    for stage in order:
        first, second = np.array(pairs(stage)).T
        squares = moments[first, first] + moments[second, second] + 2 * moments[first, second]
        moments[first] = moments[second] = (moments[first] + moments[second]) / 2
        moments[:, first] = moments[:, second] = (moments[:, first] + moments[:, second]) / 2
        moments[first, first] = moments[second, second] = squares / 3
        moments[first, second] = moments[second, first] = squares / 6
    ideal = (1 + np.eye(count)) / (count * (count + 1))
    return float((np.abs(moments - ideal) / ideal).max())


@pytest.mark.parametrize("count", [64, 129, 200, 256])
def test_second_moments_of_real_blocks_come_within_2_to_the_minus_38_of_the_ideal(count: int) -> None:
    """From the worst start, all of the sum in one value, and from half a block white."""
    one, half = np.zeros(count), np.zeros(count)
    one[0] = 1
    half[: count // 2] = 1
    order = orders(count, passes_of(count), f"moments {count}")
    assert moment_gap(count, order[: stages_of(count)], one) > 1
    assert moment_gap(count, order, one) < 2**-38
    assert moment_gap(count, order, half) < 2**-38


# ------------------------------------------------------------------------------------------------ the program's output


def test_all_blocks_of_a_sum_come_out_equally_often() -> None:
    """84 blocks of 2 x 2 have the sum 6; 90,000 of one of them come out as each equally often."""
    image = np.zeros((600, 600), np.uint8)
    image[::2, ::2] = 6
    cipher = run_rounds(image, 2, bytes(range(32)), forward=True).astype(np.int64)
    code = cipher[::2, ::2] + 7 * cipher[::2, 1::2] + 49 * cipher[1::2, ::2]
    counts = np.bincount(code.ravel())
    counts = counts[counts > 0]
    assert len(counts) == comb(6 + 3, 3) == 84
    statistic = ((counts - 90_000 / 84) ** 2).sum() / (90_000 / 84)
    assert 0.001 < chi2.sf(statistic, 83) < 0.999


@pytest.mark.parametrize("white", [1, 20, 128, 250])
def test_values_are_distributed_as_an_ideal_ciphers(white: int) -> None:
    """Blocks of black and white, the hardest to mix; the ideal distribution of a value given the sum is counted exactly."""
    image = np.zeros((16, 16), np.uint8)
    image.reshape(-1)[:white] = 255
    cipher = run_rounds(np.tile(image, (64, 64)), 16, b"k" * 32, forward=True)
    total = 255 * white
    values = np.arange(256)
    tilt = brentq(lambda t: (values * np.exp(t * values)).sum() / np.exp(t * values).sum() - total / 256, -1, 1)
    one = np.exp(tilt * values) / np.exp(tilt * values).sum()  # tilted to the mean: given the sum, it is the same
    others = one
    for _ in range(254):
        others = np.convolve(others, one)
    ideal = np.array([one[v] * others[total - v] if 0 <= total - v < len(others) else 0.0 for v in values])
    expected = ideal / ideal.sum() * cipher.size
    counts = np.bincount(cipher.ravel(), minlength=256)
    usual = expected > 20
    statistic = ((counts - expected)[usual] ** 2 / expected[usual]).sum()
    assert chi2.sf(statistic, usual.sum() - 1) > 1e-4
    assert abs(counts[~usual].sum() - expected[~usual].sum()) < 5 * np.sqrt(expected[~usual].sum() + 1)


def test_cipher_images_of_one_image_under_two_keys_are_unrelated() -> None:
    rows, columns = np.mgrid[:512, :512]
    image = ((rows // 16 * 7 + columns // 16 * 3 + rows + columns) % 256).astype(np.uint8)
    residuals = []
    for key in (b"a" * 32, b"b" * 32):
        cipher = run_rounds(image, 16, key, forward=True)
        means = np.kron(block_sums(cipher, 16) / 256, np.ones((16, 16)))
        residuals.append(cipher - means)
    residuals.append(image - means)
    for first, second in itertools.combinations(residuals, 2):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / 512


def test_neighbours_within_a_block_are_unrelated() -> None:
    """But for the -1/(n-1) that a fixed sum makes."""
    rows, columns = np.mgrid[:512, :512]
    smooth = ((rows + columns) // 4).astype(np.uint8)
    cipher = run_rounds(smooth, 16, b"c" * 32, forward=True)
    blocks = cipher.reshape(32, 16, 32, 16).swapaxes(1, 2).reshape(-1, 16, 16).astype(float)
    blocks -= blocks.mean(axis=(1, 2), keepdims=True)
    for one, other in ((blocks[:, 1:], blocks[:, :-1]), (blocks[:, :, 1:], blocks[:, :, :-1])):
        assert abs((one * other).mean() / (blocks**2).mean() + 1 / 255) < 5 / 512


def test_one_image_encrypted_twice_is_two_cipher_images() -> None:
    image = np.full((32, 32), 99, np.uint8)
    first, second = encrypt_thumbnail(image)[0], encrypt_thumbnail(image)[0]
    assert (first != second).mean() > 0.9


# -------------------------------------------------------------------------------------------------------- one stage


def reference_stage(a: int, b: int, offset: int) -> tuple[int, int]:
    """A pair moved around the cycle of all pairs of its sum, written out."""
    cycle = [(x, a + b - x) for x in range(256) if 0 <= a + b - x <= 255]
    return cycle[(cycle.index((a, b)) + offset) % len(cycle)]


def test_a_stage_moves_each_pair_around_the_cycle_of_its_sum() -> None:
    rng = np.random.default_rng(3)
    before = rng.integers(0, 256, (2, 500), dtype=np.uint8)
    before[:, :4] = [[0, 255, 0, 255], [0, 255, 255, 0]]
    high, low = (
        rng.integers(1, 1 << 16, (1, 1, 500), dtype=np.uint16),
        rng.integers(0, 256, (1, 1, 500), dtype=np.uint8),
    )
    numbers = (high.astype(int) * 256 + low).ravel().tolist()
    order, reserve = np.array([[0, 1]], np.uint16), np.zeros(2048, np.uint32)
    after = before.copy()
    _mix(after, high, low, reserve, order, True)
    for (a, b), number, found in zip(before.T.tolist(), numbers, after.T.tolist(), strict=True):
        count = min(a + b, 510 - a - b) + 1
        assert tuple(found) == reference_stage(a, b, number * count >> 24)
    _mix(after, high, low, reserve, order, False)
    assert np.array_equal(after, before)


def test_numbers_that_would_favour_an_offset_are_drawn_again() -> None:
    """0 is one of the 2^24 mod count that would; only for a power of two there are none."""
    before = np.array([[3, 10, 100, 255], [0, 20, 100, 255]], np.uint8)  # 4, 31, 201 and 1 pairs
    high, low = np.zeros((1, 1, 4), np.uint16), np.zeros((1, 1, 4), np.uint8)
    reserve = np.zeros(2048, np.uint32)
    reserve[:1024] = 1 << 30
    reserve[1024:] = 1 << 30
    order = np.array([[0, 1]], np.uint16)
    after = before.copy()
    _mix(after, high, low, reserve, order, True)
    half = [list(reference_stage(10, 20, 15)), list(reference_stage(100, 100, 100))]
    assert after.T.tolist() == [[3, 0], *half, [255, 255]]
    _mix(after, high, low, reserve, order, False)
    assert np.array_equal(after, before)


def test_every_offset_has_the_same_number_of_24_bit_numbers() -> None:
    """Counted over all of them for a pair of sum 100: what is not drawn again is split evenly among 101 offsets."""
    numbers = np.arange(1 << 24, dtype=np.uint32)
    kept = numbers[numbers * 101 % (1 << 24) >= (1 << 24) % 101]
    assert len(set(np.bincount(kept * 101 >> 24).tolist())) == 1
    high, low = (kept[::997] >> 8).astype(np.uint16)[None, None], (kept[::997] & 255).astype(np.uint8)[None, None]
    values = np.tile(np.array([[0], [100]], np.uint8), (1, high.size))
    _mix(values, high, low, np.full(2048, 1 << 31, np.uint32), np.array([[0, 1]], np.uint16), True)
    assert np.array_equal(values[0], kept[::997] * 101 >> 24)


def test_every_order_of_positions_is_a_permutation_and_a_pass_joins_all_with_all() -> None:
    for count in (2, 3, 7, 16, 129, 256):
        order = orders(count, 3, f"joins {count}")
        assert (np.sort(order, axis=1) == np.arange(count)).all()
        if count & (count - 1):
            continue
        reached = np.eye(count, dtype=bool)
        for stage in order[: stages_of(count)]:
            for i, j in pairs(stage):
                reached[:, i] = reached[:, j] = reached[:, i] | reached[:, j]
        assert reached.all()
