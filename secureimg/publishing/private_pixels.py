"""Pixelation and blur with differential privacy."""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from secureimg.errors import PublishingError
from secureimg.privacy import Charge, add_discrete_laplace, laplace_scale
from secureimg.publishing.obfuscation import checked_picture
from secureimg.publishing.private_release import (
    Neighbours,
    PrivateImage,
    changed,
    checked_epsilon,
    noise_stream,
    promise,
)
from secureimg.sharing.streams import Stream

__all__ = ["blur_draws", "dp_blur", "dp_pixelate", "pixelation_draws"]

Array = NDArray[np.float64]

_STEPS: Final = 65535  # of a pixel, so that sums are whole numbers; 8- and 16-bit pictures lie on them
_MOST_SIGMA: Final = 1000.0


def dp_pixelate(
    image: Array, epsilon: float, *, neighbours: Neighbours, cell: int = 16, stream: Stream | None = None
) -> PrivateImage:
    """Pixelate with Laplace noise (DP-Pix): epsilon-differential privacy.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    epsilon : float
    neighbours : int or "whole image"
        How many pixels m neighbours may differ in, in any way.
    cell : int
        Side b of a cell in pixels. Cells at the right and lower border may be smaller.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    PrivateImage
        `noise` is the Laplace scale of a whole cell's mean, ``C m / (b^2 epsilon)``, C channels.

    Raises
    ------
    PublishingError
        If the array is no picture, a parameter is out of range or the noise exceeds 55 bits.

    Notes
    -----
    Sensitivity. A pixel is taken as C whole numbers from 0 to 65,535 (1 or 3 channels), which is a function of that pixel
    alone. Released are the sums S of the cells, of every channel. If m pixels change, each is in one cell and moves each of
    its C sums by at most 65,535, so ``sum |S - S'| <= 65535 C m`` over all cells and channels, whatever the cells' sizes.
    Discrete Laplace noise of scale ``65535 C m / epsilon`` on every sum, drawn exactly, gives epsilon (Dwork et al., TCC
    2006; Ghosh et al., STOC 2009). Dividing by 65,535 and the number n of pixels in the cell, clipping to [0, 1] and drawing
    at full size use nothing but the noisy sums. So a cell's mean has noise of scale ``C m / (n epsilon)``: Fan's
    ``255 m / (b^2 epsilon)`` on 8-bit grey values in whole cells, and more in smaller ones, which is what they need.

    Source: Fan, DBSec 2018. Cost: one pass over the pixels, 0.1 us a cell and channel for the noise.
    """
    image, scale, charge = _prepared(image, epsilon, neighbours, cell, "dp_pixelate")
    means = _released(image, cell, scale, 1, noise_stream(stream))[0]
    out = np.empty(_flat(image).shape)
    _enlarged(means, cell, out)
    guarantee = promise(neighbours, image, charge.epsilon, 0.0)
    return PrivateImage(out.reshape(image.shape), guarantee, charge, _noise(image, cell, scale))


def pixelation_draws(
    image: Array, epsilon: float, count: int, stream: Stream, *, neighbours: Neighbours, cell: int = 16
) -> Array:
    """Return the cells of `count` independent releases of `dp_pixelate` for tests: (count, rows, columns, channels)."""
    image, scale, _ = _prepared(image, epsilon, neighbours, cell, "dp_pixelate")
    return _released(image, cell, scale, count, stream)


def dp_blur(
    image: Array,
    epsilon: float,
    *,
    neighbours: Neighbours,
    cell: int = 16,
    sigma: float | None = None,
    stream: Stream | None = None,
) -> PrivateImage:
    """Blur a picture that was pixelated with noise (DP-Blur): epsilon-differential privacy.

    Parameters
    ----------
    image, epsilon, neighbours, cell, stream
        As of `dp_pixelate`.
    sigma : float, optional
        Standard deviation of the Gaussian blur in pixels, above 0 and at most 1000; half a cell if not given.

    Returns
    -------
    PrivateImage
        `noise` is that of `dp_pixelate`; the blur averages it.

    Raises
    ------
    PublishingError
        As `dp_pixelate`, or if sigma is out of range.

    Notes
    -----
    The noise is on the grid, as in `dp_pixelate`, and the blur sees only its result: it is post-processing and epsilon is
    the same. Blurring first and adding noise to each pixel after would need far more of it.

    Source: Fan, TPDP 2019 (differential privacy for image publication). Cost: that of `dp_pixelate` and about
    ``8 sigma / cell + 2`` multiplications a pixel and channel: drawing at full size and blurring are one linear map.
    """
    image, scale, charge = _prepared(image, epsilon, neighbours, cell, "dp_blur")
    sigma = _checked_sigma(cell, sigma)
    means = _released(image, cell, scale, 1, noise_stream(stream))[0]
    blurred = _blurred(means, image.shape[:2], cell, sigma).reshape(image.shape)
    guarantee = promise(neighbours, image, charge.epsilon, 0.0)
    return PrivateImage(blurred, guarantee, charge, _noise(image, cell, scale))


