"""Two conversations in lockstep, led to a state by legal moves; and any frames that the other side could make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from protocols.binding import Terms
from protocols.conversation import BodyCaps, Conversation, Rules
from protocols.frames import Head

ANY_KEY = bytes(range(32))
TERMS = Terms(protocol="test", session="ab" * 16)


class Led(Conversation):
    """A conversation at some state, that knows how its other side would tag a frame."""

    other: Conversation

    def forge(self, message: Head, body: int = 0) -> bytes:
        """A frame of the other side, whether it is its to send now or not. Numbers go on with each one."""
        taggers = self.other._taggers
        return self.rules.catalogue.encode(message, body, None if taggers is None else taggers[0])


def with_key(message: Head, side: Conversation) -> Head:
    """The message with the key of whoever sends it, where it carries one."""
    return structs.replace(message, key=side.key) if hasattr(message, "key") else message


def bind(*sides: Conversation, terms: Terms = TERMS) -> None:
    for side in sides:
        side.bind(terms)


def lead(
    rules: Rules,
    role: Any,
    way: Iterable[type[Head]],
    messages: Mapping[type[Head], Head],
    caps: BodyCaps | None = None,
) -> Led:
    """A conversation of a role that has gone a way of legal moves with its other side."""
    other = next(peer for peer in rules.speaks if peer is not role)
    side, peer = Led(role, caps, rules), Led(other, caps, rules)
    side.other, peer.other = peer, side
    for kind in way:
        sender, receiver = (side, peer) if kind in rules.speaks[role] else (peer, side)
        receiver.receive_data(b"".join(bytes(part) for part in sender.send(with_key(messages[kind], sender))))
        if side._openings == 2 and side._taggers is None and side.state is not rules.closed:
            bind(side, peer)
    return side
