"""A graph on real pictures, on each executor: values, and what it took."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from protocols.pki import create_bundles
from protocols.sharing import SharesClient
from secureimg import sharing
from secureimg.graph import Graph, run_plain

from .feature_sides import DealerSide, PartySide
from .nets import Net
from .processes import Child
from .results import Spread
from .sides import Case, OwnerSide, ServerSide

__all__ = ["EXECUTORS", "Ends", "Executors", "Figures", "Measured"]

Array = NDArray[np.float64]
Ends = tuple[float, float]
EXECUTORS = ("plain", "ckks", "shares")


@dataclass(frozen=True)
class Figures:
    """What a program took for one picture: seconds, bytes, what it consists of. None, or 0, where there is no such thing.

    `seconds` is the graph in the clear, the evaluation on CKKS, the online phase on shares (from splitting the picture to
    having the result, the owner's links included). `offline` is from asking for correlations to both parties being ready.
    `up` and `down` are the owner's to and from the servers, `between` the parties' to each other, `dealt` the dealer's to
    the parties; `keys` go once an owner, `weights` once a model and dealer. `peak_rss` is the CKKS server's.
    """

    seconds: Spread
    compile: float = 0.0
    keygen: float | None = None
    encrypt: Spread | None = None
    decrypt: Spread | None = None
    offline: Spread | None = None
    up: int = 0
    down: int = 0
    between: int = 0
    dealt: int = 0
    keys: int = 0
    weights: int = 0
    rounds: int | None = None
    levels: int | None = None
    rotations: int | None = None
    peak_rss: int | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """Values (N, *output_shape) in the order of the inputs, and what they took."""

    values: Array
    figures: Figures


class Executors:
    """The executors of this machine; parties and dealer live in processes that start when they are first wanted.

    A context manager.

    Parameters
    ----------
    threads : int
        That numpy, BLAS and numba may use in each party.
    workers : int
        Processes that evaluate ciphertexts, one core each.
    """

    def __init__(self, threads: int = 1, workers: int = 1) -> None:
        self._threads, self._workers = threads, workers
        self._stack = ExitStack()
        self._servers: tuple[Child, Child, Child] | None = None
        self._owner = Path()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def plain(self, graph: Graph, inputs: Array, *, repeat: int) -> Measured:
        """Run in the clear, with numpy.

        Parameters
        ----------
        graph : Graph
        inputs : ndarray, shape (N, *graph.input_shape)
            Each is run at least once after a run that does not count.
        repeat : int
            Counted runs at least.
        """
        values: dict[int, Array] = {}
        seconds = []
        run_plain(graph, inputs[:1])
        for places in _turns(len(inputs), 1, repeat):
            started = time.perf_counter()
            found = run_plain(graph, inputs[places])
            seconds.append(time.perf_counter() - started)
            values |= dict(zip(places, found, strict=True))
        return Measured(_ordered(values), Figures(Spread.of(seconds)))

    def ckks(self, graph: Graph, inputs: Array, *, repeat: int, ends: Ends | None = None) -> Measured:
        """Run on ciphertexts: server and owner are processes of one thread each.

        Parameters
        ----------
        graph, inputs, repeat
            As of `plain`.
        ends : (float, float), optional
            Smallest and largest input value; those of the graph's pictures if not given.

        Raises
        ------
        ChildError
            If the graph does not compile or a process fails.
        """
        body, _ = graph.body_and_tail()
        seconds: dict[str, list[float]] = {"encrypt": [], "evaluate": [], "decrypt": []}
        values: dict[int, Array] = {}
        up = down = 0
        with ExitStack() as stack:
            case = Case(workers=self._workers, input_range=ends)
            server = stack.enter_context(Child(ServerSide, Net(graph.name, body, inputs[:1]), case))
            facts = server.call("facts")
            owner = stack.enter_context(Child(OwnerSide, server.call("public")))
            keygen, keys = owner.call("evaluation_keys")
            server.call("load_keys", keys)
            server.call("evaluate", owner.call("encrypt", inputs[:1])[1])
            for places in _turns(len(inputs), 1, repeat):
                took, blob = owner.call("encrypt", inputs[places])
                seconds["encrypt"].append(took)
                took, answer = server.call("evaluate", blob)
                seconds["evaluate"].append(took)
                took, found = owner.call("decrypt", answer, 1)
                seconds["decrypt"].append(took)
                values |= dict(zip(places, found, strict=True))
                up, down = len(blob), len(answer)
            peak = server.call("peak_rss")
        spread = {name: Spread.of(times) for name, times in seconds.items()}
        return Measured(
            _ordered(values),
            Figures(
                spread["evaluate"], facts["compile_seconds"], keygen, spread["encrypt"], spread["decrypt"], up=up, down=down,
                keys=len(keys), levels=facts["levels"], rotations=facts["rotations"], peak_rss=peak,
            ),
        )  # fmt: skip

    def shares(
        self,
        graph: Graph,
        inputs: Array,
        *,
        repeat: int,
        ends: Ends | None = None,
        batch: int = 1,
        reveal: Literal["scores", "label"] = "scores",
        weights: Literal["public", "party 1"] = "public",
        samples: Array | None = None,
    ) -> Measured:
        """Run on shares: party 0, party 1 and a dealer are processes that talk over TLS, this one is the owner.

        Parameters
        ----------
        graph, inputs, repeat, ends
            As of `ckks`.
        batch : int
            Inputs of one run; figures are divided by it, but for rounds.
        reveal, weights, samples
            As of `secureimg.sharing.compile`.

        Raises
        ------
        SecureImgError
            If the graph does not compile or a party fails.
        """
        started = time.perf_counter()
        program = sharing.compile(
            graph, weights=weights, input_range=ends, reveal=reveal, samples=samples, bounds="measured"
        )
        compiled = time.perf_counter() - started
        dealer, zero, one = self._started()
        supply = dealer.call("address")
        peer = one.call("serve", program, supply)
        address = zero.call("serve", program if weights == "public" else None, supply, peer)
        batch = min(batch, len(inputs))
        values: dict[int, Array] = {}
        online, offline = [], []
        with SharesClient(address, peer, self._owner, dealing="dealer") as client:
            prepared = client.prepare(batch)
            masked, answer = prepared.weights, client.run(inputs[:batch])
            for places in _turns(len(inputs), batch, repeat):
                prepared = client.prepare(batch)
                answer = client.run(inputs[places])
                offline.append(prepared.seconds / batch)
                online.append(answer.seconds / batch)
                values |= dict(zip(places, answer.values, strict=True))
        return Measured(
            _ordered(values),
            Figures(
                Spread.of(online), compiled, offline=Spread.of(offline), up=answer.up // batch, down=answer.down // batch,
                between=sum(answer.sent) // batch, dealt=prepared.dealt // batch, weights=masked,
                rounds=answer.rounds,
            ),
        )  # fmt: skip

    def on(self, executor: str) -> Callable[..., Measured]:
        """The method of an executor."""
        return {"plain": self.plain, "ckks": self.ckks, "shares": self.shares}[executor]

    def _started(self) -> tuple[Child, Child, Child]:
        """Dealer, party 0 and party 1."""
        if self._servers is None:
            home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-bench-")))
            bundles = create_bundles(home / "tls", days=1)
            self._owner = bundles["owner"]
            dealer = Child(DealerSide, bundles["dealer"], threads=self._threads)
            zero = Child(PartySide, 0, bundles["party-0"], threads=self._threads)
            one = Child(PartySide, 1, bundles["party-1"], threads=self._threads)
            sharing.warm_up()  # all four at a time
            for child in (dealer, zero, one):
                self._stack.enter_context(child)
            self._servers = dealer, zero, one
        return self._servers


def _turns(count: int, batch: int, repeat: int) -> Iterator[list[int]]:
    """Places of the inputs of each run: every input at least once, and at least so many runs."""
    for turn in range(max(repeat, math.ceil(count / batch))):
        yield [(turn * batch + place) % count for place in range(batch)]


def _ordered(values: dict[int, Array]) -> Array:
    return np.stack([values[place] for place in sorted(values)])
