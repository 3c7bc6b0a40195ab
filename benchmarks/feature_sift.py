"""SIFT beside OpenCV's: keypoints found again, and matches that a known homography confirms."""

# mypy: disable-error-code="attr-defined"
# (OpenCV's annotations leave SIFT out)
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from secureimg.features import sift, sift_dense
from secureimg.graph import Graph

from .feature_executors import Executors, Figures
from .feature_pictures import pictures
from .feature_results import Outcome, TaskRow

__all__ = ["match_keypoints", "motion", "moved"]

Array = NDArray[np.float64]
_MOTIONS = ((0.0, 1.0, 0.0), (25.0, 0.85, 3e-4), (-60.0, 1.2, 0.0), (10.0, 0.7, 0.0))  # degrees, size, perspective
_RATIO = 0.8  # of Lowe's test between the nearest and the next descriptor
_NEAR = 3.0  # pixels off the homography that a match may be
_AGAIN = 1.5  # pixels, and a factor in size of 1.25, for a keypoint to be found again
_BATCH = 256


@dataclass(frozen=True)
class _Found:
    """Places (n, 2), sizes (n,) and descriptors (n, 128)."""

    places: Array
    sizes: Array
    descriptors: Array


def match_keypoints(executors: Executors, quick: bool) -> Outcome:
    """Pictures and what a homography makes of them: OpenCV's SIFT and ours, in the clear and on shares."""
    size = 96 if quick else 256
    chosen = (pictures(size)[:1] if quick else pictures(size))[:, 0]
    pairs = [(one, *_warped(one, *_MOTIONS[number % len(_MOTIONS)])) for number, one in enumerate(chosen)]
    opencv = [(_opencv(one), _opencv(other), homography) for one, other, homography in pairs]
    wanted = _scores(opencv, size)
    rows = []
    for executor in ("plain", "shares"):
        figures: list[Figures] = []
        found = [
            (_ours(one, executor, executors, figures), _ours(other, executor, executors, figures), homography)
            for one, other, homography in pairs
        ]
        scores = _scores(found, size)
        again = TaskRow("", executor, "keypoints found again", wanted[0], scores[0], None, len(pairs), figures[0])
        correct = TaskRow(
            "", executor, "correct matches, of OpenCV's", 1.0, scores[1] / wanted[1], None, int(wanted[1]), figures[0]
        )
        rows += [again, correct]
        dense = executors.on(executor)(sift_dense((size, size)), chosen[:, None], repeat=1)
        cosine = float(np.mean([_alike(*pair) for pair in zip(chosen, dense.values, strict=True)]))
        rows.append(
            TaskRow("", executor, "dense: cosine with OpenCV's", None, cosine, None, len(chosen), dense.figures)
        )
    return Outcome(tuple(rows))


def motion(side: int, angle: float, scale: float, perspective: float = 0.0) -> Array:
    """A homography of square pictures: a turn and a change of size about the middle, a small shift, then perspective."""
    turned, tilted = np.eye(3), np.eye(3)
    turned[:2] = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale)
    turned[:2, 2] += 3.3, -2.6
    tilted[2, :2] = perspective, -perspective / 2
    return np.asarray(tilted @ turned, dtype=np.float64)


def moved(points: Array, homography: Array) -> Array:
    """Where a homography takes points (n, 2)."""
    lifted = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ homography.T
    return np.asarray(lifted[:, :2] / lifted[:, 2:])


def _warped(picture: Array, angle: float, scale: float, perspective: float) -> tuple[Array, Array]:
    """A picture moved by a homography, and the homography."""
    side = len(picture)
    homography = motion(side, angle, scale, perspective)
    pixels = cv2.warpPerspective(_pixels(picture), homography, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(pixels, dtype=np.float64) / 255.0, homography


def _pixels(picture: Array) -> NDArray[np.uint8]:
    return np.rint(picture * 255).astype(np.uint8)


def _opencv(picture: Array) -> _Found:
    points, descriptors = cv2.SIFT_create().detectAndCompute(_pixels(picture), None)
    return _Found(
        np.array([point.pt for point in points]), np.array([point.size for point in points]), np.asarray(descriptors)
    )


def _ours(picture: Array, executor: str, executors: Executors, figures: list[Figures]) -> _Found:
    def run(graph: Graph, images: Array) -> Array:
        options = {"batch": min(len(images), _BATCH)} if executor == "shares" else {}
        measured = executors.on(executor)(graph, images, repeat=1, **options)
        figures.append(measured.figures)
        return measured.values

    points, descriptors = sift(picture, run)
    return _Found(np.stack([points.x, points.y], axis=1), points.size, descriptors)


def _scores(pairs: list[tuple[_Found, _Found, Array]], side: int) -> tuple[float, float]:
    """Part of the keypoints found again, of those that are inside both pictures; and the number of correct matches."""
    again, inside, correct = 0, 0, 0
    for first, second, homography in pairs:
        there = moved(first.places, homography)
        scale = moved(first.places + np.array([1.0, 0.0]), homography) - there
        seen = ((there >= 8) & (there < side - 8)).all(axis=1)
        distance = np.linalg.norm(there[:, None] - second.places[None], axis=2)
        ratio = np.abs(np.log(first.sizes * np.linalg.norm(scale, axis=1))[:, None] - np.log(second.sizes)[None])
        again += int((((distance < _AGAIN) & (ratio < np.log(1.25))).any(axis=1) & seen).sum())
        inside += int(seen.sum())
        found = cv2.BFMatcher().knnMatch(
            first.descriptors.astype(np.float32), second.descriptors.astype(np.float32), k=2
        )
        good = [best for best, *rest in found if rest and best.distance < _RATIO * rest[0].distance]
        correct += sum(distance[match.queryIdx, match.trainIdx] < _NEAR for match in good)
    return again / max(inside, 1), float(correct)


def _alike(picture: Array, descriptors: Array) -> float:
    """Mean cosine of dense descriptors with OpenCV's at the same places, where there is anything to see."""
    rows, columns, _ = descriptors.shape
    # the layer of OpenCV that is blurred by 2.016, a third of a cell of 6 pixels
    places = [
        cv2.KeyPoint(15.0 + 8 * column, 15.0 + 8 * row, 4.0, 0.0, 1.0, 1 << 8)
        for row in range(rows)
        for column in range(columns)
    ]
    wanted = cv2.SIFT_create().compute(_pixels(picture), places)[1].reshape(descriptors.shape)
    length = np.linalg.norm(wanted, axis=2)
    return float(((descriptors * wanted).sum(axis=2)[length > 0] / length[length > 0]).mean())
