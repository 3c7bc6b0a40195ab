"""The measured objects, each living in a process of its own: our server, our owner, the plain model, the peer."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg import ckks
from secureimg import graph as g

from .nets import Net
from .peer import COEFF_MOD_BIT_SIZES, RING_DEGREE, SCALE_BITS, TutorialPeer
from .processes import peak_rss

__all__ = ["Case", "OwnerSide", "PeerSide", "PlainSide", "ServerSide"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """How a network is run: layout, images in one evaluation, worker processes, ends of its inputs (None: its pictures')."""

    layout: str = "slots"
    batch: int = 1
    workers: int = 1
    input_range: tuple[float, float] | None = None


class ServerSide:
    """Our server: compiles, holds the weights and evaluation keys, evaluates. Never holds a secret key."""

    def __init__(self, net: Net, case: Case) -> None:
        self._open = ExitStack()
        started = time.perf_counter()
        self._program = ckks.compile(
            net.graph, samples=net.samples, batch=case.batch, layout=case.layout, input_range=case.input_range
        )
        self._compile_seconds = time.perf_counter() - started
        self._workers = case.workers
        self._keys: ckks.EvaluationKeys | None = None
        self._evaluator: ckks.Evaluator | None = None

    def public(self) -> bytes:
        """Return the public program, for the owner."""
        return self._program.public.to_bytes()

    def facts(self) -> dict[str, Any]:
        """What the program says of itself before any key exists."""
        public, cost = self._program.public, self._program.cost
        parameters = public.parameters
        return {
            "compile_seconds": self._compile_seconds,
            "ring_degree": parameters.ring_degree,
            "prime_bits": [*parameters.bits.data, parameters.bits.special],
            "rotations": cost.rotations,
            "galois_keys": cost.galois_keys,
            "products": cost.products,
            "multiplications": cost.multiplications,
            "levels": cost.levels,
            "batch": public.batch,
            "error_bound": public.error_bound,
            "predicted_ms": cost.milliseconds,
        }

    def load_keys(self, data: bytes) -> None:
        """Take the owner's evaluation keys and start the workers."""
        self._keys = ckks.EvaluationKeys.from_bytes(data, self._program.public)
        self._evaluator = self._open.enter_context(ckks.Evaluator(self._program, workers=self._workers))

    def evaluate(self, blob: bytes) -> tuple[float, bytes]:
        """Evaluate one blob; seconds from bytes to bytes, and the answer."""
        if self._keys is None or self._evaluator is None:
            raise RuntimeError("load_keys comes first")
        started = time.perf_counter()
        answer = self._evaluator.evaluate(self._keys, blob)
        return time.perf_counter() - started, answer

    def peak_rss(self) -> int:
        """Peak memory of this process and its workers in bytes."""
        return peak_rss()

    def close(self) -> None:
        """End the workers."""
        self._open.close()


class OwnerSide:
    """Our owner: makes keys, encrypts, decrypts."""

    def __init__(self, public: bytes) -> None:
        started = time.perf_counter()
        self._public = ckks.PublicProgram.from_bytes(public)
        self._keys = ckks.OwnerKeys.generate(self._public)
        self._evaluation_keys = self._keys.evaluation_keys().to_bytes()
        self.keygen_seconds = time.perf_counter() - started

    def evaluation_keys(self) -> tuple[float, bytes]:
        """Seconds to make all keys, and the server's part of them."""
        return self.keygen_seconds, self._evaluation_keys

    def encrypt(self, images: Array) -> tuple[float, bytes]:
        """Encrypt (n, *input_shape); seconds and the blob."""
        started = time.perf_counter()
        blob = self._keys.encrypt(images)
        return time.perf_counter() - started, blob

    def decrypt(self, blob: bytes, count: int) -> tuple[float, Array]:
        """Decrypt `count` answers; seconds and (count, *output_shape)."""
        started = time.perf_counter()
        values = self._keys.decrypt(blob, count)
        return time.perf_counter() - started, np.asarray(values, dtype=np.float64)

    def peak_rss(self) -> int:
        """Peak memory of this process in bytes."""
        return peak_rss()


class PlainSide:
    """The same model in the clear on one thread: the overhead is measured against this."""

    def __init__(self, net: Net) -> None:
        self._body, _ = net.graph.body_and_tail()
        self._body = g.simplify(self._body)

    def evaluate(self, images: Array, calls: int) -> tuple[float, Array]:
        """Run the model's body (softmax and the like left out) on (n, *input_shape); least seconds, and the answers."""
        values, seconds = g.run_plain(self._body, images), math.inf
        for _ in range(calls):
            started = time.perf_counter()
            values = g.run_plain(self._body, images)
            seconds = min(seconds, time.perf_counter() - started)
        return seconds, values


class PeerSide:
    """The peer on its tutorial network."""

    def __init__(self, net: Net) -> None:
        self._peer = TutorialPeer(net)
        self._image = net.tests[0]
        self._want = g.run_plain(net.graph, net.tests[:1])[0]
        started = time.perf_counter()
        self._vector, self._windows = self._peer.encrypt(self._image)
        self._encrypt_seconds = time.perf_counter() - started
        self._answer: Any = None

    def evaluate(self) -> float:
        """Evaluate the ciphertext once more; seconds."""
        started = time.perf_counter()
        self._answer = self._peer.evaluate(self._vector, self._windows)
        return time.perf_counter() - started

    def facts(self) -> dict[str, Any]:
        """Everything but the time, after at least one evaluation. Peak memory is read before keys are serialized."""
        memory = peak_rss()
        started = time.perf_counter()
        got = self._peer.decrypt(self._answer)
        decrypt_seconds = time.perf_counter() - started
        return {
            "ring_degree": RING_DEGREE,
            "prime_bits": list(COEFF_MOD_BIT_SIZES),
            "scale_bits": SCALE_BITS,
            "keygen_seconds": self._peer.keygen_seconds,
            "encrypt_seconds": self._encrypt_seconds,
            "decrypt_seconds": decrypt_seconds,
            "bytes": {
                "evaluation_keys": self._peer.key_bytes(),
                "up": len(self._vector.serialize()),
                "down": len(self._answer.serialize()),
            },
            "error_max": float(np.max(np.abs(got - self._want))),
            "largest_output": float(np.max(np.abs(self._want))),
            "peak_rss": memory,
        }
