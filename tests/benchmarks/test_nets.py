"""The measured networks are the published ones."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import nets
from secureimg import graph as g


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return nets.pictures(20)


def _linear_sizes(net: nets.Net) -> list[tuple[int, ...]]:
    return [node.op.weight.shape for node in net.graph.nodes if isinstance(node.op, g.Conv | g.Dense)]


def test_tutorial_network_has_the_tutorials_sizes(images):
    assert _linear_sizes(nets.tutorial4(images)) == [(4, 1, 7, 7), (64, 256), (10, 64)]


def test_lenet_has_the_published_sizes(images):
    assert _linear_sizes(nets.lenet(images)) == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def test_cryptonets_has_845_values_after_its_convolution(images):
    net = nets.cryptonets(images)
    assert _linear_sizes(net) == [(5, 1, 5, 5), (100, 845), (10, 100)]
    assert (5, 13, 13) in net.graph.shapes.values()


@pytest.mark.parametrize("weights", nets.WEIGHTS)
def test_weights_are_the_same_in_every_run(images, weights):
    first, second = (nets.published(images, weights) for _ in range(2))
    assert [net.graph.fingerprint for net in first] == [net.graph.fingerprint for net in second]


def test_normalised_weights_keep_every_layer_near_unit_deviation(images):
    for net in nets.published(images):
        values = g.run_plain_all(net.graph, net.images)
        for node in net.graph.nodes:
            if isinstance(node.op, g.Conv | g.Dense):
                assert 0.3 < float(np.std(values[node.name])) < 3.0, (net.name, node.name)


def test_pictures_show_every_digit_in_the_unit_range(images):
    assert images.shape == (20, 1, 28, 28)
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert len(np.unique(images, axis=0)) == 20


def test_compiler_never_sees_a_measured_picture(images):
    net = nets.tutorial4(images)
    both = np.concatenate([net.samples, net.tests])
    assert len(np.unique(both, axis=0)) == len(net.samples) + len(net.tests) == 20
