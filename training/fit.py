"""The training loop: AdamW on augmented batches, a cosine schedule, and an average of the weights as the result."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.augment import Augmentation, augment
from training.data import Split
from training.networks import Square

__all__ = ["Schedule", "fit", "logits", "normalised"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes
    ----------
    augmentation : Augmentation
        What happens to each image of a batch.
    epochs, batch : int
        Passes over the training images, and images in a step.
    rate, decay : float
        The highest learning rate (reached after the first twentieth, then a cosine down to zero) and the weight decay.
    smoothing : float
        Label smoothing: it also keeps the logits small.
    range_penalty : float
        Weight of the squared excess of activations over the limit of their `Square`.
    averaging : float
        Decay of the exponential moving average of the weights.
    balanced : bool
        Weigh each class by the inverse of its frequency.
    mean, std : float
        The network sees (x - mean) / std of pixels x in [0, 1].
    """

    augmentation: Augmentation
    epochs: int
    batch: int = 128
    rate: float = 3e-3
    decay: float = 1e-2
    smoothing: float = 0.05
    range_penalty: float = 0.02
    averaging: float = 0.998
    balanced: bool = False
    mean: float = 0.0
    std: float = 1.0


def normalised(images: NDArray[np.uint8], schedule: Schedule) -> Tensor:
    """Return what the network takes: (N, 1, H, W) float32."""
    return (_pixels(images) - schedule.mean) / schedule.std


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


@torch.no_grad()
def logits(network: nn.Module, inputs: Tensor) -> NDArray[np.float32]:
    """Return the network's answers (N, classes), without dropout and with the statistics of the training."""
    network.eval()
    answers: NDArray[np.float32] = torch.cat([network(part) for part in inputs.split(512)]).numpy()
    return answers


def fit(network: nn.Sequential, split: Split, schedule: Schedule, seed: int) -> nn.Sequential:
    """Train ``network`` in place, and return the averaged copy of it that is to be used."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = _pixels(split.images), torch.from_numpy(split.labels)
    weights = len(split) / (len(labels.unique()) * torch.bincount(labels)) if schedule.balanced else None
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    steps = math.ceil(len(split) / schedule.batch) * schedule.epochs
    average = copy.deepcopy(network)
    squares = [layer for layer in network if isinstance(layer, Square)]
    step, started = 0, time.monotonic()
    for epoch in range(schedule.epochs):
        network.train()
        total = 0.0
        for index in torch.randperm(len(split), generator=generator).split(schedule.batch):
            if len(index) < 2:  # batch normalisation needs two
                continue
            optimizer.param_groups[0]["lr"] = schedule.rate * _cosine(step / steps)
            inputs = (augment(images[index], schedule.augmentation, generator) - schedule.mean) / schedule.std
            loss = F.cross_entropy(network(inputs), labels[index], weights, label_smoothing=schedule.smoothing)
            penalty = sum((square.excess for square in squares), torch.zeros(()))
            optimizer.zero_grad()
            (loss + schedule.range_penalty * penalty).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            _follow(average, network, min(schedule.averaging, (1 + step) / (10 + step)))
            total += loss.item() * len(index)
            step += 1
        _log.info(
            "epoch %d/%d loss %.4f (%.0f s)", epoch + 1, schedule.epochs, total / len(split), time.monotonic() - started
        )
    return average.eval()


def _cosine(done: float) -> float:
    return done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average's weights and normalisation statistics a step towards the network's."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
