"""Measured work in a process of its own: nothing else's memory counts, and two candidates can take turns.

A child is spawned (not forked), told which object to build, and then calls that object's methods one at a time over a
pipe. Both ends are this package.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Child", "ChildError", "peak_rss", "pin", "thread_limit"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_STOP_SECONDS = 10.0
_CLASS = re.compile(r"^[\w.]+Error: ")


class ChildError(RuntimeError):
    """A measured process raised or died; the message holds its traceback."""

    @property
    def reason(self) -> str:
        """The message's last line, without the name of an error's class in front of it."""
        return _CLASS.sub("", str(self).strip().splitlines()[-1])


class Child:
    """An object that lives in its own process; a context manager.

    Parameters
    ----------
    make : callable
        A module-level class or function; its result answers the calls.
    *args
        Its arguments.
    threads : int
        Threads that numpy, BLAS and numba may use in it, each.
    """

    def __init__(self, make: Callable[..., Any], *args: Any, threads: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args))
        with thread_limit(threads):
            self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        """Wait until the object is built."""
        try:
            self._receive()
        except ChildError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipe, at which the child leaves; end it if it does not."""
        self._connection.close()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the child's object and return its result.

        Raises
        ------
        ChildError
            If the method raised or the process ended.
        """
        self._connection.send((method, args))
        return self._receive()

    def _receive(self) -> Any:
        try:
            good, value = self._connection.recv()
        except EOFError:
            self._process.join(_STOP_SECONDS)
            raise ChildError(f"the measured process ended with status {self._process.exitcode}") from None
        if not good:
            raise ChildError(value)
        return value


@contextmanager
def thread_limit(count: int) -> Iterator[None]:
    """Have processes that start inside use so many threads each in numpy, BLAS and numba."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def pin(cores: int) -> int:
    """Keep this process and all that it starts on so many cores; return how many there are of them."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    return len(allowed)


def peak_rss() -> int:
    """Peak resident memory in bytes of this process and of its descendants that are alive now, added up.

    Pages that a worker shares with its parent count in both, so that the figure with workers is an upper bound.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _status(entry, "PPid")
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    total, pending = 0, [os.getpid()]
    while pending:
        pid = pending.pop()
        total += (_status(Path("/proc") / str(pid), "VmHWM") or 0) * 1024
        pending += children.get(pid, [])
    return total


def _status(process: Path, field: str) -> int | None:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return None


def _serve(connection: Connection, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and closes the pipe
    try:
        served = make(*args)
        connection.send((True, None))
    except Exception:  # noqa: BLE001 - whatever it was, the parent raises it with this traceback
        with contextlib.suppress(BrokenPipeError):  # it was interrupted meanwhile
            connection.send((False, traceback.format_exc()))
        return
    try:
        while True:
            try:
                method, arguments = connection.recv()
            except EOFError:
                break
            try:
                connection.send((True, getattr(served, method)(*arguments)))
            except BrokenPipeError:
                break
            except Exception:  # noqa: BLE001 - as above
                connection.send((False, traceback.format_exc()))
    finally:
        close = getattr(served, "close", None)
        if close is not None:
            close()
