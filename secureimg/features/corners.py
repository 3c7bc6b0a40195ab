"""Structure tensor, corner responses of Harris, Noble and Shi-Tomasi, and maps of their peaks.

Follows Harris and Stephens, Alvey 1988, Noble 1989, and Shi and Tomasi, CVPR 1994, in the form of `skimage.feature` 0.26:
derivatives are `scipy.ndimage.sobel`'s, not divided by their weights, with zeros beyond the border; their products are
smoothed by a Gaussian with zeros beyond the border.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import channel, channels, grey_shape
from secureimg.features.borders import checked_mode, convolve, extend
from secureimg.features.filters import gaussian_kernel
from secureimg.features.octaves import power_of_two
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder

__all__ = [
    "GAIN", "LARGEST_TRACE", "HarrisMethod", "corner_harris", "corner_shi_tomasi", "det_minus_trace", "harris",
    "harris_mix", "shi_tomasi", "smoothed", "structure_tensor",
]  # fmt: skip

Array = NDArray[np.float64]
HarrisMethod = Literal["k", "eps"]
"""The response of Harris and Stephens, or that of Noble."""

GAIN: Final = 16.0
"""Of derivatives, so that products of small ones keep some bits on shares."""

LARGEST_TRACE: Final = 20.0
"""Square of the largest derivative, where an edge runs along the middle row and ends in the middle pixel."""

_ROWS: Final = np.outer([1.0, 0.0, -1.0], [1.0, 2.0, 1.0])
_TRUNCATE: Final = 4.0
_SUM: Final = np.array([[1.0, 1.0, 0.0]])  # of the squares of row, column and diagonal derivatives: the trace
_DIFFERENCE: Final = np.array([[1.0, -1.0, 0.0]])
_PRODUCT: Final = np.array([[-0.5, -0.5, 0.5]])
_TOP: Final = 2.0 ** math.ceil(math.log2(LARGEST_TRACE * GAIN**2 * 1.01))
_OCTAVES: Final = 18
_ERROR: Final = 2.0**-11
_SIZE: Final = 16.0
_GUARD: Final = 2.0**-44  # keeps 0 / 0 away and changes nothing that can be seen


def structure_tensor(
    shape: tuple[int, ...],
    sigma: float | tuple[float, float] = 1.0,
    *,
    mode: str = "constant",
    order: Literal["rc", "xy"] = "rc",
) -> Graph:
    """Structure tensor: smoothed products of the derivatives along rows and columns.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    sigma : float or (float, float)
        Standard deviation of the Gaussian, in pixels, of both axes or of rows and columns.
    mode : str
        Beyond the border: "constant" (of 0), "reflect", "nearest", "mirror" or "wrap", as in `scipy.ndimage`.
    order : str
        "rc" for (Arr, Arc, Acc), "xy" for the reverse.

    Returns
    -------
    Graph
        To (3, H, W): the results of `skimage.feature.structure_tensor`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: two linear maps and a square. Shares: a square and two convolutions with public weights. Leaks nothing but shapes.
    Deviations: no `cval`; two axes only.
    """
    border = checked_mode(mode, "structure_tensor")
    if order not in ("rc", "xy"):
        raise GraphError(f"structure_tensor: order {order!r} is none of 'rc', 'xy'")
    b = PublicGraphBuilder("structure_tensor", grey_shape(shape, "structure_tensor"))
    parts = [np.array([[1.0, 0.0, 0.0]]), _PRODUCT, np.array([[0.0, 1.0, 0.0]])]
    mix = np.concatenate(parts if order == "rc" else parts[::-1])
    return b.build(b.affine(smoothed(b, b.input, mix, sigma, border), 1.0 / GAIN**2))


def corner_harris(
    shape: tuple[int, ...], method: HarrisMethod = "k", k: float = 0.05, eps: float = 1e-6, sigma: float = 1.0
) -> Graph:
    """Corner response of Harris, or of Noble.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    method : str
        "k": determinant of the structure tensor minus k times the square of its trace; "eps": twice the determinant
        divided by the trace.
    k : float
        0 to 1.
    eps : float
        Added to the trace, above 0 to 1.
    sigma : float
        Standard deviation of the Gaussian that smooths the tensor, in pixels.

    Returns
    -------
    Graph
        To (1, H, W): the result of `skimage.feature.corner_harris`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    With S the trace, D the difference of the diagonal and T the other element, the determinant is ``(S^2 - D^2) / 4 - T^2``:
    "k" is linear maps around two layers of squares.

    CKKS: "k" only. Shares: "k" has no comparisons; "eps" has some 50 for each pixel. Errors are below 1e-3 of the largest
    response for pictures with steps of a grey level of 256 and more. Leaks nothing but shapes. Deviations: none.
    """
    b = PublicGraphBuilder("corner_harris", grey_shape(shape, "corner_harris"))
    response, unit = harris(b, b.input, method, k, eps, sigma)
    return b.build(b.affine(response, unit))


def corner_shi_tomasi(shape: tuple[int, ...], sigma: float = 1.0, *, degree: int = 0, largest: float = 8.0) -> Graph:
    """Corner response of Shi and Tomasi: the smaller eigenvalue of the structure tensor.

    Parameters
    ----------
    shape : (H, W)
        Of the picture, values in [0, 1].
    sigma : float
        Standard deviation of the Gaussian that smooths the tensor, in pixels.
    degree : int
        0, or 1 to 15: of the polynomial that stands for the root of the squared difference of the eigenvalues.
    largest : float
        Difference of eigenvalues up to which the polynomial holds: far above it results are useless. Sharp edges between
        black and white reach 12 (at sigma 1), pictures of a camera seldom 8.

    Returns
    -------
    Graph
        To (1, H, W): the result of `skimage.feature.corner_shi_tomasi`; with a `degree` close to it.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: with a `degree` only: three linear maps, two layers of squares and the polynomial; it is off by at most
    ``largest / (4 degree + 2)``, most where both eigenvalues are equal (results are too small there), and by 1e-3 of
    `largest` for the noise. Shares: without a `degree`; some 160 comparisons for each pixel, 25 rounds, errors below 1e-3
    of the largest response. Leaks nothing but shapes. Deviations: none without a `degree`.
    """
    b = PublicGraphBuilder("corner_shi_tomasi", grey_shape(shape, "corner_shi_tomasi"))
    if not 0 <= degree <= 15:
        raise GraphError(f"corner_shi_tomasi: degree {degree} is outside 0 to 15")
    if not 0 < largest <= LARGEST_TRACE:
        raise GraphError(f"corner_shi_tomasi: largest {largest} is not above 0 and at most {LARGEST_TRACE:g}")
    if not degree:
        response, unit = shi_tomasi(b, b.input, sigma)
        return b.build(b.affine(response, unit))
    tensor = smoothed(b, b.input, np.concatenate([_SUM, _DIFFERENCE, 2 * _PRODUCT]) / LARGEST_TRACE, sigma)
    half_trace = b.affine(channel(b, tensor, 0), 0.5 * LARGEST_TRACE / GAIN**2)
    squares = b.square(channels(b, tensor, 1, 2))
    square = b.conv(squares, np.full((1, 2, 1, 1), (LARGEST_TRACE / GAIN**2 / largest) ** 2))
    root = b.polynomial(square, root_polynomial(degree))
    return b.build(b.subtract(half_trace, b.affine(root, 0.5 * largest)))


def root_polynomial(degree: int) -> tuple[float, ...]:
    """Coefficients, lowest first, of a polynomial near the root on [0, 1]: |x| developed in even Chebyshev polynomials.

    Off by at most ``1 / (2 degree + 1)``, at 0.
    """
    even = np.zeros(2 * degree + 1)
    even[0] = 2 / np.pi
    order = np.arange(1, degree + 1)
    even[2::2] = -4 / np.pi * (-1.0) ** order / (4.0 * order**2 - 1)
    return tuple(np.polynomial.chebyshev.cheb2poly(even)[::2].tolist())


# ------------------------------------------------------------------------------------------------- inside of other graphs


def smoothed(
    b: GraphBuilder, picture: str, mix: Array, sigma: float | tuple[float, float], mode: str = "constant"
) -> str:
    """Mixtures of the squares of derivatives, smoothed.

    Parameters
    ----------
    b : GraphBuilder
    picture : str
        Of shape (1, H, W).
    mix : ndarray, shape (M, 3)
        Weights of the squares of the derivatives along rows, along columns, and of the sum of both.
    sigma : float or (float, float)
        Of the Gaussian.
    mode : str
        Beyond the border.

    Returns
    -------
    str
        A value of shape (M, H, W), times ``GAIN ** 2``.
    """
    sigmas = (sigma, sigma) if isinstance(sigma, int | float) else tuple(sigma)
    if len(sigmas) != 2 or not all(math.isfinite(s) and s >= 0 for s in sigmas):
        raise GraphError(f"{b.name}: sigma {sigma} is not one number, or two (rows, columns), of at least 0")
    border = checked_mode(mode, b.name)
    squares = b.square(convolve(b, picture, GAIN * np.stack([_ROWS, _ROWS.T, _ROWS + _ROWS.T]), border))
    down, across = (gaussian_kernel(s, _TRUNCATE) for s in sigmas)
    rows, columns = down.size // 2, across.size // 2
    wider = extend(b, squares, (rows, rows), (columns, columns), border)
    columns_done = b.conv(wider, np.tile(down.reshape(1, 1, -1, 1), (3, 1, 1, 1)), groups=3)
    return b.conv(columns_done, mix[:, :, None, None] * across)


def harris(
    b: GraphBuilder, picture: str, method: str, k: float, eps: float, sigma: float | tuple[float, float]
) -> tuple[str, float]:
    """Responses of Harris (1, H, W) in a unit of their own, and the factor that makes them scikit-image's."""
    if method not in ("k", "eps"):
        raise GraphError(f"{b.name}: method {method!r} is none of 'k', 'eps'")
    if not 0 <= k <= 1:
        raise GraphError(f"{b.name}: k = {k} is outside 0 to 1")
    if not 0 < eps <= 1:
        raise GraphError(f"{b.name}: eps = {eps} is not above 0 and at most 1")
    if method == "eps":
        return _noble(b, picture, eps, sigma), 1.0 / GAIN**2
    return det_minus_trace(b, smoothed(b, picture, harris_mix(k), sigma), k), 1.0 / GAIN**4


