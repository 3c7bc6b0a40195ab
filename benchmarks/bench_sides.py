"""An owner in this process with a CKKS server in a process of its own, connected over TLS and a network."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import ModelOptions
from protocols.cli.remote import parameters_of
from protocols.cli.server_process import ServerProcess
from protocols.client import OwnerClient
from protocols.memory_use import peak_of
from secureimg.ckks import OwnerKeys

from .share_network import Network, router

__all__ = ["CkksOnce", "CkksOwner"]

Array = NDArray[np.float64]
_PATIENCE: Final = 15.0  # seconds that keys may take over a shaped link; larger ones go beside it


@dataclass(frozen=True, eq=False)
class CkksOnce:
    """One picture. Seconds; `carry` is what sending, queueing and receiving take beside evaluating."""

    values: Array
    encrypt: float
    evaluate: float
    carry: float
    decrypt: float
    up: int
    down: int


class CkksOwner:
    """An owner that has made its keys and left the server its part of them.

    Parameters
    ----------
    model : ModelOptions
    workers : int
        Processes that the server evaluates with.
    network : Network
        Shaped by a relay, unless it is unshaped.
    """

    def __init__(self, model: ModelOptions, workers: int, network: Network) -> None:
        self._stack = ExitStack()
        self._workers = workers
        self._peak = 0
        self._blob = b""
        try:
            self._server = self._stack.enter_context(ServerProcess(model, workers))
            self._connect(network)
        except BaseException:
            self._stack.close()
            raise

    def _connect(self, network: Network) -> None:
        direct, identity = self._server.address, self._server.identity
        route = router(network, self._stack)
        self._client = self._stack.enter_context(OwnerClient(*(route(direct) if route else direct), identity))
        public = self._client.program
        started = time.perf_counter()
        self._keys = OwnerKeys.generate(public)
        self._key_bytes = len(self._keys.evaluation_keys().to_bytes())
        self._keygen = time.perf_counter() - started
        beside = network.rate is not None and self._key_bytes > _PATIENCE * network.rate
        if beside:
            with OwnerClient(*direct, identity) as client:
                client.register(self._keys)
        started = time.perf_counter()
        self._client.register(self._keys)  # makes them once more
        carried = time.perf_counter() - started - self._keygen
        self._carried = None if beside else max(carried, 0.0)

    def run(self, image: Array) -> CkksOnce:
        """Encrypt one image of the graph's input shape, have it evaluated, decrypt."""
        times = [time.perf_counter()]
        self._blob = self._keys.encrypt(image[None])
        times.append(time.perf_counter())
        answer = self._client.evaluate(self._blob)
        times.append(time.perf_counter())
        values = self._keys.decrypt(answer.blob, 1)
        times.append(time.perf_counter())
        self._peak = answer.peak_rss
        encrypt, carried, decrypt = np.diff(times).tolist()
        return CkksOnce(
            np.asarray(values[0], dtype=np.float64), encrypt, answer.seconds, max(carried - answer.seconds, 0.0),
            decrypt, len(self._blob), len(answer.blob),
        )  # fmt: skip

    def seen(self, shape: tuple[int, int]) -> tuple[Array, int]:
        """As many bytes of the last encrypted input as a picture of this shape has pixels, in [0, 1]; and its size."""
        tail = np.frombuffer(self._blob, dtype=np.uint8)[-shape[0] * shape[1] :]
        return np.resize(tail, shape) / 255.0, len(self._blob)

    def facts(self) -> dict[str, Any]:
        """What happens once, sizes, parameters, and the peak memory of both processes."""
        public = self._client.program
        once = {"compile": self._server.compile_seconds, "keygen": self._keygen}
        if self._carried is not None:
            once["keys sent"] = self._carried
        return {
            "once": once,
            "key_bytes": self._key_bytes,
            "parameters": {**parameters_of(public), "program": public.fingerprint, "workers": self._workers},
            "levels": public.levels,
            "rotations": public.rotations,
            "galois_keys": len(public.body.rotations),
            "bound": public.error_bound,
            "peak_rss": {"server": self._peak, "owner": peak_of(os.getpid())},
        }

    def close(self) -> None:
        """End the server."""
        self._stack.close()
