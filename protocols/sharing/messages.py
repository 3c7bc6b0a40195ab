"""What owner, party 0, party 1 and dealer say to each other, and when each may say it.

Three protocols share one catalogue. "Visit": an owner and one party. "Join": party 0 opens its link to party 1, which then
carries the rounds of `protocols.sharing.link`. "Supply": a party asks the dealer for correlations.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from protocols.binding import Terms
from protocols.conversation import Rules
from protocols.frames import Catalogue, Head
from protocols.messages import (
    Bye,
    Fingerprint,
    Hangup,
    InputPreparation,
    Name,
    PublicKey,
    Refusal,
    Seconds,
    Size,
    Token,
)

__all__ = [
    "CATALOGUE",
    "DEALINGS",
    "JOIN",
    "STREAMS",
    "SUPPLY",
    "VISIT",
    "Caps",
    "Deal",
    "Dealing",
    "Dealt",
    "Engage",
    "Engaged",
    "Fetch",
    "Input",
    "Join",
    "Joined",
    "Open",
    "Output",
    "Prepare",
    "Prepared",
    "Role",
    "Stage",
    "Welcome",
    "link_terms",
    "supply_terms",
]

Images = Annotated[int, Meta(ge=1, le=4096)]
Number = Annotated[int, Meta(ge=0, le=2**53)]
Party = Annotated[int, Meta(ge=0, le=1)]
Dealing = Literal["client-aided", "dealer"]
"""Who makes correlated randomness: the owner, or a third process."""

Stream = Literal["to party 1", "to party 0"]
STREAMS: Final[tuple[Stream, ...]] = ("to party 1", "to party 0")
Reveal = Literal["scores", "label", "top-k", "shares"]
DEALINGS: Final[tuple[Dealing, ...]] = ("client-aided", "dealer")
"""All that there are."""


class Open(Head, frozen=True, tag=20):
    """Owner: opens a session under a token of its own, the same at both parties; says who deals."""

    key: PublicKey
    session: Token
    dealing: Dealing
    model: Name | None = None


class Welcome(Head, frozen=True, tag=21):
    """Party: the program, and whom it knows as the other party.

    Body: with the owner as dealer party 1 puts the weight seed (32 bytes) first; the program.
    """

    key: PublicKey
    party: Party
    peer: Fingerprint
    model: Name
    program: Fingerprint
    reveal: Reveal
    preparation: InputPreparation | None = None


class Prepare(Head, frozen=True, tag=22):
    """Owner: get ready for so many images. Body: with the owner as dealer the seed and, to party 1, the corrections.

    `seconds` is how long the owner goes on waiting, here and in `Input` and `Fetch`.
    """

    request: Number
    images: Images
    correlation: Token
    seconds: Seconds


class Prepared(Head, frozen=True, tag=23):
    """Party: ready. Seconds that it took, bytes that came from the dealer and as masked weights."""

    request: Number
    seconds: Seconds
    dealt: Size
    weights: Size


class Input(Head, frozen=True, tag=24):
    """Owner: run. Body: this party's share of the images."""

    request: Number
    seconds: Seconds


class Fetch(Head, frozen=True, tag=26):
    """Owner: give me the output of a request of an earlier session, whose connection broke. Nothing is run again."""

    session: Token
    request: Number
    seconds: Seconds


class Output(Head, frozen=True, tag=25):
    """Party: done. Body: its share of what the program reveals."""

    request: Number
    seconds: Seconds
    rounds: Number
    sent: Size
    peak_rss: Size


class Join(Head, frozen=True, tag=30):
    """Party 0: one direction of the link for a session, or for filling the stock; what it knows already."""

    key: PublicKey
    session: Token
    owner: Fingerprint
    dealing: Dealing
    stream: Stream
    purpose: Literal["session", "stock"] = "session"
    program: Fingerprint | None = None
    epochs: Annotated[tuple[Token, ...], Meta(max_length=8)] = ()


class Joined(Head, frozen=True, tag=31):
    """Party 1: program and weight mask of the session. Body: the program, if party 0 lacks it."""

    key: PublicKey
    model: Name
    program: Fingerprint
    epoch: Token
    weights: bool


class Engage(Head, frozen=True, tag=40):
    """Party: which program and weight mask it wants correlations for. Body, from party 1: weight seed and program."""

    key: PublicKey
    party: Party
    program: Fingerprint
    epoch: Token


class Engaged(Head, frozen=True, tag=41):
    """Dealer: agreed."""

    key: PublicKey


class Deal(Head, frozen=True, tag=42):
    """Party: its part of one correlation, which both parties name alike. It is dealt once."""

    correlation: Token
    images: Images


class Dealt(Head, frozen=True, tag=43):
    """Dealer: body is the party's seed and, for party 1, the corrections."""

    correlation: Token


