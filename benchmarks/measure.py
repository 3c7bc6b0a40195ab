"""Runs the cases: each side in its own process, repetitions taking turns with the peer and with the plain model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nets import Net
from .processes import Child
from .results import Bytes, Row, Spread
from .sides import Case, OwnerSide, PeerSide, PlainSide, ServerSide

__all__ = ["measure_net", "peer_child", "turns"]

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)
_PLAIN_CALLS = 5  # the plain model is so fast that one call is mostly the clock's and the caches' doing


class _Measured:
    """One case under way: its server, its owner and what they have shown so far."""

    def __init__(self, net: Net, case: Case, stack: ExitStack) -> None:
        self.case = case
        self._net = net
        self._server = stack.enter_context(Child(ServerSide, net, case))
        self._facts: dict[str, Any] = self._server.call("facts")
        self._images = int(self._facts["batch"])
        self._owner = stack.enter_context(Child(OwnerSide, self._server.call("public")))
        self._keygen, keys = self._owner.call("evaluation_keys")
        self._key_bytes = len(keys)
        self._server.call("load_keys", keys)
        self._plain = stack.enter_context(Child(PlainSide, net))
        self._first = 0.0
        self._seconds: dict[str, list[float]] = {"encrypt": [], "evaluate": [], "decrypt": [], "plain": []}
        self._errors: list[float] = []
        self._largest = 0.0
        self._equal = self._total = 0
        self._up = self._down = 0

    def warm_up(self) -> None:
        """One evaluation that does not count: plaintexts are encoded, pages touched, workers started."""
        _, blob = self._owner.call("encrypt", self._pick(0))
        self._first, _ = self._server.call("evaluate", blob)

    def turn(self, number: int) -> None:
        """One counted repetition, on other pictures each time."""
        images = self._pick(number)
        seconds, blob = self._owner.call("encrypt", images)
        self._seconds["encrypt"].append(seconds)
        seconds, answer = self._server.call("evaluate", blob)
        self._seconds["evaluate"].append(seconds)
        self._up, self._down = len(blob), len(answer)
        seconds, got = self._owner.call("decrypt", answer, len(images))
        self._seconds["decrypt"].append(seconds)
        seconds, want = self._plain.call("evaluate", images, _PLAIN_CALLS)
        self._seconds["plain"].append(seconds)
        self._compare(got, want)

    def row(self, peer: Sequence[float]) -> Row:
        """Sum up; `peer` holds the peer's evaluation times in the same turns."""
        facts = self._facts
        spread = {name: Spread.of(values) for name, values in self._seconds.items()}
        evaluate = spread["evaluate"]
        peer_spread = Spread.of(peer) if peer else None
        return Row(
            net=self._net.name,
            layout=self.case.layout,
            workers=self.case.workers,
            images=self._images,
            evaluate=evaluate,
            first_evaluate=self._first,
            plain=spread["plain"],
            overhead=evaluate.median / spread["plain"].median,
            peer_evaluate=peer_spread,
            peer_ratio=peer_spread.median * self._images / evaluate.median if peer_spread else None,
            compile=facts["compile_seconds"],
            keygen=self._keygen,
            encrypt=spread["encrypt"],
            decrypt=spread["decrypt"],
            bytes=Bytes(self._key_bytes, self._up, self._down),
            server_peak_rss=self._server.call("peak_rss"),
            owner_peak_rss=self._owner.call("peak_rss"),
            error_max=max(self._errors),
            error_relative=max(self._errors) / self._largest,
            error_predicted=facts["error_bound"],
            largest_output=self._largest,
            labels_equal=self._equal,
            labels_total=self._total,
            ring_degree=facts["ring_degree"],
            prime_bits=tuple(facts["prime_bits"]),
            rotations=facts["rotations"],
            galois_keys=facts["galois_keys"],
            products=facts["products"],
            multiplications=facts["multiplications"],
            levels=facts["levels"],
            predicted_evaluate=facts["predicted_ms"] / 1000,
        )

    def _pick(self, turn: int) -> Array:
        """Return as many pictures as one evaluation takes, starting elsewhere each turn."""
        available = self._net.tests
        return available[(turn * self._images + np.arange(self._images)) % len(available)]

    def _compare(self, got: Array, want: Array) -> None:
        self._errors.append(float(np.max(np.abs(got - want))))
        self._largest = max(self._largest, float(np.max(np.abs(want))))
        rows = len(want)
        equal = np.argmax(got.reshape(rows, -1), axis=1) == np.argmax(want.reshape(rows, -1), axis=1)
        self._equal += int(np.sum(equal))
        self._total += rows


def measure_net(net: Net, cases: Sequence[Case], *, repeat: int, peer: Child | None) -> tuple[list[Row], list[float]]:
    """Measure one network in several cases that take turns with each other and with the peer.

    Parameters
    ----------
    net : Net
        The network.
    cases : sequence of Case
        All are kept alive together.
    repeat : int
        Counted repetitions of each.
    peer : Child or None
        A child that holds a `PeerSide`.

    Returns
    -------
    (list of Row, list of float)
        A row a case, and the peer's evaluation times in seconds.
    """
    with ExitStack() as stack:
        started = time.perf_counter()
        measured = [_Measured(net, case, stack) for case in cases]
        for one in measured:
            one.warm_up()
        _log.info("%s: ready in %.1f s", net.name, time.perf_counter() - started)
        times: list[float] = []
        for number in range(1, repeat + 1):
            if peer is not None:
                times.append(peer.call("evaluate"))
            for one in measured:
                one.turn(number)
            _log.info("%s: turn %d of %d", net.name, number, repeat)
        return [one.row(times) for one in measured], times


def turns(nets: Sequence[Net], cores: int, *, batches: bool) -> Iterator[tuple[Net, tuple[Case, ...]]]:
    """Which networks run in which cases: each for latency, on one core and on two; the first one in batches too."""
    for net in nets:
        yield net, tuple(Case(workers=workers) for workers in range(1, cores + 1))
    if batches:
        yield nets[0], (Case(batch=8), Case(batch=16))
        yield nets[0], (Case(layout="throughput"),)


def peer_child(tutorial: Net) -> Child:
    """Make the peer's process; a context manager."""
    return Child(PeerSide, tutorial)
