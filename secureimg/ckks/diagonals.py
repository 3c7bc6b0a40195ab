"""Linear maps as generalised diagonals: which slot meets which, and how few rotations bring them together.

An output o_j is the sum over inputs i of M[j, i] x_i. With inputs in slots s_i, outputs in slots o_j and a *fold* (the sum
of `count` rotated copies at distance `step`), the product of x_i happens at slot o_j + t step, where the diagonal
`d = s_i - o_j - t step` is constant over as many entries as possible. Diagonals are split into baby steps, which rotate
the inputs, and giant steps, which rotate the sums: d = b + g.

Sources: Halevi and Shoup, Algorithms in HElib (2014), section 4; Juvekar et al., GAZELLE (2018), section 4.2 (hybrid
diagonals with folding).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from secureimg.ckks.costs import CostModel
from secureimg.ckks.layout import Layout

__all__ = [
    "Fold",
    "Operand",
    "Placement",
    "Split",
    "best_split",
    "diagonal_vectors",
    "residues",
    "rotation_tree",
]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Sum of `count` (a power of two) copies rotated by multiples of `step`."""

    step: int
    count: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Rotations of the doubling, smallest first."""
        return tuple(self.step << bit for bit in range((self.count - 1).bit_length()))


@dataclass(frozen=True, eq=False)
class Operand:
    """One input of a linear map: its matrix in coordinate form, and where its elements are."""

    rows: Indices
    columns: Indices
    values: NDArray[np.float64]
    layout: Layout
    primes: int

    @staticmethod
    def of(matrix: sparse.csr_array, layout: Layout, primes: int) -> Operand:
        """Operand of a sparse matrix."""
        coordinates = matrix.tocoo()
        rows, columns = coordinates.coords
        return Operand(rows.astype(np.int64), columns.astype(np.int64), coordinates.data, layout, primes)


@dataclass(frozen=True, eq=False)
class Placement:
    """A candidate for where outputs go: layout and fold. `clean` means that no other slot is written."""

    layout: Layout
    fold: Fold
    label: str
    pitches: tuple[int, ...] = ()


@dataclass(frozen=True)
class Split:
    """How a diagonal d of modulus `modulus` becomes a baby and a giant step."""

    modulus: int | None
    low: int
    width: int
    baby_low: int

    def apply(self, diagonal: Indices) -> tuple[Indices, Indices]:
        """Baby and giant steps of diagonals."""
        signed = diagonal if self.modulus is None else (diagonal + self.low) % self.modulus - self.low
        giant = (signed + self.baby_low) // self.width * self.width
        return signed - giant, giant


def residues(operand: Operand, placement: Placement) -> tuple[Indices, int | None]:
    """The diagonal of every entry, and its modulus (None: no wrap-around).

    Cost: linear in the number of entries.
    """
    period = operand.layout.period
    fold = placement.fold
    distance = operand.layout.slot[operand.columns] - placement.layout.slot[operand.rows]
    if fold.count == 1:
        return distance % period, period
    if period % fold.step == 0 and fold.step * fold.count >= period:
        return distance % fold.step, fold.step
    if fold.step % period == 0:
        return distance % period, period
    turn = np.clip(distance // fold.step, 0, fold.count - 1)
    return distance - turn * fold.step, None


def _groups(operand: Operand, placement: Placement) -> Indices | None:
    """A number for each (output ciphertext, input ciphertext) pair of every entry; None if there is one pair only."""
    if placement.layout.ciphertexts == 1 and operand.layout.ciphertexts == 1:
        return None
    return (
        placement.layout.ciphertext[operand.rows] * operand.layout.ciphertexts
        + operand.layout.ciphertext[operand.columns]
    )


def _widths(modulus: int | None, span: int, pitches: Iterable[int]) -> list[int]:
    limit = modulus if modulus is not None else span
    widths = {1 << bit for bit in range(limit.bit_length() + 1)}
    widths.update(width for width in pitches if width > 1)
    return sorted(width for width in widths if width <= 2 * limit)


def best_split(
    operands: list[Operand], placement: Placement, costs: CostModel, limit: float = math.inf
) -> tuple[float, list[Split]] | None:
    """The cheapest baby-step giant-step split of every operand, and the price of the whole map in milliseconds.

    None if it cannot cost less than `limit`.
    """
    slots = placement.layout.slots
    level = min(operand.primes for operand in operands)
    rotation, product = costs.rotation(level), costs.product(level)
    fold = len(placement.fold.steps) * costs.rotation(max(level - 1, 1))
    price = placement.layout.ciphertexts * (fold + costs.rescale(level))
    prepared = []
    for operand in operands:
        found, modulus = residues(operand, placement)
        offset = int(found.min()) if found.size else 0
        span = int(found.max()) - offset + 1 if found.size else 1
        group = _groups(operand, placement)
        packed = np.flatnonzero(np.bincount(found - offset if group is None else group * span + (found - offset)))
        prepared.append((packed // span, packed % span + offset, modulus, span))
        price += len(packed) * product
        price_pair = int(np.bincount(packed // span).max()) if packed.size else 1
        if price + (2 * math.sqrt(price_pair) - 2) * rotation > limit:
            return None
    splits = []
    shared = np.zeros(0, dtype=np.int64)
    for operand, (groups, unique, modulus, span) in zip(operands, prepared, strict=True):
        inputs, outputs = groups % operand.layout.ciphertexts, groups // operand.layout.ciphertexts
        best: tuple[float, Split] | None = None
        for low in sorted({0} if modulus is None else {0, modulus // 2}):
            for width in _widths(modulus, span, placement.pitches):
                for baby_low in sorted({0, width // 2}):
                    split = Split(modulus, low, width, baby_low)
                    baby, giant = split.apply(unique)
                    turns = _distinct(inputs, baby % slots, slots) + _distinct(outputs, giant % slots, slots, shared)
                    if best is None or turns * rotation < best[0]:
                        best = (turns * rotation, split)
        assert best is not None
        splits.append(best[1])
        baby, giant = best[1].apply(unique)
        price += _distinct(inputs, baby % slots, slots) * rotation
        shared = np.union1d(shared, outputs * slots + giant % slots)
    return float(price + np.count_nonzero(shared % slots) * rotation), splits


def _distinct(place: Indices, step: Indices, slots: int, more: Indices | None = None) -> int:
    """Number of distinct (ciphertext, step) pairs with a step other than zero."""
    seen = np.zeros((int(place.max()) + 1) * slots, dtype=bool)
    seen[place * slots + step] = True
    if more is not None and more.size:
        seen[more] = True
    seen[::slots] = False
    return int(np.count_nonzero(seen))


def rotation_tree(offsets: Iterable[int], slots: int, known: Iterable[int] = ()) -> list[tuple[int, int, int]]:
    """Edges `(parent, child, step)` that reach every offset from 0 with few distinct steps (few keys).

    Each non-zero offset costs one rotation; a step that occurs on many edges costs one key. Edges come parents first.
    """
    nodes = sorted({0, *(offset % slots for offset in offsets)})
    place = np.array(nodes)
    difference = (place[None, :] - place[:, None]) % slots
    reached = {0}
    edges: list[tuple[int, int, int]] = []
    steps = [step for step in known if step]
    index = {node: position for position, node in enumerate(nodes)}

    def spread() -> None:
        queue = sorted(reached)
        while queue:
            later = []
            for parent in queue:
                for step in steps:
                    child = (parent + step) % slots
                    if child in index and child not in reached:
                        reached.add(child)
                        edges.append((parent, child, step))
                        later.append(child)
            queue = later

    if len(nodes) > 1:
        needed = set(difference[difference != 0].tolist())
        steps = [step for step in steps if step in needed]
        spread()
    while len(reached) < len(nodes):
        inside = np.array([node in reached for node in nodes])
        targets = difference[:, ~inside]
        usable = np.unique(targets[inside])
        counts = {int(step): int(np.any(targets == step, axis=0).sum()) for step in usable}
        choice = max(counts, key=lambda step: (counts[step], -min(step, slots - step), -step))
        steps.append(choice)
        spread()
    return edges


def diagonal_vectors(
    operand: Operand, placement: Placement, split: Split
) -> dict[tuple[int, int, int, int], NDArray[np.float64]]:
    """Plaintext vectors, shape (slots,), by (output ciphertext, input ciphertext, baby step, giant step)."""
    slots, period = placement.layout.slots, operand.layout.period
    found, _ = residues(operand, placement)
    baby, giant = split.apply(found)
    place = placement.layout.slot[operand.rows]
    turn = operand.layout.slot[operand.columns] - place - (baby + giant)
    if placement.fold.count > 1 and split.modulus is not None:
        turn %= period
    elif split.modulus is not None:
        turn = np.zeros_like(turn)
    spot = (place + turn + giant) % slots
    groups = _groups(operand, placement)
    keys = (baby % slots) * slots + giant % slots
    if groups is not None:
        keys += groups * slots * slots
    unique, which = np.unique(keys, return_inverse=True)
    table = np.zeros((unique.size, slots))
    copies_apart = placement.layout.period if placement.fold.count == 1 else slots
    for shift in range(0, slots, copies_apart):
        table[which, (spot + shift) % slots] = operand.values
    copies = operand.layout.ciphertexts
    out = {}
    for vector, key in zip(table, unique.tolist(), strict=True):
        group, steps = divmod(key, slots * slots)
        out[group // copies, group % copies, *divmod(steps, slots)] = vector
    return out
