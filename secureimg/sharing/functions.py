"""Functions of one value on shares: curves through one gate, refined by a step of Newton where the range is wide.

============ ================================ ==================== ================================== ===================
op           range                            error                comparisons an element             rounds
============ ================================ ==================== ================================== ===================
Abs          all                              see below            1                                  3
Sigmoid      all                              1e-3                 26                                 3
Tanh         all                              1e-3                 36                                 3
Exp          high at most 30                  1e-3 exp(high)       at most 25                         3
Sqrt         high / low at most 2^22, or 0    2^-9 relative        7 log2(high / low) / 2 + 2         3 (4)
Reciprocal   low > 0, high / low at most 2^12 2^-9 relative        at most 33 to 16, else at most 16  3 (4), else 7 (8)
InverseSqrt  low > 0, high / low at most 2^12 2^-9 relative        at most 31 to 64, else at most 12  3 (4), else 9 (10)
Divide       as Reciprocal, of the divisor    2^-9 relative        as Reciprocal                      2 or 3 more
============ ================================ ==================== ================================== ===================

Reciprocals and roots may ask for another error: a smaller one costs ``(2^-9 / error)^(1/2)`` times as many comparisons,
of a reciprocal one curve through the whole range. Errors are those of the function, for the fixed-point number that the
op gets; "relative" ones hold for a register of any scale, since results are labelled so that the smallest one still has
13 bits. A root keeps its relative error from ``edge = max(low, 2^7 units in the last place)`` on, where a `low` of 0 is
taken as ``high / 2^12``, or as ``high / 2^12 (error / 2^-9)^2`` if a smaller error is asked for; below it is off by at
most ``sqrt(edge) / 3``. A quotient also carries the numerator's and its own last place: at most ``2^-fraction_bits *
(2 / low + 1)``, less if quotients are small. An absolute value is exact but for values whose sign the gate may miss (the
layer's threshold in the cost report): it is off by at most twice as much. Rounds in brackets: where the value comes from a
product and has fractional bits to drop first. Above `high` results are wrong, of Exp and Sqrt below `low` they are right up
to the stated error or edge.

Newton: from y with relative error e, ``y (2 - x y)`` is 1 / x to within ``e^2``, ``y (3 - x y^2) / 2`` is 1 / sqrt(x) to
within ``1.5 e^2``; both always too small, so half of that is added to the constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, singledispatch
from itertools import pairwise
from typing import Final

import numpy as np

from secureimg.errors import CompileError
from secureimg.graph import Node, ops
from secureimg.sharing import text
from secureimg.sharing.bounds import Bound
from secureimg.sharing.builder import Builder, Value
from secureimg.sharing.curves import Array, Curve, curve_through, curve_within, sigmoid_curve, tanh_curve

__all__ = ["LARGEST_EXPONENT", "LARGEST_RATIO", "bend", "lower_function"]

LARGEST_RATIO: Final = 2.0**12
"""Of the ends of a range on which an error relative to the function is kept."""

LARGEST_ROOT_RATIO: Final = 2.0**22
"""The same for a root."""

LARGEST_EXPONENT: Final = 30.0

_SEED: Final = {"reciprocal": 2.0**-4.5, "inverse root": 2.0**-5}
_DIRECT_RATIO: Final = {"reciprocal": 16.0, "inverse root": 64.0}
_PLACES: Final = 13
_FEWEST_PLACES: Final = 10
_ROOT_PLACES: Final = 7
_MOST_PLACES: Final = 18
_EXP_REACH: Final = 7.5
_FUNCTIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "reciprocal": lambda x: 1.0 / x,
    "inverse root": lambda x: 1.0 / np.sqrt(x),
    "root": np.sqrt,
}


# --------------------------------------------------------------------------------------------------- registers, curves


def bend(builder: Builder, value: Value, curve: Curve, bound: Bound, unit: float | None = None) -> Value:
    """A piecewise linear curve: one gate on a copy of the value for each knot; 3 rounds.

    What fixed point adds to the curve's error is at most half of it. The result is labelled so that after the usual
    truncation its last place is `unit`, or as in the value's own register if the curve is exact (a clip).
    """
    value = builder.wide(value)
    heights, exact = curve.heights, curve.error == 0
    sizes = np.abs(heights) if curve.relative else np.ones(heights.size)
    allowed = curve.error / 8 * np.maximum(sizes, sizes[sizes > 0].min(initial=np.inf))
    register, drop = builder.register(value), builder.drop(value)
    steepness = float(np.abs(curve.slopes).sum())
    if drop and not exact and steepness * register.factor * 2.0 ** (drop - register.scale) > allowed.min():
        value = builder.truncated(value)  # every knot then sees the same rounded value
        register, drop = builder.register(value), 0
    last = register.factor * 2.0 ** (drop - register.scale)
    places = np.rint(np.array(curve.knots) / last)
    kept = np.concatenate([[True], np.diff(places) > 0])
    places, allowed = places[kept], allowed[kept]
    heights = np.interp(places * last, curve.knots, heights)  # knots move to whole places, along the curve
    gaps = np.diff(places)
    if exact:
        factor, scale = register.factor, register.scale - drop
    else:
        factor = 2.0**builder.fraction * 2.0 ** math.floor(math.log2(unit or 2.0**-builder.fraction))
        steps = np.minimum(allowed[1:], allowed[:-1]) / gaps
        scale = max(builder.fraction, math.ceil(math.log2(factor / float(steps.min(initial=allowed.min())))))
    start, factors = _integer_slopes(places, heights * 2.0**scale / factor)
    room = float(np.abs(places).max()) * last
    usual = value.bound.usual + room
    if not exact:
        turns = np.abs(np.array(curve.slopes))[kept]
        usual = float((allowed / np.maximum(turns, 1e-300)).min()) * 2.0**builder.window_slack
    wider = Bound(value.bound.most + room, usual)
    shifts = tuple(-int(place) << drop for place in places)
    spread = builder.new((len(shifts), *register.shape), register.scale, register.factor, wider)
    builder.emit(text.Spread(name=builder.name, out=spread.number, source=value.number, constants=shifts))
    bent, _ = builder.relu(spread, wider, strict=False)
    out = builder.new(register.shape, scale, factor, bound)
    builder.emit(text.Weigh(name=builder.name, out=out.number, source=bent.number, factors=factors, constant=start))
    return out


def _integer_slopes(places: Array, heights: Array) -> tuple[int, tuple[int, ...]]:
    """Height at the first knot and change of slope at each, such that roundings do not add up from knot to knot."""
    start = reached = round(float(heights[0]))
    slopes = [0]
    for gap, height in zip(np.diff(places), heights[1:], strict=True):
        slopes.append(round((float(height) - reached) / float(gap)))
        reached += slopes[-1] * int(gap)
    slopes.append(0)
    return start, tuple(after - before for before, after in pairwise(slopes))


def _places(error: float) -> int:
    """Bits that the smallest value of a range must have."""
    return _PLACES + max(0, math.ceil(-math.log2(error)) - 9)


def _resolved(builder: Builder, value: Value, low: float, high: float, places: int, fewest: int) -> Value:
    """The value, up to twice `high`, with `places` to 18 bits for `low` after the usual truncation; at least `fewest`."""
    value = builder.wide(value)
    old = builder.register(value)
    value = type(value)(value.number, Bound(min(value.bound.most, 2 * high), min(value.bound.usual, high)), value.ring)
    finest = old.factor * 2.0**-old.scale
    if low < finest * 2.0**fewest:
        raise CompileError(
            f"layer {builder.name!r}: values as small as {low:.4g} with a last place of {finest:.2g} are not exact enough, "
            f"the limit is {finest * 2.0**fewest:.4g}: use more fraction_bits, or scale the values up"
        )
    shift = math.floor(math.log2(low / old.factor)) - places + builder.fraction
    if old.scale > builder.fraction or shift > _MOST_PLACES - places:
        value = builder.relabelled(value, shift)  # also: truncated for itself, as others may read larger values
    return value


def _product(builder: Builder, left: Value, right: Value, bound: Bound, unit: float) -> Value:
    """A product, labelled so that after the usual truncation its last place is at most `unit`."""
    a, b = builder.truncated(left), builder.truncated(right)
    one, two = builder.register(a), builder.register(b)
    factor = one.factor * two.factor
    shift = math.floor(math.log2(unit / factor)) + builder.fraction
    out = builder.new(one.shape, one.scale + two.scale + shift, factor * 2.0**shift, bound)
    builder.emit(text.Multiply(name=builder.name, out=out.number, left=a.number, right=b.number, width=64))
    return out


# --------------------------------------------------------------------------------------------------- inverses and roots


def _range(
    builder: Builder, op: ops.Reciprocal | ops.InverseSqrt | ops.Sqrt | ops.Divide, name: str
) -> tuple[float, float]:
    """The op's stated range, or what is known of its input."""
    if op.low is not None and op.high is not None:
        low, high = op.low, op.high
    else:
        known = builder.bounds[name]
        low, high = known.least, known.most
        root = isinstance(op, ops.Sqrt)
        if low < -1e-9 * high or (low <= 0 and not root):
            raise CompileError(
                f"layer {builder.name!r}: {op.kind} of values that can be {low:.4g}, the limit is "
                f"{'at least' if root else 'above'} 0: clip them first, or state the op's range (low, high)"
            )
        if root:
            return max(low, 0.0), high
    if not isinstance(op, ops.Sqrt) and high > LARGEST_RATIO * low:
        raise CompileError(
            f"layer {builder.name!r}: {op.kind} of values from {low:.4g} to {high:.4g}, a ratio of {high / low:.4g}, the "
            f"limit is {LARGEST_RATIO:.0f}: clip them first, state a narrower range (low, high), or pass typical samples"
        )
    return low, high


