"""The text of a program: what both parties, the dealer and the owner follow. It holds no weights.

A program is a list of steps over numbered registers. Every register is a batch of tensors of uint64 shares; its element
stands for ``factor * integer / 2^scale``, and only its lowest `width` bits count.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

__all__ = [
    "Best",
    "Blind",
    "Combine",
    "Concat",
    "Decide",
    "Geometry",
    "Linear",
    "MaxPool",
    "Multiply",
    "PublicScale",
    "Rearrange",
    "Register",
    "Relu",
    "Shape",
    "SharedLinear",
    "Spread",
    "Step",
    "Sum",
    "SumPool",
    "Truncate",
    "Weigh",
]

Side = Annotated[int, Meta(ge=1, le=2**26)]
Shape = Annotated[tuple[Side, ...], Meta(max_length=8)]
Number = Annotated[int, Meta(ge=0, le=2**20)]
Small = Annotated[int, Meta(ge=0, le=2**16)]
Positive = Annotated[int, Meta(ge=1, le=2**16)]
Pair = tuple[Positive, Positive]
Pads = tuple[Small, Small, Small, Small]
Width = Annotated[int, Meta(ge=1, le=64)]
Bits = Annotated[int, Meta(ge=4, le=62)]
Digit = Annotated[int, Meta(ge=3, le=6)]
Drop = Annotated[int, Meta(ge=0, le=62)]
Name = Annotated[str, Meta(max_length=400)]
Integer = Annotated[int, Meta(ge=-(2**62), le=2**62)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Register(_Struct, frozen=True):
    """What a register holds: per-image shape, fractional bits, factor, and how many low bits count."""

    shape: Shape
    scale: Annotated[int, Meta(ge=-64, le=64)]
    factor: float
    width: Width = 64


class Geometry(_Struct, frozen=True):
    """A linear map without its weights.

    Attributes
    ----------
    kind : str
        "conv" (weights (O, I / groups, kh, kw)), "dense" (weights (M, K), along the last axis), "scale" (weights broadcast
        against the value), "sparse" (weights are the entries of a matrix whose places are public).
    in_shape, out_shape, weight_shape : tuple of int
    """

    kind: Literal["conv", "dense", "scale", "sparse"]
    in_shape: Shape
    out_shape: Shape
    weight_shape: Shape
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: Positive = 1
    places: bytes = b""
    row_ends: bytes = b""

    @property
    def columns(self) -> NDArray[np.int32]:
        """Column of each entry of a sparse matrix."""
        return np.frombuffer(self.places, dtype="<i4").astype(np.int32)

    @property
    def starts(self) -> NDArray[np.int32]:
        """Where each row's entries begin."""
        return np.frombuffer(self.row_ends, dtype="<i4").astype(np.int32)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of a sparse matrix."""
        return math.prod(self.out_shape), math.prod(self.in_shape)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.weight_shape)

    @property
    def multiplications(self) -> int:
        """Products for one image."""
        if self.kind == "conv":
            return math.prod(self.out_shape) * math.prod(self.weight_shape[1:])
        if self.kind == "dense":
            return math.prod(self.in_shape) * self.weight_shape[0]
        return math.prod(self.out_shape) if self.kind == "scale" else self.weights


class _Step(_Struct, frozen=True, tag_field="step"):
    name: Name
    out: Number


class Blind(_Step, frozen=True, tag="blind"):
    """Party 0 sends its share minus a mask from its seed: party 1 holds the masked value, party 0 the mask."""

    source: Number
    width: Width


class Linear(_Step, frozen=True, tag="linear"):
    """A linear map with weights that party 1 knows (`hidden`, the source is a blinded value), or both."""

    source: Number
    geometry: Geometry
    hidden: bool
    width: Width


class SharedLinear(_Step, frozen=True, tag="shared linear"):
    """A linear map with weights that are shared as the values are: nobody knows them."""

    source: Number
    geometry: Geometry
    width: Width


class Relu(_Step, frozen=True, tag="relu"):
    """``max(x, 0)`` with the last `drop` bits gone; `whole`, if given, receives x without them."""

    source: Number
    drop: Drop
    bits: Bits
    digit: Digit
    width: Width
    whole: Number | None = None


class Decide(_Step, frozen=True, tag="decide"):
    """1 where x, without its last `drop` bits, is at least 0, and 0 elsewhere."""

    source: Number
    drop: Drop
    bits: Bits
    digit: Digit
    width: Width


class Truncate(_Step, frozen=True, tag="truncate"):
    """x without its last `drop` bits, in a ring of `width` bits."""

    source: Number
    drop: Drop
    bits: Bits
    width: Width


class MaxPool(_Step, frozen=True, tag="max pool"):
    """Largest value of each window, in the ring of `bits` bits."""

    source: Number
    drop: Drop
    bits: Bits
    digit: Digit
    kernel: Pair
    strides: Pair
    pads: Pads
    dilations: Pair


class Best(_Step, frozen=True, tag="best"):
    """Places of the `count` largest of a vector: only `code` low bits of the result say which ones."""

    source: Number
    drop: Drop
    bits: Bits
    digit: Digit
    code: Annotated[int, Meta(ge=1, le=20)]
    count: Positive


class Combine(_Step, frozen=True, tag="combine"):
    """``sum_i factors[i] * x_i + constant``, element by element."""

    sources: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=64)]
    factors: Annotated[tuple[Integer, ...], Meta(min_length=1, max_length=64)]
    constant: Integer = 0


class Spread(_Step, frozen=True, tag="spread"):
    """Copies of a value along a new first axis, each plus one of the constants."""

    source: Number
    constants: Annotated[tuple[Integer, ...], Meta(min_length=1, max_length=512)]


class Weigh(_Step, frozen=True, tag="weigh"):
    """Undo `Spread`: the weighted sum along the first axis, plus a constant."""

    source: Number
    factors: Annotated[tuple[Integer, ...], Meta(min_length=1, max_length=512)]
    constant: Integer = 0


class Rearrange(_Step, frozen=True, tag="rearrange"):
    """Elements moved: reshape, transpose, slice or pad of one value (per-image axes)."""

    source: Number
    kind: Literal["reshape", "transpose", "slice", "pad"]
    numbers: Annotated[tuple[tuple[Annotated[int, Meta(ge=-(2**26), le=2**26)], ...], ...], Meta(max_length=8)] = ()
    value: Integer = 0


class Concat(_Step, frozen=True, tag="concat"):
    """Values one after the other along a per-image axis."""

    sources: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=4096)]
    axis: Annotated[int, Meta(ge=0, le=7)]


class SumPool(_Step, frozen=True, tag="sum pool"):
    """Sum of each window; what lies outside counts as 0."""

    source: Number
    kernel: Pair
    strides: Pair
    pads: Pads


class Sum(_Step, frozen=True, tag="sum"):
    """Sum over per-image axes (kept with size 1 or not, as the register's shape says)."""

    source: Number
    axes: Annotated[tuple[Annotated[int, Meta(ge=0, le=7)], ...], Meta(max_length=8)]


class PublicScale(_Step, frozen=True, tag="public scale"):
    """Product with public numbers that broadcast against the value."""

    source: Number
    shape: Shape
    factors: Annotated[tuple[Integer, ...], Meta(max_length=2**22)]


class Multiply(_Step, frozen=True, tag="multiply"):
    """Product of two shared values, element by element (a square if they are one)."""

    left: Number
    right: Number
    width: Width


Step = (
    Best | Blind | Combine | Concat | Decide | Linear | MaxPool | Multiply | PublicScale | Rearrange | Relu | SharedLinear
    | Spread | Sum | SumPool | Truncate | Weigh
)  # fmt: skip


def sources_of(step: Any) -> tuple[int, ...]:
    """Registers that a step reads."""
    if isinstance(step, Combine | Concat):
        return step.sources
    if isinstance(step, Multiply):
        return step.left, step.right
    return (step.source,)
