"""Gabor filters: a plane wave under a Gaussian.

Follows `skimage.filters.gabor` and `gabor_kernel` 0.26; after Daugman, Journal of the Optical Society of America A 1985.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.features.borders import LARGEST_SIDE, Mode, checked_mode, convolve, convolve_twice
from secureimg.graph import Graph, GraphBuilder, PublicGraphBuilder

__all__ = ["gabor", "gabor_bank"]

Kernel = NDArray[np.complex128]

_ROUNDING = 1e-15


def gabor(
    shape: tuple[int, ...],
    frequency: float = 0.25,
    theta: float = 0.0,
    bandwidth: float = 1.0,
    sigma_x: float | None = None,
    sigma_y: float | None = None,
    n_stds: float = 3.0,
    offset: float = 0.0,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> Graph:
    """Real and imaginary response to a Gabor filter.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    frequency : float
        Of the wave, in cycles a pixel; above 0.
    theta : float
        Direction of the wave in radians: 0 is along the rows.
    bandwidth : float
        Of what the filter lets pass, in octaves; sets the standard deviations that are not given.
    sigma_x, sigma_y : float, optional
        Standard deviations in pixels, along the wave and across it.
    n_stds : float
        Standard deviations after which the kernel ends.
    offset : float
        Phase of the wave in radians.
    mode : str
        Beyond the border: "reflect", "constant" (of `cval`), "nearest", "mirror" or "wrap", as in `scipy.ndimage`.
    cval : float

    Returns
    -------
    Graph
        To (2 C, H, W): real part and imaginary part of the first channel, then of the next; the results of
        `skimage.filters.gabor`.

    Raises
    ------
    GraphError
        If a parameter is out of range, or the kernel would have a side above 1,024.

    Notes
    -----
    Where the Gaussian is round (as it is by default), or the wave runs along an axis, the kernel is a product of two
    complex ones along the axes: 6 products of a pixel with a weight for each pixel of the kernel's side, in place of 2
    for each pixel of its area.

    CKKS: one level, but the map is evaluated whole: two products with a plaintext for each pixel of the kernel's area.
    128x128 on one core takes 0.55 s (kernel of 15x15, frequency 0.25) to 1.7 s (35x35, 0.1), after 9 s to 47 s and 1.2 GB
    to 5 GB for compiling.
    Shares: two convolutions with public weights, one round. Leaks nothing but shapes. Deviations: the two
    parts are channels of one result, and `frequency` has a default.
    """
    border = checked_mode(mode, "gabor")
    kernel = _kernel(frequency, theta, bandwidth, sigma_x, sigma_y, n_stds, offset)
    b = PublicGraphBuilder("gabor", picture_shape(shape, "gabor"))
    return b.build(_responses(b, [kernel], border, cval))


def gabor_bank(
    shape: tuple[int, ...],
    frequencies: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4),
    thetas: tuple[float, ...] = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4),
    bandwidth: float = 1.0,
    n_stds: float = 3.0,
    offset: float = 0.0,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> Graph:
    """Responses to Gabor filters of several frequencies and directions.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    frequencies, thetas : tuple of float
        Every frequency goes with every direction.
    bandwidth, n_stds, offset, mode, cval
        As of `gabor`.

    Returns
    -------
    Graph
        To (C F T 2, H, W): of the first channel the two parts for the first frequency and the first direction, then for
        the first frequency and the second direction, and so on.

    Raises
    ------
    GraphError
        As `gabor`, or if there is no frequency or no direction.

    Notes
    -----
    Costs and deviations: those of `gabor`, once for each pair, but one round on shares together. All kernels are brought
    to the size of the largest. On CKKS a bank fits small pictures or high frequencies only: the default one at 128x128 is
    refused.
    """
    border = checked_mode(mode, "gabor_bank")
    if not len(frequencies) or not len(thetas):
        raise GraphError(
            f"gabor_bank: {len(frequencies)} frequencies and {len(thetas)} directions: give one of each at least"
        )
    b = PublicGraphBuilder("gabor bank", picture_shape(shape, "gabor_bank"))
    kernels = [
        _kernel(frequency, theta, bandwidth, None, None, n_stds, offset)
        for frequency in frequencies
        for theta in thetas
    ]
    return b.build(_responses(b, kernels, border, cval))


def _kernel(
    frequency: float,
    theta: float,
    bandwidth: float,
    sigma_x: float | None,
    sigma_y: float | None,
    n_stds: float,
    offset: float,
) -> Kernel:
    """The filter, shape (2 y0 + 1, 2 x0 + 1)."""
    positive = {"frequency": frequency, "bandwidth": bandwidth, "n_stds": n_stds}
    positive |= {name: s for name, s in (("sigma_x", sigma_x), ("sigma_y", sigma_y)) if s is not None}
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise GraphError(f"gabor: {name} is {value}, it must be above 0")
    if not (math.isfinite(theta) and math.isfinite(offset)):
        raise GraphError(f"gabor: theta {theta} and offset {offset} must be finite")
    # of a Gaussian whose half-maximum spans the bandwidth: Petkov and Kruizinga, Biological Cybernetics 1997
    ratio = (2.0**bandwidth + 1) / (2.0**bandwidth - 1)
    usual = math.sqrt(math.log(2) / 2) / math.pi * ratio / frequency
    along, beside = sigma_x or usual, sigma_y or usual
    cosine, sine = math.cos(theta), math.sin(theta)
    x0 = math.ceil(max(abs(n_stds * along * cosine), abs(n_stds * beside * sine), 1))
    y0 = math.ceil(max(abs(n_stds * beside * cosine), abs(n_stds * along * sine), 1))
    if 2 * max(x0, y0) + 1 > LARGEST_SIDE:
        raise GraphError(
            f"gabor: frequency {frequency} makes a kernel of {2 * y0 + 1}x{2 * x0 + 1}, the limit is a side of "
            f"{LARGEST_SIDE}: make the picture smaller first and the frequency larger"
        )
    y, x = np.arange(-y0, y0 + 1.0)[:, None], np.arange(-x0, x0 + 1.0)[None, :]
    forward, aside = x * cosine + y * sine, y * cosine - x * sine
    envelope = np.exp(-0.5 * ((forward / along) ** 2 + (aside / beside) ** 2)) / (2 * math.pi * along * beside)
    return np.asarray(envelope * np.exp(1j * (2 * math.pi * frequency * forward + offset)), dtype=np.complex128)


def _responses(b: GraphBuilder, kernels: list[Kernel], mode: Mode, cval: float) -> str:
    """All at once, within the frame of the largest: that keeps the rounds of one."""
    rows, columns = (max(kernel.shape[axis] for kernel in kernels) for axis in (0, 1))
    framed = []
    for kernel in kernels:
        top, left = (rows - kernel.shape[0]) // 2, (columns - kernel.shape[1]) // 2
        framed.append(np.pad(kernel, ((top, top), (left, left))))
    down, across = [], []
    for kernel in framed:
        middle = kernel[rows // 2, columns // 2]
        row, column = kernel[rows // 2], kernel[:, columns // 2] / middle
        if np.abs(np.outer(column, row) - kernel).max() > _ROUNDING * abs(middle):
            parts = [part for each in framed for part in (each.real, each.imag)]
            return convolve(b, b.input, np.stack(parts), mode, cval)
        down.append([column.real, column.imag])
        across.append([[row.real, -row.imag], [row.imag, row.real]])
    return convolve_twice(b, b.input, np.array(down), np.array(across), mode, cval)
