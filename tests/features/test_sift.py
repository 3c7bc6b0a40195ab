"""Rule: keypoints are where OpenCV's are, descriptors match as often as OpenCV's, and shares give what the clear gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from benchmarks.feature_sift import motion, moved
from secureimg import features, sharing
from secureimg.errors import GraphError
from secureimg.features.sift import KeyPoints, ScaleSpace, oriented, read_extrema
from secureimg.features.sift.patches import sift_patches
from secureimg.graph import Graph, run_plain

from .executors import clear, on_shares


def grey(picture: np.ndarray, side: int) -> np.ndarray:
    flat = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    return cv2.resize(flat, (side, side), interpolation=cv2.INTER_AREA)


PICTURES = {"camera": data.camera(), "coins": data.coins(), "astronaut": data.astronaut()}


def correct_matches(first, second, homography: np.ndarray) -> int:
    """Matches by Lowe's ratio of 0.8 that the homography confirms to 3 pixels."""
    found = cv2.BFMatcher().knnMatch(first[1].astype(np.float32), second[1].astype(np.float32), k=2)
    good = [a for a, b in found if a.distance < 0.8 * b.distance]
    there = moved(first[0][[m.queryIdx for m in good]], homography)
    return int((np.linalg.norm(there - second[0][[m.trainIdx for m in good]], axis=1) < 3).sum())


