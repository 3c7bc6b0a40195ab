"""What the compiler builds with: registers with bounds, and the steps that every op is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import CompileError
from secureimg.graph import Graph
from secureimg.sharing import text
from secureimg.sharing.bounds import Bound
from secureimg.sharing.gate import DIGIT_BITS
from secureimg.sharing.ring import LIMIT_BITS, encode

__all__ = ["FINER_BITS", "Builder", "Value"]

_LARGEST_WEIGHT_BITS: Final = 26
FINER_BITS: Final = 8
"""More than usual of an input that exact weights alone take: nothing else rounds what becomes of it."""

_MOST_EXACT_PLACES: Final = 16
_MOST_EXACT_BITS: Final = 26


@dataclass(frozen=True)
class Value:
    """A register with what the compiler knows of it."""

    number: int
    bound: Bound
    ring: int = 64


class Builder:
    """A program under construction.

    Parameters
    ----------
    graph : Graph
    bounds : dict of str to Bound
    fraction : int
        Fractional bits between layers.
    weights : str
        Who knows them: "party 1", "public" or "shared".
    """

    window_slack: Final = 11
    """Signs may be wrong for values this many bits below the usual ones."""

    def __init__(self, graph: Graph, bounds: dict[str, Bound], fraction: int, *, weights: str) -> None:
        self.graph, self.bounds, self.fraction, self.kind = graph, bounds, fraction, weights
        self.registers: list[text.Register] = []
        self.steps: list[text.Step] = []
        self.weights: dict[int, tuple[NDArray[np.uint64], NDArray[np.uint64] | None]] = {}
        self.blinds: dict[int, int] = {}
        self.truncations: dict[int, Value] = {}
        self.name = graph.input

    # ------------------------------------------------------------------------------------------ registers and checks

    def new(self, shape: text.Shape, scale: int, factor: float, bound: Bound, ring: int = 64) -> Value:
        """A new register; refuse what could wrap around."""
        bits = math.log2(max(bound.most / factor, 2.0**-60)) + scale
        if bits >= LIMIT_BITS:
            raise CompileError(
                f"layer {self.name!r}: values up to {bound.most:.4g} with {scale} fractional bits need {bits + 1:.1f} bits, "
                f"the limit is {LIMIT_BITS}: pass typical samples, scale the weights down, or use fewer fraction_bits"
            )
        self.registers.append(text.Register(shape=tuple(shape), scale=scale, factor=factor))
        return Value(len(self.registers) - 1, bound, ring)

    def emit(self, step: text.Step) -> None:
        """Append a step."""
        self.steps.append(step)

    def register(self, value: Value) -> text.Register:
        """Shape, scale and factor of a value."""
        return self.registers[value.number]

    def units(self, value: Value, drop: int = 0) -> float:
        """Largest integer that a value can hold after dropping some bits."""
        register = self.register(value)
        return value.bound.most / register.factor * 2.0 ** (register.scale - drop) + 2

    def drop(self, value: Value) -> int:
        """Fractional bits that a value has too many."""
        return max(0, self.register(value).scale - self.fraction)

    def bits(self, value: Value, drop: int, spare: int) -> int:
        """Ring that a value fits into after dropping bits, with `spare` bits above its size; refuse more than 62 bits."""
        # the window is as blind at the ends of the ring as it is around 0: keep the largest values off both
        bits = max(4, math.ceil(math.log2(self.units(value, drop) * (1 + 2.0 ** (1 - self.window_slack)) + 4)) + spare)
        if bits + drop > 62:
            raise CompileError(
                f"layer {self.name!r}: values up to {value.bound.most:.4g} need a ring of {bits + drop} bits, the "
                "limit is 62: pass typical samples, scale the weights down, or use fewer fraction_bits"
            )
        return bits

    def digit(self, value: Value, drop: int, sign: int, *, strict: bool = True) -> int:
        """Bits of a digit such that signs are wrong only for values that are small among the usual ones.

        If not even the widest window does it: refuse, or take that one if not `strict`.
        """
        register = self.register(value)
        usual = value.bound.usual / register.factor * 2.0 ** (register.scale - drop)
        allowed = max(0, math.floor(math.log2(max(usual, 1.0))) - self.window_slack)
        for digit in DIGIT_BITS:
            if sign - 4 * digit <= allowed:
                return digit
        if not strict:
            return DIGIT_BITS[-1]
        raise CompileError(
            f"layer {self.name!r}: values up to {value.bound.most:.4g} beside usual ones of {value.bound.usual:.4g} need a "
            f"comparison of {sign - allowed} bits, the limit is {4 * DIGIT_BITS[-1]}: pass typical samples, or scale the "
            "weights down"
        )

    # ------------------------------------------------------------------------------------------------- building steps

    def truncated(self, value: Value) -> Value:
        """The value with no more than the usual fractional bits, in the full ring."""
        drop = self.drop(value)
        if not drop and value.ring == 64:
            return value
        if value.number not in self.truncations:
            old = self.register(value)
            bits = self.bits(value, drop, 2)
            out = self.new(old.shape, old.scale - drop, old.factor, value.bound)
            self.emit(
                text.Truncate(name=self.name, out=out.number, source=value.number, drop=drop, bits=bits, width=64)
            )
            self.truncations[value.number] = out
        return self.truncations[value.number]

    def wide(self, value: Value) -> Value:
        """The value in the full ring."""
        return value if value.ring == 64 else self.truncated(value)

    def relu(
        self, value: Value, bound: Bound, *, both: bool = False, strict: bool = True
    ) -> tuple[Value, Value | None]:
        """``max(value, 0)``, and the value itself if `both`, with the usual fractional bits."""
        old, drop = self.register(value), self.drop(value)
        bits = self.bits(value, drop, 2)
        out = self.new(old.shape, old.scale - drop, old.factor, bound)
        whole = self.new(old.shape, old.scale - drop, old.factor, value.bound) if both else None
        self.emit(text.Relu(
            name=self.name, out=out.number, source=value.number, drop=drop, bits=bits,
            digit=self.digit(value, drop, bits - 1, strict=strict), width=64, whole=whole.number if whole else None,
        ))  # fmt: skip
        return out, whole

    def decide(self, value: Value) -> Value:
        """1 where the value is at least 0, else 0; wrong at most for negative values above minus 2^-24 of the bound."""
        value = self.wide(value)
        widest = 4 * DIGIT_BITS[-1]
        drop = max(0, math.ceil(math.log2(self.units(value))) - widest)
        while (bits := self.bits(value, drop, 1)) > widest + 1:
            drop += 1
        digit = next(digit for digit in DIGIT_BITS if 4 * digit >= bits - 1)
        out = self.new(self.register(value).shape, 0, 1.0, Bound(1.0, 1.0))
        self.emit(
            text.Decide(
                name=self.name, out=out.number, source=value.number, drop=drop, bits=bits, digit=digit, width=64
            )
        )
        return out

    def combine(self, terms: list[tuple[Value, float]], bound: Bound, constant: float = 0.0) -> Value:
        """``sum(c * x) + constant`` with public c; exact where every c * factor is a power of two."""
        terms = [(self.wide(value), c) for value, c in terms]
        held = [(self.register(value), c) for value, c in terms]
        common = held[0][0].factor if len({register.factor for register, _ in held}) == 1 else 1.0
        need = []
        for register, c in held:
            ratio = abs(c) * register.factor / common
            exponent = math.log2(ratio)
            plain = ratio >= 1 and float(ratio).is_integer() and ratio < 2**20
            if plain:
                need.append(register.scale)
            elif exponent.is_integer():
                need.append(register.scale - round(exponent))
            else:  # a factor below 1 keeps as many bits as one above, where there is room
                room = math.floor(LIMIT_BITS - 1 - math.log2(max(bound.most / common, 2.0**-60)))
                exact = register.scale + self.fraction + max(0, -math.floor(exponent))
                need.append(max(register.scale + self.fraction, min(exact, room)))
        scale = max(need)
        factors = tuple(round(c * register.factor / common * 2.0 ** (scale - register.scale)) for register, c in held)
        out = self.new(held[0][0].shape, scale, common, bound)
        fixed = round(constant / common * 2.0**scale)
        self.emit(text.Combine(name=self.name, out=out.number, sources=tuple(value.number for value, _ in terms),
                               factors=factors, constant=fixed))  # fmt: skip
        return out

    def linear(
        self, value: Value, geometry: text.Geometry, weight: NDArray[np.float64], bias: NDArray[np.float64] | None,
        bound: Bound,
    ) -> Value:  # fmt: skip
        """A linear map; its source is blinded first if party 1 alone knows the weights."""
        places = self.exact_places(weight)
        old = self.register(value)
        size = math.log2(max(bound.most / old.factor, 2.0**-60)) + old.scale + (places or 0)
        if places is None or old.scale > self.fraction + FINER_BITS or size >= LIMIT_BITS - 1:
            value = self.truncated(value)
        value = self.wide(value)
        register = self.register(value)
        source = value.number
        if self.kind == "party 1":
            if source not in self.blinds:
                blind = self.new(register.shape, register.scale, register.factor, value.bound)
                self.emit(text.Blind(name=self.name, out=blind.number, source=source, width=64))
                self.blinds[source] = blind.number
            source = self.blinds[source]
        factor = register.factor  # a program tells nothing of hidden weights but their size: not that they are whole
        if places is None:
            weight, factor = weight * factor, 1.0
            places = _weight_places(weight, self.fraction)
        elif bias is not None and register.scale + places < self.fraction:
            finer = _exact_places(bias / factor * 2.0 ** (register.scale + places))  # what is added may not be whole
            places = self.fraction - register.scale if finer is None else places + finer
        scale = register.scale + places
        out = self.new(geometry.out_shape, scale, factor, bound)
        words = encode(weight, places)
        added = None if bias is None else encode(bias / factor, scale)
        self.weights[len(self.steps)] = (np.ascontiguousarray(words), added)
        step: text.Step
        if self.kind == "shared":
            step = text.SharedLinear(name=self.name, out=out.number, source=source, geometry=geometry, width=64)
        else:
            hidden = self.kind == "party 1"
            step = text.Linear(
                name=self.name, out=out.number, source=source, geometry=geometry, hidden=hidden, width=64
            )
        self.emit(step)
        return out

    def exact_places(self, weight: NDArray[np.float64]) -> int | None:
        """Fractional bits that hold weights exactly; None if rounding changes them or they are hidden."""
        return _exact_places(weight) if self.kind == "public" else None

    def rearranged(
        self, value: Value, kind: Any, shape: text.Shape, numbers: tuple[tuple[int, ...], ...] = (), fill: int = 0
    ) -> Value:
        """Elements moved, see `text.Rearrange`."""
        old = self.register(value)
        out = self.new(shape, old.scale, old.factor, value.bound, value.ring)
        self.emit(
            text.Rearrange(name=self.name, out=out.number, source=value.number, kind=kind, numbers=numbers, value=fill)
        )
        return out

    def multiply(self, left: Value, right: Value, bound: Bound) -> Value:
        """Product of two shared values."""
        a, b = self.truncated(left), self.truncated(right)
        one, two = self.register(a), self.register(b)
        if math.log2(max(bound.most / (one.factor * two.factor), 2.0**-60)) + one.scale + two.scale >= LIMIT_BITS:
            a, b = self.truncated(self.even(left)), self.truncated(self.even(right))
            one, two = self.register(a), self.register(b)
        out = self.new(one.shape, one.scale + two.scale, one.factor * two.factor, bound)
        self.emit(text.Multiply(name=self.name, out=out.number, left=a.number, right=b.number, width=64))
        return out

    def relabelled(self, value: Value, shift: int) -> Value:
        """The same integers with `shift` more fractional bits and a factor that makes up for it."""
        value = self.wide(value)
        old = self.register(value)
        out = self.new(old.shape, old.scale + shift, old.factor * 2.0**shift, value.bound)
        self.emit(text.Combine(name=self.name, out=out.number, sources=(value.number,), factors=(1,)))
        return out

    def even(self, value: Value) -> Value:
        """The same value with a factor of at least 1/2: after the usual truncation its last place is the usual one."""
        factor = self.register(value).factor
        return self.relabelled(value, math.floor(-math.log2(factor))) if factor < 0.5 else value

    def finer(self, value: Value, scale: int) -> Value:
        """The same value with that many fractional bits, if it has fewer."""
        old = self.register(value)
        if old.scale >= scale:
            return value
        out = self.new(old.shape, scale, old.factor, value.bound)
        self.emit(text.Combine(name=self.name, out=out.number, sources=(value.number,),
                               factors=(1 << (scale - old.scale),)))  # fmt: skip
        return out

    def leveled(self, value: Value) -> Value:
        """The same value with factor 1."""
        value = self.even(value)
        old = self.register(value)
        if old.factor == 1.0:
            return value
        scaled = self.new(old.shape, old.scale + self.fraction, 1.0, value.bound)
        self.emit(text.Combine(name=self.name, out=scaled.number, sources=(value.number,),
                               factors=(round(old.factor * 2.0**self.fraction),)))  # fmt: skip
        return scaled


def _exact_places(numbers: NDArray[np.float64]) -> int | None:
    """The fewest fractional bits that hold numbers exactly, if the usual ones do: signs, sums, simple filters."""
    for places in range(_MOST_EXACT_PLACES + 1):
        scaled = numbers * 2.0**places
        if (scaled == np.rint(scaled)).all() and np.abs(scaled).max(initial=0.0) < 2.0**_MOST_EXACT_BITS:
            return places
    return None


def _weight_places(weight: NDArray[np.float64], fraction: int) -> int:
    """Fractional bits with which rounding changes weights by ``2^-fraction`` of their usual size.

    Rounded weights err alike in every position of an image, so nothing averages it out: it is the largest error of a deep
    network, and weights of a wide layer are small.
    """
    size = float(np.sqrt(np.mean(np.square(weight[weight != 0.0])))) if weight.any() else 1.0
    places = math.ceil(fraction - math.log2(math.sqrt(12.0) * size))
    largest = math.log2(float(np.abs(weight).max(initial=2.0**-40)))
    return max(4, min(places, math.floor(_LARGEST_WEIGHT_BITS - largest)))