@lru_cache
def _curve(name: str, ratio: float, error: float) -> Curve:
    return curve_within(_FUNCTIONS[name], 1.0, ratio, error, relative=True)


def _scaled(name: str, low: float, high: float, error: float) -> Curve:
    """A curve on [low, high]: these functions are powers, so the one on [1, high / low] is only scaled."""
    curve = _curve(name, high / low, error)
    top = float(_FUNCTIONS[name](np.array(low)))
    return curve_through(np.array(curve.knots) * low, curve.heights * top, curve.error, True)


def _reciprocal(builder: Builder, value: Value, low: float, high: float, error: float) -> Value:
    value = _resolved(builder, value, low, high, _places(error), _FEWEST_PLACES)
    unit = 2.0 ** -_places(error) / high
    bound = Bound(1.25 / low, 1 / low)
    if high <= _DIRECT_RATIO["reciprocal"] * low or error != ops.USUAL_ERROR:
        return bend(builder, value, _scaled("reciprocal", low, high, error / 2), bound, unit)
    x = builder.truncated(value)
    curve = _scaled("reciprocal", low, high, _SEED["reciprocal"])
    y = builder.truncated(bend(builder, x, curve, bound, unit))
    near = _product(builder, x, y, Bound(4.0, 1.0), 2.0 ** -(_PLACES + 1))
    correction = builder.combine([(near, -1.0)], Bound(4.0, 1.0), 2.0 + curve.error**2 / 2)
    return _product(builder, y, correction, bound, unit)


