"""The peer is measured on the computation that we run, not on another one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import nets, peer
from secureimg import graph as g
from secureimg.ckks.parameters import MAX_MODULUS_BITS


def test_the_peer_answers_what_the_plain_network_answers():
    net = nets.tutorial4(nets.pictures(4), "initial")
    tutorial = peer.TutorialPeer(net)
    vector, windows = tutorial.encrypt(net.images[0])
    got = tutorial.decrypt(tutorial.evaluate(vector, windows))
    want = g.run_plain(net.graph, net.images[:1])[0]
    assert np.max(np.abs(got - want)) < 0.1 * np.max(np.abs(want))


def test_the_peer_runs_at_the_tutorials_128_bit_parameters():
    assert (peer.RING_DEGREE, peer.SCALE_BITS) == (8192, 26)
    assert sum(peer.COEFF_MOD_BIT_SIZES) <= MAX_MODULUS_BITS[peer.RING_DEGREE]


def test_a_network_of_another_form_is_refused():
    with pytest.raises(ValueError, match="LeNet"):
        peer.TutorialPeer(nets.lenet(nets.pictures(4)))
