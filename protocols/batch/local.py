"""Workers on this machine: processes that are spawned, not forked, so that none inherits the owner's memory."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import signal
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from threadpoolctl import threadpool_limits

from protocols.batch.engines import BatchError, Bench, Evaluated, Work
from secureimg.errors import SecureImgError

__all__ = ["LocalEngine"]

_log = logging.getLogger(__name__)

_TRIES = 4
_STOP_SECONDS = 5.0
_DONE, _WRONG = b"\0", b"\1"
_SECONDS = struct.Struct("<d")


class LocalEngine:
    """Worker processes of this machine.

    Parameters
    ----------
    work : Work
        What they evaluate.
    workers : int
        How many, best one a core.

    Attributes
    ----------
    restarts : int
        Workers that died and were replaced.
    """

    def __init__(self, work: Work, workers: int) -> None:
        self.workers = workers
        self.restarts = 0
        self._work = work
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="batch")
        self._all: set[_Worker] = set()

    def __enter__(self) -> Self:
        for worker in [self._start() for _ in range(self.workers)]:
            with contextlib.suppress(EOFError, OSError):  # one that dies already is replaced when it is needed
                worker.wait()
            self._idle.put(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # whoever waits for an answer is told so at once
            for worker in self._all.copy():
                worker.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()

    @property
    def processes(self) -> frozenset[int]:
        """Ids of the processes that work now."""
        return frozenset(worker.process.pid or 0 for worker in self._all.copy())

    def submit(self, blob: bytes) -> Future[Evaluated]:
        """Have an encrypted input evaluated by the next worker that is free."""
        return self._threads.submit(self._evaluate, blob)

    def _start(self) -> _Worker:
        worker = _Worker(self._work)
        self._all.add(worker)
        return worker

    def _evaluate(self, blob: bytes) -> Evaluated:
        for _ in range(_TRIES):
            worker = self._idle.get()
            try:
                return worker.evaluate(blob)
            except (EOFError, OSError):
                _log.warning("a worker process died; its evaluation is begun anew")
                self._all.discard(worker)
                worker.close()
                worker = self._start()
                self.restarts += 1
                with contextlib.suppress(EOFError, OSError):
                    worker.wait()
            finally:
                self._idle.put(worker)
        raise BatchError(
            f"{_TRIES} worker processes died over the same evaluation: is there enough memory? Start with fewer --workers"
        )


class _Worker:
    """One worker process and the pipe to it. What travels is bytes; only `Work` is given at the start, as an argument."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until it has loaded what it was given."""
        self._connection.recv_bytes()

    def evaluate(self, blob: bytes) -> Evaluated:
        self._connection.send_bytes(blob)
        said = self._connection.recv_bytes()
        if said[:1] != _DONE:
            raise SecureImgError(said[1:].decode())
        return Evaluated(said[1 + _SECONDS.size :], _SECONDS.unpack_from(said, 1)[0])

    def close(self) -> None:
        self._connection.close()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(connection: Connection, work: Work) -> None:
    """A worker's life: load, then answer until the owner's process closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with threadpool_limits(1):
        bench = Bench(work)
        connection.send_bytes(_DONE)
        while True:
            try:
                blob = connection.recv_bytes()
            except EOFError:
                return
            try:
                done = bench.evaluate(blob)
            except SecureImgError as error:
                connection.send_bytes(_WRONG + str(error).encode())
            else:
                connection.send_bytes(_DONE + _SECONDS.pack(done.seconds) + done.blob)
