"""Obfuscation without a guarantee: pixelation, blur, black boxes, averages of k pictures.

They are here because people use them, and because `parrot_attack` and `restoration_attack` show what they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from secureimg.errors import PublishingError
from secureimg.publishing.guarantee import Guarantee

__all__ = ["MAX_SET", "black_box", "blur", "checked_picture", "k_same", "pixelate"]

Array = NDArray[np.float64]

MAX_SET: Final = 5_000
"""The most pictures that `k_same` takes: it compares all pairs."""

_MOST_SIGMA: Final = 1_000.0
_RETRAIN: Final = (
    "None. Whoever has a few pictures of those who may be shown can obfuscate them alike, train a classifier on them, "
    "and recognise who this is."
)


def checked_picture(image: object) -> Array:
    """Return a picture as float64, or refuse it.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        Floats in [0, 1].

    Raises
    ------
    PublishingError
    """
    if not isinstance(image, np.ndarray) or image.dtype.kind != "f":
        kind = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise PublishingError(f"a picture to publish is floats in [0, 1], not {kind}: load it with load_image")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise PublishingError(
            f"a picture to publish is (H, W) or (H, W, 3), not {image.shape}: load it with load_image"
        )
    if not (image.min() >= 0.0 and image.max() <= 1.0):  # a NaN fails this too
        raise PublishingError("a picture's values must lie in [0, 1] and these do not: 8-bit values divide by 255")
    return image.astype(np.float64, copy=False)


def pixelate(image: Array, cell: int) -> tuple[Array, Guarantee]:
    """Replace each cell by its mean, drawn at full size. The last row and column of cells may be smaller.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    cell : int
        Side of a cell in pixels, from 1 to the picture's longer side.

    Returns
    -------
    ndarray, Guarantee
        A picture of the same shape, and what it promises: nothing.

    Raises
    ------
    PublishingError
        The array is no picture, or the cell is outside its range.

    Notes
    -----
    Cost: one pass over the pixels.
    """
    image = checked_picture(image)
    height, width = image.shape[:2]
    if not _whole(cell) or not 1 <= cell <= max(height, width):
        raise PublishingError(
            f"a cell of {cell} pixels in a picture of {width} x {height}: use a whole number from 1 to {max(height, width)}"
        )
    rows, columns = np.arange(0, height, cell), np.arange(0, width, cell)
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1)
    tall, wide = np.diff(rows, append=height), np.diff(columns, append=width)
    counts = np.outer(tall, wide).reshape(len(rows), len(columns), *([1] * (image.ndim - 2)))
    means = np.clip(sums / counts, 0.0, 1.0)
    drawn = np.repeat(np.repeat(means, tall, axis=0), wide, axis=1)
    return drawn, Guarantee("none", _RETRAIN, in_the_clear=f"the mean of every cell of {cell} x {cell} pixels")


def blur(image: Array, sigma: float) -> tuple[Array, Guarantee]:
    """Blur with a Gaussian. Pixels beyond the border are the picture's, mirrored.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    sigma : float
        Standard deviation in pixels, above 0 and at most 1000. The filter is cut off at four of them.

    Returns
    -------
    ndarray, Guarantee
        A picture of the same shape, and what it promises: nothing.

    Raises
    ------
    PublishingError
        The array is no picture, or sigma is outside its range.

    Notes
    -----
    Cost: about ``16 sigma`` multiplications a pixel.
    """
    image = checked_picture(image)
    if not (math.isfinite(sigma) and 0 < sigma <= _MOST_SIGMA):
        raise PublishingError(f"a blur of sigma {sigma} pixels: use a number above 0 and at most {_MOST_SIGMA:g}")
    blurred = gaussian_filter(image, sigma, mode="reflect", truncate=4.0, axes=(0, 1))
    statement = (
        f"{_RETRAIN} The filter can also be undone in part: what it leaves above the rounding to 8 bits comes back."
    )
    return np.clip(blurred, 0.0, 1.0), Guarantee(
        "none", statement, in_the_clear=f"a weighted mean around every pixel (sigma {sigma:g})"
    )


def black_box(image: Array, box: tuple[int, int, int, int]) -> tuple[Array, Guarantee]:
    """Set a rectangle to black.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    box : (top, left, height, width)
        In pixels, all of it inside the picture.

    Returns
    -------
    ndarray, Guarantee
        A picture of the same shape. Nothing of the rectangle is left in it; all around it is as it was.

    Raises
    ------
    PublishingError
        The array is no picture, or the box is not inside it.
    """
    image = checked_picture(image)
    rows, columns = image.shape[:2]
    sides: Sequence[object] = box
    if len(sides) != 4 or not all(map(_whole, sides)):
        raise PublishingError(f"box {box!r} is not (top, left, height, width) in whole pixels: correct it")
    top, left, height, width = box
    if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
        raise PublishingError(
            f"box of {width} x {height} at row {top}, column {left} is not inside the picture of {columns} x {rows}: "
            "make it fit"
        )
    covered = image.copy()
    covered[top : top + height, left : left + width] = 0.0
    statement = (
        "None for the picture as a whole. The covered pixels are gone: no attack brings them back. Who is shown may follow "
        "from what is around the box."
    )
    return covered, Guarantee("none", statement, in_the_clear="every pixel outside the box, and where the box is")


def k_same(images: Array, k: int) -> tuple[Array, Guarantee]:
    """Replace each picture of a set by the mean of a cluster of at least `k` of them.

    Parameters
    ----------
    images : (N, H, W) or (N, H, W, 3)
        In [0, 1], at least `k` and at most `MAX_SET`; of one size, and of faces best aligned.
    k : int
        At least 2.

    Returns
    -------
    ndarray, Guarantee
        The set in the same order: every picture in it occurs at least `k` times.

    Raises
    ------
    PublishingError
        The array is no such set, or `k` does not fit.

    Notes
    -----
    The greedy clustering of the paper, on pixels: take the first picture that is left with its ``k - 1`` nearest; when
    fewer than ``2 k`` are left they are one cluster. Cost: ``N^2`` distances, and as many numbers in memory.

    References
    ----------
    Newton, Sweeney, Malin, "Preserving Privacy by De-identifying Face Images", IEEE TKDE 17(2), 2005, algorithm k-Same.
    """
    if images.ndim not in (3, 4):
        raise PublishingError("k-same takes a set of pictures (N, H, W) or (N, H, W, 3): stack them")
    count = len(images)
    if count > MAX_SET:
        raise PublishingError(f"k-same of {count} pictures, the limit is {MAX_SET}: make several sets")
    if not _whole(k) or not 2 <= k <= count:
        raise PublishingError(f"k = {k} for a set of {count} pictures: use a whole number from 2 to {count}")
    for image in images:
        checked_picture(image)
    rows = images.reshape(count, -1).astype(np.float64, copy=False)
    products = rows @ rows.T
    squares = np.diagonal(products)
    result = np.empty_like(rows)
    left = np.arange(count)
    while len(left):
        size = len(left) if len(left) < 2 * k else k
        first = left[0]
        distances = squares[left] - 2.0 * products[first, left]
        distances[0] = -np.inf  # itself, whatever rounding and equal pictures say
        chosen = np.argsort(distances, kind="stable")[:size]
        result[left[chosen]] = rows[left[chosen]].mean(axis=0)
        left = np.delete(left, chosen)
    statement = (
        f"k-anonymity of the set, k = {k}: if nobody is in it twice, comparing a published picture with the originals names "
        f"the right one at most once in {k}. It does not hold if somebody is in the set twice, if several sets with the "
        "same people are published, or if whoever looks knows more than the originals."
    )
    guarantee = Guarantee("none", statement, in_the_clear=f"means of clusters of at least {k} pictures")
    return np.clip(result, 0.0, 1.0).reshape(images.shape), guarantee


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
