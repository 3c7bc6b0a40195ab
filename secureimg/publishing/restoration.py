"""The restoration attack on blur: how much of a picture comes back by undoing the filter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from secureimg.errors import PublishingError
from secureimg.publishing.obfuscation import checked_picture
from secureimg.publishing.similarity import Similarity, compare_pictures

__all__ = ["FILTERS", "MAX_RESTORED", "Restoration", "deblur", "estimate_sigma", "restoration_attack"]

Array = NDArray[np.float64]
Filter = Literal["wiener", "richardson-lucy", "unsupervised"]

FILTERS: Final[tuple[Filter, ...]] = ("wiener", "richardson-lucy", "unsupervised")

MAX_RESTORED: Final = 1 << 20
"""The most pixels that are restored: the filters hold a dozen pictures of four times the size."""

_BALANCES: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_ROUNDS: Final = (10, 30)
_SMALLEST: Final = 4  # pixels a side: the filters' own kernels must fit
_LEAST, _MOST = 0.3, 50.0  # sigma in pixels: below, nothing is blurred
_ROUNDING: Final = 1 / 12 / 255**2  # variance of rounding to 8 bits


@dataclass(frozen=True, eq=False)
class Restoration:
    """What the attack brought back.

    Attributes
    ----------
    image : (H, W) or (H, W, 3)
        The restored picture.
    filter : str
        Which filter did best, and its setting.
    sigma : float
        Strength that was undone, in pixels.
    estimated : bool
        Whether the attack found it from the blurred picture alone.
    before, after : Similarity
        Of the blurred and the restored picture to the original.
    tried : tuple of (str, float)
        Each filter's best gain in PSNR, dB.
    """

    image: Array
    filter: str
    sigma: float
    estimated: bool
    before: Similarity
    after: Similarity
    tried: tuple[tuple[str, float], ...]

    @property
    def gain(self) -> float:
        """PSNR gained, in dB."""
        return self.after.psnr - self.before.psnr


def estimate_sigma(blurred: NDArray[Any]) -> float:
    """Estimate the strength of a Gaussian blur from the blurred picture alone.

    Parameters
    ----------
    blurred : (H, W) or (H, W, 3)
        In [0, 1]; at least 16 pixels a side.

    Returns
    -------
    float
        Sigma in pixels, from 0.3 to 50.

    Raises
    ------
    PublishingError

    Notes
    -----
    The power of natural pictures falls as a power of the frequency w; a blur multiplies it by ``exp(-sigma^2 w^2)``. Both
    are fitted to the logarithm of the cosine transform's power, averaged over rings, above the floor that rounding to 8 bits
    leaves. Within about 15 % on photographs. Cost: one transform.

    References
    ----------
    Field, "Relations between the statistics of natural images and the response properties of cortical cells", JOSA A 4(12),
    1987, for the power law.
    """
    grey = checked_picture(blurred)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    if min(grey.shape) < 16:
        raise PublishingError(
            f"a picture of {grey.shape[1]} x {grey.shape[0]} is too small to estimate a blur: 16 is least"
        )
    power = np.square(dctn(grey - grey.mean(), norm="ortho"))
    radius = np.hypot(*np.meshgrid(*(np.arange(side) / side for side in grey.shape), indexing="ij"))
    edges = np.geomspace(2.0 / min(grey.shape), 1.0, 40)
    ring = np.digitize(radius.ravel(), edges)
    counts = np.bincount(ring, minlength=41)[1:40]
    means = np.bincount(ring, power.ravel(), minlength=41)[1:40] / np.maximum(counts, 1)
    wave = np.pi * np.sqrt(edges[:-1] * edges[1:])
    usable = (counts >= 2) & (means > 6 * _ROUNDING)
    last = int(np.argmin(usable[counts >= 2])) if not usable[counts >= 2].all() else int((counts >= 2).sum())
    places = np.flatnonzero(counts >= 2)[:last]
    if len(places) < 4:
        return _MOST
    terms = np.stack([np.ones(len(places)), np.log(wave[places]), np.square(wave[places])], axis=1)
    weights = np.sqrt(np.minimum(counts[places], 100.0))[:, None]
    fit, *_ = np.linalg.lstsq(terms * weights, np.log(means[places]) * weights[:, 0], rcond=None)
    return float(np.clip(math.sqrt(max(-fit[2], 0.0)), _LEAST, _MOST))


def deblur(blurred: NDArray[Any], sigma: float, filter: Filter = "wiener", setting: float = 1e-4) -> Array:  # noqa: A002
    """Undo a Gaussian blur.

    Parameters
    ----------
    blurred : (H, W) or (H, W, 3)
        In [0, 1], at most `MAX_RESTORED` pixels.
    sigma : float
        Its strength in pixels, above 0 and at most 50.
    filter : {"wiener", "richardson-lucy", "unsupervised"}
    setting : float
        The balance of the Wiener filter against noise, or the rounds of Richardson-Lucy; the third has none.

    Returns
    -------
    ndarray
        The same shape, in [0, 1].

    Raises
    ------
    PublishingError

    Notes
    -----
    The two Wiener filters are scikit-image's. The picture is continued by its mirror image on all sides, which is what the
    blur did: so circular filters are exact at its borders. Cost: transforms of four times the picture; Richardson-Lucy two
    blurs a round.

    References
    ----------
    Richardson, JOSA 62(1), 1972; Lucy, The Astronomical Journal 79, 1974. Orieux, Giovannelli, Rodet, "Bayesian estimation
    of regularization and point spread function parameters for Wiener-Hunt deconvolution", JOSA A 27(7), 2010.
    """
    blurred = checked_picture(blurred)
    height, width = blurred.shape[:2]
    if height * width > MAX_RESTORED:
        raise PublishingError(f"{height * width} pixels to restore, the limit is {MAX_RESTORED}: cut a piece out")
    if min(height, width) < _SMALLEST:
        raise PublishingError(f"a picture of {width} x {height} to restore: {_SMALLEST} pixels a side are least")
    if not 0 < sigma <= _MOST:
        raise PublishingError(f"sigma {sigma} to undo: use a number above 0 and at most {_MOST:g}")
    planes = blurred[..., None] if blurred.ndim == 2 else blurred
    restored = [_plane(planes[..., channel], sigma, filter, setting) for channel in range(planes.shape[2])]
    result = np.clip(np.stack(restored, axis=2), 0.0, 1.0)
    return result[..., 0] if blurred.ndim == 2 else result


def restoration_attack(
    original: NDArray[Any], blurred: NDArray[Any], sigma: float | None = None, *, filters: Sequence[Filter] = FILTERS
) -> Restoration:
    """Restore a blurred picture by each filter, and say how much nearer to the original the best one comes.

    Parameters
    ----------
    original, blurred : (H, W) or (H, W, 3)
        In [0, 1]; the blurred one is rounded to 8 bits first, as it would be published.
    sigma : float or None
        The blur's strength, if the attacker knows it; None: estimated from the blurred picture.
    filters : sequence of {"wiener", "richardson-lucy", "unsupervised"}
        What is tried, at least one.

    Returns
    -------
    Restoration

    Raises
    ------
    PublishingError

    Notes
    -----
    Each filter's setting is the one that comes nearest to the original, out of a few: an attacker would tune it on pictures
    of its own. Cost: about 2 s for 384 x 384 in grey, as many times that as there are channels.
    """
    original, blurred = checked_picture(original), np.rint(checked_picture(blurred) * 255) / 255
    before = compare_pictures(original, blurred)
    strength = estimate_sigma(blurred) if sigma is None else float(sigma)
    settings: dict[Filter, tuple[float, ...]] = {
        "wiener": _BALANCES, "richardson-lucy": _ROUNDS, "unsupervised": (0.0,),
    }  # fmt: skip
    tried = []
    best: tuple[float, Array, str] | None = None
    for name in filters:
        choices = settings[name]
        gain = -math.inf
        for setting in choices:
            image = deblur(blurred, strength, name, setting)
            psnr = psnr_of(original, image)
            gain = max(gain, psnr - before.psnr)
            if best is None or psnr > best[0]:
                best = psnr, image, _words(name, setting)
        tried.append((name, gain))
    if best is None:
        raise PublishingError("no filter to try: name at least one")
    return Restoration(
        best[1], best[2], strength, sigma is None, before, compare_pictures(original, best[1]), tuple(tried)
    )


def psnr_of(original: Array, image: Array) -> float:
    """Return the PSNR alone, without the cost of the other measures."""
    mse = float(np.mean(np.square(original - image)))
    return -10.0 * math.log10(mse) if mse > 0 else math.inf


def _words(name: Filter, setting: float) -> str:
    return {
        "wiener": f"Wiener, balance {setting:g}",
        "richardson-lucy": f"Richardson-Lucy, {setting:.0f} rounds",
        "unsupervised": "Wiener-Hunt, unsupervised",
    }[name]


def _plane(plane: Array, sigma: float, name: Filter, setting: float) -> Array:
    from skimage import restoration

    filters: Any = restoration  # whose functions have no types

    height, width = plane.shape
    mirrored = np.block([[plane, plane[:, ::-1]], [plane[::-1], plane[::-1, ::-1]]])
    psf = _psf(sigma, min(mirrored.shape))
    if name == "wiener":
        found = filters.wiener(mirrored, psf, setting, clip=False)
    elif name == "unsupervised":  # a fixed stream for its sampler: the attack gives the same picture each time
        options = {"min_num_iter": 10, "max_num_iter": 40}
        found, _ = filters.unsupervised_wiener(mirrored, psf, clip=False, user_params=options, rng=0)
    elif name == "richardson-lucy":
        return _richardson_lucy(plane, sigma, int(setting))
    else:
        raise PublishingError(f"filter {name!r} is unknown: use wiener, richardson-lucy or unsupervised")
    return np.asarray(found[:height, :width], np.float64)


def _richardson_lucy(plane: Array, sigma: float, rounds: int) -> Array:
    """As scikit-image does it, but with the blur's own borders, and the kernel's two directions apart: many times faster."""
    found = np.full_like(plane, 0.5)
    for _ in range(rounds):
        ratio = plane / np.maximum(gaussian_filter(found, sigma, mode="reflect"), 1e-6)
        found *= gaussian_filter(ratio, sigma, mode="reflect")
    return found


def _psf(sigma: float, longest: int) -> Array:
    """The blur's own kernel: cut off at four sigmas, of odd size, at most the picture's."""
    reach = min(int(4.0 * sigma + 0.5), (longest - 1) // 2)
    line = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    line /= line.sum()
    return np.outer(line, line)