def harris_mix(k: float) -> Array:
    """Mixture of squares whose squares add up to the response."""
    return np.concatenate([math.sqrt(abs(0.25 - k)) * _SUM, 0.5 * _DIFFERENCE, _PRODUCT])


def det_minus_trace(b: GraphBuilder, tensor: str, k: float) -> str:
    """Response from a tensor mixed by `harris_mix`."""
    squares = b.square(tensor)
    trace, difference, product = (channel(b, squares, number) for number in range(3))
    rest = b.add(difference, product)
    return b.subtract(trace, rest) if k <= 0.25 else b.affine(b.add(trace, rest), -1.0)


def _noble(b: GraphBuilder, picture: str, eps: float, sigma: float | tuple[float, float]) -> str:
    """(S^2 - D^2 - 4 T^2) / (2 S), every factor of one size before it is divided."""
    tensor = smoothed(b, picture, np.concatenate([_SUM, _DIFFERENCE, 2 * _PRODUCT]), sigma)
    trace = b.affine(channel(b, tensor, 0), 1.0, eps * GAIN**2)
    power = power_of_two(b, trace, _TOP, _OCTAVES)
    divisor = b.affine(b.multiply(power, trace), _SIZE / _TOP)
    inverse = b.reciprocal(divisor, 0.48 * _SIZE, 1.05 * _SIZE, error=_ERROR / 2)
    scaled = b.affine(b.multiply(b.concat(*[power] * 3), tensor), _SIZE / _TOP)
    return b.affine(b.multiply(_minus(b, scaled, tensor), inverse), 0.5)