def ours(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points, descriptors = features.sift(picture / 255.0)
    return np.stack([points.x, points.y], axis=1), descriptors


def opencv(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points, descriptors = cv2.SIFT_create().detectAndCompute(picture, None)
    return np.array([point.pt for point in points]), descriptors


def run_on_shares(graph: Graph, images: np.ndarray) -> np.ndarray:
    return sharing.run_together(sharing.compile(graph, weights="public"), images)


@pytest.mark.parametrize("name", PICTURES)
def test_keypoints_are_those_of_opencv(name: str) -> None:
    picture = grey(PICTURES[name], 160)
    found = features.sift(picture / 255.0)[0]
    wanted = cv2.SIFT_create().detect(picture, None)
    assert 0.9 * len(wanted) <= len(found) <= 1.1 * len(wanted)
    places = np.stack([found.x, found.y, found.size], axis=1)
    turns = np.exp(1j * np.deg2rad(found.angle))
    near = 0
    for point in wanted:
        close = np.abs(places - [*point.pt, point.size]).max(axis=1) < 0.3
        near += (np.abs(np.angle(turns[close] * np.exp(-1j * np.deg2rad(point.angle)))) < 0.2).any()
    assert near >= 0.85 * len(wanted)


@pytest.mark.parametrize(("angle", "scale", "perspective"), [(0, 1.0, 0.0), (25, 0.9, 3e-4), (-70, 1.3, 0.0)])
def test_as_many_correct_matches_as_opencv(angle: float, scale: float, perspective: float) -> None:
    total = np.zeros(2)
    for name in PICTURES:
        picture = grey(PICTURES[name], 128)
        homography = motion(128, angle, scale, perspective)
        other = cv2.warpPerspective(picture, homography, (128, 128), borderMode=cv2.BORDER_REFLECT_101)
        total += [correct_matches(way(picture), way(other), homography) for way in (ours, opencv)]
    assert total[0] >= 0.9 * total[1]


@pytest.mark.parametrize("seen_by", ["owner", "parties"])
def test_shares_and_clear_agree(seen_by: features.PlacesSeenBy) -> None:
    picture = grey(data.camera(), 96)[:, :80] / 255.0
    points, descriptors = features.sift(picture)
    found, same = features.sift(picture, run_on_shares, places_seen_by=seen_by)
    assert len(points) > 20
    for name in ("x", "y", "size"):
        np.testing.assert_allclose(getattr(found, name), getattr(points, name), atol=1e-2)
    assert (np.abs(np.angle(np.exp(1j * np.deg2rad(found.angle - points.angle)))) < 1e-2).all()
    assert np.einsum("nd,nd->n", descriptors, same).min() > 0.998


def test_the_owner_learns_no_descriptor_of_what_fills_a_batch() -> None:
    sizes: list[tuple[str, int]] = []

    def run(graph: Graph, images: np.ndarray) -> np.ndarray:
        sizes.append((graph.name, len(images)))
        return run_plain(graph, images)

    points, descriptors = features.sift(grey(data.coins(), 128) / 255.0, run)
    assert len(points) == len(descriptors)
    for name, count in sizes[1:]:
        assert name in ("sift_orientations", "sift_descriptors")
        assert count % 64 == 0  # the parties see this number


def test_the_strongest_keypoints_are_kept() -> None:
    picture = grey(data.astronaut(), 128) / 255.0
    every, some = features.sift(picture)[0], features.sift(picture, nfeatures=20)[0]
    assert len(some) == 20
    assert some.response.min() >= np.sort(every.response)[-25]


def test_a_picture_without_keypoints() -> None:
    points, descriptors = features.sift(np.full((32, 40), 0.4))
    assert (len(points), descriptors.shape) == (0, (0, 128))
    assert len(features.sift(np.full((32, 40), 0.4), places_seen_by="parties")[0]) == 0


def test_descriptors_at_the_keypoints_of_opencv() -> None:
    picture = grey(data.coins(), 128)
    points, descriptors = cv2.SIFT_create().detectAndCompute(picture, None)
    octave = np.array([(point.octave & 255) for point in points])
    octave = np.where(octave < 128, octave, octave - 256) + 1
    given = KeyPoints(
        *(np.array(values) for values in zip(*((*p.pt, p.size, p.angle, p.response) for p in points), strict=True)),
        octave,
        np.array([(point.octave >> 8) & 255 for point in points]),
    )
    patches = clear(sift_patches(ScaleSpace((128, 128)), given, 27, 0.6), picture / 255.0)
    graph = features.sift_descriptors(patches.shape)
    found, wanted = clear(graph, patches), descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    cosine = np.einsum("nd,nd->n", found, wanted)
    assert np.median(cosine) > 0.97
    assert np.abs(on_shares(graph, patches) - found).max() < 1e-3


@pytest.mark.parametrize("name", PICTURES)
def test_dense_descriptors_are_those_of_opencv(name: str) -> None:
    picture = grey(PICTURES[name], 96)
    graph = features.sift_dense(picture.shape)
    found = clear(graph, picture / 255.0)
    rows, columns, _ = found.shape
    # OpenCV blurs the first layer above the doubled picture by 2.016, a third of a cell of 6 pixels
    places = [
        cv2.KeyPoint(15.0 + 8 * j, 15.0 + 8 * i, 4.0, 0.0, 1.0, 1 << 8) for i in range(rows) for j in range(columns)
    ]
    _, wanted = cv2.SIFT_create().compute(picture, places)
    wanted = wanted.reshape(rows, columns, 128)
    textured = np.linalg.norm(wanted, axis=2) > 0
    cosine = (found * wanted).sum(2)[textured] / np.linalg.norm(wanted, axis=2)[textured]
    assert cosine.min() > 0.98
    assert np.median(cosine) > 0.998
    assert np.abs(on_shares(graph, picture / 255.0) - found).max() < 2e-3


def test_a_flat_patch_has_no_descriptor() -> None:
    assert not clear(features.sift_descriptors(), np.full((27, 27), 0.7)).any()
    rounding = on_shares(features.sift_descriptors(), np.full((27, 27), 0.7))
    assert np.linalg.norm(rounding) < 0.1  # of a length of 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda: features.sift_extrema((6, 40)), "too small"),
    (lambda: features.sift_extrema((3, 40, 40)), "grey"),
    (lambda: features.sift_extrema((40, 40), n_octave_layers=0), "n_octave_layers 0"),
    (lambda: features.sift_extrema((40, 40), contrast_threshold=2.0), "contrast_threshold"),
    (lambda: features.sift_extrema((40, 40), edge_threshold=1.0), "edge_threshold"),
    (lambda: features.sift_extrema((40, 40), sigma=0.5), "sigma"),
    (lambda: features.sift(np.zeros((4, 4, 3))), "grey"),
    (lambda: features.sift(np.zeros((40, 40)), nfeatures=-1), "nfeatures"),
    (lambda: features.sift(np.zeros((40, 40)), places_seen_by="nobody"), "neither"),
    (lambda: features.sift_dense((40, 40), step=0), "step"),
    (lambda: features.sift_dense((40, 40), cell=2), "cell"),
    (lambda: features.sift_dense((30, 40)), "no room"),
    (lambda: features.sift_descriptors((19, 19)), "27x27"),
    (lambda: features.sift_orientations((5000, 19, 19)), "5000 patches"),
    (lambda: read_extrema(np.zeros(7), ScaleSpace((40, 40))), "not of a picture|has"),
    (lambda: oriented(features.sift(np.zeros((40, 40)))[0], np.zeros((3, 36))), "histograms"),
])  # fmt: skip
def test_refusals(call, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()
