"""Training at an owner: momentum steps on its own pictures, an update as the difference; and averages in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import ParameterError
from secureimg.federated.networks import Array, Network
from secureimg.federated.partition import permutation
from secureimg.sharing.streams import Stream

__all__ = ["Examples", "Schedule", "accuracy", "average_plain", "local_update", "train"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Prepared pictures and their labels.

    Attributes
    ----------
    images : (N, C, H, W) float32
    labels : (N,) int64
    """

    images: Array
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ParameterError(
                f"examples are images (N, C, H, W) with labels (N,), not {self.images.shape} and {self.labels.shape}"
            )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    def take(self, places: NDArray[np.intp]) -> Examples:
        """Those at some places."""
        return Examples(self.images[places], self.labels[places])


@dataclass(frozen=True)
class Schedule:
    """How an owner trains in one round.

    Attributes
    ----------
    epochs : int
        Passes over its pictures.
    batch : int
        Pictures in a step.
    rate, momentum, decay : float
        Of stochastic gradient descent. Momentum starts at 0 in each call.
    longest : float
        Largest L2 norm of a step's gradient; a longer one is shortened. Networks of squares need it.
    calibrated : bool
        Whether scores are shifted in training by the logarithm of how often their class occurs among the examples: an owner
        with few of a class then does not teach the network that there are few (Zhang et al., "Federated learning with label
        distribution skew via logits calibration", ICML 2022; Menon et al., ICLR 2021).
    """

    epochs: int = 1
    batch: int = 32
    rate: float = 0.02
    momentum: float = 0.9
    decay: float = 1e-4
    longest: float = 1.0
    calibrated: bool = False


def train(
    network: Network, weights: Array, examples: Examples, schedule: Schedule, stream: Stream
) -> tuple[Array, float]:
    """Train a network. Equal streams give equal results on one machine.

    Parameters
    ----------
    network : Network
    weights : (parameters,) float32
        To start from; not changed.
    examples : Examples
    schedule : Schedule
    stream : Stream
        Orders the examples.

    Returns
    -------
    weights : (parameters,) float32
    loss : float
        Mean cross-entropy over the last pass, each batch before its step.

    Raises
    ------
    ParameterError
        If there are no examples, or training diverged.
    """
    if not len(examples):
        raise ParameterError("there are no examples to train on")
    weights = weights.copy()
    speed = np.zeros_like(weights)
    losses: list[float] = []
    shift = _shift(examples.labels, network.classes) if schedule.calibrated else None
    for _ in range(schedule.epochs):
        losses = []
        order = permutation(stream, len(examples))
        for start in range(0, len(order), schedule.batch):
            chosen = order[start : start + schedule.batch]
            loss, gradient = network.gradient(weights, examples.images[chosen], examples.labels[chosen], shift)
            length = float(np.linalg.norm(gradient))
            if not np.isfinite(length):
                raise ParameterError(f"training diverged at rate {schedule.rate:g}: use a smaller rate")
            if length > schedule.longest:
                gradient *= np.float32(schedule.longest / length)
            gradient += np.float32(schedule.decay) * weights
            speed *= np.float32(schedule.momentum)
            speed -= np.float32(schedule.rate) * gradient
            weights += speed
            losses.append(loss)
    return weights, float(np.mean(losses)) if losses else 0.0


def _shift(labels: NDArray[np.int64], classes: int) -> Array:
    """Logarithm of each class's share, as if one more of each had been seen."""
    counts = np.bincount(labels, minlength=classes) + 1.0
    shift: Array = np.log(counts / counts.sum()).astype(np.float32)
    return shift


def local_update(
    network: Network, weights: Array, examples: Examples, schedule: Schedule, stream: Stream
) -> tuple[Array, float]:
    """What an owner adds to the global weights: those after `train`, minus those before; and the loss."""
    trained, loss = train(network, weights, examples, schedule, stream)
    trained -= weights
    return trained, loss


def accuracy(network: Network, weights: Array, examples: Examples) -> float:
    """Share of examples whose largest score is the label's; 0 of none."""
    if not len(examples):
        return 0.0
    return float(np.mean(network.logits(weights, examples.images).argmax(axis=1) == examples.labels))


def average_plain(updates: Sequence[ArrayLike], weights: Sequence[float]) -> NDArray[np.float64]:
    """The weighted mean of updates in the clear: federated averaging (McMahan et al., AISTATS 2017), protecting nothing.

    Raises
    ------
    ParameterError
        If there are no updates, or weights do not sum to something above 0.
    """
    total = float(sum(weights))
    if not updates or not total > 0:
        raise ParameterError(f"{len(updates)} updates of weight {total:g} have no mean")
    mean = np.zeros(np.shape(updates[0]), dtype=np.float64)
    for update, weight in zip(updates, weights, strict=True):
        mean += np.asarray(update) * (weight / total)
    return mean
