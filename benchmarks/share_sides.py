"""The measured objects, each living in a process of its own: the owner with its parties and dealer; the plain model."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import DealerKind, ModelOptions, Reveal, ShareOptions
from protocols.cli.shares import ShareProcesses
from protocols.memory_use import peak_of
from secureimg.graph import Graph, run_plain, simplify
from secureimg.sharing import view_share, warm_up

from .share_network import Network, router
from .share_rows import Work

__all__ = ["Once", "OwnerSide", "PlainSide", "model_options"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Once:
    """One image: offline, then online. Seconds and bytes; `online_bytes` and `dealt` as the parties counted them."""

    values: Array
    offline: float
    online: float
    rounds: int
    online_bytes: int
    dealt: int
    weights: int
    sent: tuple[int, int]
    owner_up: int
    owner_down: int


def model_options(work: Work, path: Path) -> tuple[ModelOptions, ShareOptions]:
    """Return what the parties are told about a row."""
    return (
        ModelOptions(str(path), input_range=work.input_range),
        ShareOptions(reveal=Reveal(work.reveal), public_weights=work.public_weights),
    )


class OwnerSide:
    """An owner in this process, connected to parties (and a dealer) in processes of their own, over TLS.

    Parameters
    ----------
    model : ModelOptions
    options : ShareOptions
    dealer : DealerKind
    network : Network
        Shaped by relays, unless it is unshaped.
    """

    def __init__(self, model: ModelOptions, options: ShareOptions, dealer: DealerKind, network: Network) -> None:
        self._stack = ExitStack()
        try:
            warm_up()
            route = router(network, self._stack)
            self._processes = self._stack.enter_context(ShareProcesses(model, options, dealer, route=route))
            started = time.perf_counter()
            self._client = self._stack.enter_context(self._processes.client())
            self._open_seconds = time.perf_counter() - started
        except BaseException:
            self._stack.close()
            raise

    def run(self, image: Array) -> Once:
        """Prepare and run one image of the graph's input shape."""
        offline = self._client.prepare(1)
        answer = self._client.run(image[None])
        self._seen = answer.shares
        return Once(
            answer.values[0], offline.seconds, answer.seconds, answer.rounds, sum(answer.sent), offline.dealt,
            offline.weights, answer.sent, answer.up, answer.down,
        )  # fmt: skip

    def seen(self) -> tuple[tuple[Array, Array], tuple[int, int]]:
        """What party 0 and party 1 saw of the last image, as pictures in [0, 1], and in bytes."""
        public, (zero, one) = self._client.program, self._seen
        return (view_share(public, zero), view_share(public, one)), (zero.nbytes, one.nbytes)

    def program(self) -> dict[str, Any]:
        """What is public of the program that runs."""
        public = self._client.program
        return {
            "program": public.fingerprint, "reveal": public.reveal, "weights": public.weights,
            "input range": list(public.input_range), "ring bits": 64, "input bits": public.input_width,
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What compiling took, and the peak memory of every process in bytes."""
        # as the kernel counts it since the program started; getrusage would count what the starting process had, too
        peaks = {role: peak_of(pid) for role, pid in {**self._processes.pids, "owner": os.getpid()}.items()}
        return {"compile": self._processes.compile_seconds, "open": self._open_seconds, "peak_rss": peaks}

    def close(self) -> None:
        """End all processes."""
        self._stack.close()


class PlainSide:
    """The same model in the clear, with numpy."""

    def __init__(self, model: ModelOptions) -> None:
        self._body: Graph = simplify(model.load().graph.body_and_tail()[0])

    def evaluate(self, images: Array, calls: int) -> tuple[list[float], Array]:
        """Answer each image by itself; return the least seconds of some calls for each, and the answers."""
        seconds, values = [], []
        for image in images:
            least, value = math.inf, image
            for _ in range(calls):
                started = time.perf_counter()
                value = run_plain(self._body, image[None])[0]
                least = min(least, time.perf_counter() - started)
            seconds.append(least)
            values.append(value)
        return seconds, np.stack(values)

    def peak_rss(self) -> int:
        """Peak memory of this process in bytes."""
        return peak_of(os.getpid())
