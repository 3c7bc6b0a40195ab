"""The link between the two parties: many small rounds, and hundreds of megabytes.

It is two connections, one for each direction, so that both parties can send a large message at once, and so that one
thread writes and another reads without sharing a TLS state. A message goes as a 32-byte header (magic, number, length, and
the tag that ties it to the session, see `protocols.binding`) and its bytes; the receiver knows number and length beforehand
and accepts nothing else. Small messages leave on the calling
thread; large ones on a sender thread, while the caller computes on.
"""

from __future__ import annotations

import math
import queue
import ssl
import struct
import threading
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.binding import TAG_BYTES, Tagger
from protocols.sharing.talk import SLOWEST
from protocols.tls import cut
from secureimg.errors import RemoteProtocolError

__all__ = ["Link"]

_HEADER: Final = struct.Struct(">4sIQ")
_HEADER_BYTES: Final = _HEADER.size + TAG_BYTES
_MAGIC: Final = b"SIMR"
_INLINE: Final = 1 << 15
_PIECE: Final = 1 << 18

Bytes = NDArray[np.uint8]


class Link:
    """A `secureimg.sharing.Channel` over two TLS connections.

    Parameters
    ----------
    outgoing, incoming : ssl.SSLSocket
        Connected and authenticated. The link closes them.
    taggers : (Tagger, Tagger)
        Of what goes out and of what comes in, bound to the session.
    patience : float
        Longest silence of the other party, seconds, before the session ends.
    """

    def __init__(
        self, outgoing: ssl.SSLSocket, incoming: ssl.SSLSocket, taggers: tuple[Tagger, Tagger], patience: float
    ) -> None:
        self._out, self._in = outgoing, incoming
        self._taggers = taggers
        self._until = math.inf
        self._patience = patience
        for sock in (outgoing, incoming):
            sock.settimeout(patience)
        self.sent = 0
        self.received = 0
        self._numbers = [0, 0]
        self._queue: queue.SimpleQueue[tuple[bytes, memoryview] | None] = queue.SimpleQueue()
        self._pending = 0
        self._change = threading.Condition()
        self._failure: BaseException | None = None
        self._closing = False
        self._sender: threading.Thread | None = None

    def send(self, message: Bytes) -> None:
        """See `Channel.send`."""
        view = message.data.cast("B")
        header = _HEADER.pack(_MAGIC, self._numbers[0], len(view))
        header += self._taggers[0].tag(header)
        self._numbers[0] = (self._numbers[0] + 1) % 2**32
        self.sent += len(header) + len(view)
        with self._change:
            self._raise_failure()
            idle = not self._pending
        if idle and len(view) <= _INLINE:
            self._write(memoryview(header + bytes(view)), self._deadline(len(view)))
            return
        if self._sender is None:
            self._sender = threading.Thread(target=self._drain, name="link", daemon=True)
            self._sender.start()
        with self._change:
            self._pending += 1
        self._queue.put((header, view))

    def flush(self) -> None:
        """See `Channel.flush`."""
        with self._change:
            while self._pending and self._failure is None:
                self._change.wait()
            self._raise_failure()

    def receive(self, message: Bytes) -> None:
        """See `Channel.receive`."""
        view = message.data.cast("B")
        header = bytearray(_HEADER_BYTES)
        deadline = self._deadline(len(view))
        self._read(memoryview(header), deadline)
        magic, number, length = _HEADER.unpack_from(header)
        expected = self._numbers[1]
        self._numbers[1] = (expected + 1) % 2**32
        if magic != _MAGIC:
            raise RemoteProtocolError("the other party sent bytes that are not a message of the link")
        self._taggers[1].check(bytes(header[: _HEADER.size]), bytes(header[_HEADER.size :]))
        if number != expected:
            raise RemoteProtocolError(f"the other party sent message {number} of the session, expected is {expected}")
        if length != len(view):
            raise RemoteProtocolError(
                f"the other party sent {length} bytes as message {number}, expected are {len(view)}: both need the same "
                "program and number of images"
            )
        self._read(view, deadline)
        self.received += len(header) + len(view)

    def allow(self, deadline: float) -> None:
        """Let what follows last until the deadline, on the clock of `time.monotonic`, and no longer than our patience."""
        self._until = deadline
        patience = max(0.001, min(self._patience, deadline - time.monotonic()))
        for sock in (self._out, self._in):
            sock.settimeout(patience)

    def close(self) -> None:
        """Close both connections; a sender that waits gives up."""
        self._closing = True
        with self._change:
            self._failure = self._failure or RemoteProtocolError("the link is closed")
            self._change.notify_all()
        self._queue.put(None)
        for sock in (self._out, self._in):
            cut(sock)
        if self._sender is not None and self._sender is not threading.current_thread():
            self._sender.join(1.0)  # before the descriptor is free for another connection
        for sock in (self._out, self._in):
            sock.close()

    def _deadline(self, size: int) -> float:
        return min(time.monotonic() + 2 * self._patience + size / SLOWEST, self._until)

    def _allowed(self) -> str:
        late = time.monotonic() >= self._until
        return "for the time that the owner allowed" if late else f"for {self._patience:g} s: the session ends"

    def _read(self, view: memoryview, deadline: float) -> None:
        place = 0
        try:
            while place < len(view):
                count = self._in.recv_into(view[place : place + _PIECE])
                if self._closing:  # by another thread: see `protocols.wire`
                    raise RemoteProtocolError("the link is closed")
                if not count:
                    raise RemoteProtocolError("the other party closed the link in the middle of a session")
                place += count
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError:
            raise RemoteProtocolError(f"the other party was silent or too slow {self._allowed()}") from None
        except OSError as error:
            raise RemoteProtocolError(f"the link to the other party broke ({_reason(error)})") from None

    def _write(self, view: memoryview, deadline: float) -> None:
        try:
            while len(view):
                # in pieces: a TLS socket's timeout is for all that it is given, however much that is
                view = view[self._out.send(view[:_PIECE]) :]
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError:
            raise RemoteProtocolError(f"the other party took no data, or too slowly, {self._allowed()}") from None
        except OSError as error:
            raise RemoteProtocolError(f"the link to the other party broke ({_reason(error)})") from None

    def _drain(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    deadline = self._deadline(len(item[1]))
                    self._write(memoryview(item[0]), deadline)
                    self._write(item[1], deadline)
            except RemoteProtocolError as error:
                with self._change:
                    self._failure = self._failure or error
            with self._change:
                self._pending -= 1
                self._change.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RemoteProtocolError(str(self._failure))


def _reason(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or type(error).__name__).replace("_", " ").lower()
