"""The conversation of owner and server without any I/O: bytes in, events out; messages in, buffers out.

The legal moves stand in one table, `MOVES`, that both roles share. Whoever breaks it is named by the exception:
`LocalProtocolError` is our own side's fault, `RemoteProtocolError` the other's.
"""

from __future__ import annotations

import enum
import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocols.messages import (
    HEADER_BYTES,
    AskKeys,
    Bye,
    Caps,
    Evaluate,
    FrameHeader,
    Hangup,
    Hello,
    KeysState,
    KeysStored,
    Message,
    Offer,
    Refusal,
    RegisterKeys,
    Result,
    decode_head,
    decode_header,
    encode_frame,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["MOVES", "SPEAKS", "Buffer", "Conversation", "Event", "Opening", "Received", "Role", "State"]

Buffer = bytes | bytearray | memoryview


class Role(enum.Enum):
    """Which side of the conversation this is."""

    OWNER = "owner"
    SERVER = "server"


class State(enum.Enum):
    """Where the conversation stands. One side at a time has the word."""

    START = "start"
    GREETED = "greeted"
    READY = "ready"
    ASKED = "asked for keys"
    REGISTERING = "registering keys"
    EVALUATING = "evaluating"
    CLOSED = "closed"


_END: Final[Mapping[type[Message], State]] = {Hangup: State.CLOSED}

MOVES: Final[Mapping[State, Mapping[type[Message], State]]] = MappingProxyType(
    {
        State.START: {Hello: State.GREETED, **_END},
        State.GREETED: {Offer: State.READY, **_END},
        State.READY: {
            AskKeys: State.ASKED,
            RegisterKeys: State.REGISTERING,
            Evaluate: State.EVALUATING,
            Bye: State.CLOSED,
            **_END,
        },
        State.ASKED: {KeysState: State.READY, Refusal: State.READY, **_END},
        State.REGISTERING: {KeysStored: State.READY, Refusal: State.READY, **_END},
        State.EVALUATING: {Result: State.READY, Refusal: State.READY, **_END},
        State.CLOSED: {},
    }
)
"""State -> message -> next state: every legal move of either side, and no other."""

SPEAKS: Final[Mapping[Role, frozenset[type[Message]]]] = MappingProxyType(
    {
        Role.OWNER: frozenset({Hello, AskKeys, RegisterKeys, Evaluate, Bye}),
        Role.SERVER: frozenset({Offer, KeysState, KeysStored, Result, Refusal, Hangup}),
    }
)
"""Which messages are whose."""


@dataclass(frozen=True)
class Opening:
    """A frame has begun: its head is known and legal, `size` bytes of body are to come."""

    message: Message
    size: int


@dataclass(frozen=True)
class Received:
    """A whole frame. `body` is None if it was discarded on request."""

    message: Message
    body: bytes | None


Event = Opening | Received


class Conversation:
    """One side of a conversation.

    Parameters
    ----------
    role : Role
        The side that this object plays.
    caps : Caps
        Largest bodies to accept. Memory in use never exceeds what has arrived of one frame.
    """

    def __init__(self, role: Role, caps: Caps | None = None) -> None:
        self.role = role
        self.state = State.START
        self._peer = Role.SERVER if role is Role.OWNER else Role.OWNER
        self._caps = caps or Caps()
        self._failed = False
        self._closed_by_us = False
        self._start: bytearray = bytearray()
        self._header: FrameHeader | None = None
        self._message: Message | None = None
        self._body: io.BytesIO | None = None
        self._missing = 0

    @property
    def mid_frame(self) -> bool:
        """Whether part of a frame has arrived and the rest has not."""
        return bool(self._start) or self._message is not None

    @property
    def body_size(self) -> int:
        """Bytes of body of the frame that is arriving; 0 between frames."""
        return self._header.body if self._header is not None else 0

    def send(self, message: Message, body: Buffer = b"") -> list[Buffer]:
        """Make a move; return the buffers to put on the wire, in order. The body is not copied.

        Raises
        ------
        LocalProtocolError
            If the message is not ours to send or not legal now; the conversation is then unchanged.
        """
        kind = type(message)
        if kind not in SPEAKS[self.role]:
            raise LocalProtocolError(f"{kind.__name__} is not a message of the {self.role.value}")
        following = MOVES[self.state].get(kind)
        if following is None:
            raise LocalProtocolError(self._illegal(kind, "send"))
        size = memoryview(body).nbytes
        cap = self._caps.body(kind)
        if size > cap:
            raise LocalProtocolError(f"the body of {kind.__name__} is {size} bytes, above its cap of {cap}")
        frame = encode_frame(message, size)
        self.state = following
        self._closed_by_us = following is State.CLOSED
        return [frame, body] if size else [frame]

    def receive_data(self, data: Buffer) -> list[Event]:
        """Take bytes from the wire, in pieces of any size; return what they complete.

        Raises
        ------
        RemoteProtocolError
            At the first byte from which the other side is certainly wrong. The conversation takes no more input
            after that; a server may still send its `Hangup`.
        """
        if self._closed_by_us:
            return []
        if self._failed:
            raise RemoteProtocolError("the conversation has already failed: close the connection")
        events: list[Event] = []
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        try:
            while len(view):
                view = self._take(view, events)
        except RemoteProtocolError:
            self._failed = True
            self._forget()
            raise
        return events

    def receive_eof(self) -> None:
        """Tell the conversation that the other side will send no more.

        Raises
        ------
        RemoteProtocolError
            If it stopped inside a frame, or owes an answer.
        """
        if self._closed_by_us or self._failed:
            return
        owner_may_leave = self.role is Role.SERVER and self.state is not State.GREETED
        if self.mid_frame:
            missing = f"{self._missing} bytes short" if self._message is not None else "in its header"
            self._failed = True
            self._forget()
            raise RemoteProtocolError(f"the connection ended inside a frame, {missing}")
        if self.state is not State.CLOSED and not owner_may_leave:
            self._failed = True
            raise RemoteProtocolError(f"the {self._peer.value} closed the connection while {self.state.value}")

    def discard_body(self) -> None:
        """Drop the body of the arriving frame as it comes in, instead of storing it."""
        if self._message is not None:
            self._body = None

    def _take(self, view: memoryview, events: list[Event]) -> memoryview:
        """Consume the next part of one frame from the front of `view`; return the rest."""
        if self._message is None:
            if self.state is State.CLOSED:
                raise RemoteProtocolError("data after the end of the conversation")
            view = self._take_start(view)
            if self._header is None or len(self._start) < HEADER_BYTES + self._header.head:
                return view
            message = decode_head(self._header.kind, bytes(self._start[HEADER_BYTES:]))
            self._start.clear()
            self._message, self._body, self._missing = message, io.BytesIO(), self._header.body
            events.append(Opening(message, self._header.body))
        taken = view[: self._missing]
        if self._body is not None:
            self._body.write(taken)
        self._missing -= len(taken)
        if not self._missing:
            events.append(self._finish())
        return view[len(taken) :]

    def _take_start(self, view: memoryview) -> memoryview:
        """Fill up header, then head; the header is judged as soon as it is whole."""
        if self._header is None:
            need = HEADER_BYTES - len(self._start)
            self._start += view[:need]
            view = view[need:]
            if len(self._start) < HEADER_BYTES:
                return view
            header = decode_header(bytes(self._start), self._caps)
            if header.kind not in SPEAKS[self._peer]:
                raise RemoteProtocolError(f"{header.kind.__name__} is not a message of the {self._peer.value}")
            if header.kind not in MOVES[self.state]:
                raise RemoteProtocolError(self._illegal(header.kind, "receive"))
            self._header = header
        need = HEADER_BYTES + self._header.head - len(self._start)
        self._start += view[:need]
        return view[need:]

    def _finish(self) -> Received:
        message, body = self._message, self._body
        assert message is not None
        self._forget()
        self.state = MOVES[self.state][type(message)]
        return Received(message, None if body is None else body.getvalue())

    def _forget(self) -> None:
        self._start.clear()
        self._header = self._message = self._body = None
        self._missing = 0

    def _illegal(self, kind: type[Message], verb: str) -> str:
        legal = ", ".join(sorted(k.__name__ for k in MOVES[self.state])) or "nothing"
        return f"cannot {verb} {kind.__name__} while {self.state.value}: legal now is {legal}"
