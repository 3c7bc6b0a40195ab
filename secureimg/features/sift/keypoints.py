"""What the owner of a picture makes of decrypted extrema and histograms: keypoints, between pixels and with directions.

Follows Lowe, IJCV 2004, sections 4 and 5, in the form of OpenCV's `cv2.SIFT`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.sift.extrema import GAIN
from secureimg.features.sift.scales import BORDER, ScaleSpace

__all__ = ["BINS", "KeyPoints", "oriented", "read_extrema"]

Array = NDArray[np.float64]

BINS: Final = 36
"""Of a histogram of directions."""

_MOST_STEPS: Final = 5
_PEAK: Final = 0.8  # of the largest, for further directions
_SMOOTHING: Final = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True)
class KeyPoints:
    """Where features are; arrays of one length.

    Attributes
    ----------
    x, y : ndarray
        Column and row in pixels of the picture.
    size : ndarray
        Diameter of what was found, in pixels of the picture.
    angle : ndarray
        Direction of the gradients in degrees, from the columns' axis towards the rows', 0 to 360.
    response : ndarray
        Contrast.
    octave : ndarray of int
        Place in `ScaleSpace.octaves`.
    layer : ndarray of int
        The blurred picture of the octave that its histogram and its descriptor are taken from.
    """

    x: Array
    y: Array
    size: Array
    angle: Array
    response: Array
    octave: NDArray[np.int64]
    layer: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def at(self, places: NDArray[np.int64] | slice) -> KeyPoints:
        """Some of them."""
        return KeyPoints(**{name: getattr(self, name)[places] for name in self.__dataclass_fields__})

    def strongest(self, count: int) -> KeyPoints:
        """Those with the largest contrast, in the order they have."""
        return self.at(np.sort(np.argsort(-self.response, kind="stable")[:count]))


def read_extrema(
    values: Array, space: ScaleSpace, contrast_threshold: float = 0.04, edge_threshold: float = 10.0
) -> KeyPoints:
    """Place extrema between pixels and layers, and keep those with contrast and without an edge.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Result of `sift_extrema`.
    space : ScaleSpace
    contrast_threshold, edge_threshold : float
        As of `sift_extrema`; both are tested after interpolation.

    Returns
    -------
    KeyPoints
        Their angles are 0, see `oriented`.

    Raises
    ------
    GraphError
        If the values are not those of this scale space.
    """
    layers, parts, at = space.n_octave_layers, [], 0
    expected = sum(
        layers * (rows - 2 * BORDER) * (columns - 2 * BORDER) + (layers + 2) * rows * columns
        for rows, columns in space.octaves
    )
    if values.shape != (expected,):
        raise GraphError(
            f"sift: extrema of shape {values.shape} are not of a picture of {space.shape}, which has {expected}"
        )
    for octave, (rows, columns) in enumerate(space.octaves):
        inner = (layers, rows - 2 * BORDER, columns - 2 * BORDER)
        end = at + int(np.prod(inner))
        found = values[at:end].reshape(inner) > 0.5
        at = end + (layers + 2) * rows * columns
        differences = values[end:at].reshape(layers + 2, rows, columns) / GAIN
        parts.append(_placed(found, differences, space, octave, contrast_threshold, edge_threshold))
    joined = KeyPoints(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in KeyPoints.__dataclass_fields__}
    )
    _, unique = np.unique(np.stack([joined.x, joined.y, joined.size]), axis=1, return_index=True)
    return joined.at(np.sort(unique))


def _placed(
    found: NDArray[np.bool_], d: Array, space: ScaleSpace, octave: int, contrast: float, edge: float
) -> KeyPoints:
    """Extrema of one octave, by up to five steps of Newton's method."""
    layers, (rows, columns) = space.n_octave_layers, d.shape[1:]
    where = np.argwhere(found) + np.array([1, BORDER, BORDER])
    active, done = np.ones(len(where), dtype=bool), np.zeros(len(where), dtype=bool)
    offsets = np.zeros((len(where), 3))
    for _ in range(_MOST_STEPS):
        pending = np.flatnonzero(active)
        if not pending.size:
            break
        gradient, hessian = _derivatives(d, where[pending])
        step = np.zeros((pending.size, 3))
        regular = np.abs(np.linalg.det(hessian)) > 0
        step[regular] = -np.linalg.solve(hessian[regular], gradient[regular][..., None])[..., 0]
        near = (np.abs(step) < 0.5).all(axis=1) & regular
        done[pending[near]], offsets[pending[near]] = True, step[near]
        active[pending[near]] = False
        moved = where[pending] + np.rint(np.clip(step, -2 * rows - columns, 2 * rows + columns)).astype(np.int64)
        inside = (moved[:, 0] >= 1) & (moved[:, 0] <= layers) & regular
        for axis, side in ((1, rows), (2, columns)):
            inside &= (moved[:, axis] >= BORDER) & (moved[:, axis] < side - BORDER)
        active[pending[~inside]] = False
        stay = pending[inside & ~near]
        where[stay] = moved[inside & ~near]
    where, offsets = where[done], offsets[done]
    gradient, hessian = _derivatives(d, where)
    value = d[tuple(where.T)] + 0.5 * np.einsum("nd,nd->n", gradient, offsets)
    second = hessian[:, 1:, 1:]
    trace, determinant = np.trace(second, axis1=1, axis2=2), np.linalg.det(second)
    kept = (np.abs(value) * layers >= contrast) & (determinant > 0)
    kept &= trace**2 * edge < (edge + 1) ** 2 * determinant
    where, offsets, value = where[kept], offsets[kept], value[kept]
    exact = where + offsets
    zoom = 2.0**octave / 2  # of the octave's pixels in the picture's
    return KeyPoints(
        x=exact[:, 2] * zoom,
        y=exact[:, 1] * zoom,
        size=2 * zoom * space.sigma * 2 ** (exact[:, 0] / layers),
        angle=np.zeros(len(where)),
        response=np.abs(value),
        octave=np.full(len(where), octave),
        layer=where[:, 0],
    )


