"""The server's side: evaluating a program for owners whose keys it knows."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import Self

from secureimg.ckks.costs import CostModel
from secureimg.ckks.division import Share, divide
from secureimg.ckks.evaluation_keys import EvaluationKeys, LoadedKeys
from secureimg.ckks.program import Program
from secureimg.ckks.runtime import Machine, read_input, write_output
from secureimg.ckks.workers import DIVIDED, WHOLE, Crew, Helper, Job, WorkerError, run_share
from secureimg.errors import BlobError, ParameterError

__all__ = ["Evaluator"]

_KEPT_KEYS = 4
_MOST_WORKERS = 128
_MOST_SHARES = 8
"""Beyond, dividing further gains nothing, and each pair needs pipes."""
_KEY_MEMORY = 8 << 30
_CLOSE_SECONDS = 5.0


class Evaluator:
    """Evaluates one program. It holds no secret and cannot decrypt.

    With several workers it is safe to call from several threads, and as many calls as there are workers run at the same
    time. A call that finds all workers idle is divided between them, for the lowest latency; calls that have to wait for
    one another get a worker each, for the highest throughput.

    Parameters
    ----------
    program : Program
    workers : int
        Processes to evaluate with. 1 stays in this process; more fork that many helpers (SEAL's binding holds the
        interpreter lock, so threads would not help).
    divide_from : float
        Seconds: shorter evaluations, by the cost model, are not worth dividing.
    key_memory : int
        Bytes that loaded keys may take in all helpers together. Each helper holds at least one owner's.

    Raises
    ------
    ParameterError
        If `workers` is out of range.
    """

    def __init__(
        self, program: Program, workers: int = 1, *, divide_from: float = 0.0, key_memory: int = _KEY_MEMORY
    ) -> None:
        if not 1 <= workers <= _MOST_WORKERS:
            raise ParameterError(f"workers must be between 1 and {_MOST_WORKERS}, got {workers}")
        self.program = program
        self.workers = workers
        self._machine = Machine(program)
        self._whole: Share = [*program.text.instructions]
        self._known: OrderedDict[str, tuple[EvaluationKeys, LoadedKeys]] = OrderedDict()
        self._crew: _SharedCrew | None = None
        if workers > 1:
            costs = CostModel(program.public.parameters.ring_degree)
            crew = Crew(program, self._machine, divide(program.text, min(workers, _MOST_SHARES), costs), workers)
            kept = max(1, key_memory // workers // max(1, loaded_bytes(program)))
            self._crew = _SharedCrew(crew, kept, divided=program.cost.milliseconds >= 1000 * divide_from)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def helpers(self) -> list[int]:
        """Ids of the helper processes."""
        return [] if self._crew is None else [helper.process for helper in self._crew.crew.helpers]

    def close(self) -> None:
        """Forget all keys and end all helpers; calls under way fail."""
        if self._crew is not None:
            self._crew.close()
        self._known.clear()

    def load(self, keys: EvaluationKeys) -> None:
        """Bring an owner's keys into SEAL's form; the latest owners' stay in memory."""
        if self._crew is None:
            self._load(keys)
        else:
            self._crew.run(keys, b"")

    def _load(self, keys: EvaluationKeys) -> LoadedKeys:
        known = self._known.pop(keys.key_id, None)
        if known is None or known[0] is not keys:
            known = keys, keys.load()
        self._known[keys.key_id] = known
        while len(self._known) > _KEPT_KEYS:
            self._known.popitem(last=False)
        return known[1]

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
        if self._crew is not None:
            if not len(blob):
                raise BlobError("the input is empty")
            return self._crew.run(keys, blob)
        inputs = read_input(public, blob, keys.key_id)
        registers = dict(zip(text.inputs, inputs, strict=True))
        run_share(self._machine, self._whole, registers, self._load(keys))
        return write_output(public, [registers[number] for number in text.outputs], keys.key_id)


def loaded_bytes(program: Program) -> int:
    """Return the memory that one owner's keys take in SEAL's form."""
    body, parameters = program.public.body, program.public.parameters
    primes = len(parameters.primes)
    count = len(body.rotations) + bool(body.relinearisation)
    return count * 2 * (primes - 1) * primes * parameters.ring_degree * 8


