"""Helper processes that evaluate: each one a whole evaluation, or all of them a share of the same one.

SEAL's binding holds the interpreter lock, so threads would not help. Helpers are forked once, from the process that has
the program encoded, and inherit it without copying it; keys, inputs and answers travel through anonymous in-memory files.
When one evaluation is divided, partial sums do too: one pair of files for each helper, used in turn so that nobody
overwrites what another has not read yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import tenseal.sealapi as seal

from secureimg.ckks.division import Exchange, Share
from secureimg.ckks.evaluation_keys import EvaluationKeys, LoadedKeys
from secureimg.ckks.memory_files import read_all, write_all
from secureimg.ckks.program import Program
from secureimg.ckks.runtime import Machine, read_input, write_output
from secureimg.errors import BlobError, SecureImgError

__all__ = ["DIVIDED", "WHOLE", "Crew", "Helper", "Job", "WorkerError", "run_share"]

WHOLE, DIVIDED = 0, 1
"""What a helper evaluates: everything, or its share."""

_POLL_SECONDS = 1.0
_HEADER = struct.Struct("<B4Q")
_REPLY = struct.Struct("<BQ")
_DONE, _BAD_BLOB, _FAILED = range(3)


class WorkerError(SecureImgError):
    """A helper process died or could not be started."""


@dataclass(frozen=True)
class Job:
    """What a helper is asked: to load keys, if it has none by that number, and to evaluate an input, if there is one."""

    kind: int
    number: int
    drop: int
    keys: EvaluationKeys | None
    blob: bytes | memoryview


class _Board:
    """Where helpers put partial sums, and the pipes by which they say so."""

    def __init__(self, workers: int) -> None:
        self.files = [[os.memfd_create("secureimg-exchange", os.MFD_CLOEXEC) for _ in range(2)] for _ in range(workers)]
        self.pipes = {(a, b): os.pipe() for a in range(workers) for b in range(workers) if a != b}
        self.workers = workers

    @property
    def handles(self) -> set[int]:
        return {handle for group in (*self.files, *self.pipes.values()) for handle in group}

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)


def run_share(
    machine: Machine,
    share: Share,
    registers: dict[int, seal.Ciphertext],
    keys: LoadedKeys,
    exchange: Callable[[Exchange, int], None] | None = None,
) -> None:
    """Run one worker's share of a program; registers are dropped after their last use."""
    last: dict[int, int] = {}
    for place, item in enumerate(share):
        for register in item.registers if isinstance(item, Exchange) else item.sources:
            last[register] = place
    drops: dict[int, list[int]] = {}
    for register, place in last.items():
        drops.setdefault(place, []).append(register)
    turn = 0
    for place, item in enumerate(share):
        if isinstance(item, Exchange):
            assert exchange is not None
            exchange(item, turn)
            turn += 1
            continue
        machine.execute(item, registers, keys)
        for register in drops.get(place, ()):
            if register != item.target:
                registers.pop(register, None)