def _inverse_sqrt(builder: Builder, value: Value, low: float, high: float, error: float) -> Value:
    value = _resolved(builder, value, low, high, _places(error), _FEWEST_PLACES)
    unit = 2.0 ** -_places(error) / math.sqrt(high)
    bound = Bound(1.25 / math.sqrt(low), 1 / math.sqrt(low))
    if high <= _DIRECT_RATIO["inverse root"] * low or error != ops.USUAL_ERROR:
        return bend(builder, value, _scaled("inverse root", low, high, error / 2), bound, unit)
    x = builder.truncated(value)
    curve = _scaled("inverse root", low, high, _SEED["inverse root"])
    y = builder.truncated(bend(builder, x, curve, bound, unit))
    squared = _product(builder, y, y, Bound(1.5 / low, 1 / low), 2.0**-_PLACES / high)
    near = _product(builder, x, squared, Bound(4.0, 1.0), 2.0 ** -(_PLACES + 1))
    correction = builder.combine([(near, -0.5)], Bound(4.0, 1.0), 1.5 + 0.75 * curve.error**2)
    return _product(builder, y, correction, bound, unit)


def _sqrt(builder: Builder, value: Value, low: float, high: float, error: float) -> Value:
    register = builder.register(value)
    least = max(low or high / LARGEST_RATIO * min(1.0, error / ops.USUAL_ERROR) ** 2, high / LARGEST_ROOT_RATIO)
    edge = max(least, register.factor * 2.0 ** (_ROOT_PLACES - register.scale))
    if low < edge and edge > high / 2:
        raise CompileError(
            f"layer {builder.name!r}: Sqrt of values up to {high:.4g}, fewer than {2.0 ** (_ROOT_PLACES + 1):.0f} units in "
            "the last place, which is the limit: use more fraction_bits, or scale the values up"
        )
    value = _resolved(builder, value, edge, high, _places(error), _ROOT_PLACES)
    curve = _scaled("root", edge, high, error / 2)
    if low < edge:
        knots, heights = np.array([0.0, *curve.knots]), np.array([0.0, *curve.heights])
        curve = curve_through(knots, heights, curve.error, True)
    top = math.sqrt(high)
    return bend(builder, value, curve, Bound(1.25 * top, top), 2.0 ** -_places(error) * math.sqrt(edge))


