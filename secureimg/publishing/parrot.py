"""The parrot attack: a classifier is trained on obfuscated pictures of known people, then asked who is on new ones.

It imitates what it hears and need not undo anything. It takes the method as it is, any function of a picture, and so judges
all of them alike: pixelation, blur, noise, the public part of a split photograph, a thumbnail.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc
from threadpoolctl import threadpool_limits

from secureimg.errors import PublishingError
from secureimg.publishing.albums import Album
from secureimg.publishing.classifiers import Candidate, candidates, describe, ranked, rows_of
from secureimg.publishing.similarity import Similarity, compare_pictures
from secureimg.sharing.streams import Stream

__all__ = ["MethodOfOne", "MethodOfSet", "ParrotResult", "ofset", "parrot_attack", "wilson_interval"]

Array = NDArray[np.float64]
MethodOfOne = Callable[[Array], NDArray[Any]]
"""A picture (H, W) or (H, W, 3) in [0, 1] to what is published of it: a picture of that shape, or other values."""

MethodOfSet = Callable[[Array], NDArray[Any]]
"""Pictures (N, H, W) or (N, H, W, 3) to as many published ones, for methods that look at a whole set."""

FIXED_SEED: Final = bytes(32)
"""The split that everybody gets who does not ask for another: figures can be repeated. It protects nothing."""

_SURE: Final = 1e-3
_FEWEST: Final = 3  # pictures of a label
_ROWS: Final = 6_000  # of the training table, shifted copies included
_CHOOSING: Final = 1_500  # originals that take part in choosing a classifier
_COMPARED: Final = 200  # pictures whose similarity is measured
_SHIFT: Final = 0.027  # of the longer side
_STEPS: Final = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))


@dataclass(frozen=True)
class ParrotResult:
    """What the attack reached.

    Attributes
    ----------
    top1, top5 : float
        Part of the test pictures whose label was named first, or among the first five.
    interval : (float, float)
        95 % confidence interval of `top1` (Wilson), for other pictures of the same labels.
    chance, chance5 : float
        What naming the most frequent label, or five, reaches without looking.
    labels, train, test : int
        Labels; pictures that it was trained on and tested on. None is in both.
    similarity : Similarity or None
        Mean over test pictures; None if what is published has another shape than the picture.
    classifier : str
        What was chosen by cross-validation among the training pictures, in words.
    copies : int
        Shifted copies of each training picture, itself included.
    seconds : float
    """

    top1: float
    top5: float
    interval: tuple[float, float]
    chance: float
    chance5: float
    labels: int
    train: int
    test: int
    similarity: Similarity | None
    classifier: str
    copies: int
    seconds: float

    @property
    def beats_chance(self) -> bool:
        """Whether as many hits come by chance with a probability below 0.001 only (exact binomial test, one-sided).

        So strict, because a sweep asks many times.
        """
        hits = round(self.top1 * self.test)
        return bool(bdtrc(hits - 1, self.test, self.chance) < _SURE)


def ofset(method: MethodOfOne) -> MethodOfSet:
    """Return a method of one picture as a method of a set: each picture for itself."""
    return lambda images: np.stack([method(image) for image in images])


def parrot_attack(
    album: Album,
    method: MethodOfOne | None = None,
    *,
    method_of_set: MethodOfSet | None = None,
    train_part: float = 0.6,
    copies: int | None = None,
    seed: bytes = FIXED_SEED,
) -> ParrotResult:
    """Attack a method on an album.

    Parameters
    ----------
    album : Album
        At least two labels with at least three pictures each.
    method : callable
        What is published of a picture. It may draw fresh noise at each call.
    method_of_set : callable
        Instead of `method`: for a method that looks at a set. Training and test pictures are two sets.
    train_part : float
        Part of each label's pictures that the attacker knows, from 0.1 to 0.9; rounded, at least two, and one is left.
    copies : int or None
        Shifted copies of each training picture, 1 to 9, itself included; None: as many as make about 6,000 rows.
    seed : bytes
        32 bytes that choose the split.

    Returns
    -------
    ParrotResult

    Raises
    ------
    PublishingError
        The album is too small, a parameter outside its range, or what the method returns has no fixed shape.

    Notes
    -----
    Values are rounded to 8 bits, as they would be published. The attacker knows the method: it obfuscates copies of its
    pictures, shifted by 2.7 % of the longer side. Picture values are brought to 7, 14 or 28 pixels on the longer side, which
    averages noise away; linear discriminant analysis and a support vector machine are tried on each, and the best in
    three-fold cross-validation among the training pictures is trained on all of them. The test pictures play no part in
    that. Published values that are no pictures of the original's shape are taken as they are.

    Cost: ``train * copies + test`` calls of the method, and a few seconds for the classifiers.

    References
    ----------
    McPherson, Shokri, Shmatikov, "Defeating Image Obfuscation with Deep Learning", arXiv:1609.00408, 2016. The paper trains
    convolutional networks; for albums of tens of pictures a person the classifiers here do as well.
    """
    if (method is None) == (method_of_set is None):
        raise PublishingError("the attack takes a method or a method_of_set, one of them: give one")
    if not 0.1 <= train_part <= 0.9:
        raise PublishingError(f"train_part {train_part} is not from 0.1 to 0.9: the usual part is 0.6")
    if copies is not None and not 1 <= copies <= len(_STEPS):
        raise PublishingError(f"{copies} copies of each training picture: use 1 to {len(_STEPS)}")
    start = time.perf_counter()
    train, test = _split(album, train_part, seed)
    copies = copies or min(max(_ROWS // len(train), 1), len(_STEPS))
    publish = method_of_set if method_of_set is not None else ofset(method)  # type: ignore[arg-type]
    with threadpool_limits(1):  # many small products: threads cost more than they save
        shown = _published(publish, album, test, (0, 0))
        tables = [_published(publish, album, train, step) for step in _STEPS[:copies]]
    if len({table.shape[1:] for table in (shown, *tables)}) > 1:
        raise PublishingError(
            "the method publishes values of another shape for each picture: the attack needs one shape"
        )
    is_picture = shown.shape[1:] == album.pixels.shape[1:]
    choices = candidates(shown.shape[1:], is_picture)
    labels = album.labels
    with threadpool_limits(1):
        best = _choose(choices, tables, labels[train])
        rows = np.concatenate([rows_of(best, table) for table in tables])
        order = ranked(best, rows, np.tile(labels[train], copies), rows_of(best, shown))
    hits = order == labels[test][:, None]
    shares = np.sort(np.bincount(labels[test], minlength=len(album.names)) / len(test))[::-1]
    top1 = float(hits[:, 0].mean())
    return ParrotResult(
        top1, float(hits[:, :5].any(axis=1).mean()), wilson_interval(int(hits[:, 0].sum()), len(test)),
        float(shares[0]), float(shares[:5].sum()), len(album.names), len(train), len(test),
        _similarity(album, test, shown) if is_picture else None, describe(best), copies, time.perf_counter() - start,
    )  # fmt: skip


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a rate (Wilson, JASA 22, 1927)."""
    z = 1.959964
    rate, scale = hits / count, 1 + z * z / count
    middle = (rate + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _split(album: Album, part: float, seed: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split each label's pictures, in an order that the seed says."""
    if len(album.names) < 2:
        raise PublishingError(f"the album has {len(album.names)} label, and an attack needs two: add another person")
    stream = Stream(seed, "parrot split")
    train, test = [], []
    for label, name in enumerate(album.names):
        places = np.flatnonzero(album.labels == label)
        if len(places) < _FEWEST:
            raise PublishingError(
                f"label {name!r} has {len(places)} pictures, and the attack needs {_FEWEST}, to train and to test: "
                "add some, or leave the label out"
            )
        places = places[np.argsort(stream.words(len(places)), kind="stable")]
        known = min(max(round(part * len(places)), 2), len(places) - 1)
        train.append(places[:known])
        test.append(places[known:])
    return np.concatenate(train), np.concatenate(test)


def _published(
    publish: MethodOfSet, album: Album, places: NDArray[np.int64], step: tuple[int, int]
) -> NDArray[np.float32]:
    """What is published of pictures that are shifted by so many steps. Pixels at the border are repeated."""
    height, width = album.pixels.shape[1:3]
    size = max(1, round(_SHIFT * max(height, width)))
    down, right = step[0] * size, step[1] * size
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    images = album.pixels[places][:, rows][:, :, columns] / 255.0
    values = np.asarray(publish(images))
    if len(values) != len(places) or not np.isfinite(values).all():
        raise PublishingError("the method returned something else than finite values for each picture")
    if values.shape == images.shape and values.dtype.kind == "f":
        values = np.rint(np.clip(values, 0.0, 1.0) * 255) / 255
    return values.astype(np.float32)


def _choose(choices: list[Candidate], tables: list[NDArray[np.float32]], labels: NDArray[np.int64]) -> Candidate:
    """Return what names most of the unshifted training pictures that it was not trained on."""
    fewest = int(np.bincount(labels)[np.unique(labels)].min())
    folds = min(3, fewest)
    fold = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        fold[places] = np.arange(len(places)) % folds
    taken = np.ones(len(labels), bool)
    if len(labels) > _CHOOSING:  # every so many-th of each label, in all folds alike
        for label in np.unique(labels):
            places = np.flatnonzero(labels == label)
            taken[places[max(_CHOOSING * len(places) // len(labels), folds) :]] = False
    few = tables[: max(1, min(len(tables), 5))]
    scores = []
    for choice in choices:
        hits = 0
        columns = [rows_of(choice, table) for table in few]
        for one in range(folds):
            inside, outside = taken & (fold != one), taken & (fold == one)
            rows = np.concatenate([column[inside] for column in columns])
            order = ranked(choice, rows, np.tile(labels[inside], len(few)), columns[0][outside])
            hits += int((order[:, 0] == labels[outside]).sum())
        scores.append(hits)
    return choices[int(np.argmax(scores))]


def _similarity(album: Album, places: NDArray[np.int64], shown: NDArray[np.float32]) -> Similarity:
    step = -(-len(places) // _COMPARED)
    found = [
        compare_pictures(album.picture(place), values.astype(np.float64))
        for place, values in zip(places[::step], shown[::step], strict=True)
    ]
    psnr = [each.psnr for each in found]
    return Similarity(
        float(np.mean([each.mse for each in found])),
        float(np.mean(psnr)),
        float(np.mean([each.ssim for each in found])),
    )
