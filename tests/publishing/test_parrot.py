"""The parrot attack: it recognises what obfuscation leaves, finds nothing where nothing is, and never sees its test."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from secureimg.errors import PublishingError
from secureimg.publishing import (
    Album,
    ParrotResult,
    StrengthPoint,
    Sweep,
    blur,
    digits_album,
    first_at_chance,
    k_same,
    last_beaten,
    ofset,
    parrot_attack,
    pixelate,
    strength_sweep,
)
from secureimg.publishing.classifiers import Candidate, LinearDiscriminant, candidates, ranked
from secureimg.publishing.parrot import wilson_interval


def people(count: int = 12, each: int = 8, colour: bool = False) -> Album:
    """Made-up faces of 112x92: a smooth field for each person; light, place and expression differ between pictures."""
    rng = np.random.default_rng(8)
    images, labels = [], []
    for person in range(count):
        face = blur(rng.random((112, 92)), 7)[0]
        face = (face - face.min()) / np.ptp(face)
        for _ in range(each):
            down, right = rng.integers(-3, 4, 2)
            look = np.roll(face, (down, right), (0, 1)) * rng.uniform(0.7, 1) + rng.normal(0, 0.05, face.shape)
            look += 0.2 * blur(rng.random(face.shape), 5)[0]
            images.append(np.clip(look, 0, 1))
            labels.append(f"person {person:02}")
    stack = np.stack(images)
    return Album.of(np.stack([stack, stack**2, 1 - stack], axis=3) if colour else stack, labels)


@pytest.fixture(scope="module")
def digits() -> Album:
    return digits_album(40)


def test_pixelated_people_are_recognised() -> None:
    """The bar: at least 85 % of pictures of 112x92 pixelated 8x8."""
    result = parrot_attack(people(), lambda image: pixelate(image, 8)[0], copies=3)
    assert result.top1 >= 0.85
    assert result.top5 >= result.top1
    assert result.beats_chance
    assert (result.labels, result.train, result.test) == (12, 12 * 5, 12 * 3)
    assert result.chance == pytest.approx(1 / 12)
    assert result.chance5 == pytest.approx(5 / 12)
    assert result.similarity is not None
    assert result.similarity.ssim < 0.9


def test_colour_is_used() -> None:
    result = parrot_attack(people(6, 6, colour=True), lambda image: pixelate(image, 16)[0], copies=2)
    assert result.top1 >= 0.85


def test_pixelated_digits_are_read(digits: Album) -> None:
    result = parrot_attack(digits, lambda image: pixelate(image, 4)[0])
    assert result.top1 >= 0.8
    assert result.interval[0] < result.top1 < result.interval[1]


def test_the_attack_is_as_good_as_another_classifier_on_the_originals(digits: Album) -> None:
    """A reference that nobody here wrote: logistic regression on all pixels, trained on as many pictures."""
    ours = parrot_attack(digits, lambda image: image).top1
    train = np.concatenate([np.flatnonzero(digits.labels == label)[:24] for label in range(10)])
    test = np.setdiff1d(np.arange(len(digits.labels)), train)
    rows = digits.pixels.reshape(len(digits.pixels), -1) / 255.0
    reference = LogisticRegression(max_iter=500).fit(rows[train], digits.labels[train])
    assert ours >= reference.score(rows[test], digits.labels[test])


def test_where_nothing_is_left_nothing_is_found(digits: Album) -> None:
    """Chance lies within the interval: nothing of the test pictures leaks into training."""
    black = parrot_attack(digits, np.zeros_like, copies=1)
    assert black.interval[0] <= black.chance <= black.interval[1]
    rng = np.random.default_rng(3)
    noise = parrot_attack(digits, lambda image: rng.random(image.shape), copies=1)
    assert not noise.beats_chance


def test_shuffled_labels_cannot_be_learnt(digits: Album) -> None:
    """Pictures that were both trained on and tested on would be recognised even so."""
    shuffled = Album.of(digits.pixels, np.random.default_rng(4).permutation(digits.labels))
    assert not parrot_attack(shuffled, lambda image: image, copies=1).beats_chance


def test_published_values_need_not_be_a_picture(digits: Album) -> None:
    """Histograms and features are attacked as they are; there is nothing to compare them with."""
    result = parrot_attack(digits, lambda image: np.concatenate([image.mean(axis=0), image.mean(axis=1)]), copies=3)
    assert result.top1 > 0.6
    assert result.similarity is None
    assert "published values" in result.classifier


def test_a_method_of_a_set_sees_training_and_test_pictures_apart(digits: Album) -> None:
    seen: list[int] = []

    def method(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return k_same(images, 5)[0]

    result = parrot_attack(digits, method_of_set=method, copies=2)
    assert sorted(seen) == sorted([result.test, result.train, result.train])
    assert result.top1 < parrot_attack(digits, lambda image: image, copies=2).top1


def test_equal_seeds_give_equal_figures_and_others_another_split() -> None:
    few = digits_album(12)

    def attack(seed: bytes) -> float:
        return parrot_attack(few, lambda image: pixelate(image, 7)[0], copies=1, seed=seed).top1

    rates = [attack(bytes([number]) * 32) for number in (0, 0, 1)]
    assert rates[0] == rates[1]
    assert len(set(rates)) > 1


def test_a_sweep_finds_where_a_method_stops_working(digits: Album) -> None:
    sweep = Sweep("pixelate", "cell", "pixels", (2, 28), lambda cell: ofset(lambda x: pixelate(x, int(cell))[0]))
    flat = Sweep("nothing", "share", "", (1.0,), lambda _: np.zeros_like)
    told: list[tuple[int, int]] = []
    points = strength_sweep(digits, [sweep, flat], copies=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [point.strength for point in points] == [2, 28, 1]
    assert points[0].result.top1 > points[1].result.top1
    assert last_beaten(points[:2]) is not None
    assert last_beaten(points[2:]) is None
    assert first_at_chance(points[2:]) is points[2]
    assert first_at_chance(points[:1]) is None


def test_a_strength_that_only_seems_to_hold_is_not_reported() -> None:
    """What holds from a strength on holds at all stronger ones that were tried."""

    def point(strength: float, low: float) -> StrengthPoint:
        result = ParrotResult(low, 1, (low, 1), 0.1, 0.5, 10, 50, 50, None, "", 1, 0.0)
        return StrengthPoint("m", "p", "", strength, result)

    points = [point(1, 0.5), point(2, 0.05), point(3, 0.4), point(4, 0.05)]
    assert last_beaten(points) is points[2]
    assert first_at_chance(points) is points[3]


def test_chance_is_beaten_only_where_the_binomial_test_is_sure() -> None:
    """10 of 50 at a chance of a tenth have a probability of 0.025, 14 of 50 one of 0.0003."""
    from scipy.stats import binomtest

    for hits in range(51):
        result = ParrotResult(hits / 50, 1, (0, 1), 0.1, 0.5, 10, 50, 50, None, "", 1, 0.0)
        assert result.beats_chance == (binomtest(hits, 50, 0.1, alternative="greater").pvalue < 1e-3)
        assert hits not in (10, 14) or result.beats_chance == (hits == 14)


def test_the_interval_is_that_of_wilson() -> None:
    """Values of scipy's binomtest(...).proportion_ci(method='wilson')."""
    from scipy.stats import binomtest

    for hits, count in ((0, 10), (3, 10), (10, 10), (157, 160)):
        wanted = binomtest(hits, count).proportion_ci(method="wilson")
        assert wilson_interval(hits, count) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_candidates_fit_what_is_published() -> None:
    assert {choice.side for choice in candidates((112, 92), is_picture=True)} == {7, 14, 28}
    assert {choice.side for choice in candidates((5, 4), is_picture=True)} == {5}
    assert {choice.side for choice in candidates((81,), is_picture=False)} == {None}
    rows = np.repeat(np.arange(2.0), 6)[:, None].astype(np.float32) + 0.01 * np.arange(12)[:, None].astype(np.float32)
    for kind in ("lda", "svm"):
        order = ranked(Candidate(kind, None), rows, np.repeat([3, 7], 6), rows)
        assert order[:, 0].tolist() == [3] * 6 + [7] * 6


