"""Corners: the structure tensor, and the responses of Harris and of Shi and Tomasi.

Follow `skimage.feature` 0.26: Sobel derivatives without normalisation, zeros beyond the border.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secureimg.errors import GraphError
from secureimg.features.axes import channel, grey_shape
from secureimg.features.borders import convolve, convolve_twice
from secureimg.features.filters import gaussian_kernel
from secureimg.graph import Graph, GraphBuilder

__all__ = ["corner_harris", "corner_shi_tomasi", "structure_tensor"]

_DOWN: Final = np.outer([1.0, 0.0, -1.0], [1.0, 2.0, 1.0])
_ERROR: Final = 2.0**-13
_STEEPEST: Final = 4.0  # what a Sobel derivative of values in [0, 1] can be
_SPREAD: Final = 4.0  # of usual pictures the difference of eigenvalues stays below a quarter of what it could be


def structure_tensor(shape: tuple[int, ...], sigma: float = 1.0) -> Graph:
    """Products of the derivatives along rows and columns, averaged around each pixel.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    sigma : float
        Standard deviation of the Gaussian that averages, in pixels.

    Returns
    -------
    Graph
        To (3, H, W): `Arr`, `Arc` and `Acc` of `skimage.feature.structure_tensor`.

    Raises
    ------
    GraphError
        If the picture is not grey or sigma is out of range.

    Notes
    -----
    CKKS: 3 levels. Shares: some 5 rounds, no comparison. Leaks nothing but shapes. Deviations: two dimensions, order "rc"
    and mode "constant" only.
    """
    b = GraphBuilder("structure tensor", grey_shape(shape, "structure_tensor"))
    return b.build(_tensor(b, sigma, "structure_tensor"))


def corner_harris(shape: tuple[int, ...], k: float = 0.05, sigma: float = 1.0) -> Graph:
    """Harris response: determinant minus k times the squared trace of the structure tensor.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    k : float
        0 to 0.25; small values find sharper corners.
    sigma : float
        As of `structure_tensor`.

    Returns
    -------
    Graph
        To (1, H, W): the result of `skimage.feature.corner_harris` with ``method="k"``.

    Raises
    ------
    GraphError
        If the picture is not grey, or a parameter is out of range.

    Notes
    -----
    Harris and Stephens, Alvey Vision Conference 1988. CKKS: 4 levels; 128x128 in some 2 s. Shares: 14 rounds, no
    comparison; agrees to some 1e-4 of the largest value. Leaks nothing but shapes. Deviations: no ``method="eps"``.
    """
    if not 0 <= k <= 0.25:
        raise GraphError(f"corner_harris: k is {k}, the limits are 0 and 0.25")
    b = GraphBuilder("harris", grey_shape(shape, "corner_harris"))
    rows, mixed, columns = _elements(b, _tensor(b, sigma, "corner_harris"))
    # det - k trace^2 of the tensor, as a sum of squares: det is ((r + c)^2 - (r - c)^2) / 4 - m^2
    trace, difference = b.square(b.add(rows, columns)), b.square(b.subtract(rows, columns))
    across = b.add(difference, b.affine(b.square(mixed), 4.0))
    return b.build(b.subtract(b.affine(trace, 0.25 - k), b.affine(across, 0.25)))


def corner_shi_tomasi(shape: tuple[int, ...], sigma: float = 1.0) -> Graph:
    """Shi and Tomasi's response: the smaller eigenvalue of the structure tensor.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    sigma : float
        As of `structure_tensor`.

    Returns
    -------
    Graph
        To (1, H, W): the result of `skimage.feature.corner_shi_tomasi`.

    Raises
    ------
    GraphError
        As `corner_harris`.

    Notes
    -----
    Shi and Tomasi, CVPR 1994. CKKS: not possible (a root). Shares: 15 rounds, for each pixel some 190 comparisons;
    off by at most 2e-3, most where the tensor is nearly round. Leaks nothing but shapes. Deviations: none.
    """
    b = GraphBuilder("shi tomasi", grey_shape(shape, "corner_shi_tomasi"))
    rows, mixed, columns = _elements(b, _tensor(b, sigma, "corner_shi_tomasi"))
    half, side = b.affine(b.add(rows, columns), 0.5), b.affine(b.subtract(rows, columns), 0.5)
    spread = b.sqrt(b.add(b.square(side), b.square(mixed)), 0.0, (_STEEPEST**2 / _SPREAD) ** 2, error=_ERROR)
    return b.build(b.subtract(half, spread))


def _tensor(b: GraphBuilder, sigma: float, where: str) -> str:
    if not (np.isfinite(sigma) and sigma >= 0):
        raise GraphError(f"{where}: sigma {sigma} is no number of at least 0")
    both = convolve(b, b.input, np.stack([_DOWN, _DOWN.T]), "constant")
    down, across = (channel(b, both, number) for number in (0, 1))
    products = b.concat(b.square(down), b.multiply(down, across), b.square(across))
    kernel = gaussian_kernel(sigma)
    return convolve_twice(b, products, kernel[None, None], kernel[None, None, None], "constant")


def _elements(b: GraphBuilder, tensor: str) -> tuple[str, str, str]:
    rows, mixed, columns = (channel(b, tensor, number) for number in range(3))
    return rows, mixed, columns
