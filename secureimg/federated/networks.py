"""Small networks in numpy whose weights are one vector: what is trained, sent and averaged.

Layers are only what both executors can run afterwards: convolutions, squares, means and dense layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from secureimg.errors import ParameterError
from secureimg.federated.layers import AveragePool, Convolution, Dense, Layer, Square
from secureimg.sharing.streams import Stream

__all__ = ["Array", "Network", "compact_network", "dense_network", "normal", "uniform"]

Array: TypeAlias = NDArray[np.float32]

_LOWEST = 2.0**-54  # keeps uniform draws above 0, where the normal quantile is infinite


@dataclass(frozen=True)
class Network:
    """Layers one after another, from pictures to one score a class.

    Attributes
    ----------
    input_shape : (C, H, W)
    layers : tuple of Layer
        `Convolution`, `Square`, `AveragePool` or `Dense`. The first `Dense` takes its input flat, C order.

    Raises
    ------
    ParameterError
        If a layer does not fit what comes before it.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if len(self.shapes[-1]) != 1:
            raise ParameterError(f"a network ends in a dense layer: its last layer gives {self.shapes[-1]}")

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of the input and of what each layer gives, without the batch axis."""
        shapes: list[tuple[int, ...]] = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.result(shapes[-1]))
        return tuple(shapes)

    @cached_property
    def tensors(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Layer and shape of each tensor in the vector of weights, in order: of each layer weight, then bias."""
        return tuple(
            (number, shape) for number, layer in enumerate(self.layers) for shape in layer.tensors(self.shapes[number])
        )

    @cached_property
    def parameters(self) -> int:
        """Length of the vector of weights."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def classes(self) -> int:
        """Scores that it gives."""
        return self.shapes[-1][0]

    def split(self, weights: Array) -> tuple[tuple[Array, ...], ...]:
        """Views of each layer's tensors in a vector of weights (parameters,)."""
        if weights.shape != (self.parameters,):
            raise ParameterError(f"weights have shape {weights.shape}, the network has {self.parameters} parameters")
        views: list[list[Array]] = [[] for _ in self.layers]
        place = 0
        for number, shape in self.tensors:
            size = math.prod(shape)
            views[number].append(weights[place : place + size].reshape(shape))
            place += size
        return tuple(tuple(view) for view in views)

    def initial(self, stream: Stream) -> Array:
        """Fresh weights (parameters,).

        A layer before a square starts at 1 + z / 2 with z of deviation about 1 for inputs of deviation 1: its square is
        then nearly linear in z, and gradients pass from the start.
        """
        weights = np.zeros(self.parameters, dtype=np.float32)
        second_moment = 1.0
        for number, tensors in enumerate(self.split(weights)):
            if not tensors:
                continue
            weight, bias = tensors
            squared = number + 1 < len(self.layers) and isinstance(self.layers[number + 1], Square)
            gain = 0.5 if squared else 1.0
            deviation = gain / math.sqrt(second_moment * math.prod(weight.shape[1:]))
            weight[:] = deviation * normal(stream, weight.size).reshape(weight.shape)
            bias[:] = 1.0 if squared else 0.0
            second_moment = 3.0 if squared else 1.0  # of (1 + z / 2) ** 2 about 2.7 for normal z
        return weights

    def logits(self, weights: Array, images: Array) -> Array:
        """Scores (N, classes) of prepared images (N, C, H, W), computed in parts of 512."""
        parts = self.split(weights)
        found = []
        for start in range(0, len(images), 512):
            value = images[start : start + 512]
            for layer, tensors in zip(self.layers, parts, strict=True):
                value = layer.forward(value, tensors)
            found.append(value)
        return np.concatenate(found) if found else np.empty((0, self.classes), dtype=np.float32)

    def gradient(
        self, weights: Array, images: Array, labels: NDArray[np.int64], shift: Array | None = None
    ) -> tuple[float, Array]:
        """Mean cross-entropy of a batch, and its gradient (parameters,).

        Parameters
        ----------
        weights : (parameters,) float32
        images : (N, C, H, W) float32
        labels : (N,) int64
        shift : (classes,) float32, optional
            Added to the scores.
        """
        parts = self.split(weights)
        inputs = [images]
        for layer, tensors in zip(self.layers, parts, strict=True):
            inputs.append(layer.forward(inputs[-1], tensors))
        logits = inputs.pop()
        if shift is not None:
            logits = logits + shift
        logits = logits - logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = float(np.mean(np.log(total[:, 0]) - logits[rows, labels]))
        delta = odds / total
        delta[rows, labels] -= 1.0
        delta /= np.float32(len(labels))
        gradient = np.empty_like(weights)
        slots = self.split(gradient)
        for number in range(len(self.layers) - 1, -1, -1):
            delta = self.layers[number].backward(inputs[number], delta, parts[number], slots[number], number > 0)
        return loss, gradient


def compact_network(input_shape: tuple[int, int, int], classes: int, *, channels: int = 8, hidden: int = 64) -> Network:
    """Convolution 5x5 stride 2, square, mean 2x2, dense, square, dense: five levels deep on ciphertexts."""
    return Network(
        input_shape,
        (Convolution(channels, 5, 2), Square(), AveragePool(2), Dense(hidden), Square(), Dense(classes)),
    )


def dense_network(input_shape: tuple[int, int, int], classes: int, *, hidden: int = 64) -> Network:
    """Dense, square, dense."""
    return Network(input_shape, (Dense(hidden), Square(), Dense(classes)))


def uniform(stream: Stream, count: int) -> NDArray[np.float64]:
    """Numbers (count,) in (0, 1) with 53 random bits."""
    return (stream.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53 + _LOWEST


def normal(stream: Stream, count: int) -> NDArray[np.float64]:
    """Standard normal numbers (count,), for weights to start from. Not for privacy."""
    return np.asarray(ndtri(uniform(stream, count)))
