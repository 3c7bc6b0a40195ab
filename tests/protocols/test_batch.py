"""Batches: workers see ciphertexts only, order is kept, nothing is lost, and a rerun goes on where one stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protocols.batch import (
    BatchEngine,
    BatchError,
    Journal,
    Line,
    LocalEngine,
    RayEngine,
    Subject,
    Totals,
    Work,
    pictures_in,
    run_batch,
)
from secureimg import ckks
from secureimg.graph import Graph, load_model, run_plain

COUNT = 14
BROKEN = 5


@dataclass(eq=False)
class Lot:
    """A folder of pictures, one of them broken, a model and an owner's keys."""

    folder: Path
    graph: Graph
    program: ckks.Program
    keys: ckks.OwnerKeys
    work: Work

    @property
    def files(self) -> list[Path]:
        return pictures_in(self.folder, self.folder / "results.jsonl")

    def journal(self, out: Path, files: list[Path] | None = None) -> Journal:
        return Journal(out, Subject("tiny", self.program.public.fingerprint, files or self.files))

    def run(self, engine: BatchEngine, out: Path, told: Callable[[int], None] = lambda done: None) -> Totals:
        with self.journal(out) as journal:
            return run_batch(self.files, self.keys, None, engine, journal, read, told)

    def check(self, out: Path) -> None:
        """Every picture has its own right result, in order; the broken one says what is wrong with it."""
        header, *rows = out.read_bytes().splitlines()
        assert msgspec.json.decode(header)["count"] == COUNT
        lines = [msgspec.json.decode(row, type=Line) for row in rows]
        assert [line.file for line in lines] == [path.name for path in self.files]
        for path, line in zip(self.files, lines, strict=True):
            if path.name == f"{BROKEN:02d}.png":
                assert line.error is not None
                assert path.name in line.error
                continue
            image = np.asarray(Image.open(path), dtype=np.float64)[None, None] / 255
            assert line.outputs is not None
            assert np.abs(np.asarray(line.outputs) - run_plain(self.graph, image)[0]).max() < 1e-2


def read(name: str, values: NDArray[np.float64]) -> Line:
    return Line(name, int(values.argmax()), None, values.ravel().tolist())


