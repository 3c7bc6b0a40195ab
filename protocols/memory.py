"""Owner and server wired together in memory: the fake wire that tests and explanations run on."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.conversation import Buffer, Event
from protocols.messages import Caps
from protocols.owner import OwnerConversation
from protocols.server import ServerConversation

__all__ = ["MemoryPair"]


@dataclass
class MemoryPair:
    """Both sides of one conversation.

    Attributes
    ----------
    owner, server : OwnerConversation, ServerConversation
        The two state machines.
    chunk : int
        Bytes that the wire delivers at a time.
    up, down : int
        Bytes carried so far, from the owner and to the owner.
    """

    owner: OwnerConversation = field(default_factory=OwnerConversation)
    server: ServerConversation = field(default_factory=ServerConversation)
    chunk: int = 1 << 16
    up: int = 0
    down: int = 0

    @classmethod
    def with_caps(cls, caps: Caps, chunk: int = 1 << 16) -> MemoryPair:
        """Return a pair whose two sides accept at most `caps`."""
        return cls(OwnerConversation(caps), ServerConversation(caps), chunk)

    def to_server(self, buffers: list[Buffer]) -> list[Event]:
        """Carry the owner's buffers over; return the server's events."""
        data = b"".join(buffers)
        self.up += len(data)
        return [event for piece in self._pieces(data) for event in self.server.receive_data(piece)]

    def to_owner(self, buffers: list[Buffer]) -> list[Event]:
        """Carry the server's buffers over; return the owner's events."""
        data = b"".join(buffers)
        self.down += len(data)
        return [event for piece in self._pieces(data) for event in self.owner.receive_data(piece)]

    def _pieces(self, data: bytes) -> list[bytes]:
        return [data[i : i + self.chunk] for i in range(0, len(data), self.chunk)]
