"""Waiting for a socket and for another thread at once."""

from __future__ import annotations

import os
import select
import ssl
import threading
import time

__all__ = ["Bell"]


class Bell:
    """Lets a thread wait for data on a TLS socket until another thread rings.

    Parameters
    ----------
    sock : ssl.SSLSocket
        The socket to watch.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._event: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._poll.register(self._event, select.POLLIN)

    def ring(self) -> None:
        """Wake the waiting thread. Callable from any thread, also after `close`."""
        with self._lock:  # a closed descriptor's number may by now be someone else's
            if self._event is not None:
                os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Give the bell up."""
        with self._lock:
            if self._event is not None:
                os.close(self._event)
                self._event = None

    def wait(self, deadline: float) -> bool:
        """Wait until data can be read (True) or the bell rings (False).

        Raises
        ------
        TimeoutError
            At the deadline, on the clock of `time.monotonic`.
        """
        if self._sock.pending():
            return True
        left = deadline - time.monotonic()
        ready = self._poll.poll(left * 1000) if left > 0 else []
        if not ready:
            raise TimeoutError("the time allowed has passed")
        numbers = {number for number, _ in ready}
        if self._event in numbers:
            assert self._event is not None
            os.eventfd_read(self._event)
        return self._sock.fileno() in numbers
