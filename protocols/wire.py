"""Bytes on a socket with deadlines: the only place where the conversation meets the network."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable

from protocols.conversation import Buffer
from protocols.tls import cut

__all__ = ["Wire"]

_CHUNK = 1 << 18
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 << 20


class Wire:
    """A connected socket that counts its bytes and never waits past a deadline.

    Parameters
    ----------
    sock : socket.socket
        Connected, TLS already established. The wire closes it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._closing = False
        self.sent = 0
        self.received = 0
        self._buffer = bytearray(_CHUNK)

    def send(self, buffers: Iterable[Buffer], deadline: float) -> None:
        """Send buffers in order.

        Parameters
        ----------
        buffers : iterable of buffers
            Not copied.
        deadline : float
            On the clock of `time.monotonic`.

        Raises
        ------
        TimeoutError
            If the other side did not take them in time.
        OSError
            If the connection broke.
        """
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while len(view):
                self._set_timeout(deadline)
                count = self.sock.send(view[:_CHUNK])
                view = view[count:]
                self.sent += count

    def receive(self, deadline: float) -> memoryview:
        """Return what has arrived, waiting for something until the deadline; empty at the end of the stream.

        The view is good until the next call.

        Raises
        ------
        TimeoutError, OSError
            As for `send`.
        """
        self._set_timeout(deadline)
        count = self._receive(memoryview(self._buffer))
        return memoryview(self._buffer)[:count]

    def receive_into(self, memory: memoryview, deadline: float) -> int:
        """Read what has arrived into the front of `memory`, waiting for something; return how much, 0 at the end.

        Raises
        ------
        TimeoutError, OSError
            As for `send`.
        """
        self._set_timeout(deadline)
        return self._receive(memory[:_CHUNK])

    def _receive(self, memory: memoryview) -> int:
        count = self.sock.recv_into(memory)
        if self._closing:  # by another thread: what was read then may be the records of TLS, not what is in them
            raise ConnectionAbortedError("the connection was closed while it was read")
        self.received += count
        return count

    def close(self, *, linger: bool = False) -> None:
        """Close the connection.

        Parameters
        ----------
        linger : bool
            Read and drop what still comes in, for a short while: closing with unread input makes the kernel reset the
            connection, and the other side would lose our last message.
        """
        with contextlib.suppress(OSError, ValueError):
            if linger:
                self._drain()
        self._closing = True
        cut(self.sock)
        with contextlib.suppress(OSError):
            self.sock.close()

    def _drain(self) -> None:
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # as in `cut`
        deadline, left = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
        while left > 0 and time.monotonic() < deadline:
            self._set_timeout(deadline)
            count = self.sock.recv_into(self._buffer)
            if not count:
                return
            left -= count

    def _set_timeout(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time allowed has passed")
        self.sock.settimeout(left)
