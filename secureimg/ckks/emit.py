"""From plans to the text of a program: levels, scales, rotations, products.

Scales follow one rule. Every value v that was rescaled has scale `2^(w - e_v)`, where `2^e_v` bounds |v| and w is the
program's working precision: so every value is stored with w bits, whatever its range. Products are rescaled as late as
possible: a square and the linear map behind it share one (larger) prime, which halves the number of primes and so the
price of every rotation. Source of the lazy rescaling: Dathathri et al., EVA (2020), section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.diagonals import Fold, diagonal_vectors, rotation_tree
from secureimg.ckks.lowering import LinearStep, Lowered, PolynomialStep, ProductStep
from secureimg.ckks.noise import NoiseModel
from secureimg.ckks.planner import LinearPlan, Plan
from secureimg.ckks.text import Instruction, Opcode, Section, Text, Weights

__all__ = ["Chain", "Emitter", "Value"]

Array = NDArray[np.float64]

_TYPICAL_ROTATIONS = 16
_TYPICAL_COPIES = 64


class Chain:
    """The primes that rescaling drops, by position from the top.

    While positions are being planned (`primes` is None) it records how many bits each position needs; later it hands out
    the actual primes.
    """

    def __init__(self, primes: tuple[tuple[int, ...], ...] | None = None) -> None:
        self.primes = primes
        self.needed: list[float] = []

    def drop(self, position: int, bits: float) -> float:
        """Product of the primes dropped at a position, for a value that wants `bits` of them at least."""
        if self.primes is not None:
            return float(math.prod(self.primes[position]))
        while len(self.needed) <= position:
            self.needed.append(0.0)
        self.needed[position] = max(self.needed[position], bits)
        return math.pow(2.0, bits)


@dataclass(frozen=True, eq=False)
class Value:
    """Registers of a value, how many drops lie above it, its scale, whether it still awaits a rescale, and its noise."""

    registers: tuple[int, ...]
    position: int
    scale: float
    lazy: bool
    variance: Array


class Emitter:
    """Writes the text of a program; with `plan=None` only positions and bits are worked out.

    Parameters
    ----------
    lowered : Lowered
        The steps.
    exponents : dict of str to int
        e_v for every value.
    squares : dict of str to array
        Mean square of every element of every value, shape (n,).
    width : int
        w, bits of working precision.
    chain : Chain
        Primes.
    noise : NoiseModel
        Variances of the operations' noise.
    late_folds : bool
        Fold after the rescale: cheaper by a prime, but the rescale's noise is folded too.
    plan : Plan, optional
        Layouts and diagonals.
    """

    def __init__(
        self,
        lowered: Lowered,
        exponents: dict[str, int],
        squares: dict[str, Array],
        width: int,
        chain: Chain,
        noise: NoiseModel,
        late_folds: bool,
        plan: Plan | None = None,
    ) -> None:
        self.lowered, self.exponents, self.squares = lowered, exponents, squares
        self.width, self.chain, self.noise, self.plan = width, chain, noise, plan
        self.late_folds = late_folds
        self.text = Text(plan.packing.layout.slots if plan else 0)
        self.values: dict[str, Value] = {}
        self.layer = ""
        self.steps_known: list[int] = []

    # -- small helpers -------------------------------------------------------------------------------------------

    def primes_at(self, position: int) -> int:
        """Data primes left at a position (1 while planning)."""
        if self.chain.primes is None:
            return 1
        return 1 + sum(len(group) for group in self.chain.primes[position:])

    def _do(
        self,
        op: Opcode,
        sources: tuple[int, ...],
        primes: int,
        scale: float,
        step: int = 0,
        plains: tuple[int, ...] = (),
    ) -> int:
        target = self.text.register()
        self.text.instructions.append(Instruction(op, target, sources, primes, scale, step, plains, self.layer))
        return target

    def _rescale(self, register: int, position: int, scale: float) -> int:
        primes = self.primes_at(position)
        if self.chain.primes is not None:
            for prime in reversed(self.chain.primes[position]):
                scale /= prime
                register = self._do(Opcode.RESCALE, (register,), primes, scale)
                primes -= 1
        return register

    def _settle(self, value: Value, exponent: int) -> Value:
        """The value after the rescale it awaits."""
        if not value.lazy:
            return value
        goal = 2.0 ** (self.width - exponent)
        dropped = self.chain.drop(value.position, math.log2(value.scale / goal))
        scale = value.scale / dropped
        registers = tuple(self._rescale(register, value.position, value.scale) for register in value.registers)
        variance = value.variance + self.noise.rescale(scale)
        return Value(registers, value.position + 1, scale, False, variance)

    def _lower(self, value: Value, position: int) -> Value:
        """The value at a later position, by dropping primes without dividing."""
        if value.position == position or self.plan is None:
            return replace(value, position=position)
        goal, source = self.primes_at(position), self.primes_at(value.position)
        registers = tuple(
            self._do(Opcode.SWITCH, (register,), source, value.scale, goal) for register in value.registers
        )
        return replace(value, registers=registers, position=position)

    def _rotated(self, register: int, steps: set[int], primes: int, scale: float) -> dict[int, int]:
        """The register rotated by every step, each from a nearby one."""
        found = {0: register}
        for parent, child, step in self._tree(steps):
            found[child] = self._do(Opcode.ROTATE, (found[parent],), primes, scale, step)
        return found

    def _tree(self, steps: set[int]) -> list[tuple[int, int, int]]:
        edges = rotation_tree(steps, self.text.slots, self.steps_known)
        self.steps_known.extend(sorted({step for _, _, step in edges} - set(self.steps_known)))
        return edges

    # -- steps -----------------------------------------------------------------------------------------------------

    def run(self) -> Value:
        """Emit every step; the value of the output."""
        size = int(np.prod(self.lowered.input_shape))
        scale = 2.0 ** (self.width - self.exponents[self.lowered.input])
        registers: tuple[int, ...] = ()
        if self.plan is not None:
            registers = tuple(self.text.register() for _ in range(self.plan.packing.layout.ciphertexts))
            self.text.inputs = registers
        variance = np.full(size, self.noise.fresh(scale))
        self.values[self.lowered.input] = Value(registers, 0, scale, False, variance)
        for step in self.lowered.steps:
            self.layer = step.name
            if isinstance(step, LinearStep):
                self.values[step.name] = self._linear(step)
            elif isinstance(step, PolynomialStep):
                self.values[step.name] = self._polynomial(step)
            else:
                self.values[step.name] = self._product(step)
        output = self.values[self.lowered.output]
        self.text.outputs = output.registers
        return output

    def _linear(self, step: LinearStep) -> Value:
        sources = [self.values[name] for name in step.inputs]
        position = max(source.position for source in sources)
        goal = 2.0 ** (self.width - self.exponents[step.name])
        wanted = [
            self.noise.plain_scale(matrix, self.squares[name], self.exponents[step.name], self.width)
            for matrix, name in zip(step.matrices, step.inputs, strict=True)
        ]
        bits = max(math.log2(s.scale * wish / goal) for s, wish in zip(sources, wanted, strict=True))
        dropped = self.chain.drop(position, bits)
        plain_scales = [goal * dropped / source.scale for source in sources]
        variance = np.full(step.bias.size, self.noise.rescale(goal) + self.noise.encoding(goal))
        primes = self.primes_at(position)
        registers: tuple[int, ...] = ()
        plan = self.plan.linear.get(step.name) if self.plan is not None else None
        copies = plan.placement.fold.count if plan else 1 if self.plan else _TYPICAL_COPIES
        if self.late_folds:
            variance += copies * (self.noise.rescale(goal) + self.noise.rotation(max(primes - 1, 1), goal))
        else:
            variance += copies * self.noise.rotation(primes, goal * dropped)
        for index, (matrix, source) in enumerate(zip(step.matrices, sources, strict=True)):
            turned = source.variance + self.noise.rotation(primes, source.scale)
            variance += (matrix.power(2)) @ turned
            energy = float(np.mean(self.squares[step.inputs[index]]))
            products = 2.0 * matrix.nnz / max(matrix.shape[0], 1)
            variance += self.noise.encoding(plain_scales[index]) * products * energy
            variance += self.noise.rotation(primes, source.scale * plain_scales[index]) * _TYPICAL_ROTATIONS
        if plan is not None:
            lowered = [self._lower(source, position) for source in sources]
            registers = self._diagonals(step, plan, lowered, plain_scales, position, goal)
        elif self.plan is not None:
            lowered = [self._lower(source, position) for source in sources]
            registers = self._matrices(step, lowered, plain_scales, position, goal)
        return Value(registers, position + 1, goal, False, variance)

    def _diagonals(
        self,
        step: LinearStep,
        plan: LinearPlan,
        sources: list[Value],
        plain_scales: list[float],
        position: int,
        goal: float,
    ) -> tuple[int, ...]:
        slots, primes, start = self.text.slots, self.primes_at(position), len(self.text.instructions)
        out = plan.placement.layout
        sums: dict[tuple[int, int], list[tuple[int, int]]] = {}
        scale = sources[0].scale * plain_scales[0]
        for operand, split, early, source, plain_scale in zip(
            plan.operands, plan.splits, plan.presums, sources, plain_scales, strict=True
        ):
            registers = list(source.registers)
            for axis in early.axes if early else ():
                registers = [self._sum(r, axis.step, axis.count, primes, source.scale) for r in registers]
            table = diagonal_vectors(operand, plan.placement, split)
            for ciphertext, register in enumerate(registers):
                mine = {key: vector for key, vector in table.items() if key[1] == ciphertext}
                turned = self._rotated(register, {baby for _, _, baby, _ in mine}, primes, source.scale)
                for (target, _, baby, giant), vector in sorted(mine.items(), key=lambda item: item[0]):
                    plain = self.text.plain(vector, primes, plain_scale)
                    sums.setdefault((target, giant), []).append((turned[baby], plain))
        totals = [
            self._gather({giant: pairs for (place, giant), pairs in sums.items() if place == target}, primes, scale)
            for target in range(out.ciphertexts)
        ]
        self.text.sections.append(Section(start, len(self.text.instructions), tuple(totals)))
        found = []
        for target, total in enumerate(totals):
            if self.late_folds:
                total = self._rescale(total, position, scale)
                total = self._fold(total, plan.placement.fold, self.primes_at(position + 1), goal)
            else:
                total = self._fold(total, plan.placement.fold, primes, scale)
                total = self._rescale(total, position, scale)
            bias = np.zeros((out.ciphertexts, out.period))
            bias[out.ciphertext, out.slot] = step.bias
            if np.any(bias[target]):
                after = self.primes_at(position + 1)
                plain = self.text.plain(np.tile(bias[target], slots // out.period), after, goal)
                total = self._do(Opcode.ADD_PLAIN, (total,), after, goal, plains=(plain,))
            found.append(total)
        return tuple(found)

    def _matrices(
        self, step: LinearStep, sources: list[Value], plain_scales: list[float], position: int, goal: float
    ) -> tuple[int, ...]:
        """The throughput form: every element has a ciphertext of its own, and the matrix works on whole ciphertexts."""
        primes, after = self.primes_at(position), self.primes_at(position + 1)
        totals: list[int] = []
        for source, matrix, plain_scale in zip(sources, step.matrices, plain_scales, strict=True):
            self.text.matrices.append(Weights(matrix, plain_scale))
            scale = source.scale * plain_scale
            first = self._do(Opcode.MATRIX, source.registers, primes, scale, len(self.text.matrices) - 1)
            self.text.registers += step.bias.size - 1
            made = range(first, first + step.bias.size)
            pairs = zip(totals, made, strict=True) if totals else ()
            totals = [self._do(Opcode.ADD, pair, primes, scale) for pair in pairs] or list(made)
        found = []
        for total, shift in zip(totals, step.bias.tolist(), strict=True):
            settled = self._rescale(total, position, sources[0].scale * plain_scales[0])
            if shift:
                plain = self.text.plain(float(shift), after, goal)
                settled = self._do(Opcode.ADD_PLAIN, (settled,), after, goal, plains=(plain,))
            found.append(settled)
        return tuple(found)

    def _fold(self, total: int, fold: Fold, primes: int, scale: float) -> int:
        """The sum of the fold's copies, by doubling."""
        for step in fold.steps:
            turned = self._do(Opcode.ROTATE, (total,), primes, scale, step % self.text.slots)
            total = self._do(Opcode.ADD, (total, turned), primes, scale)
        return total

    def _gather(self, parts: dict[int, list[tuple[int, int]]], primes: int, scale: float) -> int:
        """Sum of products of every giant step, rotated to its place: from the leaves of the rotation tree to its root."""
        totals = {
            giant: self._do(
                Opcode.PRODUCTS, tuple(s for s, _ in pairs), primes, scale, plains=tuple(p for _, p in pairs)
            )
            for giant, pairs in sorted(parts.items())
        }
        for parent, child, step in reversed(self._tree(set(parts))):
            turned = self._do(Opcode.ROTATE, (totals.pop(child),), primes, scale, step)
            if parent in totals:
                turned = self._do(Opcode.ADD, (totals[parent], turned), primes, scale)
            totals[parent] = turned
        return totals[0]

    def _sum(self, register: int, step: int, count: int, primes: int, scale: float) -> int:
        """Sum of `count` copies at distance `step`."""
        slots = self.text.slots
        if count & (count - 1) == 0:
            for bit in range(count.bit_length() - 1):
                turned = self._do(Opcode.ROTATE, (register,), primes, scale, (step << bit) % slots)
                register = self._do(Opcode.ADD, (register, turned), primes, scale)
            return register
        copies = [register]
        for _ in range(count - 1):
            copies.append(self._do(Opcode.ROTATE, (copies[-1],), primes, scale, step % slots))
        return self._do(Opcode.ADD, tuple(copies), primes, scale)

    def _multiply(self, left: Value, right: Value, energies: tuple[Array, Array]) -> Value:
        """The lazy product of two settled values."""
        position = max(left.position, right.position)
        same = left is right
        left, right = self._lower(left, position), self._lower(right, position)
        primes, scale = self.primes_at(position), left.scale * right.scale
        if same:
            registers = tuple(self._do(Opcode.SQUARE, (r,), primes, scale) for r in left.registers)
            variance = 4 * energies[0] * left.variance + 2 * left.variance**2
        else:
            pairs = zip(left.registers, right.registers, strict=True)
            registers = tuple(self._do(Opcode.MULTIPLY, pair, primes, scale) for pair in pairs)
            variance = energies[0] * right.variance + energies[1] * left.variance + left.variance * right.variance
        return Value(registers, position, scale, True, variance + self.noise.rotation(primes, scale))

    def _product(self, step: ProductStep) -> Value:
        names = step.inputs
        settled = [self._settle(self.values[name], self.exponents[name]) for name in names]
        return self._multiply(settled[0], settled[1], (self.squares[names[0]], self.squares[names[1]]))

    def _polynomial(self, step: PolynomialStep) -> Value:
        name = step.inputs[0]
        base = self._settle(self.values[name], self.exponents[name])
        return _Powers(self, base, self.exponents[name], self.squares[name]).lazy(step.coefficients)


