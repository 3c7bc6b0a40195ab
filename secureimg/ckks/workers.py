"""Helper processes that share one evaluation.

Helpers are forked when an owner's keys have been loaded: they inherit the encoded program and the keys without
copying them. Partial sums travel through anonymous in-memory files, one pair of files for each worker, used in turn so
that nobody overwrites what another has not read yet.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import warnings
from collections.abc import Callable

import tenseal.sealapi as seal

from secureimg.ckks.division import Exchange, Share
from secureimg.ckks.evaluation_keys import LoadedKeys
from secureimg.ckks.program import Program
from secureimg.ckks.runtime import Machine, read_input
from secureimg.errors import SecureImgError

__all__ = ["Crew", "WorkerError", "run_share"]

_POLL_SECONDS = 1.0


class WorkerError(SecureImgError):
    """A helper process died or could not be started."""


class _Board:
    """Where workers put partial sums, and the pipes by which they say so."""

    def __init__(self, workers: int) -> None:
        self.files = [[os.memfd_create("secureimg-exchange", os.MFD_CLOEXEC) for _ in range(2)] for _ in range(workers)]
        self.pipes = {(a, b): os.pipe() for a in range(workers) for b in range(workers) if a != b}
        self.workers = workers

    def close(self) -> None:
        for pair in self.files:
            for handle in pair:
                os.close(handle)
        for pipe in self.pipes.values():
            for handle in pipe:
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


class Crew:
    """Helpers for one program and one owner's keys; the calling process is worker 0.

    Parameters
    ----------
    program, machine, keys
        What all workers share.
    shares : list of Share
        From `divide`, one for each worker.
    key_id : str
        The owner's key id.
    """

    def __init__(self, program: Program, machine: Machine, keys: LoadedKeys, shares: list[Share], key_id: str) -> None:
        self._program, self._machine, self._keys, self._shares = program, machine, keys, shares
        self._key_id = key_id
        self._board = _Board(len(shares))
        self._input = os.memfd_create("secureimg-input", os.MFD_CLOEXEC)
        self._jobs = [os.pipe() for _ in shares[1:]]
        self._children: list[int] = []
        for worker in range(1, len(shares)):
            with warnings.catch_warnings():
                # Forking with threads around: the child runs SEAL and nothing else, and never returns to this code.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                self._serve(worker)
            self._children.append(child)

    def run(self, blob: bytes | memoryview) -> list[seal.Ciphertext]:
        """Evaluate one input blob.

        Raises
        ------
        BlobError
            If the blob does not fit; the helpers are not asked then.
        WorkerError
            If a helper died.
        """
        public = self._program.public
        inputs = read_input(public, blob, self._key_id)
        view = memoryview(blob).cast("B")
        os.ftruncate(self._input, 0)
        written = 0
        while written < len(view):
            written += os.pwrite(self._input, view[written:], written)
        for _, pipe in self._jobs:
            os.write(pipe, struct.pack("<Q", len(view)))
        registers = dict(zip(self._program.text.inputs, inputs, strict=True))
        self._work(0, registers)
        return [registers[number] for number in self._program.text.outputs]

    def _work(self, worker: int, registers: dict[int, seal.Ciphertext]) -> None:
        def exchange(item: Exchange, turn: int) -> None:
            self._exchange(worker, item, registers, turn)

        run_share(self._machine, self._shares[worker], registers, self._keys, exchange)

    def _exchange(self, worker: int, item: Exchange, registers: dict[int, seal.Ciphertext], turn: int) -> None:
        board = self._board
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
                self._await(board.pipes[other, worker][0])
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
                    self._await(board.pipes[other, worker][0])

    def _await(self, pipe: int) -> None:
        """Wait for a byte; notice when the process that should send it is gone."""
        while not select.select([pipe], [], [], _POLL_SECONDS)[0]:
            self._check_alive()
        if not os.read(pipe, 1):
            raise WorkerError("a helper process closed its pipe")

    def _check_alive(self) -> None:
        if not self._children:
            if os.getppid() != self._parent:
                os._exit(0)
            return
        for child in self._children:
            if os.waitpid(child, os.WNOHANG)[0]:
                self._children.remove(child)
                raise WorkerError("a helper process died in the middle of an evaluation: ask again")

    def _serve(self, worker: int) -> None:
        """A helper's life: wait for inputs, do the share, never return."""
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._children = []
            self._parent = os.getppid()
            jobs = self._jobs[worker - 1][0]
            while True:
                while not select.select([jobs], [], [], _POLL_SECONDS)[0]:
                    if os.getppid() != self._parent:
                        os._exit(0)
                header = os.read(jobs, 8)
                if len(header) < 8:
                    break
                blob = os.pread(self._input, struct.unpack("<Q", header)[0], 0)
                inputs = read_input(self._program.public, blob, self._key_id)
                self._work(worker, dict(zip(self._program.text.inputs, inputs, strict=True)))
            code = 0
        finally:
            os._exit(code)

    def close(self) -> None:
        """End the helpers."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in self._children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        self._children = []
        self._board.close()
        os.close(self._input)
        for pipe in self._jobs:
            for handle in pipe:
                os.close(handle)