def test_discriminants_are_those_of_scikit_learn(digits: Album) -> None:
    rows = digits.pixels[:, ::2, ::2].reshape(len(digits.pixels), -1) / 255.0
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(rows, digits.labels)
    ours = LinearDiscriminant().fit(rows, digits.labels)
    assert np.allclose(ours.decision_function(rows), reference.decision_function(rows))


@pytest.mark.parametrize(("options", "message"), [
    ({}, "one of them"),
    ({"method": np.copy, "method_of_set": np.copy}, "one of them"),
    ({"method": np.copy, "train_part": 0.95}, "0.1 to 0.9"),
    ({"method": np.copy, "copies": 10}, "1 to 9"),
    ({"method_of_set": lambda images: images[1:]}, "each picture"),
    ({"method": lambda image: image * np.nan}, "finite"),
])  # fmt: skip
def test_refusals_say_the_limit(digits: Album, options: dict[str, object], message: str) -> None:
    with pytest.raises(PublishingError) as caught:
        parrot_attack(digits, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_album_that_cannot_be_split_is_refused() -> None:
    images = np.random.default_rng(1).random((5, 8, 8))
    with pytest.raises(PublishingError, match="'b' has 2 pictures"):
        parrot_attack(Album.of(images, list("aaabb")), np.copy)
    with pytest.raises(PublishingError, match="another person"):
        parrot_attack(Album.of(images, list("aaaaa")), np.copy)
    with pytest.raises(PublishingError, match="from 1 to"):
        strength_sweep(Album.of(images, list("aaabb")), [])
