"""A graph becomes a program on shares: fixed-point scales, rings, windows, and which step each op turns into."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import CompileError
from secureimg.graph import Graph, Node, ops, simplify
from secureimg.graph.plain import pool_divisors
from secureimg.sharing import text
from secureimg.sharing.bounds import Bound, Bounds, value_bounds
from secureimg.sharing.functions import lower_function
from secureimg.sharing.gate import DIGIT_BITS
from secureimg.sharing.program import Program, PublicProgram, Reveal, Weights
from secureimg.sharing.ring import LIMIT_BITS, encode
from secureimg.sharing.widths import assign_widths

__all__ = ["compile_graph"]

FRACTION_BITS: Final = 16
_LARGEST_WEIGHT_BITS: Final = 26


@dataclass(frozen=True)
class _Value:
    """A register with what the compiler knows of it."""

    number: int
    bound: Bound
    ring: int = 64


def compile_graph(
    graph: Graph,
    *,
    input_range: tuple[float, float] | None = None,
    samples: ArrayLike | None = None,
    reveal: Reveal = "scores",
    top: int = 5,
    weights: Weights = "party 1",
    bounds: Bounds = "measured",
    fraction_bits: int = FRACTION_BITS,
) -> Program:
    """Compile a graph for two parties on additive shares.

    Parameters
    ----------
    graph : Graph
    input_range : (float, float), optional
        Smallest and largest input value; from the graph's preprocessing if not given, else (0, 1).
    samples : array_like, shape (N, *graph.input_shape), optional
        Typical inputs to measure ranges on.
    reveal : str
        What the owner learns: "scores" (the graph's output), "label" (place of the largest output), "top-k" (places of the
        `top` largest, in order), or "shares" (nothing: the parties keep their shares for a next program).
    weights : str
        Who knows them: "party 1" alone, or both parties ("public").
    bounds : str
        "measured" or "proved", see `secureimg.sharing.bounds`.
    fraction_bits : int
        Of every value between layers, 8 to 24.

    Returns
    -------
    Program

    Raises
    ------
    CompileError
        If a layer's values can reach 2^61 in fixed point, or an op has no protocol; names layer, bound and limit.
    """
    if not 8 <= fraction_bits <= 24:
        raise CompileError(f"fraction_bits {fraction_bits} is outside 8 to 24")
    chosen = input_range or (graph.preprocessing.range if graph.preprocessing else (0.0, 1.0))
    body, _ = graph.body_and_tail()
    body = simplify(body)
    found = value_bounds(body, bounds, chosen, samples)
    builder = _Builder(body, found, fraction_bits, weights)
    builder.run()
    builder.finish(reveal, top)
    registers, steps = assign_widths(builder.registers, builder.steps, builder.output, builder.output_bits)
    public = PublicProgram(
        model=graph.name, input_shape=graph.input_shape, output_shape=body.output_shape, labels=graph.labels,
        preprocessing=graph.preprocessing, tail=graph.body_and_tail()[1], fraction_bits=fraction_bits,
        input_range=chosen, reveal=reveal, top=builder.top, weights=weights, registers=registers, steps=steps,
        output=builder.output, code=builder.code,
    )  # fmt: skip
    return Program(public, builder.weights)


class _Builder:
    window_slack: Final = 11
    """Signs may be wrong for values this many bits below the usual ones."""

    def __init__(self, graph: Graph, bounds: dict[str, Bound], fraction: int, weights: Weights) -> None:
        self.graph, self.bounds, self.fraction, self.hidden = graph, bounds, fraction, weights == "party 1"
        self.registers: list[text.Register] = []
        self.steps: list[text.Step] = []
        self.weights: dict[int, tuple[NDArray[np.uint64], NDArray[np.uint64] | None]] = {}
        self.values: dict[str, _Value] = {}
        self.blinds: dict[int, int] = {}
        self.truncations: dict[int, _Value] = {}
        self.output = 0
        self.output_bits = 0
        self.code = 0
        self.top = 1
        self.name = graph.input

    def run(self) -> None:
        self.values[self.graph.input] = self.new(
            self.graph.input_shape, self.fraction, 1.0, self.bounds[self.graph.input]
        )
        for node in self.graph.nodes:
            self.name = node.name
            self.values[node.name] = self.lower(node.op, node, *(self.values[name] for name in node.inputs))

    # ------------------------------------------------------------------------------------------ registers and checks

    def new(self, shape: text.Shape, scale: int, factor: float, bound: Bound, ring: int = 64) -> _Value:
        """A new register; refuse what could wrap around."""
        bits = math.log2(max(bound.most / factor, 2.0**-60)) + scale
        if bits >= LIMIT_BITS:
            raise CompileError(
                f"layer {self.name!r}: values up to {bound.most:.4g} with {scale} fractional bits need {bits + 1:.1f} bits, "
                f"the limit is {LIMIT_BITS}: pass typical samples, scale the weights down, or use fewer fraction_bits"
            )
        self.registers.append(text.Register(shape=tuple(shape), scale=scale, factor=factor))
        return _Value(len(self.registers) - 1, bound, ring)

    def emit(self, step: text.Step) -> None:
        self.steps.append(step)

    def register(self, value: _Value) -> text.Register:
        return self.registers[value.number]

    def units(self, value: _Value, drop: int = 0) -> float:
        """Largest integer that a value can hold after dropping some bits."""
        register = self.register(value)
        return value.bound.most / register.factor * 2.0 ** (register.scale - drop) + 2

    def drop(self, value: _Value) -> int:
        return max(0, self.register(value).scale - self.fraction)

    def bits(self, value: _Value, drop: int, spare: int) -> int:
        # the window is as blind at the ends of the ring as it is around 0: keep the largest values off both
        bits = max(4, math.ceil(math.log2(self.units(value, drop) * (1 + 2.0 ** (1 - self.window_slack)) + 4)) + spare)
        if bits + drop > 62:
            raise CompileError(
                f"layer {self.name!r}: values up to {value.bound.most:.4g} need a ring of {bits + drop} bits, the "
                "limit is 62: pass typical samples, scale the weights down, or use fewer fraction_bits"
            )
        return bits

    def digit(self, value: _Value, drop: int, sign: int, *, strict: bool = True) -> int:
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

    def truncated(self, value: _Value) -> _Value:
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

    def wide(self, value: _Value) -> _Value:
        return value if value.ring == 64 else self.truncated(value)

    def relu(
        self, value: _Value, bound: Bound, *, both: bool = False, strict: bool = True
    ) -> tuple[_Value, _Value | None]:
        old, drop = self.register(value), self.drop(value)
        bits = self.bits(value, drop, 2)
        out = self.new(old.shape, old.scale - drop, old.factor, bound)
        whole = self.new(old.shape, old.scale - drop, old.factor, value.bound) if both else None
        self.emit(text.Relu(
            name=self.name, out=out.number, source=value.number, drop=drop, bits=bits,
            digit=self.digit(value, drop, bits - 2, strict=strict), width=64, whole=whole.number if whole else None,
        ))  # fmt: skip
        return out, whole

    def combine(self, terms: list[tuple[_Value, float]], bound: Bound, constant: float = 0.0) -> _Value:
        """``sum(c * x) + constant`` with public c; exact where every c * factor is a power of two."""
        terms = [(self.wide(value), c) for value, c in terms]
        held = [(self.register(value), c) for value, c in terms]
        common = held[0][0].factor if len({register.factor for register, _ in held}) == 1 else 1.0
        need = []
        for register, c in held:
            ratio = abs(c) * register.factor / common
            exponent = math.log2(ratio)
            plain = ratio >= 1 and float(ratio).is_integer() and ratio < 2**20
            need.append(register.scale + (0 if plain else -round(exponent) if exponent.is_integer() else self.fraction))
        scale = max(need)
        factors = tuple(round(c * register.factor / common * 2.0 ** (scale - register.scale)) for register, c in held)
        out = self.new(held[0][0].shape, scale, common, bound)
        fixed = round(constant / common * 2.0**scale)
        self.emit(text.Combine(name=self.name, out=out.number, sources=tuple(value.number for value, _ in terms),
                               factors=factors, constant=fixed))  # fmt: skip
        return out

    def linear(
        self, value: _Value, geometry: text.Geometry, weight: NDArray[np.float64], bias: NDArray[np.float64] | None,
        bound: Bound,
    ) -> _Value:  # fmt: skip
        value = self.truncated(value)
        register = self.register(value)
        source = value.number
        if self.hidden:
            if source not in self.blinds:
                blind = self.new(register.shape, register.scale, register.factor, value.bound)
                self.emit(text.Blind(name=self.name, out=blind.number, source=source, width=64))
                self.blinds[source] = blind.number
            source = self.blinds[source]
        weight = weight * register.factor
        places = _weight_places(weight, self.fraction)
        scale = register.scale + places
        out = self.new(geometry.out_shape, scale, 1.0, bound)
        words = encode(weight, places)
        added = None if bias is None else encode(bias, scale)
        self.weights[len(self.steps)] = (np.ascontiguousarray(words), added)
        self.emit(
            text.Linear(name=self.name, out=out.number, source=source, geometry=geometry, hidden=self.hidden, width=64)
        )
        return out

    def rearranged(
        self, value: _Value, kind: Any, shape: text.Shape, numbers: tuple[tuple[int, ...], ...] = (), fill: int = 0
    ) -> _Value:
        old = self.register(value)
        out = self.new(shape, old.scale, old.factor, value.bound, value.ring)
        self.emit(
            text.Rearrange(name=self.name, out=out.number, source=value.number, kind=kind, numbers=numbers, value=fill)
        )
        return out

    def multiply(self, left: _Value, right: _Value, bound: Bound) -> _Value:
        a, b = self.truncated(left), self.truncated(right)
        one, two = self.register(a), self.register(b)
        out = self.new(one.shape, one.scale + two.scale, one.factor * two.factor, bound)
        self.emit(text.Multiply(name=self.name, out=out.number, left=a.number, right=b.number, width=64))
        return out

    # ------------------------------------------------------------------------------------------------------ ops

    @singledispatchmethod
    def lower(self, op: ops.Op, node: Node, *values: _Value) -> _Value:
        raise CompileError(
            f"layer {node.name!r}: {op.kind} has no protocol on shares; rewrite it with ops that have one"
        )

    @lower.register
    def _(self, op: ops.Conv, node: Node, value: _Value) -> _Value:
        geometry = text.Geometry(
            kind="conv", in_shape=self.register(value).shape, out_shape=self.graph.shapes[node.name],
            weight_shape=op.weight.shape, strides=op.strides, pads=op.pads, dilations=op.dilations, groups=op.groups,
        )  # fmt: skip
        bias = None if op.bias is None else op.bias[:, None, None]
        return self.linear(value, geometry, op.weight, bias, self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Dense, node: Node, value: _Value) -> _Value:
        geometry = text.Geometry(kind="dense", in_shape=self.register(value).shape,
                                 out_shape=self.graph.shapes[node.name], weight_shape=op.weight.shape)  # fmt: skip
        return self.linear(value, geometry, op.weight, op.bias, self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Affine, node: Node, value: _Value) -> _Value:
        shape = self.register(value).shape
        geometry = text.Geometry(kind="scale", in_shape=shape, out_shape=self.graph.shapes[node.name],
                                 weight_shape=op.scale.shape)  # fmt: skip
        return self.linear(value, geometry, op.scale, op.shift, self.bounds[node.name])

    @lower.register
    def _(self, op: ops.LinearMap, node: Node, *values: _Value) -> _Value:
        bound, terms = self.bounds[node.name], []
        for number, (matrix, value) in enumerate(zip(op.matrices, values, strict=True)):
            geometry = text.Geometry(
                kind="sparse", in_shape=self.register(value).shape, out_shape=op.shape, weight_shape=(max(matrix.nnz, 1),),
                places=matrix.indices.astype("<i4").tobytes(), row_ends=matrix.indptr.astype("<i4").tobytes(),
            )  # fmt: skip
            bias = None if number else op.bias.reshape(op.shape)
            terms.append((self.linear(value, geometry, matrix.data, bias, bound), 1.0))
        return terms[0][0] if len(terms) == 1 else self.combine(terms, bound)

    @lower.register
    def _(self, op: ops.Relu, node: Node, value: _Value) -> _Value:
        return self.relu(value, self.bounds[node.name])[0]

    @lower.register
    def _(self, op: ops.LeakyRelu, node: Node, value: _Value) -> _Value:
        positive, whole = self.relu(value, value.bound, both=True)
        assert whole is not None
        terms = [(positive, 1.0 - op.alpha)] + ([(whole, op.alpha)] if op.alpha else [])
        return self.combine(terms, self.bounds[node.name])

    @lower.register
    def _(
        self,
        op: ops.Abs
        | ops.Clip
        | ops.Divide
        | ops.Exp
        | ops.InverseSqrt
        | ops.Reciprocal
        | ops.Sigmoid
        | ops.Sqrt
        | ops.Tanh,
        node: Node,
        *values: _Value,
    ) -> _Value:
        return lower_function(op, self, node, *values)

    @lower.register
    def _(self, op: ops.MaxPool, node: Node, value: _Value) -> _Value:
        old, drop = self.register(value), self.drop(value)
        bits = self.bits(value, drop, 2)
        digit = self.digit(value, drop, bits - 1)
        out = self.new(self.graph.shapes[node.name], old.scale - drop, old.factor, value.bound, bits)
        self.emit(text.MaxPool(
            name=self.name, out=out.number, source=value.number, drop=drop, bits=bits, digit=digit, kernel=op.kernel,
            strides=op.strides, pads=_covering(op, old.shape, self.graph.shapes[node.name]), dilations=op.dilations,
        ))  # fmt: skip
        return out

    @lower.register
    def _(self, op: ops.AveragePool, node: Node, value: _Value) -> _Value:
        value = self.wide(value)
        old, shape = self.register(value), self.graph.shapes[node.name]
        divisors = pool_divisors(op, old.shape)
        area, usual = op.kernel[0] * op.kernel[1], self.bounds[node.name]
        even = bool((divisors == divisors.flat[0]).all())
        factor = old.factor / (float(divisors.flat[0]) if even else 1.0)
        summed = usual if even else Bound(usual.most * area, usual.usual * area)
        out = self.new(shape, old.scale, factor, summed)
        pads = _covering(op, old.shape, shape)
        self.emit(text.SumPool(name=self.name, out=out.number, source=value.number, kernel=op.kernel, strides=op.strides,
                               pads=pads))  # fmt: skip
        if even:
            return out
        scaled = self.new(shape, old.scale + self.fraction, old.factor, usual)
        factors = np.rint(2.0**self.fraction / divisors).astype(np.int64)
        self.emit(text.PublicScale(name=self.name, out=scaled.number, source=out.number, shape=factors.shape,
                                   factors=tuple(factors.reshape(-1).tolist())))  # fmt: skip
        return scaled

    @lower.register
    def _(self, op: ops.Mean, node: Node, value: _Value) -> _Value:
        value = self.wide(value)
        old = self.register(value)
        axes = tuple(sorted(axis % len(old.shape) for axis in op.axes))
        count = math.prod(old.shape[axis] for axis in axes)
        out = self.new(self.graph.shapes[node.name], old.scale, old.factor / count, self.bounds[node.name])
        self.emit(text.Sum(name=self.name, out=out.number, source=value.number, axes=axes))
        return out

    @lower.register
    def _(self, op: ops.Add, node: Node, left: _Value, right: _Value) -> _Value:
        return self.combine([(left, 1.0), (right, 1.0)], self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Subtract, node: Node, left: _Value, right: _Value) -> _Value:
        return self.combine([(left, 1.0), (right, -1.0)], self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Multiply, node: Node, left: _Value, right: _Value) -> _Value:
        return self.multiply(left, right, self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Square, node: Node, value: _Value) -> _Value:
        return self.multiply(value, value, self.bounds[node.name])

    @lower.register
    def _(self, op: ops.Polynomial, node: Node, value: _Value) -> _Value:
        """Horner: a product and a truncation for each degree."""
        value = self.truncated(value)
        *lower, leading = op.coefficients[: op.degree + 1]
        largest = max(value.bound.most, 1.0)  # on the way coefficients stand at lower powers than in the end
        most = sum(abs(c) * largest**power for power, c in enumerate(op.coefficients))
        bound = Bound(most, max(self.bounds[node.name].usual, 2.0**-12))
        total = self.combine([(value, leading)], bound, lower.pop())
        while lower:
            product = self.multiply(total, value, bound)
            total = self.combine([(product, 1.0)], bound if len(lower) > 1 else self.bounds[node.name], lower.pop())
        return total

    @lower.register
    def _(self, op: ops.Concat, node: Node, *values: _Value) -> _Value:
        bound = self.bounds[node.name]
        parts = [self.wide(value) for value in values]
        if len({(self.register(part).scale, self.register(part).factor) for part in parts}) > 1:
            parts = [self.truncated(self.leveled(part)) for part in parts]
        first = self.register(parts[0])
        out = self.new(self.graph.shapes[node.name], first.scale, first.factor, bound)
        axis = op.axis % len(first.shape)
        self.emit(text.Concat(name=self.name, out=out.number, sources=tuple(p.number for p in parts), axis=axis))
        return out

    def leveled(self, value: _Value) -> _Value:
        """The same value with factor 1."""
        old = self.register(value)
        if old.factor == 1.0:
            return value
        scaled = self.new(old.shape, old.scale + self.fraction, 1.0, value.bound)
        self.emit(text.Combine(name=self.name, out=scaled.number, sources=(value.number,),
                               factors=(round(old.factor * 2.0**self.fraction),)))  # fmt: skip
        return scaled

    @lower.register
    def _(self, op: ops.Reshape, node: Node, value: _Value) -> _Value:
        return self.rearranged(value, "reshape", self.graph.shapes[node.name])

    @lower.register
    def _(self, op: ops.Transpose, node: Node, value: _Value) -> _Value:
        return self.rearranged(value, "transpose", self.graph.shapes[node.name], (op.perm,))

    @lower.register
    def _(self, op: ops.Slice, node: Node, value: _Value) -> _Value:
        return self.rearranged(value, "slice", self.graph.shapes[node.name], (op.starts, op.counts, op.steps))

    @lower.register
    def _(self, op: ops.Pad, node: Node, value: _Value) -> _Value:
        value = self.wide(value) if op.value else value
        value = replace(value, bound=self.bounds[node.name])  # the fill may be larger than what it surrounds
        old = self.register(value)
        fill = round(op.value / old.factor * 2.0**old.scale)
        return self.rearranged(value, "pad", self.graph.shapes[node.name], op.pads, fill)

    # -------------------------------------------------------------------------------------------------------- the end

    def finish(self, reveal: Reveal, top: int) -> None:
        """Choose what the last register is."""
        value = self.values[self.graph.output]
        self.name = self.graph.output
        if reveal in ("scores", "shares"):
            self.output = value.number
            self.output_bits = min(value.ring, math.ceil(math.log2(self.units(value) + 2)) + 1)
            if reveal == "shares":
                self.output_bits = 64
                self.output = self.truncated(value).number
            return
        shape = self.register(value).shape
        size = math.prod(shape)
        if reveal == "top-k" and not 1 <= top <= size:
            raise CompileError(f"top-k with k = {top} of {size} outputs: k must be 1 to {size}")
        flat = self.rearranged(value, "reshape", (size,))
        if size == 1:  # one score: the label says whether it is above 0
            flat = self.rearranged(flat, "pad", (2,), ((1, 0),))
            size = 2
        self.code = max(1, (size - 1).bit_length())
        self.top = top if reveal == "top-k" else 1
        drop = self.drop(flat)
        bits = self.bits(flat, drop, 2) + self.code
        out = self.new((self.top,), 0, 1.0, Bound(2.0**self.code, 2.0**self.code), bits)
        self.emit(text.Best(name="reveal", out=out.number, source=flat.number, drop=drop, bits=min(bits, 62), digit=6,
                            code=self.code, count=self.top))  # fmt: skip
        self.output, self.output_bits = out.number, self.code


def _weight_places(weight: NDArray[np.float64], fraction: int) -> int:
    """Fractional bits with which rounding changes weights by ``2^-fraction`` of their usual size.

    Rounded weights err alike in every position of an image, so nothing averages it out: it is the largest error of a deep
    network, and weights of a wide layer are small.
    """
    size = float(np.sqrt(np.mean(np.square(weight[weight != 0.0])))) if weight.any() else 1.0
    places = math.ceil(fraction - math.log2(math.sqrt(12.0) * size))
    largest = math.log2(float(np.abs(weight).max(initial=2.0**-40)))
    return max(4, min(places, math.floor(_LARGEST_WEIGHT_BITS - largest)))


def _covering(op: ops.MaxPool | ops.AveragePool, shape: text.Shape, result: text.Shape) -> tuple[int, int, int, int]:
    """Padding after which every window lies inside: the op's own, or what a last partial window needs."""
    dilations = getattr(op, "dilations", (1, 1))
    top, left = op.pads[:2]
    span = [d * (k - 1) + 1 for d, k in zip(dilations, op.kernel, strict=True)]
    rows = (result[1] - 1) * op.strides[0] + span[0] - shape[1] - top
    columns = (result[2] - 1) * op.strides[1] + span[1] - shape[2] - left
    return top, left, max(rows, 0), max(columns, 0)
