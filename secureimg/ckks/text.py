"""The text of a CKKS program: instructions on numbered registers that each hold one ciphertext."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Instruction", "Opcode", "Plain", "Section", "Text", "Weights"]


class Opcode(enum.IntEnum):
    """What an instruction does."""

    ROTATE = 1
    """target = source rotated left by `step` slots of one image."""
    PRODUCTS = 2
    """target = sum of source_i times plain_i."""
    ADD = 3
    """target = sum of all sources."""
    ADD_PLAIN = 4
    """target = source + plain."""
    RESCALE = 5
    """target = source divided by its last prime."""
    SWITCH = 6
    """target = source without its last prime(s), down to `step` primes."""
    SQUARE = 7
    """target = source squared, relinearised."""
    MULTIPLY = 8
    """target = product of two sources, relinearised."""
    MATRIX = 9
    """targets `target, target + 1, ...` = matrix number `step` times the sources, each one image element."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `primes` are left before it, `scale` belongs to its result."""

    op: Opcode
    target: int
    sources: tuple[int, ...]
    primes: int
    scale: float
    step: int = 0
    plains: tuple[int, ...] = ()
    layer: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A plaintext operand: slot values of shape (slots,), or one number for all slots."""

    values: NDArray[np.float64] | float
    primes: int
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A matrix operand: `values` rounds to integers at `scale`."""

    values: sparse.csr_array
    scale: float


@dataclass(frozen=True, slots=True)
class Section:
    """Instructions `first ... last - 1` sum products of shared inputs into `totals`: work that can be divided."""

    first: int
    last: int
    totals: tuple[int, ...]


@dataclass
class Text:
    """A program under construction: instructions, plaintexts, and which registers hold input and output."""

    slots: int
    instructions: list[Instruction] = field(default_factory=list)
    plains: list[Plain] = field(default_factory=list)
    matrices: list[Weights] = field(default_factory=list)
    registers: int = 0
    sections: list[Section] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    def register(self) -> int:
        """A fresh register."""
        self.registers += 1
        return self.registers - 1

    def plain(self, values: NDArray[np.float64] | float, primes: int, scale: float) -> int:
        """Number of a new plaintext."""
        self.plains.append(Plain(values, primes, scale))
        return len(self.plains) - 1

    def rotations(self) -> dict[int, int]:
        """Distinct rotation steps, and the most primes each is used at."""
        found: dict[int, int] = {}
        for item in self.instructions:
            if item.op is Opcode.ROTATE:
                found[item.step] = max(found.get(item.step, 0), item.primes)
        return found

    def relinearisation(self) -> int:
        """The most primes a relinearisation is used at, 0 if there is none."""
        return max(
            (item.primes for item in self.instructions if item.op in (Opcode.SQUARE, Opcode.MULTIPLY)), default=0
        )
