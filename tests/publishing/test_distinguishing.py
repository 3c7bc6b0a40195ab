"""No test tells neighbours apart better than the claimed epsilon allows, and one with too little noise is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.publishing import (
    Distinction,
    blur_draws,
    distinguishing_bound,
    histogram_draws,
    hog_draws,
    pca_draws,
    pixelation_draws,
    singular_values,
    svd_draws,
)
from secureimg.sharing.streams import Stream

Array = NDArray[np.float64]

BLACK, WHITE = np.zeros((8, 8)), np.ones((8, 8))
CORNER = np.pad(np.ones((2, 2)), (0, 6))  # m = 4 pixels of one cell from black to white
LAST = CORNER[::-1, ::-1].copy()
DIM, LIT = np.full((8, 8), 0.1), np.where(CORNER > 0, 0.9, 0.1)
GREY, SPLIT = np.full((8, 8), 0.5), np.repeat([[0.2, 0.5]], 8, axis=0).repeat(4, axis=1)
ALONG, ACROSS = np.tile(np.linspace(0, 1, 16), (16, 1)), np.tile(np.linspace(0, 1, 16)[:, None], (1, 16))
BASIS = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 4)))[0].T.copy()
ENDS = [np.clip(0.5 + sign * 3 * BASIS[0], 0, 1).reshape(8, 8) for sign in (1, -1)]


def colour(image: Array) -> Array:
    return np.repeat(image[:, :, None], 3, axis=2)


def distance(k: int) -> float:
    return float(np.linalg.norm(singular_values(GREY, k) - singular_values(SPLIT, k)))


Draw = Callable[[Any, float, int, Stream], Array]


def pixels(neighbours: Any = 4, cell: int = 4) -> Draw:
    return lambda image, epsilon, count, stream: pixelation_draws(
        image, epsilon, count, stream, neighbours=neighbours, cell=cell
    )


def blur(image: Any, epsilon: float, count: int, stream: Stream) -> Array:
    return blur_draws(image, epsilon, count, stream, neighbours=4, cell=4)


def histogram(neighbours: Any) -> Draw:
    return lambda image, epsilon, count, stream: histogram_draws(
        image, epsilon, count, stream, neighbours=neighbours, bins=8
    ).astype(np.float64)


def svd(k: int) -> Draw:
    return lambda image, epsilon, count, stream: svd_draws(image, epsilon, count, stream, k=k)


def pca(image: Any, epsilon: float, count: int, stream: Stream, delta: float = 0.0) -> Array:
    return pca_draws(image, epsilon, count, stream, basis=BASIS, mean=np.full(64, 0.5), clip=0.1, delta=delta)


def gradients(image: Any, epsilon: float, count: int, stream: Stream) -> Array:
    options: dict[str, Any] = {"pixels_per_cell": (16, 16), "cells_per_block": (1, 1), "orientations": 2}
    return hog_draws(image, epsilon, count, stream, neighbours="whole image", **options)


# name: claim for these two images, mechanism, the two images, its epsilon, the part of the claim that a bound must reach
SETTINGS: dict[str, tuple[float, Draw, Array, Array, float, float]] = {
    "pixels, small epsilon": (0.2, pixels(), BLACK, CORNER, 0.2, 0.6),
    "pixels": (1.0, pixels(), BLACK, CORNER, 1.0, 0.8),
    "pixels, large epsilon": (3.0, pixels(), BLACK, CORNER, 3.0, 0.8),
    "pixels, border cell": (1.0, pixels(cell=5), BLACK, LAST, 1.0, 0.8),
    "pixels, colour": (1.0, pixels(), colour(BLACK), colour(CORNER), 1.0, 0.7),
    "pixels, whole image": (1.0, pixels("whole image"), BLACK, WHITE, 1.0, 0.7),
    "blur": (1.0, blur, BLACK, CORNER, 1.0, 0.7),
    "histogram": (1.0, histogram(4), DIM, LIT, 1.0, 0.55),
    "histogram, whole image": (0.5, histogram("whole image"), BLACK, WHITE, 0.5, 0.4),
    "one singular value": (1.0, svd(1), GREY, SPLIT, 1 / distance(1), 0.8),
    "two singular values": (1.0, svd(2), GREY, SPLIT, 1 / distance(2), 0.6),
    "four singular values": (1.0, svd(4), GREY, SPLIT, 1 / distance(4), 0.5),
    "coordinates": (1.0, pca, ENDS[0], ENDS[1], 1.0, 0.7),
    "gradients": (3.0, gradients, ALONG, ACROSS, 3.0, 0.6),
}


def bound(name: str, factor: float = 1.0) -> Distinction:
    _, draw, one, two, epsilon, _ = SETTINGS[name]
    return distinguishing_bound(
        lambda image, count, stream: draw(image, factor * epsilon, count, stream),
        one,
        two,
        draws=60_000,
        confidence=0.9999,
        stream=Stream(bytes(32), "tests of distinguishing", name),
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_the_bound_stays_below_the_claim_and_comes_near_it(name: str) -> None:
    claim, *_, part = SETTINGS[name]
    found = bound(name)
    assert part * claim <= found.epsilon <= claim


@pytest.mark.parametrize("name", SETTINGS)
def test_half_the_noise_is_found_out(name: str) -> None:
    assert bound(name, 2.0).epsilon > SETTINGS[name][0]


def test_a_forgotten_factor_for_colour_is_found_out() -> None:
    """Noise for one channel on each of three: three times the loss."""

    def forgetful(image: Array, count: int, stream: Stream) -> Array:
        planes = [
            pixelation_draws(image[:, :, place].copy(), 1.0, count, stream, neighbours=4, cell=4) for place in range(3)
        ]
        return np.stack(planes, axis=1)

    found = distinguishing_bound(
        forgetful, colour(BLACK), colour(CORNER), draws=60_000, stream=Stream(bytes(32), "forgetful")
    )
    assert found.epsilon > 2.0


def test_gaussian_noise_stays_below_its_epsilon_at_delta() -> None:
    found = [
        distinguishing_bound(
            lambda image, count, stream, epsilon=epsilon: pca(image, epsilon, count, stream, 1e-3),
            *ENDS,
            draws=60_000,
            delta=1e-3,
            stream=Stream(bytes(32), "gaussian"),
        ).epsilon
        for epsilon in (1.0, 4.0)
    ]
    assert 0.3 < found[0] < 1.0 < found[1]


def test_equal_images_are_not_told_apart() -> None:
    def noise(image: float, count: int, stream: Stream) -> NDArray[np.uint64]:
        return stream.words(count) >> np.uint64(40)

    for seed in range(3):
        assert distinguishing_bound(noise, 0.0, 1.0, draws=20_000, stream=Stream(bytes(32), seed)).epsilon < 0.1


def test_a_mechanism_without_noise_is_as_far_as_the_draws_can_tell() -> None:
    found = distinguishing_bound(lambda image, count, _: np.full(count, image), 0.0, 1.0, draws=20_000)
    assert found.likely == 10_000
    assert found.unlikely == 0
    assert found.epsilon > 6.0


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Randomised response has epsilon ln 3: over 300 runs at 90 % few bounds are above it, and most are near."""

    def response(image: int, count: int, stream: Stream) -> NDArray[np.int64]:
        return np.where(stream.words(count) >> np.uint64(62) == 0, 1 - image, image)

    found = [
        distinguishing_bound(response, 0, 1, draws=20_000, confidence=0.9, stream=Stream(bytes(32), "rr", run)).epsilon
        for run in range(300)
    ]
    assert sum(epsilon > np.log(3) for epsilon in found) <= 30
    assert np.median(found) > 0.9 * np.log(3)


def test_what_is_no_mechanism_is_refused() -> None:
    with pytest.raises(PublishingError, match="draws tell nothing"):
        distinguishing_bound(lambda image, count, _: np.zeros(count), 0, 1, draws=100)
    with pytest.raises(PublishingError, match="confidence"):
        distinguishing_bound(lambda image, count, _: np.zeros(count), 0, 1, confidence=1.0)
    with pytest.raises(PublishingError, match="asked for 4096 releases"):
        distinguishing_bound(lambda image, count, _: np.zeros(7), 0, 1)
    with pytest.raises(PublishingError, match="told apart by that"):
        distinguishing_bound(lambda image, count, _: np.zeros((count, image)), 1, 2)
