"""How alike a published picture is to the original: MSE, PSNR, SSIM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError

__all__ = ["Similarity", "compare_pictures"]

_BAND = 128  # rows that are compared at once
_WINDOW = 7  # of SSIM, in pixels: scikit-image's own


@dataclass(frozen=True)
class Similarity:
    """Three measures. None says how well people or classifiers recognise what is shown.

    Attributes
    ----------
    mse : float
        Mean squared error of values in [0, 1].
    psnr : float
        Peak signal to noise ratio in dB; infinite for equal pictures.
    ssim : float
        Mean structural similarity, at most 1; NaN for pictures with a side below 3 pixels.
    """

    mse: float
    psnr: float
    ssim: float


def compare_pictures(original: NDArray[Any], published: NDArray[Any]) -> Similarity:
    """Compare two pictures of one shape.

    Parameters
    ----------
    original, published : (H, W) or (H, W, 3)
        Floats in [0, 1].

    Raises
    ------
    PublishingError
        The shapes differ.

    Notes
    -----
    By scikit-image. SSIM as published: uniform windows of 7 x 7 (of the largest odd size that fits a smaller picture), a
    channel at a time, the mean of all. Cost: about 0.1 s for a megapixel and channel.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP
    13(4), 2004.
    """
    if original.shape != published.shape:
        raise PublishingError(
            f"a picture of shape {published.shape} beside an original of {original.shape}: compare pictures of one shape"
        )
    from skimage import metrics  # takes long to import

    measures: Any = metrics  # whose functions have no types

    side = min(_WINDOW, *original.shape[:2])
    window = side if side % 2 else side - 1
    margin = window // 2 if window >= 3 else 0
    rows = original.shape[0] - 2 * margin  # for which SSIM's windows lie inside
    channels = 2 if original.ndim == 3 else None
    squares = likeness = 0.0
    for start in range(0, rows, _BAND):  # in bands: a photograph's dozen temporary arrays never exist as a whole
        stop = min(start + _BAND, rows)
        one, other = original[start : stop + 2 * margin], published[start : stop + 2 * margin]
        first, last = (start and start + margin), (stop + margin if stop < rows else original.shape[0])
        squares += float(np.square(original[first:last] - published[first:last]).sum())
        if window >= 3:
            found = measures.structural_similarity(one, other, win_size=window, data_range=1.0, channel_axis=channels)
            likeness += (stop - start) * float(found)
    mse = squares / original.size
    ssim = likeness / rows if window >= 3 else math.nan
    return Similarity(mse, -10.0 * math.log10(mse) if mse > 0 else math.inf, ssim)
