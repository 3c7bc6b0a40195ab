"""A conversation without any I/O: bytes in, events out; messages in, buffers out.

The first two messages open it: each carries a fresh key, and from the third on every frame is tied to the terms that both
sides mean (`bind`, see `protocols.binding`). The legal moves stand in one table that both roles share; `MOVES` is that of
owner and server of encrypted inference. Whoever breaks it is named by the exception: `LocalProtocolError` is our own side's
fault, `RemoteProtocolError` the other's.
"""

from __future__ import annotations

import enum
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from protocols.binding import Ephemeral, Tagger, Terms
from protocols.frames import HEADER_BYTES, BodyCaps, Catalogue, FrameHeader, Head
from protocols.messages import (
    CATALOGUE,
    AskKeys,
    Bye,
    Caps,
    Evaluate,
    Hangup,
    Hello,
    KeysState,
    KeysStored,
    Offer,
    Refusal,
    RegisterKeys,
    Result,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "INFERENCE",
    "MOVES",
    "SPEAKS",
    "Buffer",
    "Conversation",
    "Event",
    "Opening",
    "Received",
    "Role",
    "Rules",
    "State",
]

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


_OPENINGS: Final = 2
_END: Final[Mapping[type[Head], State]] = {Hangup: State.CLOSED}

MOVES: Final[Mapping[State, Mapping[type[Head], State]]] = MappingProxyType(
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

SPEAKS: Final[Mapping[Role, frozenset[type[Head]]]] = MappingProxyType(
    {
        Role.OWNER: frozenset({Hello, AskKeys, RegisterKeys, Evaluate, Bye}),
        Role.SERVER: frozenset({Offer, KeysState, KeysStored, Result, Refusal, Hangup}),
    }
)
"""Which messages are whose."""


@dataclass(frozen=True)
class Rules:
    """A protocol: its messages, who speaks them, and every legal move.

    Attributes
    ----------
    catalogue : Catalogue
    moves : mapping of state to mapping of message type to state
    speaks : mapping of role to set of message types
    start, closed : state
    leave : mapping of role to set of states
        Where the other side of that role may close the connection without a word.
    """

    catalogue: Catalogue
    moves: Mapping[enum.Enum, Mapping[type[Head], enum.Enum]]
    speaks: Mapping[enum.Enum, frozenset[type[Head]]]
    start: enum.Enum
    closed: enum.Enum
    leave: Mapping[enum.Enum, frozenset[enum.Enum]]


INFERENCE: Final = Rules(
    CATALOGUE,
    MOVES,  # type: ignore[arg-type]  # an enum's members are members of Enum, but mappings are invariant
    SPEAKS,  # type: ignore[arg-type]
    State.START,
    State.CLOSED,
    {Role.SERVER: frozenset(State) - {State.GREETED}, Role.OWNER: frozenset({State.CLOSED})},
)
"""Owner and server of encrypted inference."""


@dataclass(frozen=True)
class Opening:
    """A frame has begun: its head is known and legal, `size` bytes of body are to come."""

    message: Any
    size: int


@dataclass(frozen=True)
class Received:
    """A whole frame. `body` is None if it was discarded on request."""

    message: Any
    body: bytes | None = field(repr=False)


Event = Opening | Received


class _Target:
    """Memory of the caller's that a body is written into as it arrives."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory.cast("B")
        self._place = 0

    def write(self, data: memoryview) -> None:
        self._memory[self._place : self._place + len(data)] = data
        self._place += len(data)

    def rest(self) -> memoryview:
        return self._memory[self._place :]

    def skip(self, count: int) -> None:
        self._place += count


class Conversation:
    """One side of a conversation.

    Parameters
    ----------
    role : Role
        The side that this object plays.
    caps : Caps
        Largest bodies to accept. Memory in use never exceeds what has arrived of one frame.
    rules : Rules
        The protocol.
    """

    def __init__(self, role: enum.Enum, caps: BodyCaps | None = None, rules: Rules = INFERENCE) -> None:
        self.role = role
        self.rules = rules
        self.state = rules.start
        self._peer = next(other for other in rules.speaks if other is not role)
        self._caps: BodyCaps = caps or Caps()
        self._failed = False
        self._closed_by_us = False
        self._ephemeral = Ephemeral()
        self._their_key = b""
        self._transcript = hashlib.sha256()
        self._opened: bool | None = None
        self._openings = 0
        self._taggers: tuple[Tagger, Tagger] | None = None
        self._held = b""
        self._start: bytearray = bytearray()
        self._header: FrameHeader | None = None
        self._message: Any = None
        self._body: io.BytesIO | _Target | None = None
        self._missing = 0

    @property
    def key(self) -> bytes:
        """Our public key for this conversation, 32 bytes, which our opening message carries."""
        return self._ephemeral.public

    def bind(self, terms: Terms) -> None:
        """Tie all further messages to the terms, once both opening messages have passed.

        Raises
        ------
        LocalProtocolError
            If they have not, or it was done before.
        RemoteProtocolError
            If the other side's key is not usable.
        """
        if self._openings != _OPENINGS or self._taggers is not None:
            raise LocalProtocolError("a conversation is bound once, right after its two opening messages")
        keys = self._ephemeral.agree(self._their_key, self._transcript.digest(), terms)
        self._taggers = keys.taggers(opened=bool(self._opened))

    @property
    def taggers(self) -> tuple[Tagger, Tagger]:
        """What tags our messages and what checks theirs: for a link that goes on from this conversation."""
        if self._taggers is None:
            raise LocalProtocolError("the conversation is not bound to its terms yet")
        return self._taggers

    @property
    def mid_frame(self) -> bool:
        """Whether part of a frame has arrived and the rest has not."""
        return bool(self._start or self._held) or self._message is not None

    @property
    def body_size(self) -> int:
        """Bytes of body of the frame that is arriving; 0 between frames."""
        return self._header.body if self._header is not None else 0

    def send(self, message: Head, body: Buffer = b"") -> list[Buffer]:
        """Make a move; return the buffers to put on the wire, in order. The body is not copied.

        Raises
        ------
        LocalProtocolError
            If the message is not ours to send or not legal now; the conversation is then unchanged.
        """
        size = memoryview(body).nbytes
        frame = self.announce(message, size)
        return [frame, body] if size else [frame]

    def announce(self, message: Head, size: int) -> bytes:
        """Make a move whose body, `size` bytes, the caller puts on the wire right after the returned bytes.

        Raises
        ------
        LocalProtocolError
            As for `send`.
        """
        kind, rules = type(message), self.rules
        if kind not in rules.speaks[self.role]:
            raise LocalProtocolError(f"{kind.__name__} is not a message of the {self.role.value}")
        following = rules.moves[self.state].get(kind)
        if following is None:
            raise LocalProtocolError(self._illegal(kind, "send"))
        cap = self._caps.body(kind)
        if size > cap:
            raise LocalProtocolError(f"the body of {kind.__name__} is {size} bytes, above its cap of {cap}")
        if self._taggers is None and self._openings == _OPENINGS:
            raise LocalProtocolError(f"cannot send {kind.__name__} before the conversation is bound to its terms")
        frame = rules.catalogue.encode(message, size, None if self._taggers is None else self._taggers[0])
        self._note(frame, ours=True)
        self.state = following
        self._closed_by_us = following is rules.closed
        return frame

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
        if self._held:
            data, self._held = self._held + bytes(data), b""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        try:
            while len(view):
                if self._waits_for_terms:
                    self._held = bytes(view)
                    break
                view = self._take(view, events)
        except RemoteProtocolError:
            self._failed = True
            self._forget()
            raise
        return events

    @property
    def _waits_for_terms(self) -> bool:
        """Whether what comes next cannot be judged before `bind`."""
        opened = self._openings == _OPENINGS and self._taggers is None and self._message is None
        return opened and self.state is not self.rules.closed

    def _note(self, frame: bytes, *, ours: bool) -> None:
        """Keep the opening frames in mind: the session's keys follow from them."""
        if self._openings < _OPENINGS:
            self._opened = ours if self._opened is None else self._opened
            self._openings += 1
            self._transcript.update(frame)

    def receive_eof(self) -> None:
        """Tell the conversation that the other side will send no more.

        Raises
        ------
        RemoteProtocolError
            If it stopped inside a frame, or owes an answer.
        """
        if self._closed_by_us or self._failed:
            return
        if self.mid_frame:
            missing = f"{self._missing} bytes short" if self._message is not None else "in its header"
            self._failed = True
            self._forget()
            raise RemoteProtocolError(f"the connection ended inside a frame, {missing}")
        if self.state not in self.rules.leave[self.role]:
            self._failed = True
            raise RemoteProtocolError(f"the {self._peer.value} closed the connection while {self.state.value}")

    def discard_body(self) -> None:
        """Drop the body of the arriving frame as it comes in, instead of storing it."""
        if self._message is not None:
            self._body = None

    def collect_body(self, target: memoryview) -> None:
        """Write the body of the arriving frame into `target`, of exactly its size, instead of storing it."""
        if self._message is not None and self._header is not None:
            if target.nbytes != self._header.body:
                raise LocalProtocolError(f"a target of {target.nbytes} bytes for a body of {self._header.body}")
            self._body = _Target(target)

    def room(self) -> memoryview | None:
        """What is still empty of the memory given to `collect_body`: the caller may read from the wire right into it."""
        return self._body.rest() if isinstance(self._body, _Target) and self._missing else None

    def filled(self, count: int) -> list[Event]:
        """Tell that `count` bytes were read into `room`; return what they complete."""
        if not isinstance(self._body, _Target) or not 0 < count <= self._missing:
            raise LocalProtocolError(f"{count} bytes were not read into a body that lacks {self._missing}")
        self._body.skip(count)
        self._missing -= count
        return [] if self._missing else [self._finish()]

    def _take(self, view: memoryview, events: list[Event]) -> memoryview:
        """Consume the next part of one frame from the front of `view`; return the rest."""
        if self._message is None:
            if self.state is self.rules.closed:
                raise RemoteProtocolError("data after the end of the conversation")
            view = self._take_start(view)
            if self._header is None or len(self._start) < HEADER_BYTES + self._header.head:
                return view
            head = bytes(self._start[HEADER_BYTES:])
            self._header.check(head, None if self._taggers is None else self._taggers[1])
            message = self.rules.catalogue.head(self._header.kind, head)
            if self._openings < _OPENINGS:
                self._their_key = getattr(message, "key", b"")
            self._note(bytes(self._start), ours=False)
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
                self.rules.catalogue.check_start(self._start)
                return view
            header = self.rules.catalogue.header(bytes(self._start), self._caps)
            if header.kind not in self.rules.speaks[self._peer]:
                raise RemoteProtocolError(f"{header.kind.__name__} is not a message of the {self._peer.value}")
            if header.kind not in self.rules.moves[self.state]:
                raise RemoteProtocolError(self._illegal(header.kind, "receive"))
            self._header = header
        need = HEADER_BYTES + self._header.head - len(self._start)
        self._start += view[:need]
        return view[need:]

    def _finish(self) -> Received:
        message, body = self._message, self._body
        assert message is not None
        self._forget()
        self.state = self.rules.moves[self.state][type(message)]
        return Received(message, body.getvalue() if isinstance(body, io.BytesIO) else None)

    def _forget(self) -> None:
        self._start.clear()
        self._header = self._message = self._body = None
        self._missing = 0

    def _illegal(self, kind: type[Head], verb: str) -> str:
        legal = ", ".join(sorted(k.__name__ for k in self.rules.moves[self.state])) or "nothing"
        return f"cannot {verb} {kind.__name__} while {self.state.value}: legal now is {legal}"
