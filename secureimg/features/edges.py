"""First derivatives and edge magnitudes: Sobel, Scharr, Prewitt.

Functions, defaults and borders are those of `skimage.filters` 0.26: differences over two pixels along one axis, smoothed
along the other with weights of sum 1. Every channel is filtered by itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.features.axes import picture_shape
from secureimg.features.borders import checked_mode, convolve
from secureimg.graph import Graph, PublicGraphBuilder

__all__ = [
    "prewitt", "prewitt_h", "prewitt_v", "scharr", "scharr_h", "scharr_v", "sobel", "sobel_h", "sobel_v",
]  # fmt: skip

_EDGE: Final = np.array([1.0, 0.0, -1.0])
_SMOOTH: Final = {
    "sobel": np.array([1.0, 2.0, 1.0]) / 4,
    "scharr": np.array([3.0, 10.0, 3.0]) / 16,
    "prewitt": np.full(3, 1.0 / 3),
}
_ERROR: Final = 2.0**-11
_LEAST: Final = 2.0**-24  # of the largest square: the root follows as far down as the executor can
_SLACK: Final = 1.01
_GAIN: Final = 16.0  # squares of small derivatives keep some bits on shares


def _kernel(name: str, axis: int) -> NDArray[np.float64]:
    kernel = np.outer(_EDGE, _SMOOTH[name])
    return kernel.T if axis else kernel


def _derivative(shape: tuple[int, ...], name: str, axis: int, mode: str, cval: float) -> Graph:
    full = f"{name}_{'hv'[axis]}"
    border = checked_mode(mode, full)
    b = PublicGraphBuilder(full, picture_shape(shape, full))
    return b.build(convolve(b, b.input, _kernel(name, axis)[None], border, cval))


def _magnitude(shape: tuple[int, ...], name: str, mode: str, cval: float, *, energy: bool) -> Graph:
    border = checked_mode(mode, name)
    channels, height, width = picture_shape(shape, name)
    gain = 1.0 if energy else _GAIN
    b = PublicGraphBuilder(name, (channels, height, width))
    both = convolve(b, b.input, gain * np.stack([_kernel(name, 0), _kernel(name, 1)]), border, cval)
    squares = b.square(both)
    if channels > 1:
        squares = b.reshape(squares, (channels, 2, height, width))
    mean = b.mean(squares, (0 if channels == 1 else 1,), keepdims=channels == 1)
    if energy:
        return b.build(mean)
    spread = max(1.0, cval) - min(0.0, cval) if border == "constant" else 1.0
    # largest where an edge runs along the middle row and ends in the middle pixel: 1 across it, the middle weight along it
    high = _SLACK * (gain * spread) ** 2 * (1.0 + float(_SMOOTH[name][1]) ** 2) / 2
    return b.build(b.affine(b.sqrt(mean, _LEAST * high, high, error=_ERROR), 1.0 / gain))


def sobel_h(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Horizontal edges, by the derivative from row to row: kernel (1, 0, -1) by (1, 2, 1) / 4.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    mode : str
        Beyond the border: "reflect", "constant" (of `cval`), "nearest", "mirror" or "wrap", as in `scipy.ndimage`.
    cval : float

    Returns
    -------
    Graph
        To (C, H, W): the result of `skimage.filters.sobel_h`, between -1 and 1 for pictures between 0 and 1.

    Raises
    ------
    GraphError
        If the shape is no picture's or there is no such mode.

    Notes
    -----
    CKKS: one level, 6 diagonals; 128x128 in some 30 ms on one core. Shares: one convolution with public weights, no
    round. Leaks nothing but shapes. Deviations: no `mask`; `mode` and `cval` are those of
    `skimage.filters.sobel`.
    """
    return _derivative(shape, "sobel", 0, mode, cval)


def sobel_v(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Vertical edges, by the derivative from column to column: see `sobel_h`."""
    return _derivative(shape, "sobel", 1, mode, cval)


def scharr_h(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Horizontal edges, smoothed with (3, 10, 3) / 16: see `sobel_h`."""
    return _derivative(shape, "scharr", 0, mode, cval)


def scharr_v(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Vertical edges, smoothed with (3, 10, 3) / 16: see `sobel_h`."""
    return _derivative(shape, "scharr", 1, mode, cval)


def prewitt_h(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Horizontal edges, smoothed with (1, 1, 1) / 3: see `sobel_h`."""
    return _derivative(shape, "prewitt", 0, mode, cval)


def prewitt_v(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0) -> Graph:
    """Vertical edges, smoothed with (1, 1, 1) / 3: see `sobel_h`."""
    return _derivative(shape, "prewitt", 1, mode, cval)


def sobel(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0, energy: bool = False) -> Graph:
    """Edge magnitude: the root of the mean of the squares of `sobel_h` and `sobel_v`.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture, values in [0, 1].
    mode, cval
        As of `sobel_h`.
    energy : bool
        Leave the root out: the square of the magnitude, a polynomial, which CKKS can evaluate.

    Returns
    -------
    Graph
        To (C, H, W): the result of `skimage.filters.sobel` of each channel, or its square.

    Raises
    ------
    GraphError
        As `sobel_h`.

    Notes
    -----
    CKKS: only with ``energy=True``: two linear maps and a square. Shares: a square and, without `energy`, a root, 6 rounds
    together; some 125 comparisons for each pixel. Magnitudes are off by at most 2e-4. Leaks nothing but shapes.
    Deviations: no `mask` and no `axis`.
    """
    return _magnitude(shape, "sobel", mode, cval, energy=energy)


def scharr(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0, energy: bool = False) -> Graph:
    """Edge magnitude: the root of the mean of the squares of `scharr_h` and `scharr_v`: see `sobel`."""
    return _magnitude(shape, "scharr", mode, cval, energy=energy)


def prewitt(shape: tuple[int, ...], *, mode: str = "reflect", cval: float = 0.0, energy: bool = False) -> Graph:
    """Edge magnitude: the root of the mean of the squares of `prewitt_h` and `prewitt_v`: see `sobel`."""
    return _magnitude(shape, "prewitt", mode, cval, energy=energy)