class _SharedCrew:
    """Lends the helpers of a crew to threads, and knows which keys each of them has."""

    def __init__(self, crew: Crew, kept: int, *, divided: bool) -> None:
        self.crew = crew
        self._kept, self._divided = kept, divided
        self._changed = threading.Condition()
        self._busy: set[Helper] = set()
        self._waiting = 0
        self._closed = False
        self._last = 0
        self._numbers: dict[int, tuple[weakref.ref[EvaluationKeys], int]] = {}

    def run(self, keys: EvaluationKeys, blob: bytes | memoryview) -> bytes:
        """Load keys where they are lacking, and evaluate if there is an input."""
        number, taken = self._take(keys)
        kind = DIVIDED if len(taken) > 1 else WHOLE
        there = partial(_all_alive, taken)
        try:
            for helper in taken:
                self._ask(helper, kind, number, keys, blob)
            answers = [helper.answer(there) for helper in taken]
        except BlobError:
            for helper in taken[1:]:  # all judge the same input before they tell each other anything
                with suppress(BlobError):
                    helper.answer(there)
            for helper in taken:
                helper.kept.pop(number, None)
            raise
        except WorkerError:
            self._repair(taken)
            raise
        finally:
            with self._changed:
                self._busy.difference_update(taken)
                self._changed.notify_all()
        return bytes(answers[0])

    def _ask(self, helper: Helper, kind: int, number: int, keys: EvaluationKeys, blob: bytes | memoryview) -> None:
        """Hand a helper its part; keys that it lacks take the place of those nobody has any more, or used least recently."""
        known = number in helper.kept
        drop = next((other for other in helper.kept if other not in self._alive()), 0)
        if not drop and not known and len(helper.kept) >= self._kept:
            drop = next(iter(helper.kept))
        helper.kept.pop(drop, None)
        helper.kept.pop(number, None)
        helper.kept[number] = None
        helper.ask(Job(kind, number, drop, None if known else keys, blob))

    def _alive(self) -> set[int]:
        return {number for reference, number in [*self._numbers.values()] if reference() is not None}

    def _number(self, keys: EvaluationKeys) -> int:
        """Return the number by which helpers know these keys: of this very object, whatever id it says it has."""
        found = self._numbers.get(id(keys))
        if found is not None and found[0]() is keys:
            return found[1]
        self._numbers = {place: entry for place, entry in self._numbers.items() if entry[0]() is not None}
        self._last += 1
        self._numbers[id(keys)] = weakref.ref(keys), self._last
        return self._last

    def _repair(self, taken: list[Helper]) -> None:
        with self._changed:
            if self._closed:
                return
            if len(taken) > 1:
                self.crew.replace_together()
            else:
                self.crew.replace(taken[0])
            self._busy.difference_update(taken)

    def close(self) -> None:
        """End the helpers; whoever waits for one is told."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            for helper in self.crew.helpers:
                helper.kill()
            self._changed.wait_for(lambda: not self._busy, _CLOSE_SECONDS)
            self.crew.close()

    def _take(self, keys: EvaluationKeys) -> tuple[int, list[Helper]]:
        """Wait for a helper, or take all if nobody else is there."""
        with self._changed:
            number = self._number(keys)
            alone = not self._busy and not self._waiting
            self._waiting += 1
            try:
                while not self._closed and len(self._busy) == len(self.crew.helpers):
                    self._changed.wait()
            finally:
                self._waiting -= 1
            if self._closed:
                raise WorkerError("the evaluator is closed: ask the one that took its place")
            if alone and self._divided:
                taken = self.crew.together
            else:
                idle = [helper for helper in self.crew.helpers if helper not in self._busy]
                taken = [min(idle, key=lambda helper: (number not in helper.kept, len(helper.kept)))]
            self._busy.update(taken)
            return number, taken


def _all_alive(helpers: list[Helper]) -> bool:
    return all(helper.alive for helper in helpers)
