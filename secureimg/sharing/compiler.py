"""A graph becomes a program on shares: fixed-point scales, rings, windows, and which step each op turns into."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from numpy.typing import ArrayLike

from secureimg.errors import CompileError
from secureimg.graph import Graph, ops, simplify
from secureimg.sharing import text
from secureimg.sharing.bounds import Bound, Bounds, value_bounds
from secureimg.sharing.builder import FINER_BITS, Builder, Value
from secureimg.sharing.lowering import lower
from secureimg.sharing.program import Program, PublicProgram, Reveal, Weights
from secureimg.sharing.widths import assign_widths

__all__ = ["compile_graph"]

FRACTION_BITS: Final = 16


@dataclass(frozen=True)
class _Revealed:
    """The last register, how many of its bits are revealed, how many of these name a place, and how many places."""

    output: int
    bits: int
    code: int = 0
    top: int = 1


def compile_graph(
    graph: Graph,
    *,
    input_range: tuple[float, float] | None = None,
    samples: ArrayLike | None = None,
    reveal: Reveal = "scores",
    top: int = 5,
    weights: Weights | None = None,
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
        Typical inputs to measure ranges on. Default: the graph's own, if it has any.
    reveal : str
        What the owner learns: "scores" (the graph's output), "label" (place of the largest output), "top-k" (places of the
        `top` largest, in order), or "shares" (nothing: the parties keep their shares for a next program, see `hand_on`).
    weights : str, optional
        Who knows them: "party 1" alone, both parties ("public"), or nobody ("shared": see
        `secureimg.sharing.share_weights`). If not given, "public" for a graph that is (`Graph.public`), else "party 1".
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
    if weights is None:
        weights = "public" if graph.public else "party 1"
    low, high = input_range or (graph.preprocessing.range if graph.preprocessing else (0.0, 1.0))
    chosen = float(low), float(high)
    body, _ = graph.body_and_tail()
    body = simplify(body)
    found = value_bounds(body, bounds, chosen, graph.samples if samples is None else samples)
    builder = Builder(body, found, fraction_bits, weights=weights)
    places = fraction_bits + (FINER_BITS if _takes_finer(body, builder) else 0)
    values = {body.input: builder.new(body.input_shape, places, 1.0, found[body.input])}
    for node in body.nodes:
        builder.name = node.name
        values[node.name] = lower(node.op, builder, node, *(values[name] for name in node.inputs))
    end = _reveal(builder, values[body.output], reveal, top)
    registers, steps = assign_widths(builder.registers, builder.steps, end.output, end.bits)
    public = PublicProgram(
        model=graph.name, input_shape=graph.input_shape, output_shape=body.output_shape, labels=graph.labels,
        preprocessing=graph.preprocessing, tail=graph.body_and_tail()[1], fraction_bits=fraction_bits,
        input_range=chosen, reveal=reveal, top=end.top, weights=weights, registers=registers, steps=steps,
        output=end.output, code=end.code,
    )  # fmt: skip
    return Program(public, builder.weights)


def _takes_finer(graph: Graph, builder: Builder) -> bool:
    """Whether exact weights alone take the input, directly or after its elements were moved."""
    moved = {graph.input}
    readers = 0
    for node in graph.nodes:
        if moved.isdisjoint(node.inputs):
            continue
        if isinstance(node.op, ops.Slice | ops.Concat | ops.Reshape | ops.Transpose) and moved.issuperset(node.inputs):
            moved.add(node.name)
            continue
        weights = (
            node.op.matrices[0].data if isinstance(node.op, ops.LinearMap) and len(node.inputs) == 1
            else node.op.weight if isinstance(node.op, ops.Conv)
            else node.op.scale if isinstance(node.op, ops.Affine)
            else None
        )  # fmt: skip
        if weights is None or builder.exact_places(weights) is None:
            return False
        readers += 1
    return readers > 0 and graph.output not in moved


def _reveal(builder: Builder, value: Value, reveal: Reveal, top: int) -> _Revealed:
    """Emit what the last register takes."""
    builder.name = builder.graph.output
    if reveal in ("scores", "shares"):
        if reveal == "shares":
            plain = builder.leveled(builder.wide(value))  # as the input of a next program: the usual places, factor 1
            return _Revealed(builder.finer(builder.truncated(plain), builder.fraction).number, 64)
        return _Revealed(value.number, min(value.ring, math.ceil(math.log2(builder.units(value) + 2)) + 1))
    shape = builder.register(value).shape
    size = math.prod(shape)
    if reveal == "top-k" and not 1 <= top <= size:
        raise CompileError(f"top-k with k = {top} of {size} outputs: k must be 1 to {size}")
    flat = builder.rearranged(value, "reshape", (size,))
    if size == 1:  # one score: the label says whether it is above 0
        flat = builder.rearranged(flat, "pad", (2,), ((1, 0),))
        size = 2
    code = max(1, (size - 1).bit_length())
    count = top if reveal == "top-k" else 1
    drop = builder.drop(flat)
    bits = builder.bits(flat, drop, 2 + code)
    out = builder.new((count,), 0, 1.0, Bound(2.0**code, 2.0**code), bits)
    builder.emit(text.Best(name="reveal", out=out.number, source=flat.number, drop=drop, bits=bits, digit=6,
                        code=code, count=count))  # fmt: skip
    return _Revealed(out.number, code, code, count)