@dataclass(eq=False)
class Helper:
    """One helper as its parent sees it.

    Attributes
    ----------
    process : int
        Its id.
    kept : dict of int to int
        Numbers of the keys it holds, the one that was used last at the end.
    """

    process: int
    jobs: int
    replies: int
    files: tuple[int, int, int]
    kept: dict[int, None] = field(default_factory=dict)

    def ask(self, job: Job) -> None:
        """Hand it a job."""
        keys, data, _ = self.files
        size = 0
        if job.keys is not None:
            identity = bytes.fromhex(job.keys.key_id)
            size = write_all(keys, identity, job.keys.payload)
        length = write_all(data, job.blob)
        try:
            os.write(self.jobs, _HEADER.pack(job.kind, job.number, job.drop, size, length))
        except OSError:
            raise WorkerError("a helper process is gone: ask again") from None

    def answer(self, there: Callable[[], bool]) -> bytearray:
        """Wait for what it says, while all that work with it are there.

        Raises
        ------
        BlobError
            What it found wrong.
        WorkerError
            If it died or failed.
        """
        said = _wait(self.replies, there, _REPLY.size)
        if len(said) < _REPLY.size:
            raise WorkerError("a helper process died in the middle of an evaluation: ask again")
        status, size = _REPLY.unpack(said)
        answer = read_all(self.files[2], size)
        if status == _BAD_BLOB:
            raise BlobError(answer.decode())
        if status != _DONE:
            raise WorkerError(f"a helper process failed ({answer.decode()}): ask again")
        return answer

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.process, os.WNOHANG)[0] == 0
        return False

    def kill(self) -> None:
        """End the process."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def close(self) -> None:
        """End the process and give everything back."""
        self.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)
        for handle in (self.jobs, self.replies, *self.files):
            os.close(handle)


def _wait(pipe: int, alive: Callable[[], bool], size: int) -> bytes:
    """Read what comes next, or nothing if the process that should send it is gone."""
    poll = select.poll()  # not select: a server may have more files open than that can count
    poll.register(pipe, select.POLLIN)
    while not poll.poll(_POLL_SECONDS * 1000):
        if not alive():
            return b""
    return os.read(pipe, size)


class Crew:
    """The helpers of one program.

    Parameters
    ----------
    program, machine
        What all of them inherit.
    shares : list of Share
        From `divide`; the first helpers work on them together.
    workers : int
        Number of helpers, at least as many as shares.
    """

    def __init__(self, program: Program, machine: Machine, shares: Sequence[Share], workers: int) -> None:
        self._program, self._machine, self._shares = program, machine, shares
        self._whole: Share = [*program.text.instructions]
        self._board = _Board(len(shares))
        self.helpers = [self._start(worker) for worker in range(workers)]

    @property
    def together(self) -> list[Helper]:
        """The helpers that can divide an evaluation between them."""
        return self.helpers[: len(self._shares)]

    def _start(self, worker: int) -> Helper:
        """Fork a helper. With threads around, too: the child runs SEAL and nothing else, and never returns to this code."""
        (job_out, job_in), (reply_out, reply_in) = os.pipe(), os.pipe()
        names = ("secureimg-keys", "secureimg-input", "secureimg-answer")
        keys, data, answer = (os.memfd_create(name, os.MFD_CLOEXEC) for name in names)
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            self._live(_Desk(worker, parent, job_out, reply_in, (keys, data, answer)))
        os.close(job_out)
        os.close(reply_in)
        return Helper(process, job_in, reply_out, (keys, data, answer))

    def replace(self, helper: Helper) -> None:
        """Start another one in the place of a helper that died outside a divided evaluation."""
        place = self.helpers.index(helper)
        helper.close()
        self.helpers[place] = self._start(place)

    def replace_together(self) -> None:
        """Start those anew that divide evaluations: what they had to tell each other is lost."""
        for helper in self.together:
            helper.close()
        self._board.close()
        self._board = _Board(len(self._shares))
        for worker in range(len(self._shares)):
            self.helpers[worker] = self._start(worker)

    def close(self) -> None:
        """End all helpers."""
        for helper in self.helpers:
            helper.close()
        self._board.close()

    def _live(self, desk: _Desk) -> NoReturn:
        """A helper's life: wait for jobs, do them, never return."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            gc.freeze()  # looking through what was inherited would copy it
            desk.close_others(self._board.handles)
            while len(header := _wait(desk.jobs, desk.has_parent, _HEADER.size)) == _HEADER.size:
                kind, number, drop, keys, size = _HEADER.unpack(header)
                try:
                    status, said = _DONE, self._work(desk, kind, (number, drop, keys), size)
                except BlobError as error:
                    desk.loaded.pop(number, None)
                    status, said = _BAD_BLOB, str(error).encode()
                except Exception as error:  # noqa: BLE001 - its name goes to the parent, which raises its own
                    status, said = _FAILED, type(error).__name__.encode()
                write_all(desk.files[2], said)
                os.write(desk.replies, _REPLY.pack(status, len(said)))
                if status == _FAILED:  # those that wait for its part must not wait for ever: the parent starts all anew
                    break
        finally:
            os._exit(0)

    def _work(self, desk: _Desk, kind: int, wanted: tuple[int, int, int], size: int) -> bytes:
        number, drop, length = wanted
        public = self._program.public
        desk.loaded.pop(drop, None)
        if length:
            data = read_all(desk.files[0], length)
            keys = EvaluationKeys(public, data[:16].hex(), memoryview(data)[16:])
            desk.loaded[number] = keys.key_id, keys.load()
        if not size:
            return b""
        key_id, loaded = desk.loaded[number]
        inputs = read_input(public, memoryview(read_all(desk.files[1], size)), key_id)
        registers = dict(zip(self._program.text.inputs, inputs, strict=True))
        if kind == WHOLE:
            run_share(self._machine, self._whole, registers, loaded)
        else:
            run_share(
                self._machine, self._shares[desk.worker], registers, loaded,
                lambda item, turn: self._exchange(desk, item, registers, turn),
            )  # fmt: skip
            if desk.worker:
                return b""
        return write_output(public, [registers[number] for number in self._program.text.outputs], key_id)

    def _exchange(self, desk: _Desk, item: Exchange, registers: dict[int, seal.Ciphertext], turn: int) -> None:
        board, worker = self._board, desk.worker
        for register, senders in zip(item.registers, item.senders, strict=True):
            if worker in senders:
                handle = board.files[worker][turn % 2]
                registers[register].save(f"/proc/self/fd/{handle}")
            for other in range(board.workers):
                if other != worker and worker in senders:
                    os.write(board.pipes[worker, other][1], b"1")
            for other in senders:
                if other == worker:
                    continue
                desk.hear(board.pipes[other, worker][0])
                received = seal.Ciphertext()
                received.load(self._program.public.parameters.context, f"/proc/self/fd/{board.files[other][turn % 2]}")
                if register in registers:
                    self._machine.evaluator.add_inplace(registers[register], received)
                else:
                    registers[register] = received
            for other in range(board.workers):
                if other != worker:
                    os.write(board.pipes[worker, other][1], b"2")
            for other in range(board.workers):
                if other != worker:
                    desk.hear(board.pipes[other, worker][0])


@dataclass(eq=False)
class _Desk:
    """A helper's own view: where jobs come from, where answers go, and the keys it has loaded."""

    worker: int
    parent: int
    jobs: int
    replies: int
    files: tuple[int, int, int]
    loaded: dict[int, tuple[str, LoadedKeys]] = field(default_factory=dict)

    def has_parent(self) -> bool:
        """Whether the parent is still there."""
        return os.getppid() == self.parent

    def hear(self, pipe: int) -> None:
        """Wait for a byte from another helper; if the parent goes, so does this one."""
        if not _wait(pipe, self.has_parent, 1):
            os._exit(0)

    def close_others(self, board: set[int]) -> None:
        """Close what was inherited but is not for helpers: connections, other helpers' pipes."""
        mine = {0, 1, 2, self.jobs, self.replies, *self.files, *board}
        for handle in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if handle not in mine:
                with contextlib.suppress(OSError):
                    os.close(handle)
