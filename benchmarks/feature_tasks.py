"""What features are for: faces told from other patches, textures, one among many, two faces of one person."""

# mypy: disallow-untyped-calls=False
# (scikit-image annotates a part of its functions)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from skimage import feature
from sklearn.svm import LinearSVC

from secureimg.features import best_match, cosine, fit_pca, hog, hog_polynomial, local_binary_pattern, pca_projection
from secureimg.graph import Graph, GraphBuilder, chain, run_plain

from .feature_executors import Executors, Measured
from .feature_pictures import faces, jittered, patches, textures
from .feature_results import Curve, Outcome, TaskRow
from .feature_scores import auc, corners, part_equal, roc, roc_difference, tpr_at
from .feature_sift import match_keypoints

__all__ = ["TASKS", "Embedding", "Form", "Task", "find_among", "tell_faces", "tell_textures", "verify"]

Array = NDArray[np.float64]
_SHAPE = (25, 25)
_CELLS: dict[str, Any] = {"pixels_per_cell": (5, 5), "cells_per_block": (3, 3)}
_RATE = 0.01  # of false positives
_BATCH = 25
_TILE = 16
_MOVED = (2, 0.05)  # pixels; deviation of the noise
_ROUNDS = 10
_ROOM = 2.0  # a probe may be so much shorter or longer than every enrolled face


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes
    ----------
    name : str
        How tables call it.
    words : str
        What must be known to read its figures.
    run : callable
        Takes the executors and whether the run is a quick one.
    """

    name: str
    words: str
    run: Callable[[Executors, bool], Outcome]


@dataclass(frozen=True)
class Form:
    """A form of HOG: its graph for (25, 25), what a classifier is trained on (N, 1, 25, 25) in the clear, where it runs."""

    graph: Callable[[], Graph]
    reference: Callable[[Array], Array]
    executors: tuple[str, ...]


@dataclass(frozen=True)
class Embedding:
    """A graph from (1, 25, 25) to a vector, made without the faces that it is tried on; where its cosines run.

    For a network that takes larger pictures: ``chain(resize((25, 25), ...), network)``.
    """

    graph: Callable[[], Graph]
    executors: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------- classifiers


def tell_faces(form: Form, executors: Executors, quick: bool) -> Outcome:
    """Faces and other patches by a linear SVM on a form of HOG; the executor tells no more than the answer."""
    images, labels = faces()
    train, test = slice(0, None, 2), slice(1, None, 8 if quick else 2)
    machine = LinearSVC(C=0.1, random_state=0).fit(form.reference(images[train]), labels[train])
    clear = machine.predict(form.reference(images[test]))
    extract = form.graph()
    b = GraphBuilder("svm", extract.output_shape)
    graph = chain(extract, b.build(b.dense(b.input, machine.coef_, machine.intercept_)))
    rows = []
    for executor in form.executors:
        if executor == "shares":
            measured = executors.shares(graph, images[test], repeat=1, batch=_BATCH, reveal="label")
        else:
            measured = executors.on(executor)(graph, images[test], repeat=1)
        answers = measured.values.ravel() > 0
        rows.append(_counted(executor, "accuracy", clear == labels[test], answers == labels[test], measured))
    return Outcome(tuple(rows))


def tell_textures(executors: Executors, quick: bool) -> Outcome:
    """Brick, grass or gravel by a linear SVM on the histogram of uniform local binary patterns, which the owner counts."""
    tiles, labels = textures(_TILE)
    train, test = slice(0, None, 2), slice(1, None, 8 if quick else 2)
    inputs = np.rint(255 * tiles)
    codes = np.stack([feature.local_binary_pattern(tile[0].astype(np.uint8), 8, 1.0, "uniform") for tile in inputs])
    machine = LinearSVC(C=100.0, random_state=0).fit(_frequencies(codes[train]), labels[train])
    clear = machine.predict(_frequencies(codes[test]))
    graph = local_binary_pattern((_TILE, _TILE), method="uniform")
    rows = []
    for executor, options in (("plain", {}), ("shares", {"batch": 64})):
        measured = executors.on(executor)(graph, inputs[test], repeat=1, **options)
        found = np.rint(measured.values)
        answers = machine.predict(_frequencies(found))
        equal = part_equal(found, codes[test])
        rows += [
            TaskRow("", executor, "equal codes", None, equal, equal, found.size, measured.figures),
            _counted(executor, "accuracy", clear == labels[test], answers == labels[test], measured),
        ]
    return Outcome(tuple(rows))


def _frequencies(codes: Array) -> Array:
    return np.stack([np.bincount(tile.astype(np.int64).ravel(), minlength=10) / tile.size for tile in codes])


# ---------------------------------------------------------------------------------------------------------- one among many


def find_among(describe: Callable[[Array], Array], others: int, executors: Executors, quick: bool) -> Outcome:
    """Which face of a gallery a moved and noisy picture shows: the first of 100 faces and `others` patches by cosine."""
    images = faces()[0][:100]
    gallery = _unit(describe(np.concatenate([images, patches(others, 3)]) if others else images))
    count = (10 if quick else 50) if others else (25 if quick else 100)
    truth = np.arange(0, 100, 100 // count)
    probes = _unit(describe(jittered(images[truth], *_MOVED, seed=5)))
    clear = np.argmin(cdist(probes, gallery, "cosine"), axis=1)
    graph = cosine(gallery)
    runs = (
        ("plain", executors.plain(graph, probes, repeat=1)),
        ("ckks", executors.ckks(graph, probes, repeat=1, ends=(-1.0, 1.0))),
        (
            "shares",
            executors.shares(
                best_match(gallery), probes, repeat=1, ends=(-1.0, 1.0), reveal="label", weights="party 1"
            ),
        ),
    )
    rows = []
    for executor, measured in runs:
        places = measured.values[:, 0] if executor == "shares" else measured.values.argmax(axis=1)
        rows.append(_counted(executor, "recall@1", clear == truth, places == truth, measured, places == clear))
    return Outcome(tuple(rows))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# ------------------------------------------------------------------------------------------------------------ verification


def verify(embedding: Embedding, executors: Executors, quick: bool) -> Outcome:
    """Whether two pictures show one face, by the cosine of their embeddings: picture, embedding and gallery in one program.

    Genuine: a face and itself moved and with noise. Impostor: a face and another one, moved likewise.
    """
    images = faces()[0][:100]
    rounds = 2 if quick else _ROUNDS
    probes = np.concatenate([jittered(images, *_MOVED, seed) for seed in range(rounds)])
    own = np.tile(np.eye(len(images), dtype=bool), (rounds, 1))
    extract = embedding.graph()
    gallery = run_plain(extract, images)
    clear = 1 - cdist(run_plain(extract, probes), gallery, "cosine")
    wanted = roc(clear[own], clear[~own])
    sizes = np.linalg.norm(gallery, axis=1)
    lengths = float(sizes.min()) / _ROOM, float(sizes.max()) * _ROOM
    graph = chain(extract, cosine(gallery, normalized=False, lengths=lengths))
    rows, curves = [], [_curve("clear", wanted)]
    for executor in embedding.executors:
        options: dict[str, Any] = (
            {"batch": _BATCH, "weights": "party 1", "samples": images} if executor == "shares" else {}
        )
        measured = executors.on(executor)(graph, probes, repeat=1, **options)
        curve = roc(measured.values[own], measured.values[~own])
        curves.append(_curve(executor, curve))
        before, after = (float(tpr_at(each, _RATE)) for each in (wanted, curve))
        rows += [
            TaskRow("", executor, "AUC", auc(wanted), auc(curve), None, clear.size, measured.figures),
            TaskRow("", executor, f"TPR at {_RATE:.0%} FPR", before, after, None, clear.size, measured.figures),
            TaskRow("", executor, "largest ROC difference", None, roc_difference(wanted, curve), None, clear.size,
                    measured.figures),
        ]  # fmt: skip
    return Outcome(tuple(rows), tuple(curves))


def _curve(executor: str, curve: tuple[Array, Array]) -> Curve:
    false, true = corners(curve)
    return Curve("", executor, tuple(false.tolist()), tuple(true.tolist()))


def _counted(
    executor: str,
    measure: str,
    clear: NDArray[np.bool_],
    found: NDArray[np.bool_],
    measured: Measured,
    agree: NDArray[np.bool_] | None = None,
) -> TaskRow:
    same = clear == found if agree is None else agree
    return TaskRow(
        "",
        executor,
        measure,
        float(clear.mean()),
        float(found.mean()),
        float(same.mean()),
        len(found),
        measured.figures,
    )


# ------------------------------------------------------------------------------------------------------------------- table


def _hogs(images: Array) -> Array:
    return np.stack([feature.hog(image[0], **_CELLS) for image in images])


def _eigenfaces(count: int) -> Graph:
    """Principal components of pictures that are in no gallery: the patches that are no faces, and parts of others."""
    found = fit_pca(np.concatenate([faces()[0][100:], patches(300, 4)]), count)
    return pca_projection(_SHAPE, found.components, found.mean)


def _coordinates(count: int, images: Array) -> Array:
    return run_plain(_eigenfaces(count), images)


_HOG = Form(lambda: hog(_SHAPE, **_CELLS), _hogs, ("plain", "shares"))
_POLYNOMIAL_HOG = Form(
    lambda: hog_polynomial(_SHAPE, pixels_per_cell=(5, 5)),
    lambda images: run_plain(hog_polynomial(_SHAPE, pixels_per_cell=(5, 5)), images),
    ("plain", "ckks", "shares"),
)
_EIGENFACES = Embedding(lambda: _eigenfaces(64), ("plain", "shares"))

_PROBES = "Probes: the faces moved by up to 2 pixels, with noise of 0.05"
_SHOWN = (
    f"{_PROBES}; templates are made in the clear. On CKKS the owner decrypts all cosines; on shares it learns the place "
    "alone, and the gallery is party 1's."
)

TASKS: tuple[Task, ...] = (
    Task(
        "faces by HOG and SVM",
        "200 patches of Labeled Faces in the Wild (skimage.data.lfw_subset, 25x25), half of them faces; trained in the "
        "clear on every other one with skimage.feature.hog; HOG and SVM are one program, which reveals the answer alone.",
        partial(tell_faces, _HOG),
    ),
    Task(
        "faces by polynomial HOG and SVM",
        "the same, trained on secureimg.features.hog_polynomial in the clear.",
        partial(tell_faces, _POLYNOMIAL_HOG),
    ),
    Task(
        "textures by LBP and SVM",
        f"tiles of {_TILE}x{_TILE} of skimage.data's brick, grass and gravel; trained in the clear on every other one with "
        "skimage.feature.local_binary_pattern.",
        tell_textures,
    ),
    Task(
        "1:100 by eigenfaces",
        f"100 faces of lfw_subset, 64 components. {_SHOWN}",
        partial(find_among, partial(_coordinates, 64), 0),
    ),
    Task("1:100 by HOG", f"100 faces of lfw_subset, 729 values. {_SHOWN}", partial(find_among, _hogs, 0)),
    Task(
        "1:10,000 by eigenfaces",
        f"100 faces of lfw_subset and 9,900 parts of pictures without faces, 128 components. {_SHOWN}",
        partial(find_among, partial(_coordinates, 128), 9900),
    ),
    Task(
        "verification by eigenfaces",
        f"100 faces of lfw_subset, 64 components; each against itself and all others, {_ROUNDS} times (quick: twice). "
        f"{_PROBES}. Picture, embedding and cosines are one program; it reveals scores, as a curve needs them. Difference "
        "of two ROC curves: the largest one of their true positive rates at any false positive rate.",
        partial(verify, _EIGENFACES),
    ),
    Task(
        "SIFT",
        "pictures of 256x256 (quick: one of 96x96) and what known homographies make of them; in the clear stands what "
        "OpenCV's SIFT does on the same pairs. A keypoint is found again within 1.5 pixels and a factor of 1.25 in size; "
        "a match passes Lowe's ratio of 0.8 and is right within 3 pixels. Time and bytes are those of finding the extrema, "
        "the first and largest of three programs; the owner alone learns places.",
        match_keypoints,
    ),
)
