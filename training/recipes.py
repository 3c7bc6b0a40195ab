"""What each shipped model is: its data, network, schedule and seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from training.augment import Augmentation
from training.data import Dataset, load_mnist, load_xray
from training.fit import Schedule
from training.networks import compact, lenet5

__all__ = ["RECIPES", "Recipe"]

_DIGITS = tuple(str(digit) for digit in range(10))
_HANDWRITING = Augmentation(rotation=15, scale=0.15, shear=0.15, shift=2.5, elastic=1.2)
_RADIOGRAPHS = Augmentation(
    rotation=12, scale=0.15, shear=0.1, shift=2.5, elastic=0.6, light=0.2, gamma=0.35, blur=0.5, noise=0.04
)


@dataclass(frozen=True)
class Recipe:
    """One shipped model.

    Attributes
    ----------
    name, title : str
        Its name on the command line, and what it is in a line.
    labels : tuple of str
        One a class, in the order of the logits.
    load : callable
        Reads its data from a folder.
    network : callable
        Makes the network with fresh weights.
    schedule : Schedule
        How it is trained.
    seed : int
        Of the weights, the batches and the augmentation.
    sensitivity : float or None
        With two classes: the output's bias is then moved to where cross-validation finds this share of the second.
    typical : bool
        Whether its card has pictures to measure ranges on: for models whose values explode on pictures unlike their own.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    load: Callable[[Path], Dataset]
    network: Callable[[], nn.Sequential]
    schedule: Schedule
    seed: int
    sensitivity: float | None = None
    typical: bool = False


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="mnist-cnn",
            title="Handwritten digits: convolution 7x7 stride 3, square, dense 64, square, dense 10",
            labels=_DIGITS,
            load=load_mnist,
            network=lambda: compact(10, channels=8, kernel=7, stride=3, hidden=64),
            schedule=Schedule(_HANDWRITING, epochs=120),
            seed=1,
        ),
        Recipe(
            name="mnist-lenet",
            title="Handwritten digits: LeNet-5 with squares and average pools",
            labels=_DIGITS,
            load=load_mnist,
            network=lambda: lenet5(10),
            schedule=Schedule(_HANDWRITING, epochs=40),
            seed=1,
        ),
        Recipe(
            name="xray-pneumonia",
            title="Chest X-rays, normal or pneumonia: LeNet-5 with squares and average pools (not a medical device)",
            labels=("normal", "pneumonia"),
            load=load_xray,
            network=lambda: lenet5(2, dropout=0.2),
            schedule=Schedule(
                _RADIOGRAPHS,
                epochs=60,
                batch=64,
                decay=0.05,
                smoothing=0.1,
                averaging=0.995,
                balanced=True,
                mean=0.5,
                std=0.25,
            ),
            seed=1,
            sensitivity=0.91,
            typical=True,
        ),
    )
}
