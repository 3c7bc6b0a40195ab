"""Random graphs for the CKKS tests: convolutions of every kind, pools, residual adds, products, polynomials."""

from __future__ import annotations

import numpy as np

from secureimg.graph import Graph, GraphBuilder

__all__ = ["random_graph", "small_classifier"]


def small_classifier(rng: np.random.Generator, size: int = 12) -> Graph:
    """Convolution, square, pool, dense, square, dense: what the encrypted tests run."""
    b = GraphBuilder("small", (1, size, size))
    x = b.conv(b.input, weight=rng.normal(size=(2, 1, 3, 3)) / 3, bias=rng.normal(size=2) / 10, pads=(1, 1, 1, 1))
    x = b.average_pool(b.square(x), kernel=(2, 2), strides=(2, 2))
    n = 2 * (size // 2) ** 2
    x = b.dense(b.flatten(x), rng.normal(size=(8, n)) / np.sqrt(n), rng.normal(size=8) / 10)
    return b.build(b.dense(b.square(x), rng.normal(size=(3, 8)) / 3))


def random_graph(rng: np.random.Generator) -> Graph:
    """A graph of one to three layers that CKKS can run, of any shape."""
    shape = (int(rng.integers(1, 4)), int(rng.integers(5, 16)), int(rng.integers(5, 16)))
    b = GraphBuilder("random", shape)
    x, squares = b.input, 0
    for _ in range(int(rng.integers(1, 4))):
        channels, height, width = b.shape(x)
        kind = rng.choice(["conv", "conv", "pool", "residual", "product", "concat"])
        if kind == "conv":
            groups = 1 if rng.random() < 0.7 else channels
            kernel = int(rng.integers(1, min(5, height) + 1)), int(rng.integers(1, min(5, width) + 1))
            weight = rng.normal(size=(int(rng.integers(1, 4)) * groups, channels // groups, *kernel)) / 3
            pads = tuple(int(v) for v in rng.integers(0, 3, 4))
            strides = int(rng.integers(1, 3)), int(rng.integers(1, 4))
            x = b.conv(x, weight=weight, strides=strides, pads=(pads[0], pads[1], pads[2], pads[3]), groups=groups)
        elif kind == "pool" and height % 2 == 0 and width % 2 == 0:
            x = b.average_pool(x, kernel=(2, 2), strides=(2, 2))
        elif kind == "residual" and squares < 1:
            squares += 1
            weight = rng.normal(size=(channels, channels, 3, 3)) / 3
            x = b.add(x, b.square(b.conv(x, weight=weight, pads=(1, 1, 1, 1))))
        elif kind == "product" and squares < 1:
            squares += 1
            x = b.multiply(x, b.conv(x, weight=rng.normal(size=(channels, channels, 1, 1)) / 2))
        elif kind == "concat":
            x = b.concat(x, b.conv(x, weight=rng.normal(size=(1, channels, 1, 1)) / 2), axis=0)
        if squares < 2 and rng.random() < 0.6:
            squares += 1
            x = b.polynomial(x, tuple(float(v) for v in rng.normal(size=int(rng.integers(2, 6))) / 4))
    n = int(np.prod(b.shape(x)))
    return b.build(b.dense(b.flatten(x), rng.normal(size=(int(rng.integers(1, 20)), n)) / np.sqrt(n)))
