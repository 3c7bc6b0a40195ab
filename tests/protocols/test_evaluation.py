"""The queue of evaluations, and an engine under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from protocols.engine import CkksEngine
from protocols.evaluation import DeadlineError, EvaluationQueue, QueueFullError
from secureimg import ckks
from secureimg.ckks.workers import WorkerError
from secureimg.graph import load_model, run_plain


class Gate:
    """Work that says when it has begun and waits to be let on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> bytes:
        self.begun.release()
        assert self.open.wait(20)
        return b"done"


def test_owners_take_turns_whoever_asked_more() -> None:
    """One owner's ten requests do not come before another's first."""
    jobs, gate, order = EvaluationQueue(places=20), Gate(), list[str]()
    first = jobs.submit(gate)
    assert gate.begun.acquire(timeout=20)

    def note(name: str) -> bytes:
        order.append(name)
        return b""

    names = [*(f"greedy {i}" for i in range(10)), "modest 0", "modest 1"]
    futures = [jobs.submit(partial(note, name), owner=name.split()[0]) for name in names]
    gate.open.set()
    assert [future.result(20).blob for future in (first, *futures)] == [b"done"] + 12 * [b""]
    assert order[:5] == ["greedy 0", "modest 0", "greedy 1", "modest 1", "greedy 2"]
    assert order[5:] == [f"greedy {i}" for i in range(3, 10)]
    jobs.close(5)


def test_as_many_run_at_once_as_the_engine_takes_and_the_rest_waits() -> None:
    jobs, gate = EvaluationQueue(places=1, parallel=3), Gate()
    running = [jobs.submit(gate) for _ in range(3)]
    assert all(gate.begun.acquire(timeout=20) for _ in running)
    waits = jobs.submit(gate)
    with pytest.raises(QueueFullError, match="queue of 1 full"):
        jobs.submit(gate)
    assert not gate.begun.acquire(blocking=False)
    gate.open.set()
    assert [future.result(20).blob for future in (*running, waits)] == 4 * [b"done"]
    jobs.close(5)


def test_what_waits_past_its_deadline_is_not_begun() -> None:
    jobs, gate, begun = EvaluationQueue(places=4), Gate(), threading.Event()
    first = jobs.submit(gate)

    def begin() -> bytes:
        begun.set()
        return b""

    late = jobs.submit(begin, deadline=time.monotonic() + 0.01)
    fine = jobs.submit(lambda: b"fine", deadline=time.monotonic() + 60)
    time.sleep(0.05)
    gate.open.set()
    with pytest.raises(DeadlineError, match=r"waited 0\.\d s"):
        late.result(20)
    assert first.result(20).blob == b"done"
    assert fine.result(20).blob == b"fine"
    assert not begun.is_set()
    jobs.close(5)


def test_closing_finishes_what_there_is_time_for_and_cancels_the_rest() -> None:
    jobs, gate = EvaluationQueue(places=4), Gate()
    first, second = jobs.submit(gate), jobs.submit(gate)
    assert gate.begun.acquire(timeout=20)
    jobs.close(0.1)
    with pytest.raises(QueueFullError, match="no more evaluations"):
        jobs.submit(gate)
    with pytest.raises(CancelledError):
        second.result(20)
    gate.open.set()
    assert first.result(20).blob == b"done"


class World:
    """A small model, an engine on two processes, and two owners."""

    def __init__(self, path: Path) -> None:
        self.graph = load_model(path)
        self.program = ckks.compile(self.graph)
        self.image = np.random.default_rng(3).random(self.graph.input_shape)
        self.expected = run_plain(self.graph, self.image[None])[0]
        self.owners = [ckks.OwnerKeys.generate(self.program.public) for _ in range(2)]
        self.blobs = [owner.encrypt(self.image) for owner in self.owners]

    def engine(self) -> CkksEngine:
        return CkksEngine(self.graph, self.program, workers=2)

    def right(self, number: int, answer: bytes) -> bool:
        return bool(np.abs(self.owners[number].decrypt(answer)[0] - self.expected).max() < 1e-2)


@pytest.fixture(scope="module")
def world(tiny_model: Path) -> World:
    return World(tiny_model)


def test_an_engine_answers_several_owners_at_once_and_outlives_a_dead_process(world: World) -> None:
    """Every call gets its own owner's answer; one whose process is killed fails clearly, the others do not notice."""
    with world.engine() as engine, ThreadPoolExecutor(4) as threads:
        keys = [engine.load_keys(owner.evaluation_keys().to_bytes())[1] for owner in world.owners]
        assert engine.prepare(keys[0]) == b""
        answers = threads.map(lambda i: engine.evaluate(keys[i % 2], world.blobs[i % 2]), range(12))
        assert all(world.right(i % 2, answer) for i, answer in enumerate(answers))
        calls = [threads.submit(engine.evaluate, keys[i % 2], world.blobs[i % 2]) for i in range(12)]
        os.kill(engine.helpers[0], signal.SIGKILL)
        outcomes = [call.exception(60) for call in calls]
        assert all(error is None or isinstance(error, WorkerError) for error in outcomes)
        assert sum(error is not None for error in outcomes) <= 1
        assert world.right(1, engine.evaluate(keys[1], world.blobs[1]))


def test_an_engine_closes_while_another_one_serves(world: World) -> None:
    """A swapped model's engine ends its own processes and nobody else's."""
    with world.engine() as former, world.engine() as present:
        keys = [engine.load_keys(world.owners[0].evaluation_keys().to_bytes())[1] for engine in (former, present)]
        assert world.right(0, former.evaluate(keys[0], world.blobs[0]))
        gone = former.helpers
        former.__exit__(None, None, None)
        assert not any(Path(f"/proc/{process}").exists() for process in gone)
        with pytest.raises(WorkerError, match="closed"):
            former.evaluate(keys[0], world.blobs[0])
        assert world.right(0, present.evaluate(keys[1], world.blobs[0]))


def test_helpers_hold_no_more_keys_than_memory_was_set_aside_for(world: World) -> None:
    """With room for one owner in each process, owners that take turns all get right answers."""
    with CkksEngine(world.graph, world.program, workers=2, key_memory=1) as engine:
        keys = [engine.load_keys(owner.evaluation_keys().to_bytes())[1] for owner in world.owners]
        for turn in range(6):
            assert world.right(turn % 2, engine.evaluate(keys[turn % 2], world.blobs[turn % 2]))
