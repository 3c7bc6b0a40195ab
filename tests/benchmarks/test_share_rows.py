"""The benchmark on shares measures every row that it promises, and one row end to end says what really happened."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.results import Spread
from benchmarks.share_measure import measure_work
from benchmarks.share_network import NETWORKS, Network, has_namespaces, inside
from benchmarks.share_peers import PEERS, parse_peer, run_peer, write_program
from benchmarks.share_report import plot_shares, share_markdown
from benchmarks.share_results import PeerFigure, ShareRow, ShareRun
from benchmarks.share_rows import WORKS, Work
from protocols.cli.options import DealerKind
from secureimg.graph import GraphBuilder


def tiny():
    b = GraphBuilder("tiny", (1, 6, 6))
    x = b.relu(b.conv(b.input, np.random.default_rng(1).normal(size=(2, 1, 3, 3))))
    return b.build(b.dense(b.flatten(x), np.random.default_rng(2).normal(scale=0.2, size=(3, 32))))


TINY = Work("tiny", tiny, picture=True)


def program(directory):
    graph = tiny()
    return write_program(graph, np.zeros((1, 6, 6)), np.ones(3), False, directory)


def stand_in(path, text):
    """An interpreter that says one thing whatever it is given."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    "wanted", ["product", "ReLU, 1", "matmul", "7x7", "3x3 at 56", "pool 2x2", "pool 3x3", "argmax", "MiniONN", "LeNet-5",
               "ResNet-18 at 64", "ResNet-18 at 224", "SqueezeNet", "ResNet-50"]
)  # fmt: skip
def test_every_row_is_there_once(wanted):
    assert sum(wanted in work.name for work in WORKS) == 1


def test_a_row_with_real_processes_through_a_network_is_right_and_slower_than_its_rounds():
    network = Network("wan", 12.5e6, 0.02)
    row = measure_work(TINY, DealerKind.DEALER, network, repeat=1, threads=1, relayed=True, peers={})
    assert row.error < 1e-2 < row.image_effect
    assert row.online.median > row.rounds * 0.01  # a message that waits for another takes half a round trip
    assert row.online_bytes > 0 < row.dealt_bytes
    assert set(row.peak_rss) == {"party 0", "party 1", "dealer", "owner"}
    assert min(row.peak_rss.values()) > 20e6
    assert ShareRow.from_dict(json.loads(json.dumps(_run(row).as_dict()))["rows"][0]) == row


def _row(**changes):
    one = Spread.of([0.5])
    values = {
        "work": "tiny", "network": "loopback", "dealer": "dealer", "online": one, "offline": one, "total": Spread.of([1.0]),
        "first": 1.0, "plain": Spread.of([0.01]), "compile": 0.1, "online_bytes": 1000, "dealt_bytes": 2000,
        "weight_bytes": 10, "owner_bytes": 5, "rounds": 3, "error": 1e-4, "image_effect": 0.5, "labels_equal": 2,
        "labels_total": 2, "peak_rss": {"party 0": 1, "owner": 2}, "shaped_by": "nothing", "peers": {},
    }  # fmt: skip
    return ShareRow(**(values | changes))


def _run(*rows):
    settings = {"repeat": 1, "cores": 1, "dealer": "dealer", "networks": {row.network: row.network for row in rows}}
    machine = {"cpu": "c", "cores": 1, "memory_bytes": 2**30, "system": "s", "python": "3"}
    return ShareRun(rows, settings, "Nobody colludes.", machine, {})


def test_a_peer_that_fails_has_one_line_and_the_table_still_appears(tmp_path):
    program(tmp_path)
    python = stand_in(tmp_path / "python", "echo first >&2; echo no such module >&2; exit 3")
    figure = run_peer("spu", python, program(tmp_path), 1, 1, NETWORKS["loopback"])
    assert figure.seconds is None
    assert figure.failure == "status 3: no such module"
    good = PeerFigure(Spread.of([2.0]), 3_000_000, 7, 1e-3)
    text = share_markdown(_run(_row(peers={"spu": figure, "crypten": good})))
    assert text.count("no such module") == 1
    assert "| 2x |" in text
    assert "trusted first party" in text


def test_what_a_peer_prints_is_read_and_chatter_before_it_is_not(tmp_path):
    said = '{"seconds": [1.0, 3.0, 2.0], "bytes": 5, "rounds": 6, "error": 0.5}'
    python = stand_in(tmp_path / "python", f"echo chatter; echo '{said}'")
    figure = run_peer("crypten", python, program(tmp_path), 3, 1, NETWORKS["loopback"])
    assert figure == PeerFigure(Spread(2.0, 1.0, 3.0, 3), 5, 6, 0.5)


def _alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_peer_that_hangs_is_ended_with_its_children(tmp_path):
    python = stand_in(tmp_path / "python", f"sleep 300 & echo $! > {tmp_path}/pid; wait")
    figure = run_peer("spu", python, program(tmp_path), 1, 1, NETWORKS["loopback"], timeout=1.0)
    assert figure.failure == "not done within 1 s"
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30  # a killed process takes a moment to be gone
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(child)


@pytest.mark.parametrize("text", ["torch=/bin/sh", "spu=/no/such/python", "spu"])
def test_a_peer_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match=f"{PEERS[0]}|python"):
        parse_peer(text)


@pytest.mark.parametrize(
    "words", [["--only", "no such row"], ["--network", "moon"], ["--peer", "spu=/no/such/python"], ["--cores", "9"]]
)
def test_the_command_refuses_what_it_does_not_know_before_it_starts_anything(words):
    assert CliRunner().invoke(app, ["shares", *words]).exit_code == 2


@pytest.mark.skipif(not has_namespaces(), reason="no unprivileged network namespaces here")
def test_a_command_in_a_namespace_sees_a_loopback_of_its_own_that_is_up():
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); "
    count = "print(len([l for l in open('/proc/net/dev') if ':' in l]))"
    done = subprocess.run(
        inside(NETWORKS["loopback"], ["python3", "-c", script + count]), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


def test_the_footer_says_who_deals_and_what_shaped_the_network():
    text = share_markdown(_run(_row(), _row(network="wan", shaped_by="relay processes")))
    assert "Nobody colludes." in text
    assert "shaped by relay processes" in text
    assert "trusted first party" not in text  # no peer ran


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    plot_shares(_run(_row(peers={"spu": PeerFigure(Spread.of([2.0]), None, None, None)})), tmp_path / "p.svg")
    assert "<svg" in (tmp_path / "p.svg").read_text()