def blur_draws(
    image: Array,
    epsilon: float,
    count: int,
    stream: Stream,
    *,
    neighbours: Neighbours,
    cell: int = 16,
    sigma: float | None = None,
) -> Array:
    """Return `count` independent releases of `dp_blur`, (count, H, W, channels), for tests of it."""
    cells = pixelation_draws(image, epsilon, count, stream, neighbours=neighbours, cell=cell)
    sigma = _checked_sigma(cell, sigma)
    together = np.moveaxis(cells, 0, 2).reshape(*cells.shape[1:3], -1)
    blurred = _blurred(together, image.shape[:2], cell, sigma).reshape(*image.shape[:2], count, -1)
    return np.moveaxis(blurred, 2, 0)


def _prepared(
    image: Array, epsilon: float, neighbours: Neighbours, cell: int, method: str
) -> tuple[Array, tuple[int, int], Charge]:
    image, epsilon = checked_picture(image), checked_epsilon(epsilon)
    height, width = image.shape[:2]
    if type(cell) is not int or not 1 <= cell <= max(height, width):
        raise PublishingError(
            f"a cell of {cell} pixels in a picture of {width} x {height}: use a whole number from 1 to {max(height, width)}"
        )
    count = changed(neighbours, image)
    scale = laplace_scale(_STEPS * _flat(image).shape[2] * count, epsilon)
    return image, scale, Charge(method, neighbours, epsilon=epsilon)


def _checked_sigma(cell: int, sigma: float | None) -> float:
    sigma = cell / 2.0 if sigma is None else sigma
    if not (math.isfinite(sigma) and 0.0 < sigma <= _MOST_SIGMA):
        raise PublishingError(f"a blur of sigma {sigma} pixels: use a number above 0 and at most {_MOST_SIGMA:g}")
    return sigma


def _flat(image: Array) -> Array:
    flat: Array = image.reshape(image.shape[0], image.shape[1], -1)
    return flat


def _noise(image: Array, cell: int, scale: tuple[int, int]) -> float:
    return scale[0] / scale[1] / (_STEPS * min(cell, int(image.shape[0])) * min(cell, int(image.shape[1])))


def _blurred(means: Array, size: tuple[int, ...], cell: int, sigma: float) -> Array:
    """Draw cells (rows, columns, n) at full size and blur: `scipy.ndimage.gaussian_filter` with mode "nearest"."""
    tall, wide = (_spread(side, cell, sigma) for side in size)
    rows, columns, count = means.shape
    across = wide @ means.transpose(1, 0, 2).reshape(columns, -1)
    out: Array = tall @ across.reshape(size[1], rows, count).transpose(1, 0, 2).reshape(rows, -1)
    np.clip(out, 0.0, 1.0, out=out)
    return out.reshape(*size, count)


def _spread(size: int, cell: int, sigma: float) -> sparse.csr_array:
    """Return (size, cells): which part of each cell a blurred pixel has. Border cells go on beyond the border."""
    reach = int(4.0 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    before = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])  # weight of offsets below each
    edges = np.arange(1, -(-size // cell)) * cell
    inner = before[np.clip(edges - np.arange(size)[:, None] + reach, 0, 2 * reach + 1)]
    ends = np.ones((size, 1))
    return sparse.csr_array(np.diff(np.concatenate([0.0 * ends, inner, ends], axis=1), axis=1))


def _released(image: Array, cell: int, scale: tuple[int, int], count: int, stream: Stream) -> Array:
    pixels = np.ascontiguousarray(_flat(image))
    height, width, colours = pixels.shape
    rows, columns = -(-height // cell), -(-width // cell)
    sums = np.zeros((rows, columns, colours), dtype=np.int64)
    _summed(pixels, cell, sums)
    noisy: NDArray[Any] = np.empty((count, *sums.shape), dtype=np.int64)
    noisy[:] = sums
    add_discrete_laplace(*scale, noisy.reshape(-1), stream)
    tall = np.minimum(cell, height - cell * np.arange(rows))
    wide = np.minimum(cell, width - cell * np.arange(columns))
    means: Array = np.divide(noisy, _STEPS * np.outer(tall, wide)[:, :, None], dtype=np.float64)
    np.clip(means, 0.0, 1.0, out=means)
    return means


@numba.njit(cache=True, nogil=True)
def _summed(pixels: Array, cell: int, sums: NDArray[np.int64]) -> None:
    """Add up the whole numbers of each cell and channel."""
    height, width, colours = pixels.shape
    for row in range(height):
        line = sums[row // cell]
        for start in range(0, width, cell):
            place = line[start // cell]
            for colour in range(colours):
                total = 0
                for column in range(start, min(start + cell, width)):
                    total += int(pixels[row, column, colour] * 65535.0 + 0.5)
                place[colour] += total


@numba.njit(cache=True, nogil=True)
def _enlarged(means: Array, cell: int, out: Array) -> None:
    """Draw each cell at full size."""
    height, width, colours = out.shape
    for row in range(height):
        line = means[row // cell]
        for start in range(0, width, cell):
            place = start // cell
            for column in range(start, min(start + cell, width)):
                for colour in range(colours):
                    out[row, column, colour] = line[place, colour]