class _Powers:
    """Evaluates monic polynomials of one settled value in ceil(log2 d) multiplications deep, powers shared."""

    def __init__(self, emitter: Emitter, base: Value, exponent: int, energy: Array) -> None:
        self.emitter, self.exponent, self.energy = emitter, exponent, energy
        self.known = {1: base}

    def _energy(self, power: int) -> Array:
        return self.energy**power

    def settled(self, power: int) -> Value:
        """x^power after rescaling."""
        if power not in self.known:
            half = 1 << ((power - 1).bit_length() - 1)
            left, right = self.settled(half), self.settled(power - half)
            product = self.emitter._multiply(left, right, (self._energy(half), self._energy(power - half)))
            self.known[power] = self.emitter._settle(product, self.exponent * power)
        return self.known[power]

    def lazy(self, coefficients: tuple[float, ...]) -> Value:
        """The polynomial, awaiting its rescale."""
        degree = len(coefficients) - 1
        half = 1 << ((degree - 1).bit_length() - 1)
        rest = degree - half
        high = [0.0] * rest + [1.0]
        for power in range(half + 1, degree):
            high[power - half] = coefficients[power]
        left = self.settled(half)
        right = self._settled_polynomial(high)
        total = self.emitter._multiply(left, right, (self._energy(half), self._energy(rest)))
        return self._add_terms(total, coefficients[: half + 1] if half < degree else coefficients[:half])

    def _settled_polynomial(self, coefficients: list[float]) -> Value:
        if not any(coefficients[:-1]):
            return self.settled(len(coefficients) - 1)
        return self.emitter._settle(self.lazy(tuple(coefficients)), self.exponent * (len(coefficients) - 1))

    def _add_terms(self, total: Value, coefficients: tuple[float, ...]) -> Value:
        """Add `c_k x^k` for small k by products with constants at the scale of the total."""
        emitter = self.emitter
        for power, factor in enumerate(coefficients):
            if factor == 0.0:
                continue
            if power == 0:
                primes = emitter.primes_at(total.position)
                plain = emitter.text.plain(factor, primes, total.scale)
                registers = tuple(
                    emitter._do(Opcode.ADD_PLAIN, (r,), primes, total.scale, plains=(plain,)) for r in total.registers
                )
                total = replace(total, registers=registers)
                continue
            term = self.settled(power)
            position = max(term.position, total.position)
            term, total = emitter._lower(term, position), emitter._lower(total, position)
            primes = emitter.primes_at(position)
            plain = emitter.text.plain(factor, primes, total.scale / term.scale)
            added = []
            for register, other in zip(term.registers, total.registers, strict=True):
                scaled = emitter._do(Opcode.PRODUCTS, (register,), primes, total.scale, plains=(plain,))
                added.append(emitter._do(Opcode.ADD, (other, scaled), primes, total.scale))
            variance = total.variance + factor**2 * term.variance
            total = replace(total, registers=tuple(added), variance=variance)
        return total
