"""What evaluates a batch: workers that are given a program and keys once, then one ciphertext after another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from secureimg.ckks import EvaluationKeys, Evaluator, Program, PublicProgram
from secureimg.errors import SecureImgError

__all__ = ["BatchEngine", "BatchError", "Bench", "Evaluated", "Pending", "Work"]


class BatchError(SecureImgError):
    """A batch cannot go on: workers keep dying, the cluster is not there, or the results are another batch's."""


@dataclass(frozen=True)
class Evaluated:
    """An encrypted answer, and the seconds that a worker took for it."""

    blob: bytes
    seconds: float


class Pending(Protocol):
    """An evaluation under way."""

    def result(self) -> Evaluated:
        """Wait for the answer.

        Raises
        ------
        BatchError
            If it was lost more often than it is begun anew.
        SecureImgError
            What the evaluation itself raised.
        """


class BatchEngine(Protocol):
    """Workers for one batch; a context manager.

    Attributes
    ----------
    workers : int
        Evaluations that run at the same time.
    """

    workers: int

    def __enter__(self) -> Self:
        """Start the workers."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them, or leave the cluster."""

    def submit(self, blob: bytes) -> Pending:
        """Have an encrypted input evaluated. If its worker dies, another one begins it anew."""

    @property
    def processes(self) -> frozenset[int]:
        """Ids of the worker processes that have answered, as their machines number them."""


@dataclass(frozen=True)
class Work:
    """What every worker gets once: the public program as bytes, its text with the weights, and the evaluation keys.

    The text goes to a worker as its framework sends values, which is pickle: within one machine, or between the trusted
    members of one cluster. It is only ever read by processes that this one started or was told to join.
    """

    public: bytes
    rest: tuple[object, ...]
    keys: bytes

    @classmethod
    def of(cls, program: Program, keys: EvaluationKeys) -> Self:
        """Take program and keys apart."""
        return cls(program.public.to_bytes(), (program.text, program.cost), keys.to_bytes())


class Bench:
    """A worker's place: program and keys loaded, ready for inputs."""

    def __init__(self, work: Work) -> None:
        public = PublicProgram.from_bytes(work.public)
        self._evaluator = Evaluator(Program(public, *work.rest))  # type: ignore[arg-type]
        self._keys = EvaluationKeys.from_bytes(work.keys, public)
        self._evaluator.load(self._keys)

    def evaluate(self, blob: bytes) -> Evaluated:
        """Evaluate one input."""
        start = time.perf_counter()
        answer = self._evaluator.evaluate(self._keys, blob)
        return Evaluated(answer, time.perf_counter() - start)
