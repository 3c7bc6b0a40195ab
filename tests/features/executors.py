"""A graph on one picture: in the clear, on shares, on ciphertexts; and what it means that two results are the same."""

from __future__ import annotations

import numpy as np

from secureimg import ckks, sharing
from secureimg.graph import Graph, run_plain


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape)


def clear(graph: Graph, picture: np.ndarray) -> np.ndarray:
    return run_plain(graph, picture.reshape(1, *graph.input_shape))[0]


def on_shares(graph: Graph, picture: np.ndarray, input_range: tuple[float, float] | None = None) -> np.ndarray:
    program = sharing.compile(graph, weights="public", input_range=input_range)
    return sharing.run_together(program, picture.reshape(1, *graph.input_shape))[0]


def on_ckks(graph: Graph, picture: np.ndarray) -> np.ndarray:
    program = ckks.compile(graph)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program) as evaluator:
        answer = evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(picture.reshape(1, *graph.input_shape)))
    return keys.decrypt(answer, 1)[0]


def same(found: np.ndarray, wanted: np.ndarray, error: float = 1e-12) -> None:
    """Equal shapes, and values to a share of the largest."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= error * max(np.abs(wanted).max(), 1e-3)
