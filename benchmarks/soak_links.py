"""A link of the deployment under soak: a relay on loopback that can fall silent, break, lag, and flip bits."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

__all__ = ["Link", "free_port"]

_CHUNK: Final = 1 << 16
_PORTS: Final = range(20_000, 32_000)  # below those that the system gives to whoever connects: a restart finds its own
_RESET: Final = struct.pack("ii", 1, 0)


def free_port(rng: random.Random) -> int:
    """Return a port that nobody listens on and that no outgoing connection is given."""
    for port in rng.sample(_PORTS, 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


class Link:
    """Forwards connections to an address; a context manager.

    Parameters
    ----------
    name : str
        Who talks to whom.
    port, target : int
        Where it listens and where to, both on this machine.

    Attributes
    ----------
    corrupted : int
        Chunks that were damaged so far.
    """

    def __init__(self, name: str, port: int, target: int) -> None:
        self.name, self.port, self._target = name, port, target
        self.corrupted = 0
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._lag = 0.0
        self._damage: list[int] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._passing.set()
        self.cut()

    # ---------------------------------------------------------------------------------------------------- faults

    def cut(self) -> None:
        """Break every open connection; new ones pass."""
        with self._lock:
            broken, self._open = self._open, set()
        for sock in broken:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Keep everything back, in both directions, as a network does whose cable is out; then all of it comes."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset what is open and whatever comes."""
        self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    @contextlib.contextmanager
    def lagging(self, seconds: float) -> Iterator[None]:
        """Hold each chunk back for so long."""
        self._lag = seconds
        try:
            yield
        finally:
            self._lag = 0.0

    def corrupt(self, bits: list[int]) -> None:
        """Flip a bit (its number, modulo what there is) in each of the next chunks."""
        with self._lock:
            self._damage += bits

    def calm(self) -> None:
        """Damage nothing more."""
        with self._lock:
            self._damage.clear()

    # ------------------------------------------------------------------------------------------------- forwarding

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            if self._refusing:
                with contextlib.suppress(OSError):
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                continue
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._passing.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 10)
        except OSError:  # the caller sees a connection that ends at once
            near.close()
            return
        far.settimeout(None)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {near, far}
        back = threading.Thread(target=self._forward, args=(far, near), daemon=True)
        back.start()
        self._forward(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(_CHUNK):
                if self._lag:
                    time.sleep(self._lag)
                self._passing.wait()
                sink.sendall(self._damaged(chunk) if self._damage else chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one end is gone: so is the connection
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _damaged(self, chunk: bytes) -> bytes:
        with self._lock:
            if not self._damage:
                return chunk
            bit = self._damage.pop() % (8 * len(chunk))
            self.corrupted += 1
        changed = bytearray(chunk)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)
