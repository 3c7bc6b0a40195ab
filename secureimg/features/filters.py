"""Smoothing and second derivatives: Gaussian, box and separable filters, and the Laplacian.

Functions, defaults and borders are those of `skimage.filters` 0.26 and `scipy.ndimage` 1.17. Every channel is filtered by
itself. Each function returns a linear graph: one level on CKKS, at most one round on shares.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.features.borders import LARGEST_SIDE, checked_mode, convolve, convolve_twice
from secureimg.graph import Graph, PublicGraphBuilder

__all__ = ["box", "gaussian", "laplace", "separable"]

Array = NDArray[np.float64]


def gaussian(
    shape: tuple[int, ...],
    sigma: float | tuple[float, float] = 1.0,
    *,
    mode: str = "nearest",
    cval: float = 0.0,
    truncate: float = 4.0,
) -> Graph:
    """Gaussian blur.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    sigma : float or (float, float)
        Standard deviation in pixels, of both axes or of rows and columns; 0 leaves an axis as it is.
    mode : str
        Beyond the border: "reflect", "constant" (of `cval`), "nearest", "mirror" or "wrap", as in `scipy.ndimage`.
    cval : float
    truncate : float
        Standard deviations after which the kernel ends.

    Returns
    -------
    Graph
        To (C, H, W): the result of `skimage.filters.gaussian`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: one level; rotations grow with sigma, products with its square (81 diagonals for sigma 1: 128x128 in some 0.14 s
    on one core). Shares: two convolutions with public weights, one round. Leaks nothing but shapes. Deviations: none.
    """
    border = checked_mode(mode, "gaussian")
    sigmas = (sigma, sigma) if isinstance(sigma, int | float) else tuple(sigma)
    if len(sigmas) != 2 or not all(np.isfinite(s) and s >= 0 for s in sigmas):
        raise GraphError(f"gaussian: sigma {sigma} is not one number, or two (rows, columns), of at least 0")
    if not (np.isfinite(truncate) and truncate > 0):
        raise GraphError(f"gaussian: truncate {truncate} must be above 0")
    down, across = (gaussian_kernel(s, truncate) for s in sigmas)
    b = PublicGraphBuilder("gaussian", picture_shape(shape, "gaussian"))
    return b.build(convolve_twice(b, b.input, down[None, None], across[None, None, None], border, cval))


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> Array:
    """The kernel of `scipy.ndimage.gaussian_filter1d`; `GraphError` if it is too long."""
    radius = int(truncate * sigma + 0.5)
    if not radius:
        return np.ones(1)
    if 2 * radius + 1 > LARGEST_SIDE:
        raise GraphError(
            f"gaussian: sigma {sigma} makes a kernel of {2 * radius + 1} values, the limit is {LARGEST_SIDE}: "
            "make the picture smaller first, or truncate earlier"
        )
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1.0
    return np.asarray(ndi.gaussian_filter1d(impulse, sigma, mode="constant", truncate=truncate), dtype=np.float64)


def box(shape: tuple[int, ...], size: int | tuple[int, int] = 3, *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Mean over a window.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    size : int or (int, int)
        Of the window, of both axes or of rows and columns; an even one reaches one further before than after.
    mode, cval
        As of `gaussian`.

    Returns
    -------
    Graph
        To (C, H, W): the result of `scipy.ndimage.uniform_filter`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: one level, rotations grow with the size and products with its square. Shares: two convolutions with public
    weights, one round. Leaks nothing but shapes. Deviations: no `origin`.
    """
    border = checked_mode(mode, "box")
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if len(sizes) != 2 or not all(1 <= side <= LARGEST_SIDE for side in sizes):
        raise GraphError(f"box: size {size} is not one number, or two (rows, columns), of 1 to {LARGEST_SIDE}")
    # behind a 0 at the front a window of even size reaches to the other side than a kernel of even size does
    down, across = (np.append(np.zeros(1 - side % 2), np.full(side, 1.0 / side)) for side in sizes)
    b = PublicGraphBuilder("box", picture_shape(shape, "box"))
    return b.build(convolve_twice(b, b.input, down[None, None], across[None, None, None], border, cval))


def separable(
    shape: tuple[int, ...],
    row_kernel: ArrayLike = (0.25, 0.5, 0.25),
    column_kernel: ArrayLike = (0.25, 0.5, 0.25),
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> Graph:
    """Convolution with the outer product of two kernels.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    row_kernel : array_like, shape (w,)
        Runs along rows: from one column to the next.
    column_kernel : array_like, shape (h,)
        Runs along columns: from one row to the next.
    mode, cval
        As of `gaussian`.

    Returns
    -------
    Graph
        To (C, H, W): the result of `scipy.ndimage.convolve` with the kernel ``np.outer(column_kernel, row_kernel)``.

    Raises
    ------
    GraphError
        If a kernel is not a list of finite numbers.

    Notes
    -----
    CKKS: one level, rotations grow with the sum of the two lengths and products with their product. Shares: two
    convolutions with public weights, one round. Leaks nothing but shapes. Deviations: none.
    """
    border = checked_mode(mode, "separable")
    across, down = (
        _checked_kernel(kernel, which) for kernel, which in ((row_kernel, "row"), (column_kernel, "column"))
    )
    b = PublicGraphBuilder("separable", picture_shape(shape, "separable"))
    return b.build(convolve_twice(b, b.input, down[None, None], across[None, None, None], border, cval))


def _checked_kernel(kernel: ArrayLike, which: str) -> Array:
    array = np.asarray(kernel, dtype=np.float64)
    if array.ndim != 1 or not 1 <= array.size <= LARGEST_SIDE or not np.isfinite(array).all():
        raise GraphError(
            f"separable: the {which} kernel has the shape {array.shape}; it must be 1 to {LARGEST_SIDE} finite numbers"
        )
    return array


def laplace(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Negative of the sum of the second differences along rows and columns.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    mode, cval
        As of `gaussian`.

    Returns
    -------
    Graph
        To (C, H, W): the result of `skimage.filters.laplace`, whose kernel is 4 in the middle and -1 at the four sides.

    Raises
    ------
    GraphError
        If there is no such mode.

    Notes
    -----
    CKKS: one level, 5 diagonals. Shares: one convolution with public weights, no round. Leaks nothing but shapes.
    Deviations: no `mask`, and no `ksize`, which does not change the result in scikit-image; modes other than "reflect" are
    ours.
    """
    border = checked_mode(mode, "laplace")
    kernel = np.array([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    b = PublicGraphBuilder("laplace", picture_shape(shape, "laplace"))
    return b.build(convolve(b, b.input, kernel[None], border, cval))
