"""Linear maps along one axis of a picture, as ops: what separable filters, transforms and resizing are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph import GraphBuilder
from secureimg.graph.ops import LinearMap, Shape, Slice, elements

__all__ = ["along", "axis_matrix", "channel", "channels", "grey_shape", "picture_shape"]

Array = NDArray[np.float64]


def picture_shape(shape: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """Return (H, W) or (C, H, W) as (C, H, W); `GraphError` if it is neither."""
    full = (1, *shape) if len(shape) == 2 else tuple(shape)
    if len(full) != 3 or min(full) < 1:
        raise GraphError(f"{where}: a picture has the shape (H, W) or (C, H, W) of positive sides, got {tuple(shape)}")
    return full[0], full[1], full[2]


def grey_shape(shape: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """The same of a picture that must have one channel."""
    full = picture_shape(shape, where)
    if full[0] != 1:
        raise GraphError(f"{where}: a picture of {full[0]} channels, it takes grey ones: convert it first")
    return full


def channels(b: GraphBuilder, value: str, start: int, count: int) -> str:
    """Some channels of a value (C, H, W), as (count, H, W)."""
    return b.apply(Slice((start, 0, 0), (count, *b.shape(value)[1:]), (1, 1, 1)), value)


def channel(b: GraphBuilder, value: str, number: int) -> str:
    """One channel of a value (C, H, W), as (1, H, W)."""
    return channels(b, value, number, 1)


def axis_matrix(size: int, function: Callable[[Array], Array]) -> sp.csr_array:
    """The matrix of a linear function of vectors: what it makes of each unit vector.

    Parameters
    ----------
    size : int
        Length of the vectors.
    function : callable
        Takes (size, size), applies itself along axis 0, returns (results, size).

    Returns
    -------
    csr_array, shape (results, size)
    """
    return sp.csr_array(np.asarray(function(np.eye(size)), dtype=np.float64))


def along(shape: Shape, axis: int, matrix: sp.csr_array) -> LinearMap:
    """The op that applies a matrix along one per-image axis.

    Parameters
    ----------
    shape : tuple of int
        Per-image shape of the input.
    axis : int
        From 0.
    matrix : csr_array, shape (M, shape[axis])

    Returns
    -------
    LinearMap
        Its result has M in the place of ``shape[axis]``.
    """
    outer, inner = elements(shape[:axis]), elements(shape[axis + 1 :])
    whole = sp.kron(sp.kron(sp.eye_array(outer), matrix), sp.eye_array(inner), format="csr")
    result = (*shape[:axis], matrix.shape[0], *shape[axis + 1 :])
    return LinearMap((sp.csr_array(whole),), np.zeros(elements(result)), result)
