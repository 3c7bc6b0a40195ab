"""Other systems are given the network that we run, and one that cannot run it says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import share_peers
from benchmarks.share_network import NETWORKS
from benchmarks.share_peers import CKKS_PEERS, PEERS, parse_peer, run_peer, write_program
from secureimg.graph import Graph, GraphBuilder, run_plain

RNG = np.random.default_rng(7)
LOOPBACK = NETWORKS["loopback"]


def written(graph: Graph, directory: Path) -> tuple[dict, dict]:
    images = RNG.uniform(size=(1, *graph.input_shape))
    write_program(graph, images[0], run_plain(graph, images)[0], False, directory)
    stored = np.load(directory / "weights.npz")
    return json.loads((directory / "program.json").read_text()), {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("name", [*PEERS, *CKKS_PEERS])
def test_every_peer_has_a_script(name):
    assert (Path(share_peers.__file__).parent / "peers" / f"{name}_peer.py").is_file()
    assert parse_peer(f"{name}={sys.executable}", (*PEERS, *CKKS_PEERS)) == (name, Path(sys.executable))


def test_a_square_is_a_product_and_an_average_a_convolution(tmp_path):
    b = GraphBuilder("both", (3, 6, 6))
    graph = b.build(b.average_pool(b.square(b.input), (2, 3)))
    program, weights = written(graph, tmp_path)
    square, pool = program["nodes"]
    assert (square["kind"], square["inputs"][0]) == ("Multiply", square["inputs"][1])
    again = GraphBuilder("again", (3, 6, 6))
    found = again.build(
        again.conv(
            again.square(again.input), weights[pool["weight"]], strides=tuple(pool["strides"]), groups=pool["groups"]
        )
    )
    x = RNG.uniform(size=(2, 3, 6, 6))
    np.testing.assert_allclose(run_plain(found, x), run_plain(graph, x), rtol=1e-12)


def test_an_average_with_padding_is_refused_by_name(tmp_path):
    b = GraphBuilder("padded", (1, 4, 4))
    pool = b.average_pool(b.input, (3, 3), pads=(1, 1, 1, 1))
    with pytest.raises(NotImplementedError, match="padding"):
        written(b.build(pool), tmp_path)


def test_tenseal_runs_a_network_of_its_form_and_is_right(tmp_path):
    b = GraphBuilder("form", (1, 6, 6))
    x = b.flatten(b.square(b.conv(b.input, RNG.normal(size=(2, 1, 3, 3)) / 3)))
    x = b.square(b.dense(x, RNG.normal(size=(4, 32)) / 6, RNG.normal(size=4) / 4))
    written(b.build(b.dense(x, RNG.normal(size=(3, 4)), np.array([4.0, -4.0, 2.0]))), tmp_path)
    found = run_peer("tenseal", Path(sys.executable), share_peers.PeerProgram(tmp_path), 1, 1, LOOPBACK)
    assert found.failure is None
    assert found.seconds is not None
    assert found.error is not None
    assert found.error < 0.2  # 26 bits of scale


def test_tenseal_says_that_it_cannot_do_another_form(tmp_path):
    b = GraphBuilder("other", (1, 6, 6))
    written(b.build(b.square(b.conv(b.input, np.ones((1, 1, 3, 3))))), tmp_path)
    found = run_peer("tenseal", Path(sys.executable), share_peers.PeerProgram(tmp_path), 1, 1, LOOPBACK)
    assert found.failure is not None
    assert "this is Conv, Multiply" in found.failure
