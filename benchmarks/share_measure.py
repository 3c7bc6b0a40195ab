"""Measures a row on shares: owner, parties and dealer as processes over TLS, then the plain model, then the peers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import DealerKind

from .processes import Child
from .results import Spread
from .share_network import Network
from .share_onnx import save_onnx
from .share_peers import run_peer, write_program
from .share_results import PeerFigure, ShareRow
from .share_rows import Work
from .share_sides import Once, OwnerSide, PlainSide, model_options

__all__ = ["measure_work"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_PLAIN_CALLS = 3
_IMAGES = 2  # different ones, in turn


def measure_work(
    work: Work,
    dealer: DealerKind,
    network: Network,
    *,
    repeat: int,
    threads: int,
    relayed: bool,
    peers: Mapping[str, Path],
) -> ShareRow:
    """Measure one row.

    Parameters
    ----------
    work : Work
    dealer : DealerKind
    network : Network
    repeat : int
        Counted runs, after one that does not count.
    threads : int
        Of each process, at most.
    relayed : bool
        Relays shape the network; otherwise this process lives in a namespace that is shaped already, or nothing does.
    peers : mapping of str to Path
        Interpreters of the peers that run the same row. A peer that fails leaves its reason in the row.

    Returns
    -------
    ShareRow

    Raises
    ------
    ChildError
        If one of our own processes fails.
    """
    graph = work.make()
    images = work.inputs(graph, _IMAGES)
    with tempfile.TemporaryDirectory(prefix="secureimg-bench-") as home:
        path = Path(home) / "model.onnx"
        save_onnx(graph, path)
        with Child(PlainSide, model_options(work, path)[0], threads=threads) as clear:
            seconds, want = clear.call("evaluate", images, _PLAIN_CALLS)
        relays = network if relayed else Network("loopback")
        with Child(OwnerSide, *model_options(work, path), dealer, relays, threads=threads) as owner:
            turns: list[Once] = [owner.call("run", images[turn % _IMAGES]) for turn in range(repeat + 1)]
            facts = owner.call("facts")
        figures = _peers(work, Path(home), images[0], want[0], repeat, threads, network, peers) if peers else {}
    counted = turns[1:]
    label = work.reveal == "label"
    answers = [(turn.values, want[number % _IMAGES]) for number, turn in enumerate(turns)]
    equal = [_label(got, label) == int(plain.argmax()) for got, plain in answers]
    return ShareRow(
        work=work.name,
        network=network.name,
        dealer=dealer.value,
        online=Spread.of([turn.online for turn in counted]),
        offline=Spread.of([turn.offline for turn in counted]),
        total=Spread.of([turn.offline + turn.online for turn in counted]),
        first=turns[0].offline + turns[0].online,
        plain=Spread.of(seconds),
        compile=facts["compile"],
        online_bytes=counted[-1].online_bytes,
        dealt_bytes=counted[-1].dealt,
        weight_bytes=sum(turn.weights for turn in turns),
        owner_bytes=counted[-1].owner_up + counted[-1].owner_down,
        rounds=counted[-1].rounds,
        error=None if label else max(_error(got, plain) for got, plain in answers),
        image_effect=float(np.abs(want[0] - want[1]).max() / np.abs(want).max()),
        labels_equal=sum(equal),
        labels_total=len(equal),
        peak_rss=facts["peak_rss"],
        shaped_by="nothing" if network.rate is None else "relay processes" if relayed else "netem",
        peers=figures,
    )


def _peers(
    work: Work,
    home: Path,
    image: Array,
    want: Array,
    repeat: int,
    threads: int,
    network: Network,
    peers: Mapping[str, Path],
) -> dict[str, PeerFigure]:
    program = write_program(work.make(), image, want, work.reveal == "label", home)
    figures = {}
    for name, python in peers.items():
        figures[name] = run_peer(name, python, program, repeat, threads, network)
        if figures[name].failure:
            _log.warning("%s, %s: %s", work.name, name, figures[name].failure)
    return figures


def _error(got: Array, want: Array) -> float:
    return float(np.abs(got.reshape(-1) - want.reshape(-1)).max() / np.abs(want).max())


def _label(values: Array, label: bool) -> int:
    return int(values.reshape(-1)[0]) if label else int(values.argmax())