def shi_tomasi(b: GraphBuilder, picture: str, sigma: float | tuple[float, float]) -> tuple[str, float]:
    """Responses of Shi and Tomasi (1, H, W) in a unit of their own, and the factor that makes them scikit-image's.

    The determinant over the larger eigenvalue: the difference of two large values would keep their errors.
    """
    tensor = smoothed(b, picture, np.concatenate([_SUM, _DIFFERENCE, 2 * _PRODUCT]), sigma)
    power = power_of_two(b, channel(b, tensor, 0), _TOP, _OCTAVES)
    scaled = b.affine(b.multiply(b.concat(*[power] * 3), tensor), _SIZE / _TOP)
    spread = b.mean(b.square(channels(b, scaled, 1, 2)), (0,))
    root = b.sqrt(b.affine(spread, 2.0), 2.0**-20 * _SIZE**2, 1.05 * _SIZE**2, error=_ERROR)
    larger = b.affine(b.add(channel(b, scaled, 0), root), 1.0, _GUARD)
    inverse = b.reciprocal(larger, 0.48 * _SIZE, 2.1 * _SIZE, error=_ERROR / 2)
    return b.affine(b.multiply(_minus(b, scaled, tensor), inverse), 0.5), 1.0 / GAIN**2


def _minus(b: GraphBuilder, left: str, right: str) -> str:
    """Of two tensors (S, D, 2 T) the first product minus the others: four times a determinant."""
    products = b.multiply(left, right)
    trace, difference, product = (channel(b, products, number) for number in range(3))
    return b.subtract(trace, b.add(difference, product))
