"""What owners, the coordinator and the two parties of secure aggregation say to each other, and when each may say it.

"Contribute": an owner brings a party its share of an update. "Attend": the coordinator opens and closes rounds at a party.
What the parties say to each other goes over the link of a session, see `protocols.federated.closing`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocols.binding import Terms as BindingTerms
from protocols.conversation import Rules
from protocols.frames import Catalogue, Head
from protocols.messages import Bye, Fingerprint, Hangup, PublicKey, Refusal, Seconds, Size, Token
from protocols.sharing.messages import Party
from secureimg.errors import RemoteProtocolError
from secureimg.federated import Terms
from secureimg.federated.terms import MAX_OWNERS, MAX_PARAMETERS
from secureimg.sharing.streams import SEED_BYTES

__all__ = [
    "ATTEND",
    "CONTRIBUTE",
    "MAX_ROSTER",
    "Accepting",
    "Attend",
    "Attending",
    "Begin",
    "Begun",
    "Caps",
    "Contribute",
    "Count",
    "Counted",
    "Finish",
    "Finished",
    "Role",
    "Roster",
    "Share",
    "Stage",
    "Stored",
    "attend_terms",
    "contribute_terms",
    "share_bytes",
]

Owners = Annotated[int, Meta(ge=0, le=MAX_OWNERS)]
Reason = Annotated[str, Meta(max_length=200)]

MAX_ROSTER: Final = 300 * MAX_OWNERS + 1024
"""Bytes of an encoded `Roster`, at most."""


class Contribute(Head, frozen=True, tag=50):
    """Owner: I have an update for this round."""

    key: PublicKey
    round: Token


class Accepting(Head, frozen=True, tag=51):
    """Party: the round is open; its terms, and whom this party knows as the other one."""

    key: PublicKey
    party: Party
    peer: Fingerprint
    terms: Terms


class Share(Head, frozen=True, tag=52):
    """Owner: my share (body). The same contribution goes to both parties; a later one takes the place of an earlier one."""

    contribution: Token


class Stored(Head, frozen=True, tag=53):
    """Party: the share is on disk."""

    contribution: Token


class Attend(Head, frozen=True, tag=54):
    """Coordinator: opens the conversation."""

    key: PublicKey


class Attending(Head, frozen=True, tag=55):
    """Party: the terms of its rounds, and how many it has opened so far."""

    key: PublicKey
    party: Party
    terms: Terms
    rounds: Size


class Begin(Head, frozen=True, tag=56):
    """Coordinator: open a round. Both parties meet in the session; `seconds` is how long the coordinator waits."""

    round: Token
    session: Token
    seconds: Seconds


class Begun(Head, frozen=True, tag=57):
    """Party: the round takes shares now."""

    round: Token
    peer: Fingerprint


class Count(Head, frozen=True, tag=58):
    """Coordinator: of how many owners are shares here?"""

    round: Token


class Counted(Head, frozen=True, tag=59):
    """Party: of so many."""

    round: Token
    owners: Owners


class Finish(Head, frozen=True, tag=60):
    """Coordinator: close a round and give me the sum. Asked again, the same answer is given."""

    round: Token
    session: Token
    seconds: Seconds


class Finished(Head, frozen=True, tag=61):
    """Party: body is the roster (so many bytes of it), then this party's share of the noisy sum."""

    round: Token
    roster: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    seconds: Seconds
    sent: Size
    rounds: Size


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose updates are in a sum, by certificate, and whose are not and why."""

    owners: Annotated[tuple[Fingerprint, ...], Meta(max_length=MAX_OWNERS)]
    left_out: Annotated[dict[Fingerprint, Reason], Meta(max_length=MAX_OWNERS)]

    def to_bytes(self) -> bytes:
        """The roster as msgpack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Roster:
        """Decode a roster that somebody else made.

        Raises
        ------
        RemoteProtocolError
            If it is too large or malformed, or names an owner twice.
        """
        if len(data) > MAX_ROSTER:
            raise RemoteProtocolError(f"a roster of {len(data)} bytes is above the limit of {MAX_ROSTER}")
        try:
            roster = msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"the roster does not fit its type: {error}") from None
        if len({*roster.owners, *roster.left_out}) != len(roster.owners) + len(roster.left_out):
            raise RemoteProtocolError("the roster names an owner twice")
        return roster