# ----------------------------------------------------------------------------------------------------------------- ops


@singledispatch
def lower_function(op: ops.Op, builder: Builder, node: Node, *values: Value) -> Value:
    """Emit the steps of an op; see the table above for errors, comparisons and rounds."""
    raise TypeError(f"{op.kind} is not a function of one value")


@lower_function.register(ops.Abs)
def _(op: ops.Abs, builder: Builder, node: Node, *values: Value) -> Value:
    positive, whole = builder.relu(values[0], values[0].bound, both=True)
    assert whole is not None
    return builder.combine([(positive, 2.0), (whole, -1.0)], builder.bounds[node.name])


@lower_function.register(ops.Clip)
def _(op: ops.Clip, builder: Builder, node: Node, *values: Value) -> Value:
    (value,), bound = values, builder.bounds[node.name]
    if math.isfinite(op.low) and math.isfinite(op.high):
        ends = np.array([op.low, op.high])
        return bend(builder, value, curve_through(ends, ends, 0.0, False), bound)
    knot, slope = (op.low, 1.0) if math.isfinite(op.low) else (op.high, -1.0)
    room = Bound(value.bound.most + abs(knot), value.bound.usual + abs(knot))
    bent, _ = builder.relu(builder.combine([(value, slope)], room, -slope * knot), room)
    return builder.combine([(bent, slope)], bound, knot)


@lower_function.register(ops.Sigmoid)
def _(op: ops.Sigmoid, builder: Builder, node: Node, *values: Value) -> Value:
    return bend(builder, values[0], sigmoid_curve(), builder.bounds[node.name])


@lower_function.register(ops.Tanh)
def _(op: ops.Tanh, builder: Builder, node: Node, *values: Value) -> Value:
    return bend(builder, values[0], tanh_curve(), builder.bounds[node.name])


@lower_function.register(ops.Exp)
def _(op: ops.Exp, builder: Builder, node: Node, *values: Value) -> Value:
    known = builder.bounds[node.inputs[0]]
    if op.low is not None and op.high is not None:
        low, high = op.low, op.high
    else:  # the room that its result has
        high = math.log(builder.bounds[node.name].most)
        low = min(max(known.least, high - _EXP_REACH), high - 1.0)
    if high > LARGEST_EXPONENT:
        raise CompileError(
            f"layer {builder.name!r}: Exp of values up to {high:.4g}, the limit is {LARGEST_EXPONENT:.0f}: clip them first, "
            "or state the op's range (low, high)"
        )
    most = math.exp(high)
    curve = curve_within(np.exp, max(low, high - _EXP_REACH) - high, 0.0, 2.0**-11)
    curve = curve_through(np.array(curve.knots) + high, curve.heights * most, curve.error * most, False)
    return bend(builder, values[0], curve, Bound(1.25 * most, most), 2.0**-16 * most)


@lower_function.register(ops.Reciprocal)
def _(op: ops.Reciprocal, builder: Builder, node: Node, *values: Value) -> Value:
    return _reciprocal(builder, values[0], *_range(builder, op, node.inputs[0]), op.error)


@lower_function.register(ops.InverseSqrt)
def _(op: ops.InverseSqrt, builder: Builder, node: Node, *values: Value) -> Value:
    return _inverse_sqrt(builder, values[0], *_range(builder, op, node.inputs[0]), op.error)


@lower_function.register(ops.Sqrt)
def _(op: ops.Sqrt, builder: Builder, node: Node, *values: Value) -> Value:
    return _sqrt(builder, values[0], *_range(builder, op, node.inputs[0]), op.error)


@lower_function.register(ops.Divide)
def _(op: ops.Divide, builder: Builder, node: Node, *values: Value) -> Value:
    numerator, divisor = values
    inverse = _reciprocal(builder, divisor, *_range(builder, op, node.inputs[1]), ops.USUAL_ERROR)
    bound = builder.bounds[node.name]
    unit = min(builder.register(numerator).factor * 2.0**-builder.fraction, bound.usual * 2.0**-16)
    return _product(builder, numerator, inverse, bound, unit)
