"""Ops on each element, on two values element by element, and along the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secureimg.errors import GraphError
from secureimg.graph.ops.base import FloatArray, Op, Shape, checked_shape, constant
from secureimg.graph.ops.shaping import checked_axis

__all__ = [
    "Add",
    "Affine",
    "ArgMax",
    "Clip",
    "Dense",
    "LeakyRelu",
    "Multiply",
    "Polynomial",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Square",
    "Step",
    "Subtract",
    "Tanh",
]


@dataclass(frozen=True, eq=False)
class Dense(Op):
    """Matrix product along the last axis: ``y[..., m] = sum_k weight[m, k] * x[..., k] + bias[m]``.

    Attributes
    ----------
    weight : ndarray, shape (M, K)
    bias : ndarray, shape (M,), or None
    """

    linear: ClassVar[bool] = True

    weight: FloatArray
    bias: FloatArray | None = None

    def __post_init__(self) -> None:
        weight = constant(self.weight, "Dense weight")
        if weight.ndim != 2 or 0 in weight.shape:
            raise GraphError(f"Dense: weight must have shape (M, K), got {weight.shape}")
        object.__setattr__(self, "weight", weight)
        if self.bias is not None:
            bias = constant(self.bias, "Dense bias")
            if bias.shape != weight.shape[:1]:
                raise GraphError(f"Dense: bias must have shape {weight.shape[:1]}, got {bias.shape}")
            object.__setattr__(self, "bias", bias)

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if not shape or shape[-1] != self.weight.shape[1]:
            raise GraphError(f"Dense: weight of shape {self.weight.shape} does not fit the last axis of {shape}")
        return checked_shape((*shape[:-1], self.weight.shape[0]), "Dense")

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return self.weight.size + (0 if self.bias is None else self.bias.size)


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """``x * scale + shift`` with constants that broadcast against the per-image shape (batch norm, bias, scaling).

    The result has the broadcast shape of all three, so a constant may also repeat the value along an axis of 1.
    """

    linear: ClassVar[bool] = True

    scale: FloatArray
    shift: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", constant(self.scale, "Affine scale"))
        object.__setattr__(self, "shift", constant(self.shift, "Affine shift"))

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        try:
            return checked_shape(np.broadcast_shapes(shape, self.scale.shape, self.shift.shape), "Affine")
        except ValueError:
            raise GraphError(
                f"Affine: scale {self.scale.shape} and shift {self.shift.shape} do not broadcast to {shape}"
            ) from None

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return self.scale.size + self.shift.size


@dataclass(frozen=True, eq=False)
class _Binary(Op):
    arity: ClassVar[int | None] = 2

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if shapes[1] != shape:
            raise GraphError(f"{self.kind}: two computed values must have one shape, got {shape} and {shapes[1]}")
        return shape


@dataclass(frozen=True, eq=False)
class Add(_Binary):
    """Sum of two values of one shape (residual connections)."""

    linear: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Subtract(_Binary):
    """First value minus second, of one shape."""

    linear: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Multiply(_Binary):
    """Element-by-element product of two values of one shape."""


@dataclass(frozen=True, eq=False)
class _Pointwise(Op):
    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        return self._take(shapes)


@dataclass(frozen=True, eq=False)
class Square(_Pointwise):
    """``x ** 2`` of each element."""


@dataclass(frozen=True, eq=False)
class Polynomial(_Pointwise):
    """``sum_i coefficients[i] * x ** i`` of each element; lowest power first."""

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(c) for c in self.coefficients)
        if not values or not all(math.isfinite(c) for c in values):
            raise GraphError(f"Polynomial: needs finite coefficients, lowest power first, got {len(values)} values")
        object.__setattr__(self, "coefficients", values)

    @property
    def degree(self) -> int:
        """Highest power with a coefficient other than 0."""
        return max((i for i, c in enumerate(self.coefficients) if c != 0.0), default=0)

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return len(self.coefficients)


@dataclass(frozen=True, eq=False)
class Relu(_Pointwise):
    """``max(x, 0)`` of each element."""


@dataclass(frozen=True, eq=False)
class Step(_Pointwise):
    """1 where x is at least 0, 0 elsewhere. Not continuous: an executor that rounds x may be off by 1 close to 0."""


@dataclass(frozen=True, eq=False)
class LeakyRelu(_Pointwise):
    """x where it is positive, ``alpha * x`` elsewhere."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha):
            raise GraphError("LeakyRelu: alpha is NaN or infinite; give a finite one")


@dataclass(frozen=True, eq=False)
class Clip(_Pointwise):
    """Each element moved into [low, high]; either end may be infinite."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise GraphError(f"Clip: low {self.low} must not be above high {self.high}")


@dataclass(frozen=True, eq=False)
class Sigmoid(_Pointwise):
    """``1 / (1 + exp(-x))`` of each element."""


@dataclass(frozen=True, eq=False)
class Tanh(_Pointwise):
    """Hyperbolic tangent of each element."""


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Probabilities along an axis (natural logarithms of them if `log`). Done by the owner, after decryption."""

    owner: ClassVar[bool] = True

    axis: int = -1
    log: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        checked_axis(self.axis, len(shape), "Softmax")
        return shape


@dataclass(frozen=True, eq=False)
class ArgMax(Op):
    """Index (as float64) of the first largest element along an axis. Done by the owner, after decryption."""

    owner: ClassVar[bool] = True

    axis: int = -1
    keepdims: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        axis = checked_axis(self.axis, len(shape), "ArgMax")
        return (*shape[:axis], *((1,) if self.keepdims else ()), *shape[axis + 1 :])
