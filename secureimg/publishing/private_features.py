"""Feature vectors with differential privacy: histograms of oriented gradients, coordinates on a public basis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError, PublishingError
from secureimg.features import hog
from secureimg.graph import Graph, run_plain
from secureimg.privacy import (
    WHOLE_IMAGE,
    Charge,
    add_discrete_gaussian,
    add_discrete_laplace,
    gaussian_rho,
    laplace_scale,
    rho_for,
)
from secureimg.privacy.discrete_gaussian import MAX_SIGMA
from secureimg.publishing.obfuscation import checked_picture
from secureimg.publishing.private_release import (
    Neighbours,
    PrivateValues,
    changed,
    checked_epsilon,
    noise_stream,
    promise,
)
from secureimg.sharing.streams import Stream

__all__ = ["dp_hog", "dp_pca", "hog_draws", "pca_draws"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

_UNIT: Final = 1 << 16  # steps of a norm bound: vectors are rounded towards 0 to whole numbers of them


@dataclass(frozen=True)
class _Query:
    """A vector of whole numbers, and how far those of neighbours may be from it: `l1`, and the root of `l2_squared`."""

    method: str
    values: Whole
    step: float
    l1: int
    l2_squared: int
    unit: Neighbours


def dp_hog(
    image: Array,
    epsilon: float,
    *,
    neighbours: Neighbours,
    delta: float = 0.0,
    orientations: int = 9,
    pixels_per_cell: tuple[int, int] = (8, 8),
    cells_per_block: tuple[int, int] = (3, 3),
    stream: Stream | None = None,
) -> PrivateValues:
    """Histogram of oriented gradients, with noise: differential privacy.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    epsilon : float
    neighbours : int or "whole image"
        How many pixels m neighbours may differ in, in any way.
    delta : float
        0 for Laplace noise and pure differential privacy; above 0, at most 0.01, for Gaussian noise and (epsilon, delta).
    orientations, pixels_per_cell, cells_per_block
        As of `secureimg.features.hog`; the norm is L2-Hys.
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    PrivateValues
        `values` is the flat vector, float64, in multiples of 2^-16. `noise` is the Laplace scale or standard deviation.

    Raises
    ------
    PublishingError
        If the array is no picture, a parameter is out of range or the noise is too large for the samplers.

    Notes
    -----
    Sensitivity. A block has n = cell rows x cell columns x orientations entries; they are rounded down to whole numbers of
    2^-16, negative ones to 0, and made shorter if they exceed length 1: all this looks at that block only. Two such blocks
    a, b of neighbours have no negative entries, so ``||a - b||^2 <= ||a||^2 + ||b||^2 <= 2`` and
    ``||a - b||_1 <= sqrt(2 n)``. With B blocks that may differ: ``sqrt(2 B)`` in L2, ``B sqrt(2 n)`` in L1.

    A pixel enters the gradients of its four neighbours, which lie in two rows and two columns of cells (three, if cells are
    one pixel wide), which are in at most ``(r + 1)(c + 1)`` blocks of r x c cells. So B is the number of all blocks, or m
    times that if it is less. A block of nearly equal pixels can turn into a very different one by one of them, as it is
    divided by its length: this is why each block that may differ counts in full.

    Laplace: discrete, of scale ``L1 / epsilon``. Gaussian: discrete, sigma is ``L2 / sqrt(2 rho)`` for the largest rho-zCDP
    that gives (epsilon, delta). Both are drawn exactly. The noise drowns fine descriptors: few large cells keep something.

    Source: Dalal and Triggs, CVPR 2005; Dwork et al., TCC 2006; Canonne, Kamath and Steinke, NeurIPS 2020. Cost: the graph
    in the clear, and 0.1 us a number.
    """
    query = _hog_query(image, neighbours, orientations, pixels_per_cell, cells_per_block)
    return _release(query, image, epsilon, delta, noise_stream(stream))


def hog_draws(image: Array, epsilon: float, count: int, stream: Stream, **options: Any) -> Array:
    """Return `count` independent releases of `dp_hog`, (count, n), for tests of it. Options are those of `dp_hog`."""
    delta = options.pop("delta", 0.0)
    query = _hog_query(
        image,
        options.pop("neighbours"),
        options.pop("orientations", 9),
        options.pop("pixels_per_cell", (8, 8)),
        options.pop("cells_per_block", (3, 3)),
    )
    return _noisy(query, epsilon, delta, count, stream)[0]


def dp_pca(
    image: Array,
    epsilon: float,
    *,
    basis: Array,
    mean: Array,
    clip: float,
    delta: float = 0.0,
    stream: Stream | None = None,
) -> PrivateValues:
    """Coordinates on a public basis, with noise: differential privacy of the whole image.

    Parameters
    ----------
    image : (H, W) or (H, W, 3)
        In [0, 1].
    epsilon : float
    basis : (k, pixels) float64
        Rows, as scikit-learn's `PCA.components_`. It must not come from the images to be protected.
    mean : (pixels,) float64
        Of the same public images.
    clip : float
        Bound on the vector's norm, L1 if `delta` is 0, else L2; longer ones are scaled down. Choose it without looking
        at the image.
    delta : float
        0 for Laplace noise and pure differential privacy; above 0, at most 0.01, for Gaussian noise and (epsilon, delta).
    stream : Stream, optional
        A fresh one if not given.

    Returns
    -------
    PrivateValues
        `values` is (k,) float64, in multiples of ``clip / 2^16``. `noise` is the Laplace scale or standard deviation.

    Raises
    ------
    PublishingError
        If an array has the wrong shape, a parameter is out of range or the noise is too large for the samplers.

    Notes
    -----
    The vector is scaled to norm `clip` if it is longer, and rounded towards 0 to whole numbers of ``clip / 2^16``. Their
    norm is then at most 2^16, which is checked. Two such vectors are at most ``2 clip`` apart, whatever the images. Noise
    as in `dp_hog`.

    Source: Dwork et al., TCC 2006; Canonne, Kamath and Steinke, NeurIPS 2020. Cost: one product with the basis.
    """
    return _release(_pca_query(image, basis, mean, clip, delta), image, epsilon, delta, noise_stream(stream))


def pca_draws(
    image: Array,
    epsilon: float,
    count: int,
    stream: Stream,
    *,
    basis: Array,
    mean: Array,
    clip: float,
    delta: float = 0.0,
) -> Array:
    """Return `count` independent releases of `dp_pca`, (count, k), for tests of it."""
    return _noisy(_pca_query(image, basis, mean, clip, delta), epsilon, delta, count, stream)[0]


# --------------------------------------------------------------------------------------------------------------- vectors


def _hog_query(
    image: Array, neighbours: Neighbours, orientations: int, cell: tuple[int, int], block: tuple[int, int]
) -> _Query:
    image = checked_picture(image)
    pixels = changed(neighbours, image)
    shape = image.shape if image.ndim == 2 else (3, *image.shape[:2])
    try:
        graph = _hog_graph(shape, orientations, cell, block)
    except GraphError as error:
        raise PublishingError(f"dp_hog: {error}") from None
    planes = image if image.ndim == 2 else np.moveaxis(image, 2, 0)
    size = block[0] * block[1] * orientations
    blocks = run_plain(graph, planes.reshape(1, *graph.input_shape))[0].reshape(-1, size)
    whole = np.floor(np.clip(blocks, 0.0, 1.0) * _UNIT).astype(np.int64)
    long = np.square(whole).sum(axis=1) > _UNIT**2
    while long.any():
        whole[long] -= -(-whole[long] >> 12)  # some 2^-12 less of each entry, rounded up
        long = np.square(whole).sum(axis=1) > _UNIT**2
    reach = [side + (1 if width > 1 else 2) for side, width in zip(block, cell, strict=True)]
    differing = min(len(blocks), pixels * reach[0] * reach[1])
    l1 = differing * (math.isqrt(2 * size * _UNIT**2) + 1)
    return _Query("dp_hog", whole.reshape(-1), 1.0 / _UNIT, l1, 2 * differing * _UNIT**2, neighbours)


@lru_cache(maxsize=8)
def _hog_graph(shape: tuple[int, ...], orientations: int, cell: tuple[int, int], block: tuple[int, int]) -> Graph:
    return hog(shape, orientations, cell, block)


def _pca_query(image: Array, basis: Array, mean: Array, clip: float, delta: float) -> _Query:
    image = checked_picture(image)
    if basis.ndim != 2 or basis.shape[1] != image.size or not len(basis) or mean.shape != (image.size,):
        raise PublishingError(
            f"dp_pca: a basis of {basis.shape} and a mean of {mean.shape} for a picture of {image.size} values: "
            f"(k, {image.size}) and ({image.size},) are needed"
        )
    if not (math.isfinite(clip) and 1e-100 < clip < 1e100):
        raise PublishingError(f"dp_pca: a norm bound of {clip}: a finite number above 0 is needed")
    vector = basis @ (image.reshape(-1) - mean)
    if not np.isfinite(vector).all():
        raise PublishingError("dp_pca: the coordinates are not finite: check the basis and the mean")
    power = 2 if delta else 1
    norm, factor = float(np.linalg.norm(vector, power)), _UNIT / clip
    if norm > clip:
        factor = _UNIT / norm
    whole = np.trunc(vector * factor).astype(np.int64)
    while int((np.abs(whole) ** power).sum()) > _UNIT**power:
        factor *= 1.0 - 2.0**-20
        whole = np.trunc(vector * factor).astype(np.int64)
    return _Query("dp_pca", whole, clip / _UNIT, 2 * _UNIT, 4 * _UNIT**2, WHOLE_IMAGE)


# ----------------------------------------------------------------------------------------------------------------- noise


def _release(query: _Query, image: Array, epsilon: float, delta: float, stream: Stream) -> PrivateValues:
    values, noise, charge = _noisy(query, epsilon, delta, 1, stream)
    return PrivateValues(values[0], promise(query.unit, image, float(epsilon), delta), charge, noise)


def _noisy(query: _Query, epsilon: float, delta: float, count: int, stream: Stream) -> tuple[Array, float, Charge]:
    epsilon = checked_epsilon(epsilon)
    if not 0.0 <= delta <= 0.01:
        raise PublishingError(f"{query.method}: delta is {delta}: a number from 0 to 0.01 is needed")
    noisy: Whole = np.empty((count, query.values.size), dtype=np.int64)
    noisy[:] = query.values
    if delta:
        sigma = _sigma(query, epsilon, delta)
        add_discrete_gaussian(sigma, noisy.reshape(-1), stream)
        rho = math.nextafter(gaussian_rho(sigma, 1.0) * query.l2_squared, math.inf)
        return noisy.astype(np.float64) * query.step, sigma * query.step, Charge(query.method, query.unit, rho=rho)
    scale = laplace_scale(query.l1, epsilon)
    add_discrete_laplace(*scale, noisy.reshape(-1), stream)
    charge = Charge(query.method, query.unit, epsilon=epsilon)
    return noisy.astype(np.float64) * query.step, scale[0] / scale[1] * query.step, charge


def _sigma(query: _Query, epsilon: float, delta: float) -> int:
    """Return the least whole sigma with ``l2^2 / (2 sigma^2) <= rho``."""
    squared = Fraction(query.l2_squared) / (2 * Fraction(rho_for(epsilon, delta)))
    sigma = math.isqrt(math.ceil(squared) - 1) + 1
    if sigma > MAX_SIGMA:
        raise PublishingError(
            f"{query.method}: epsilon {epsilon:g} and delta {delta:g} take noise of {sigma} steps, the limit is "
            f"{MAX_SIGMA}: take a larger epsilon, or larger cells"
        )
    return sigma