CATALOGUE: Final = Catalogue(
    {
        9: Refusal, 10: Hangup, 11: Bye, 20: Open, 21: Welcome, 22: Prepare, 23: Prepared, 24: Input, 25: Output, 26: Fetch,
        30: Join, 31: Joined, 40: Engage, 41: Engaged, 42: Deal, 43: Dealt,
    },
    {Welcome: 4096, Refusal: 16384, Hangup: 16384, Bye: 64},
)  # fmt: skip


class Role(enum.Enum):
    """Who speaks."""

    OWNER = "owner"
    PARTY = "party"
    ZERO = "party 0"
    ONE = "party 1"
    DEALER = "dealer"


class Stage(enum.Enum):
    """Where a conversation stands. One side at a time has the word."""

    START = "start"
    OPENING = "opening"
    READY = "ready"
    PREPARING = "preparing"
    ARMED = "armed"
    RUNNING = "running"
    FETCHING = "fetching"
    JOINING = "joining"
    LINKED = "linked"
    ENGAGING = "engaging"
    DEALING = "dealing"
    CLOSED = "closed"


@dataclass(frozen=True)
class Caps:
    """Largest bodies that a side stores, in bytes.

    Attributes
    ----------
    program : int
        A public program.
    corrections : int
        Seed and corrections of one correlation.
    share : int
        A share of the input, or of the result.
    """

    program: int = (64 << 20) + 64
    corrections: int = 16 << 30
    share: int = 1 << 30

    def body(self, kind: type[Head]) -> int:
        """Return the largest body of a message of this kind."""
        if kind in (Welcome, Joined, Engage):
            return self.program
        if kind in (Prepare, Dealt):
            return self.corrections
        return self.share if kind in (Input, Output) else 0


def _rules(
    moves: dict[Stage, dict[type[Head], Stage]],
    speaks: Mapping[Role, set[type[Head]]],
    quiet: Mapping[Role, set[Stage]],
) -> Rules:
    ended: dict[type[Head], Stage] = {Hangup: Stage.CLOSED}
    table: dict[Any, Any] = {stage: {**kinds, **ended} for stage, kinds in moves.items()}
    table[Stage.CLOSED] = {}
    return Rules(
        CATALOGUE,
        table,
        {role: frozenset(kinds) for role, kinds in speaks.items()},
        Stage.START,
        Stage.CLOSED,
        {role: frozenset(stages | {Stage.CLOSED}) for role, stages in quiet.items()},
    )


VISIT: Final = _rules(
    {
        Stage.START: {Open: Stage.OPENING},
        Stage.OPENING: {Welcome: Stage.READY},
        Stage.READY: {Prepare: Stage.PREPARING, Fetch: Stage.FETCHING, Bye: Stage.CLOSED},
        Stage.FETCHING: {Output: Stage.READY, Refusal: Stage.READY},
        Stage.PREPARING: {Prepared: Stage.ARMED, Refusal: Stage.READY},
        Stage.ARMED: {Input: Stage.RUNNING, Bye: Stage.CLOSED},
        Stage.RUNNING: {Output: Stage.READY, Refusal: Stage.READY},
    },
    {Role.OWNER: {Open, Prepare, Input, Fetch, Bye}, Role.PARTY: {Welcome, Prepared, Output, Refusal, Hangup}},
    {Role.PARTY: {Stage.START, Stage.READY, Stage.ARMED}, Role.OWNER: set()},
)
"""An owner and a party."""

JOIN: Final = _rules(
    {Stage.START: {Join: Stage.JOINING}, Stage.JOINING: {Joined: Stage.LINKED}, Stage.LINKED: {}},
    {Role.ZERO: {Join}, Role.ONE: {Joined, Hangup}},
    {Role.ZERO: set(), Role.ONE: {Stage.START}},
)
"""Party 0 and party 1, until the link is up."""

SUPPLY: Final = _rules(
    {
        Stage.START: {Engage: Stage.ENGAGING},
        Stage.ENGAGING: {Engaged: Stage.READY},
        Stage.READY: {Deal: Stage.DEALING, Bye: Stage.CLOSED},
        Stage.DEALING: {Dealt: Stage.READY, Refusal: Stage.READY},
    },
    {Role.PARTY: {Engage, Deal, Bye}, Role.DEALER: {Engaged, Dealt, Refusal, Hangup}},
    {Role.DEALER: {Stage.START, Stage.READY}, Role.PARTY: set()},
)
"""A party and the dealer."""


def link_terms(asked: Join, answered: Joined, party_0: str, party_1: str) -> Terms:
    """What one connection of a link is for, in the words that both parties bind it to."""
    return Terms(
        protocol="join", session=asked.session, owner=asked.owner, party_0=party_0, party_1=party_1, dealing=asked.dealing,
        model=answered.model, program=answered.program, weights=answered.epoch, purpose=f"{asked.purpose}, {asked.stream}",
    )  # fmt: skip


def supply_terms(asked: Engage, party: str, dealer: str) -> Terms:
    """What a party's connection to the dealer is for."""
    return Terms(
        protocol="supply", dealer=dealer, program=asked.program, weights=asked.epoch, dealing="dealer",
        party_0="" if asked.party else party, party_1=party if asked.party else "",
    )  # fmt: skip
