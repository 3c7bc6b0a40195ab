"""A TCP relay that makes loopback as slow as a given network: ``python -m benchmarks.relay HOST PORT RATE DELAY``.

A process for each link. Each chunk leaves at ``max(arrival, departure of the one before) + size / rate`` and arrives
`delay` later; both directions and all connections through one relay share the link as they would share a wire.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Relay", "serve"]

_CHUNK: Final = 1 << 16
_WAITING: Final = 1 << 22  # bytes that may be on their way in one direction, above what rate and delay keep there
_OWN_TIME: Final = 70e-6  # seconds that a chunk takes through this process and its two sockets anyway
_PR_SET_TIMERSLACK: Final = 29
_STOP_SECONDS: Final = 5.0


class Relay:
    """A relay process to one address; a context manager.

    Parameters
    ----------
    target : (str, int)
        Where it forwards to.
    rate : float
        Bytes a second in each direction.
    delay : float
        Seconds one way.

    Attributes
    ----------
    address : (str, int)
        Where it listens.
    """

    def __init__(self, target: tuple[str, int], rate: float, delay: float) -> None:
        words = [target[0], str(target[1]), repr(rate), repr(delay)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relay", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay to {target[0]}:{target[1]} ended with status {self._process.wait()}")
        self.address = ("127.0.0.1", int(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its input, at which it leaves; end it if it does not."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Lane:
    """One direction of the link: when it is free again."""

    def __init__(self, rate: float, delay: float) -> None:
        self.rate, self.delay = rate, max(0.0, delay - _OWN_TIME)
        self.room = _WAITING + int(2 * rate * delay)
        self._free = 0.0
        self._lock = threading.Lock()

    def due(self, size: int) -> float:
        """Put a chunk that is here now on the wire; return when its last byte is at the other end."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / self.rate
            return self._free + self.delay


def serve(listener: socket.socket, target: tuple[str, int], rate: float, delay: float) -> None:
    """Relay every connection to `listener` until it is closed."""
    lanes = _Lane(rate, delay), _Lane(rate, delay)
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # closed
            return
        try:
            far = socket.create_connection(target)
        except OSError:  # the caller sees a connection that ends at once
            near.close()
            continue
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, lane in ((near, far, lanes[0]), (far, near, lanes[1])):
            threading.Thread(target=_forward, args=(source, sink, lane), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, lane: _Lane) -> None:
    # the default slack of 50 us for timers is a fifth of a LAN's one-way delay
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1000), 0, 0, 0)
    waiting: deque[tuple[float, bytes]] = deque()
    held, reading = 0, True
    try:
        while reading or waiting:
            left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready = select.select([source] if reading and held < lane.room else [], [], [], left)[0]
            if ready:
                chunk = source.recv(_CHUNK)
                reading = bool(chunk)
                held += len(chunk)
                if chunk:
                    waiting.append((lane.due(len(chunk)), chunk))
            while waiting and waiting[0][0] <= time.monotonic():
                chunk = waiting.popleft()[1]
                sink.sendall(chunk)
                held -= len(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one end is gone: so is the connection
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _main() -> None:
    host, port, rate, delay = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=serve, args=(listener, (host, int(port)), float(rate), float(delay)), daemon=True
        ).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.buffer.read()  # until the one who started it lets go


if __name__ == "__main__":
    _main()
