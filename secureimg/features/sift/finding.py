"""SIFT from a picture to keypoints and descriptors: which program runs on what, and who sees the places in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import GraphError
from secureimg.features.sift.description import (
    DESCRIPTOR_SIDE,
    DESCRIPTOR_STEP,
    ORIENTATION_SIDE,
    ORIENTATION_STEP,
    describe,
    histogram_directions,
    sift_descriptors,
    sift_orientations,
)
from secureimg.features.sift.extrema import sift_extrema
from secureimg.features.sift.keypoints import BINS, KeyPoints, oriented, read_extrema
from secureimg.features.sift.patches import add_patches, sift_patches
from secureimg.features.sift.scales import ScaleSpace
from secureimg.graph import Graph, PublicGraphBuilder, run_plain

__all__ = ["PlacesSeenBy", "Run", "sift"]

Array = NDArray[np.float64]
Run = Callable[[Graph, Array], Array]
"""What runs a graph on inputs (N, ...): in the clear, on shares, or at servers elsewhere."""

PlacesSeenBy = Literal["owner", "parties"]
"""Who learns where keypoints are."""

_BATCH: Final = 256
_ROUNDED: Final = 64  # patches come in such numbers
_VALUES: Final = 128


def sift(
    picture: ArrayLike,
    run: Run = run_plain,
    nfeatures: int = 0,
    n_octave_layers: int = 3,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    sigma: float = 1.6,
    *,
    places_seen_by: PlacesSeenBy = "owner",
) -> tuple[KeyPoints, Array]:
    """Keypoints of a picture and their descriptors. The picture's owner calls it.

    Parameters
    ----------
    picture : array_like, shape (H, W)
        Values in [0, 1], at least 8x8.
    run : callable
        Takes a graph and images (N, *graph.input_shape), returns its results for them: `secureimg.graph.run_plain`, or on
        shares ``lambda graph, images: run_together(compile(graph), images)``.
    nfeatures : int
        Keep so many keypoints, those with the largest contrast; 0 for all.
    n_octave_layers, contrast_threshold, edge_threshold, sigma
        As of `sift_extrema`.
    places_seen_by : str
        "owner": the owner learns where the extrema are, samples the patches itself and shares them like pictures. The
        parties learn how many there are, rounded up to a multiple of 64, and nothing else. "parties": the owner tells the
        parties places, sizes and directions, in the graphs of two more programs on the shared picture; it does no work on
        pixels. A third choice is `sift_dense`, where nobody learns a place.

    Returns
    -------
    points : KeyPoints
    descriptors : ndarray of float64, shape (len(points), 128)
        Of length 1.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    Lowe, IJCV 2004; names and defaults of `cv2.SIFT_create`. Three programs, one after the other: `sift_extrema`,
    `sift_orientations`, `sift_descriptors`; in between the owner places the extrema between pixels and picks the largest
    directions, on a few numbers for each keypoint. On shares of 256x256: see `sift_extrema` for what dominates.

    Deviations from OpenCV: those of the three; a result is a match where OpenCV's is as often (see the benchmarks), but the
    two are not equal value for value.
    """
    bright = np.asarray(picture, dtype=np.float64)
    if bright.ndim != 2:
        raise GraphError(f"sift: a picture of shape {bright.shape}, it takes grey ones (H, W)")
    if places_seen_by not in ("owner", "parties"):
        raise GraphError(f"sift: places_seen_by {places_seen_by!r} is neither 'owner' nor 'parties'")
    if nfeatures < 0:
        raise GraphError(f"sift: nfeatures {nfeatures} is below 0")
    space = ScaleSpace(bright.shape, n_octave_layers, sigma)
    graph = sift_extrema(bright.shape, n_octave_layers, contrast_threshold, edge_threshold, sigma)
    found = run(graph, bright[None, None])[0]
    points = read_extrema(found, space, contrast_threshold, edge_threshold)
    if nfeatures:
        points = points.strongest(nfeatures)
    told = places_seen_by == "parties"
    around = (
        _told(space, points, bright, run, turned=False) if told else _sampled(space, points, bright, run, turned=False)
    )
    points = oriented(points, around)
    if nfeatures:
        points = points.strongest(nfeatures)
    return points, (_told if told else _sampled)(space, points, bright, run, turned=True)


def _sampled(space: ScaleSpace, points: KeyPoints, picture: Array, run: Run, *, turned: bool) -> Array:
    """The owner samples the patches, in batches of which the last is filled up with grey ones."""
    side, step, width = _what(turned)
    found = np.empty((len(points), width))
    for start in range(0, len(points), _BATCH):
        batch = points.at(slice(start, start + _BATCH))
        patches = np.full((-(-len(batch) // _ROUNDED) * _ROUNDED, 1, side, side), 0.5)
        patches[: len(batch), 0] = run_plain(sift_patches(space, batch, side, step), picture[None, None])[0]
        graph = sift_descriptors() if turned else sift_orientations()
        found[start : start + len(batch)] = run(graph, np.clip(patches, 0.0, 1.0))[: len(batch), 0]
    return found


def _told(space: ScaleSpace, points: KeyPoints, picture: Array, run: Run, *, turned: bool) -> Array:
    """The parties sample the patches at places that are part of the graph."""
    side, step, width = _what(turned)
    if not len(points):
        return np.empty((0, width))
    b = PublicGraphBuilder("sift_descriptors_at" if turned else "sift_orientations_at", (1, *space.shape))
    patches = add_patches(b, space, b.input, points, side, step)
    graph = b.build(describe(b, patches) if turned else histogram_directions(b, patches))
    return np.asarray(run(graph, picture[None, None])[0])


def _what(turned: bool) -> tuple[int, float, int]:
    """Samples in a row of a patch, their distance, and values of a result."""
    return (DESCRIPTOR_SIDE, DESCRIPTOR_STEP, _VALUES) if turned else (ORIENTATION_SIDE, ORIENTATION_STEP, BINS)
