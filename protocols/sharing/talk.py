"""A conversation on a wire, one message at a time, with a deadline for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocols.conversation import Buffer, Conversation, Opening, Received
from protocols.errors import BrokenError, RefusedError
from protocols.frames import Head
from protocols.messages import Hangup, Refusal
from protocols.wire import Wire
from secureimg.errors import RemoteProtocolError

__all__ = ["SLOWEST", "Sink", "Talk", "blaming"]

SLOWEST = 128 << 10
"""Bytes per second below which a body counts as stuck."""

Sink = Callable[[Any, int], memoryview | None]


class Talk:
    """Says and hears whole messages.

    Parameters
    ----------
    conversation : Conversation
    wire : Wire
    patience : float
        Seconds for a message to begin, and to pass; a large body gets more, see `SLOWEST`.
    """

    def __init__(self, conversation: Conversation, wire: Wire, patience: float) -> None:
        self.conversation = conversation
        self.wire = wire
        self.patience = patience
        self._waiting: list[Received] = []

    def say(self, message: Head, body: Buffer = b"") -> None:
        """Send a message."""
        buffers = self.conversation.send(message, body)
        self.wire.send(buffers, time.monotonic() + self.patience + memoryview(body).nbytes / SLOWEST)

    def say_pieces(self, message: Head, size: int, pieces: Iterable[Buffer]) -> None:
        """Send a message whose body comes in pieces, `size` bytes in all; it is never held whole."""
        self.wire.send([self.conversation.announce(message, size)], time.monotonic() + self.patience)
        for piece in pieces:
            self.wire.send([piece], time.monotonic() + self.patience)

    def hear(self, patience: float | None = None, sink: Sink | None = None) -> Received:
        """Wait for the next message.

        Parameters
        ----------
        patience : float, optional
            Seconds until it must have begun to arrive.
        sink : callable, optional
            Gets a message's head and the size of its body; returns memory to write the body into, or None to store it.

        Raises
        ------
        RefusedError
            If it is a refusal.
        RemoteProtocolError
            If the other side broke the protocol; `BrokenError` if it left when it owed an answer.
        TimeoutError, OSError
            If it is late, left, or the connection broke.
        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        events = self.conversation.receive_data(b"")  # what came before the conversation was bound
        while True:
            for event in events:
                if isinstance(event, Opening):
                    target = sink(event.message, event.size) if sink is not None else None
                    if target is not None:
                        self.conversation.collect_body(target)
                    deadline = time.monotonic() + self.patience + event.size / SLOWEST
                else:
                    self._waiting.append(event)
            if self._waiting:
                break
            room = self.conversation.room()
            if room is not None:  # a large body goes right where it belongs
                count = self.wire.receive_into(room, deadline)
                events = self.conversation.filled(count) if count else []
            else:
                data = self.wire.receive(deadline)
                count, events = len(data), self.conversation.receive_data(data) if len(data) else []
            if not count:
                try:
                    self.conversation.receive_eof()
                except RemoteProtocolError as error:
                    raise BrokenError(str(error)) from None
                raise ConnectionAbortedError(f"the other side left while {self.conversation.state.value}")
        heard = self._waiting.pop(0)
        if isinstance(heard.message, Refusal | Hangup):
            said = heard.message
            raise RefusedError(said.code, said.message, said.remedy, said.retry_after)
        return heard


@contextlib.contextmanager
def blaming(who: str, timeout: float) -> Iterator[None]:
    """Say of whom it is that a connection broke, or an answer did not come within `timeout` seconds.

    Raises
    ------
    BrokenError
        If the connection broke: the same may be asked again.
    RemoteProtocolError
        If there was no answer.
    """
    try:
        yield
    except BrokenError as error:
        raise BrokenError(f"{who}: {error}: try again") from None
    except TimeoutError:
        raise RemoteProtocolError(f"{who} did not answer within {timeout:g} s: is it running?") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise BrokenError(f"the connection to {who} broke ({reason}): try again") from None
