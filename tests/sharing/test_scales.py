"""Rule: values of different fixed-point scales meet without losing what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from secureimg import sharing
from secureimg.graph import Graph, GraphBuilder, run_plain

IMAGES = np.random.default_rng(3).random((2, 1, 9, 7))


def agrees(graph: Graph, error: float, weights: sharing.compiler.Weights = "public") -> None:
    program = sharing.compile(graph, weights=weights)
    assert np.abs(sharing.run_together(program, IMAGES) - run_plain(graph, IMAGES)).max() <= error


@pytest.mark.parametrize("weights", ["public", "party 1"])
def test_whole_numbers_beside_fractions(weights: sharing.compiler.Weights) -> None:
    b = GraphBuilder("bits and values", (1, 9, 7))
    bits = b.step(b.affine(b.input, 1.0, -0.4))
    agrees(b.build(b.concat(bits, b.affine(b.input, 0.7))), 1e-4, weights)


def test_a_border_of_halves_around_bits() -> None:
    b = GraphBuilder("bits in halves", (1, 9, 7))
    agrees(b.build(b.pad(b.step(b.affine(b.input, 1.0, -0.4)), ((0, 0), (1, 1), (2, 0)), 0.5)), 1e-4)


@pytest.mark.parametrize("size", [(63, 64), (9, 7), (100, 81)])
def test_a_mean_of_many_keeps_its_bits(size: tuple[int, int]) -> None:
    b = GraphBuilder("less its mean", (1, *size))
    mean = b.affine(b.mean(b.input, (1, 2)), np.ones((1, *size)))
    graph = b.build(b.subtract(b.input, mean))
    image = np.random.default_rng(1).random((1, 1, *size))
    found = sharing.run_together(sharing.compile(graph, weights="public"), image)
    assert np.abs(found - run_plain(graph, image)).max() <= 1e-4
    b = GraphBuilder("mean and one", (1, *size))
    graph = b.build(b.subtract(b.mean(b.input, (1, 2)), b.mean(b.affine(b.input, 0.3), (1, 2))))
    found = sharing.run_together(sharing.compile(graph, weights="public"), image)
    assert np.abs(found - run_plain(graph, image)).max() <= 1e-4
