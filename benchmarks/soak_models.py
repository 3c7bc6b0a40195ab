"""The small networks that a soak asks for, pictures for them, and what the plain models say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from secureimg.graph import Graph, GraphBuilder, run_plain

__all__ = ["Pool", "small_net"]

_PICTURES: Final = 64
_MARGIN: Final = 0.05  # between the two best scores: what a picture's label is must not hang on rounding

Array = NDArray[np.float64]


def small_net(service: str) -> Graph:
    """Return a made-up network: with ReLU and max pool on (1, 12, 12) for shares, a square on (1, 28, 28) for CKKS."""
    rng = np.random.default_rng(3)
    if service == "shares":
        builder = GraphBuilder("small", (1, 12, 12))
        head = builder.conv(builder.input, rng.normal(0, 0.4, (3, 1, 3, 3)), rng.normal(0, 0.1, 3))
        head = builder.flatten(builder.max_pool(builder.relu(head), (2, 2), strides=(2, 2)))
    else:
        builder = GraphBuilder("small", (1, 28, 28))
        head = builder.conv(builder.input, rng.normal(0, 0.15, (4, 1, 7, 7)), rng.normal(0, 0.1, 4), strides=(3, 3))
        head = builder.flatten(builder.multiply(head, head))
    weights = rng.normal(0, 0.3 if service == "shares" else 0.1, (10, builder.shape(head)[0]))
    return builder.build(builder.dense(head, weights, rng.normal(0, 0.1, 10)))


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures with the plain model's scores.

    Attributes
    ----------
    images, scores : ndarray
        (n, *input_shape) and (n, 10), float64.
    """

    images: Array
    scores: Array

    @classmethod
    def of(cls, graph: Graph, seed: int) -> Self:
        """Draw pictures whose label is beyond doubt."""
        images = np.random.default_rng(seed).random((2 * _PICTURES, *graph.input_shape))
        scores = run_plain(graph, images)
        best = np.sort(scores, axis=1)
        clear = np.flatnonzero(best[:, -1] - best[:, -2] > _MARGIN)[:_PICTURES]
        return cls(images[clear], scores[clear])

    def wrong(self, picked: list[int], values: Array, reveal: str, tolerance: float) -> str | None:
        """Return what is wrong with an answer to some of the pictures, or None if it is the plain model's."""
        expected = self.scores[picked]
        if reveal == "label":
            labels = expected.argmax(axis=1)
            given = np.asarray(values).reshape(len(labels), -1)
            if given.shape[1] != 1:
                return f"an answer of shape {values.shape} where labels were due"
            wrong = np.flatnonzero(given[:, 0] != labels)
            return f"label {given[wrong[0], 0]}, expected {labels[wrong[0]]}" if len(wrong) else None
        if values.shape != expected.shape:
            return f"an answer of shape {values.shape}, expected {expected.shape}"
        error = float(np.abs(values - expected).max())
        return None if error <= tolerance else f"scores off by {error:.3g}, allowed are {tolerance:.3g}"
