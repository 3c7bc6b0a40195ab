"""What a server needs of a compiled model, and the CKKS engine that provides it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TypeVar

from protocols.messages import InputPreparation
from protocols.preparation import preparation_of
from secureimg.ckks import EvaluationKeys, Evaluator, Program
from secureimg.graph import Graph

__all__ = ["CkksEngine", "Engine"]

Keys = TypeVar("Keys")

_LONGEST_NAME = 200
_MOST_WORKERS = 128
_LOADED_KEYS = 8 << 30
_DIVIDE_FROM = 0.25
"""Seconds of evaluation on one core below which a second one makes an answer no faster."""


class Engine(Protocol[Keys]):
    """A compiled model that evaluates under keys which it can load but not make.

    Attributes
    ----------
    model, fingerprint : str
        Name of the model, and the program's fingerprint.
    public : bytes
        The public program.
    preparation : InputPreparation or None
        How a picture becomes an input.
    keys_bytes, input_bytes : int
        No evaluation keys and no encrypted input of this program are larger, in bytes.
    parallel : int
        Evaluations that it runs at the same time, each called from a thread of its own.
    """

    model: str
    fingerprint: str
    public: bytes
    preparation: InputPreparation | None
    keys_bytes: int
    input_bytes: int
    parallel: int

    def load_keys(self, data: bytes) -> tuple[str, Keys]:
        """Check and load evaluation keys; return their id and them."""

    def prepare(self, keys: Keys) -> bytes:
        """Expand keys ahead of their first use; an evaluation thread's work, like `evaluate`."""

    def evaluate(self, keys: Keys, blob: bytes) -> bytes:
        """Run the program on an encrypted input."""

    def names(self) -> frozenset[str]:
        """Return the names under which an owner may ask for this model."""


class CkksEngine:
    """A CKKS program with its evaluator.

    With several workers an evaluation that is alone is divided between them, if it is long enough for that to pay; several
    run side by side, a worker each. Close it when nobody uses it any more: calls under way fail then.

    Parameters
    ----------
    graph : Graph
        The model; gives the names, input preparation that owners are told.
    program : Program
        The same model, compiled.
    workers : int
        Processes to evaluate with, best one a core; beyond 128 there is no more than that.
    key_memory : int
        Bytes for keys in loaded form, which is about four times what travels, in all workers together.
    """

    def __init__(self, graph: Graph, program: Program, workers: int = 1, key_memory: int = _LOADED_KEYS) -> None:
        self.model = graph.name[:_LONGEST_NAME] or "model"
        self.fingerprint = program.public.fingerprint
        self.public = program.public.to_bytes()
        self.preparation = preparation_of(graph)
        self.keys_bytes = _with_frame(program.cost.evaluation_key_bytes)
        self.input_bytes = _with_frame(program.cost.input_bytes)
        self._graph_fingerprint = graph.fingerprint
        self._public_program = program.public
        self.parallel = min(workers, _MOST_WORKERS)
        self._evaluator = Evaluator(program, workers=self.parallel, divide_from=_DIVIDE_FROM, key_memory=key_memory)

    def __enter__(self) -> Self:
        self._evaluator.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._evaluator.__exit__(kind, error, trace)

    @property
    def helpers(self) -> list[int]:
        """Ids of its processes."""
        return self._evaluator.helpers

    def load_keys(self, data: bytes) -> tuple[str, EvaluationKeys]:
        """Check and load evaluation keys; return their id and them."""
        keys = EvaluationKeys.from_bytes(data, self._public_program)
        return keys.key_id, keys

    def prepare(self, keys: EvaluationKeys) -> bytes:
        """Expand keys ahead of their first use; the evaluation thread's work, like `evaluate`."""
        self._evaluator.load(keys)
        return b""

    def evaluate(self, keys: EvaluationKeys, blob: bytes) -> bytes:
        """Run the program on an encrypted input."""
        return self._evaluator.evaluate(keys, blob)

    def names(self) -> frozenset[str]:
        """Return the names under which an owner may ask for this model."""
        return frozenset({self.model, self.fingerprint, self._graph_fingerprint})


def _with_frame(size: int) -> int:
    """Return an upper bound on a blob's size from that of its payload; one side too many costs nothing."""
    return size + size // 64 + (64 << 10)
