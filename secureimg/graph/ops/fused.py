"""The op that stands for a whole linear region of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from secureimg.errors import GraphError
from secureimg.graph.ops.base import FloatArray, Op, Shape, checked_shape, constant, elements

__all__ = ["LinearMap"]


@dataclass(frozen=True, eq=False)
class LinearMap(Op):
    """``y = sum_k matrices[k] @ flatten(x_k) + bias``, reshaped in C order.

    Attributes
    ----------
    matrices : tuple of scipy.sparse.csr_array, each of shape (m, elements of input k)
    bias : ndarray, shape (m,)
    shape : tuple of int
        Per-image shape of the result; m is its number of elements.
    """

    arity: ClassVar[int | None] = None
    linear: ClassVar[bool] = True

    matrices: tuple[sp.csr_array, ...]
    bias: FloatArray
    shape: Shape

    def __post_init__(self) -> None:
        shape = checked_shape(self.shape, "LinearMap")
        bias = constant(self.bias, "LinearMap bias")
        if bias.shape != (elements(shape),):
            raise GraphError(f"LinearMap: bias must have shape ({elements(shape)},), got {bias.shape}")
        if not self.matrices:
            raise GraphError("LinearMap: needs at least one matrix")
        for matrix in self.matrices:
            if matrix.shape[0] != bias.size:
                raise GraphError(f"LinearMap: a matrix of shape {matrix.shape} does not give {bias.size} results")
            if not np.isfinite(matrix.data).all():
                raise GraphError(f"LinearMap: a matrix of shape {matrix.shape} holds NaN or infinite values")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "bias", bias)

    @property
    def identity(self) -> bool:
        """Whether the one input passes unchanged (at most under another shape)."""
        matrix = self.matrices[0]
        size = matrix.shape[0]
        return (
            len(self.matrices) == 1
            and matrix.shape[1] == size == matrix.nnz
            and not self.bias.any()
            and bool((matrix.data == 1.0).all())
            and bool((matrix.indices == np.arange(size)).all())
            and bool((np.diff(matrix.indptr) == 1).all())
        )

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        self._take(shapes)
        sizes = [matrix.shape[1] for matrix in self.matrices]
        if sizes != [elements(shape) for shape in shapes]:
            raise GraphError(f"LinearMap: takes inputs of {sizes} elements, got shapes {list(shapes)}")
        return self.shape

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return sum(int(matrix.nnz) for matrix in self.matrices) + self.bias.size
