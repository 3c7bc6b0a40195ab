"""Ops that move, repeat or average elements: pad, concat, reshape, transpose, slice, mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from secureimg.errors import GraphError
from secureimg.graph.ops.base import Op, Shape, checked_shape, elements

__all__ = ["Concat", "Mean", "Pad", "Reshape", "Slice", "Transpose", "checked_axis"]


def checked_axis(axis: int, rank: int, where: str) -> int:
    """Return `axis` (which may count from the end) as 0 <= axis < rank, or raise `GraphError`."""
    if not -rank <= axis < rank:
        raise GraphError(f"{where}: axis {axis} is outside an input of {rank} axes (the batch axis does not count)")
    return axis % rank


@dataclass(frozen=True, eq=False)
class Mean(Op):
    """Mean over some per-image axes (global average pooling: ``axes=(1, 2), keepdims=True``)."""

    linear: ClassVar[bool] = True

    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        axes = {checked_axis(axis, len(shape), "Mean") for axis in self.axes}
        if len(axes) != len(self.axes):
            raise GraphError(f"Mean: axes {self.axes} name an axis twice")
        if self.keepdims:
            return tuple(1 if i in axes else side for i, side in enumerate(shape))
        return tuple(side for i, side in enumerate(shape) if i not in axes)


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Constant padding: `pads` has (before, after) for each per-image axis; negative ones crop."""

    linear: ClassVar[bool] = True

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise GraphError("Pad: the padding value is NaN or infinite; give a finite one")

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if len(self.pads) != len(shape):
            raise GraphError(f"Pad: has pads for {len(self.pads)} axes, the input {shape} has {len(shape)}")
        for side, (before, after) in zip(shape, self.pads, strict=True):
            if max(-before, 0) + max(-after, 0) >= side:
                raise GraphError(f"Pad: pads {self.pads} crop an axis of {side} to nothing")
        sides = tuple(side + before + after for side, (before, after) in zip(shape, self.pads, strict=True))
        return checked_shape(sides, "Pad")


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Values one after the other along one per-image axis."""

    arity: ClassVar[int | None] = None
    linear: ClassVar[bool] = True

    axis: int = 0

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        first = self._take(shapes)
        axis = checked_axis(self.axis, len(first), "Concat")
        rest = first[:axis] + first[axis + 1 :]
        for shape in shapes:
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != rest:
                raise GraphError(f"Concat: shapes {list(shapes)} differ outside axis {axis}")
        return checked_shape((*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]), "Concat")


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements in C order under another per-image shape (also flatten, squeeze, unsqueeze)."""

    linear: ClassVar[bool] = True

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape, "Reshape"))

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if elements(shape) != elements(self.shape):
            raise GraphError(
                f"Reshape: {shape} has {elements(shape)} elements, {self.shape} has {elements(self.shape)}"
            )
        return self.shape


@dataclass(frozen=True, eq=False)
class Transpose(Op):
    """Per-image axes in another order: axis i of the result is axis ``perm[i]`` of the input."""

    linear: ClassVar[bool] = True

    perm: tuple[int, ...]

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if sorted(self.perm) != list(range(len(shape))):
            raise GraphError(f"Transpose: perm {self.perm} is not an order of the {len(shape)} axes of {shape}")
        return tuple(shape[axis] for axis in self.perm)


@dataclass(frozen=True, eq=False)
class Slice(Op):
    """Elements start, start + step, ... (`count` of them) along each per-image axis."""

    linear: ClassVar[bool] = True

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[int, ...]

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        shape = self._take(shapes)
        if not len(self.starts) == len(self.counts) == len(self.steps) == len(shape):
            raise GraphError(f"Slice: needs start, count and step for each of the {len(shape)} axes of {shape}")
        for side, start, count, step in zip(shape, self.starts, self.counts, self.steps, strict=True):
            last = start + (count - 1) * step
            if count < 1 or step == 0 or not (0 <= start < side and 0 <= last < side):
                raise GraphError(f"Slice: start {start}, count {count}, step {step} leaves an axis of {side}")
        return self.counts