@pytest.fixture(scope="module")
def lot(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Lot:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(8)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    (folder / f"{BROKEN:02d}.png").write_bytes(b"not a picture")
    (folder / ".hidden").write_bytes(b"not a picture either")
    graph = load_model(tiny_model)
    program = ckks.compile(graph, batch=2)
    keys = ckks.OwnerKeys.generate(program.public)
    return Lot(folder, graph, program, keys, Work.of(program, keys.evaluation_keys()))


def kill_one(engine: BatchEngine, at: int) -> tuple[Callable[[int], None], list[int]]:
    """Return a listener that kills a worker once, when `at` pictures are done, and the list of what it killed."""
    killed: list[int] = []

    def told(done: int) -> None:
        if done >= at and not killed:
            killed.append(min(engine.processes))
            os.kill(killed[0], signal.SIGKILL)

    return told, killed


def test_two_local_workers_do_a_folder_and_one_killed_in_the_middle_loses_nothing(lot: Lot, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with LocalEngine(lot.work, 2) as engine:
        told, killed = kill_one(engine, 2)
        totals = lot.run(engine, out, told)
        assert killed
        assert engine.restarts == 1
        assert killed[0] not in engine.processes
    assert (totals.images, totals.unreadable) == (COUNT - 1, 1)
    assert out.stat().st_mode & 0o777 == 0o600
    lot.check(out)


def test_a_run_that_was_cut_off_goes_on_after_its_last_whole_line(lot: Lot, tmp_path: Path) -> None:
    """Lines that are there are not computed again; half a line is."""
    out = tmp_path / "results.jsonl"

    def stop(done: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), LocalEngine(lot.work, 1) as engine:
        lot.run(engine, out, stop)
    before = out.read_bytes()
    whole = before.count(b"\n") - 1
    assert 3 <= whole < COUNT
    with out.open("ab") as file:
        file.write(before.splitlines()[-1][:20])
    with LocalEngine(lot.work, 1) as engine:
        totals = lot.run(engine, out)
    assert totals.images + totals.unreadable == COUNT - whole
    assert out.read_bytes().startswith(before)
    lot.check(out)


def test_results_of_another_batch_are_never_mixed_in(lot: Lot, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with lot.journal(out) as journal:
        journal.append(Line(lot.files[0].name, 1))
        with pytest.raises(BatchError, match="another run is writing"):
            lot.journal(out)
    with pytest.raises(BatchError, match="its list of files is"):
        lot.journal(out, lot.files[1:])
    with pytest.raises(BatchError, match="its program is"):
        Journal(out, Subject("tiny", "0" * 64, lot.files))
    with pytest.raises(BatchError, match="its model is 'tiny'"):
        Journal(out, Subject("other", lot.program.public.fingerprint, lot.files))
    assert lot.journal(out).done == 1
    with out.open("ab") as file:
        file.write(b'{"file":"another.png"}\n')
    with pytest.raises(BatchError, match="line 3 of"):
        lot.journal(out)


@pytest.mark.parametrize("content", [b"notes\n", b"notes", b'{"format":"secureimg batch results 1"}\n', b"\xff\n"])
def test_a_file_that_holds_something_else_is_left_as_it_is(lot: Lot, tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    with pytest.raises(BatchError, match="not a file of batch results"):
        lot.journal(out)
    assert out.read_bytes() == content


def test_what_goes_to_workers_holds_no_secret(lot: Lot) -> None:
    """Work is the public program, the text and the evaluation keys; the secret key's bytes are in none of them."""
    program = ckks.PublicProgram.from_bytes(lot.work.public)
    assert program.fingerprint == lot.program.public.fingerprint
    assert lot.work.rest == (lot.program.text, lot.program.cost)
    assert ckks.EvaluationKeys.from_bytes(lot.work.keys, program).key_id == lot.keys.key_id


def test_no_more_inputs_are_under_way_than_keep_the_workers_busy(lot: Lot, tmp_path: Path) -> None:
    """A folder of any size takes the memory of a few ciphertexts."""
    lock, most, now = threading.Lock(), [0], [0]

    class Counting:
        """The local engine, counting what is submitted and not yet asked for."""

        def __init__(self, inner: LocalEngine) -> None:
            self.workers, self._inner = inner.workers, inner

        def submit(self, blob: bytes) -> object:
            pending = self._inner.submit(blob)
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])

            class Counted:
                def result(self) -> object:
                    now[0] -= 1
                    return pending.result()

            return Counted()

    with LocalEngine(lot.work, 1) as engine:
        lot.run(Counting(engine), tmp_path / "results.jsonl")  # type: ignore[arg-type]
    assert 2 <= most[0] <= 3


def test_a_cluster_does_the_same_and_a_worker_killed_in_the_middle_loses_nothing(lot: Lot, tmp_path: Path) -> None:
    """Two Ray workers on this machine; the one that is killed is replaced and its task done again."""
    pytest.importorskip("ray")
    out = tmp_path / "results.jsonl"
    engine: AbstractContextManager[RayEngine] = RayEngine(lot.work, lot.keys.key_id, 2)
    with engine as cluster:
        told, killed = kill_one(cluster, 4)
        totals = lot.run(cluster, out, told)
        assert killed
        assert cluster.processes - set(killed)
    assert (totals.images, totals.unreadable) == (COUNT - 1, 1)
    lot.check(out)


def test_a_cluster_that_is_not_there_is_a_clear_error(lot: Lot) -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(BatchError, match=r"no Ray cluster at .*ray start --head"),
        RayEngine(lot.work, "x", 1, "127.0.0.1:1"),
    ):
        pass


def test_without_ray_the_error_says_what_to_install(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(BatchError, match=r"pip install 'secureimg\[ray\]'"):
        RayEngine(lot.work, "x", 1)
