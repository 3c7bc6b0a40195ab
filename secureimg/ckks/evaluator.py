"""The server's side: evaluating a program for owners whose keys it knows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from secureimg.ckks.costs import CostModel
from secureimg.ckks.division import Share, divide
from secureimg.ckks.evaluation_keys import EvaluationKeys, LoadedKeys
from secureimg.ckks.program import Program
from secureimg.ckks.runtime import Machine, read_input, write_output
from secureimg.ckks.workers import Crew, WorkerError, run_share
from secureimg.errors import ParameterError

__all__ = ["Evaluator"]

_KEPT_KEYS = 4
_MOST_WORKERS = 64


@dataclass(eq=False)
class _Known:
    """An owner's keys in SEAL's form, and the helpers that have them."""

    keys: EvaluationKeys
    loaded: LoadedKeys
    crew: Crew | None = None


class Evaluator:
    """Evaluates one program. It holds no secret and cannot decrypt.

    Not safe to call from two threads at once.

    Parameters
    ----------
    program : Program
    workers : int
        Processes that share each evaluation. 1 stays in this process; more fork helpers (SEAL's binding holds the
        interpreter lock, so threads would not help).

    Raises
    ------
    ParameterError
        If `workers` is out of range.
    """

    def __init__(self, program: Program, workers: int = 1) -> None:
        if not 1 <= workers <= _MOST_WORKERS:
            raise ParameterError(f"workers must be between 1 and {_MOST_WORKERS}, got {workers}")
        self.program = program
        self.workers = workers
        self._machine = Machine(program)
        costs = CostModel(program.public.parameters.ring_degree)
        self._shares: list[Share] = (
            divide(program.text, workers, costs) if workers > 1 else [[*program.text.instructions]]
        )
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget all keys and end all helpers."""
        for known in self._known.values():
            if known.crew is not None:
                known.crew.close()
        self._known.clear()

    def load(self, keys: EvaluationKeys) -> None:
        """Bring an owner's keys into SEAL's form; the latest few owners' stay in memory."""
        self._load(keys)

    def _load(self, keys: EvaluationKeys) -> _Known:
        known = self._known.pop(keys.key_id, None)
        if known is not None and known.keys is not keys:
            self._drop(known)
            known = None
        if known is None:
            known = _Known(keys, keys.load())
        self._known[keys.key_id] = known
        while len(self._known) > _KEPT_KEYS:
            self._drop(self._known.popitem(last=False)[1])
        return known

    @staticmethod
    def _drop(known: _Known) -> None:
        if known.crew is not None:
            known.crew.close()

    def evaluate(self, keys: EvaluationKeys, blob: bytes | memoryview) -> bytes:
        """Evaluate the program on one input blob.

        Raises
        ------
        BlobError
            If the blob does not fit the program and keys; nothing is computed then.
        WorkerError
            If a helper process died; the next call starts fresh ones.
        """
        public, text = self.program.public, self.program.text
        if self.workers == 1:
            inputs = read_input(public, blob, keys.key_id)
            registers = dict(zip(text.inputs, inputs, strict=True))
            run_share(self._machine, self._shares[0], registers, self._load(keys).loaded)
            return write_output(public, [registers[number] for number in text.outputs], keys.key_id)
        known = self._load(keys)
        if known.crew is None:
            known.crew = Crew(self.program, self._machine, known.loaded, self._shares, keys.key_id)
        try:
            return write_output(public, known.crew.run(blob), keys.key_id)
        except WorkerError:
            known.crew.close()
            known.crew = None
            raise