def _derivatives(d: Array, where: NDArray[np.int64]) -> tuple[Array, Array]:
    """Gradients (n, 3) and Hessians (n, 3, 3), along layers, rows, columns."""
    steps = np.eye(3, dtype=np.int64)

    def at(shift: NDArray[np.int64]) -> Array:
        return np.asarray(d[tuple((where + shift).T)])

    middle = at(np.zeros(3, dtype=np.int64))
    gradient = np.stack([(at(step) - at(-step)) / 2 for step in steps], axis=-1)
    hessian = np.empty((len(where), 3, 3))
    for one in range(3):
        hessian[:, one, one] = at(steps[one]) + at(-steps[one]) - 2 * middle
        for two in range(one):
            both, apart = steps[one] + steps[two], steps[one] - steps[two]
            hessian[:, one, two] = hessian[:, two, one] = (at(both) + at(-both) - at(apart) - at(-apart)) / 4
    return gradient, hessian


def oriented(points: KeyPoints, histograms: Array) -> KeyPoints:
    """Give each keypoint the direction most of its surroundings' gradients have; one with several becomes several.

    Parameters
    ----------
    points : KeyPoints
    histograms : ndarray, shape (len(points), 36)
        Of the gradients' directions, see `sift_orientations`.

    Returns
    -------
    KeyPoints
    """
    if histograms.shape != (len(points), BINS):
        raise GraphError(
            f"sift: histograms of shape {histograms.shape} do not fit {len(points)} keypoints of {BINS} bins"
        )
    smooth = sum(
        (weight * np.roll(histograms, shift, axis=1) for shift, weight in enumerate(_SMOOTHING, -2)),
        np.zeros_like(histograms),
    )
    left, right = np.roll(smooth, 1, axis=1), np.roll(smooth, -1, axis=1)
    peaks = (smooth > left) & (smooth > right) & (smooth >= _PEAK * smooth.max(axis=1, keepdims=True, initial=0.0))
    which, bins = np.nonzero(peaks)
    low, middle, high = (each[which, bins] for each in (left, smooth, right))
    place = bins + 0.5 * (low - high) / (low - 2 * middle + high)
    return replace(points.at(which), angle=np.mod(place * 360.0 / BINS, 360.0))
