"""What every op of a graph has in common: arity, shape inference, checked constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import GraphError

__all__ = ["MAX_ELEMENTS", "FloatArray", "Op", "Shape", "checked_shape", "constant", "elements"]

Shape = tuple[int, ...]
"""Sides of a value, without the batch axis."""

FloatArray = NDArray[np.float64]
"""What the plain executor computes with."""

MAX_ELEMENTS = 2**26
"""Most elements one value of one image, or one constant, may have (512 MiB of float64)."""


def elements(shape: Shape) -> int:
    """Number of elements of a per-image shape (1 for a scalar)."""
    return math.prod(shape)


def checked_shape(shape: Shape, where: str) -> Shape:
    """Return `shape` as a tuple of int, or raise `GraphError` if a side is below 1 or the product above the cap."""
    result = tuple(int(side) for side in shape)
    if any(side < 1 for side in result):
        raise GraphError(f"{where}: shape {result} has a side below 1; check the sizes of the layers before it")
    if elements(result) > MAX_ELEMENTS:
        raise GraphError(f"{where}: shape {result} has {elements(result)} elements, the limit is {MAX_ELEMENTS}")
    return result


def constant(value: ArrayLike, where: str) -> FloatArray:
    """Return `value` as a read-only, C-contiguous float64 array; refuse NaN, infinities and oversized arrays."""
    array = np.array(value, dtype=np.float64, order="C", copy=True)
    if array.size > MAX_ELEMENTS:
        raise GraphError(f"{where}: a constant of {array.size} elements is above the limit of {MAX_ELEMENTS}")
    if not np.isfinite(array).all():
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise GraphError(f"{where}: holds {bad} NaN or infinite value(s) in shape {array.shape}; retrain or re-export")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Op:
    """One step of an image computation, with its constants.

    Attributes
    ----------
    arity : int or None
        How many values it takes; None for "one or more".
    linear : bool
        Whether it is an affine map of its inputs (`secureimg.graph.linear` has its matrix).
    owner : bool
        Whether only the image's owner computes it, in the clear, after decryption (softmax, argmax).
    """

    arity: ClassVar[int | None] = 1
    linear: ClassVar[bool] = False
    owner: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The op's name, as in error messages and reports."""
        return type(self).__name__

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result, without the batch axis.

        Parameters
        ----------
        *shapes : tuple of int
            One per-image shape for each input.

        Raises
        ------
        GraphError
            If the shapes do not fit the op.
        """
        raise NotImplementedError

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return 0

    def _take(self, shapes: tuple[Shape, ...]) -> Shape:
        """Check the number of inputs; return the first one's shape."""
        if not shapes or (self.arity is not None and len(shapes) != self.arity):
            wanted = "at least 1" if self.arity is None else str(self.arity)
            raise GraphError(f"{self.kind}: takes {wanted} input(s), got {len(shapes)}")
        return shapes[0]

    def _planes(self, shapes: tuple[Shape, ...]) -> tuple[int, int, int]:
        """Check that the input is (C, H, W) and return it."""
        shape = self._take(shapes)
        if len(shape) != 3:
            raise GraphError(f"{self.kind}: needs an input of shape (C, H, W), got {shape}")
        return shape[0], shape[1], shape[2]
