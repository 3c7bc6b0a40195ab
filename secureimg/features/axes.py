"""Linear maps along one axis of a picture, as ops: what separable filters, transforms and resizing are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph.ops import LinearMap, Shape, elements

__all__ = ["along", "axis_matrix", "picture_shape"]

Array = NDArray[np.float64]


def picture_shape(shape: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """Return (H, W) or (C, H, W) as (C, H, W); `GraphError` if it is neither."""
    full = (1, *shape) if len(shape) == 2 else tuple(shape)
    if len(full) != 3 or min(full) < 1:
        raise GraphError(f"{where}: a picture has the shape (H, W) or (C, H, W) of positive sides, got {tuple(shape)}")
    return full[0], full[1], full[2]


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
