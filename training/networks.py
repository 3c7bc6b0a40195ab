"""The networks: only what CKKS can evaluate, so squares for activations and means for pooling.

A square after a normalised value with a learned shift is every polynomial a x^2 + b x + c: the scale and the constant
move into the layers around it. It costs one product of ciphertexts and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Square", "compact", "lenet5"]


class Square(nn.Module):
    """x * x. Remembers how far its input lay outside of what was asked for, as a penalty for the training.

    Parameters
    ----------
    limit : float
        Inputs with a magnitude up to this are free.
    """

    def __init__(self, limit: float = 4.0) -> None:
        super().__init__()
        self.limit = limit
        self.excess: Tensor = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """Return the square of ``x``."""
        if self.training:
            self.excess = torch.relu(x.abs() - self.limit).square().mean()
        return x * x


def _normalised(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Start at (x / 2 + 1)^2 = x^2 / 4 + x + 1: nearly linear around zero, so that gradients pass from the start."""
    nn.init.constant_(norm.weight, 0.5)
    nn.init.constant_(norm.bias, 1.0)
    return norm


def compact(
    classes: int, *, channels: int, kernel: int, stride: int, hidden: int, dropout: float = 0.0, side: int = 28
) -> nn.Sequential:
    """Convolution, square, dense, square, dense: five levels deep."""
    out = (side - kernel) // stride + 1
    return nn.Sequential(
        nn.Conv2d(1, channels, kernel, stride=stride),
        _normalised(nn.BatchNorm2d(channels)),
        Square(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels * out * out, hidden),
        _normalised(nn.BatchNorm1d(hidden)),
        Square(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )


def lenet5(classes: int, *, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) in the size it is usually given in, with squares and average pools."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        _normalised(nn.BatchNorm2d(6)),
        Square(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        _normalised(nn.BatchNorm2d(16)),
        Square(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16 * 5 * 5, 120),
        _normalised(nn.BatchNorm1d(120)),
        Square(),
        nn.Dropout(dropout),
        nn.Linear(120, 84),
        _normalised(nn.BatchNorm1d(84)),
        Square(),
        nn.Linear(84, classes),
    )
