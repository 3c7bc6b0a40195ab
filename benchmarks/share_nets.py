"""The networks and single operations that are measured on shares, with made-up weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secureimg.graph import Graph, GraphBuilder

__all__ = ["NETS", "lenet_relu", "minionn", "random_images", "resnet18", "resnet50", "squeezenet"]

Array = NDArray[np.float64]
Stage = tuple[int, int, int]


class _Net:
    """A builder whose convolutions are He-initialised, followed by a batch norm as trained networks have."""

    def __init__(self, name: str, shape: tuple[int, int, int], seed: int) -> None:
        self.graph = GraphBuilder(name, shape)
        self.rng = np.random.default_rng(seed)
        self.x = self.graph.input

    def conv(
        self, x: str, out: int, kernel: int, stride: int = 1, pad: int = 0, *, norm: bool = True, gain: float = 1.0
    ) -> str:
        channels = self.graph.shape(x)[0]
        fan = channels * kernel * kernel
        weight = self.rng.standard_normal((out, channels, kernel, kernel)) * math.sqrt(2 / fan) * gain
        bias = self.rng.standard_normal(out) * 0.05
        y = self.graph.conv(x, weight, None if norm else bias, strides=(stride, stride), pads=(pad,) * 4)
        if norm:
            scale = self.rng.uniform(0.8, 1.2, (out, 1, 1))
            y = self.graph.affine(y, scale, bias[:, None, None])
        return y

    def dense(self, x: str, out: int) -> str:
        terms = self.graph.shape(x)[-1]
        weight = self.rng.standard_normal((out, terms)) * math.sqrt(1 / terms)
        return self.graph.dense(x, weight, self.rng.standard_normal(out) * 0.05)

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0) -> str:
        return self.graph.max_pool(x, (kernel, kernel), strides=(stride, stride), pads=(pad,) * 4)


def minionn(seed: int = 1) -> Graph:
    """MiniONN's MNIST network: conv 16 5x5, pool 2x2, conv 16 5x5, pool 2x2, 100, 10, with ReLU."""
    net = _Net("minionn", (1, 28, 28), seed)
    b, x = net.graph, net.x
    for _ in range(2):
        x = net.pool(b.relu(net.conv(x, 16, 5, norm=False)), 2, 2)
    x = b.relu(net.dense(b.flatten(x), 100))
    return b.build(net.dense(x, 10))


def lenet_relu(seed: int = 1) -> Graph:
    """LeNet-5 with ReLU and max pools: conv 6 5x5 pad 2, conv 16 5x5, 120, 84, 10."""
    net = _Net("lenet5", (1, 28, 28), seed)
    b = net.graph
    x = net.pool(b.relu(net.conv(net.x, 6, 5, pad=2, norm=False)), 2, 2)
    x = net.pool(b.relu(net.conv(x, 16, 5, norm=False)), 2, 2)
    x = b.relu(net.dense(b.flatten(x), 120))
    return b.build(net.dense(b.relu(net.dense(x, 84)), 10))


def _stem(net: _Net) -> str:
    return net.pool(net.graph.relu(net.conv(net.x, 64, 7, 2, 3)), 3, 2, 1)


def _head(net: _Net, x: str, classes: int = 1000) -> Graph:
    b = net.graph
    return b.build(net.dense(b.flatten(b.mean(x, (1, 2))), classes))


def resnet18(side: int = 224, seed: int = 1) -> Graph:
    """ResNet-18: basic blocks (2, 2, 2, 2)."""
    net = _Net(f"resnet18-{side}", (3, side, side), seed)
    b, x = net.graph, _stem(net)
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for step in (stride, 1):
            y = b.relu(net.conv(x, width, 3, step, 1))
            y = net.conv(y, width, 3, 1, 1, gain=0.5)
            short = x if step == 1 and b.shape(x)[0] == width else net.conv(x, width, 1, step, gain=0.7)
            x = b.relu(b.add(y, short))
    return _head(net, x)


def resnet50(side: int = 224, seed: int = 1) -> Graph:
    """ResNet-50: bottleneck blocks (3, 4, 6, 3)."""
    net = _Net(f"resnet50-{side}", (3, side, side), seed)
    b, x = net.graph, _stem(net)
    for width, stride, blocks in ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            y = b.relu(net.conv(x, width, 1))
            y = b.relu(net.conv(y, width, 3, step, 1))
            y = net.conv(y, 4 * width, 1, gain=0.4)
            short = x if block else net.conv(x, 4 * width, 1, step, gain=0.7)
            x = b.relu(b.add(y, short))
    return _head(net, x)


def squeezenet(side: int = 224, seed: int = 1) -> Graph:
    """SqueezeNet 1.1."""
    net = _Net(f"squeezenet-{side}", (3, side, side), seed)
    b = net.graph

    def fire(x: str, squeeze: int, expand: int) -> str:
        x = b.relu(net.conv(x, squeeze, 1, norm=False))
        wide = net.conv(x, expand, 1, norm=False), net.conv(x, expand, 3, 1, 1, norm=False)
        return b.concat(*(b.relu(part) for part in wide))

    x = net.pool(b.relu(net.conv(net.x, 64, 3, 2, norm=False)), 3, 2)
    for squeeze, expand, pooled in (
        (16, 64, False), (16, 64, True), (32, 128, False), (32, 128, True), (48, 192, False), (48, 192, False),
        (64, 256, False), (64, 256, False),
    ):  # fmt: skip
        x = fire(x, squeeze, expand)
        x = net.pool(x, 3, 2) if pooled else x
    x = b.relu(net.conv(x, 1000, 1, norm=False))
    return b.build(b.mean(x, (1, 2), keepdims=False))


def random_images(graph: Graph, count: int, seed: int = 2) -> Array:
    """Smooth random pictures with values in [0, 1], shape (count, *input_shape).

    Each has a tint of its own: a network with made-up weights that ends in a mean answers all untinted noise alike.
    """
    rng = np.random.default_rng(seed)
    channels, height, width = graph.input_shape
    small = rng.uniform(0, 1, (count, channels, -(-height // 8), -(-width // 8)))
    large = small.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    tint = rng.uniform(0.1, 1, (count, channels, 1, 1))
    return np.asarray(tint * np.clip(0.8 * large + 0.2 * rng.uniform(0, 1, large.shape), 0, 1))


NETS: dict[str, Callable[[], Graph]] = {
    "MiniONN MNIST": minionn,
    "LeNet-5 with ReLU": lenet_relu,
    "ResNet-18 at 64x64": lambda: resnet18(64),
    "ResNet-18 at 224x224": resnet18,
    "SqueezeNet 1.1 at 224x224": squeezenet,
    "ResNet-50 at 224x224": resnet50,
}