def share_bytes(terms: Terms, party: int) -> int:
    """Bytes of an owner's share for a party."""
    return 4 * terms.length if party else SEED_BYTES


CATALOGUE: Final = Catalogue(
    {
        9: Refusal, 10: Hangup, 11: Bye, 50: Contribute, 51: Accepting, 52: Share, 53: Stored, 54: Attend, 55: Attending,
        56: Begin, 57: Begun, 58: Count, 59: Counted, 60: Finish, 61: Finished,
    },
    {Refusal: 16384, Hangup: 16384, Bye: 64},
)  # fmt: skip


class Role(enum.Enum):
    """Who speaks."""

    OWNER = "owner"
    COORDINATOR = "coordinator"
    PARTY = "party"


class Stage(enum.Enum):
    """Where a conversation stands. One side at a time has the word."""

    START = "start"
    OPENING = "opening"
    READY = "ready"
    STORING = "storing"
    WORKING = "working"
    CLOSED = "closed"


@dataclass(frozen=True)
class Caps:
    """Largest bodies that a side stores, in bytes.

    Attributes
    ----------
    share : int
        An owner's share of an update, or a party's of a sum.
    """

    share: int = 4 * (MAX_PARAMETERS + 1)

    def body(self, kind: type[Head]) -> int:
        """Return the largest body of a message of this kind."""
        if kind is Share:
            return self.share
        return self.share + MAX_ROSTER if kind is Finished else 0


_END: Final[dict[type[Head], enum.Enum]] = {Hangup: Stage.CLOSED}

CONTRIBUTE: Final = Rules(
    CATALOGUE,
    {
        Stage.START: {Contribute: Stage.OPENING, **_END},
        Stage.OPENING: {Accepting: Stage.READY, **_END},
        Stage.READY: {Share: Stage.STORING, Bye: Stage.CLOSED, **_END},
        Stage.STORING: {Stored: Stage.READY, Refusal: Stage.READY, **_END},
        Stage.CLOSED: {},
    },
    {
        Role.OWNER: frozenset({Contribute, Share, Bye}),
        Role.PARTY: frozenset({Accepting, Stored, Refusal, Hangup}),
    },
    Stage.START,
    Stage.CLOSED,
    {Role.PARTY: frozenset({Stage.START, Stage.READY, Stage.CLOSED}), Role.OWNER: frozenset({Stage.CLOSED})},
)
"""An owner and a party."""

ATTEND: Final = Rules(
    CATALOGUE,
    {
        Stage.START: {Attend: Stage.OPENING, **_END},
        Stage.OPENING: {Attending: Stage.READY, **_END},
        Stage.READY: {
            Begin: Stage.WORKING, Count: Stage.WORKING, Finish: Stage.WORKING, Bye: Stage.CLOSED, **_END,
        },
        Stage.WORKING: {
            Begun: Stage.READY, Counted: Stage.READY, Finished: Stage.READY, Refusal: Stage.READY, **_END,
        },
        Stage.CLOSED: {},
    },
    {
        Role.COORDINATOR: frozenset({Attend, Begin, Count, Finish, Bye}),
        Role.PARTY: frozenset({Attending, Begun, Counted, Finished, Refusal, Hangup}),
    },
    Stage.START,
    Stage.CLOSED,
    {Role.PARTY: frozenset({Stage.START, Stage.READY, Stage.CLOSED}), Role.COORDINATOR: frozenset({Stage.CLOSED})},
)  # fmt: skip
"""The coordinator and a party."""


def contribute_terms(round: str, terms: Terms, owner: str, parties: tuple[str, str]) -> BindingTerms:  # noqa: A002  # the field's word
    """What an owner's connection to a party is for."""
    return BindingTerms(
        protocol="contribute", session=round, owner=owner, party_0=parties[0], party_1=parties[1],
        program=terms.fingerprint,
    )  # fmt: skip


def attend_terms(terms: Terms, party: int, coordinator: str, fingerprint: str) -> BindingTerms:
    """What the coordinator's connection to a party is for."""
    return BindingTerms(
        protocol="attend", owner=coordinator, program=terms.fingerprint,
        party_0="" if party else fingerprint, party_1=fingerprint if party else "",
    )  # fmt: skip
