"""What one side of a conversation makes of the other side's bytes, in pieces of any size: all protocols, both roles."""

from __future__ import annotations

import contextlib
import enum
import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from fuzzing.decoders.frames import KEY, change_head, frames_of, retag
from fuzzing.decoders.messages import BODIES, EXAMPLES
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from protocols import messages as inference
from protocols.binding import TAG_BYTES, Tagger, Terms
from protocols.conversation import INFERENCE, Conversation, Opening, Received, Role, Rules
from protocols.federated import messages as federated
from protocols.federated.closing import decode_offer
from protocols.frames import HEADER_BYTES, BodyCaps, Catalogue, Head
from protocols.messages import Bye, Hangup, Refusal
from protocols.owner import OwnerConversation
from protocols.server import ServerConversation
from protocols.sharing import messages as sharing
from protocols.sharing.link import Link
from secureimg.errors import RemoteProtocolError

__all__ = ["make_targets"]

_LARGEST_COLLECTED: Final = 1 << 20


class _Known(Conversation):
    """A conversation whose session keys are known, so that mutants of tagged frames can be tagged again."""

    def bind(self, terms: Terms) -> None:
        super().bind(terms)
        self._taggers = (Tagger(KEY), Tagger(KEY))


class _KnownOwner(_Known, OwnerConversation):
    pass


class _KnownServer(_Known, ServerConversation):
    pass


def _our_move(rules: Rules, role: enum.Enum, state: enum.Enum, turn: int) -> Head | None:
    """What this side says in a state: another of the legal messages in every turn, never one that ends it all."""
    kinds = [kind for kind in rules.moves[state] if kind in rules.speaks[role] and kind not in (Bye, Hangup, Refusal)]
    return EXAMPLES[kinds[turn % len(kinds)]] if kinds else None


def _stream(rules: Rules, role: enum.Enum, picks: list[int]) -> bytes:
    """The bytes of the other side's half of a legal conversation with `role`; `picks` chooses among its moves."""
    peer = next(other for other in rules.speaks if other is not role)
    state, turn, tagger, out, opened = rules.start, 0, Tagger(KEY), b"", False
    for pick in picks:
        while (ours := _our_move(rules, role, state, turn)) is not None:
            state, turn = rules.moves[state][type(ours)], turn + 1
        kinds = [kind for kind in rules.moves[state] if kind in rules.speaks[peer]]
        if not kinds:
            break
        kind = kinds[pick % len(kinds)]
        body = BODIES.get(kind, b"")
        out += rules.catalogue.encode(EXAMPLES[kind], len(body), tagger if opened else None) + body
        state, opened = rules.moves[state][kind], True
    return out


def _pieces(data: bytes) -> Iterator[bytes]:
    """The stream in pieces, cut at frames and, as its checksum says, within them."""
    style = zlib.crc32(data) % 8
    if style == 0:  # whoever does not wait for an answer breaks the rules
        yield data
        return
    size = (1 << 20, 1 + zlib.crc32(data[:64]) % 61, 1)[style % 3]
    place = 0
    for _, middle, end in frames_of(data):
        for bound in (min(middle, end), end):
            while place < bound:
                step = min(size, bound - place) if size > 1 or bound - place < 200 else bound - place
                yield data[place : place + step]
                place += step
    if place < len(data):
        yield data[place:]


def _converse(side: Conversation, data: bytes) -> object:
    """Feed a side; it answers whenever it has the word."""
    rules, turn, generic = side.rules, 0, not isinstance(side, OwnerConversation | ServerConversation)
    collect = generic and zlib.crc32(data) & 4  # the other two check what they receive, not what they collect

    def speak() -> None:
        nonlocal turn
        while (ours := _our_move(rules, side.role, side.state, turn)) is not None:
            side.send(ours, BODIES.get(type(ours), b""))
            turn += 1
            bind()

    def bind() -> None:
        bound = generic or isinstance(side, ServerConversation)
        if bound and side._openings == 2 and side._taggers is None and side.state is not rules.closed:
            side.bind(Terms(protocol="fuzzing"))

    def take(events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Opening) and collect and 0 < event.size <= _LARGEST_COLLECTED and side.body_size:
                side.collect_body(memoryview(bytearray(event.size)))
            elif isinstance(event, Opening) and event.size > _LARGEST_COLLECTED:
                side.discard_body()
            if isinstance(event, Received):
                bind()
                speak()

    speak()
    for piece in _pieces(data):
        while piece and (room := side.room()) is not None:
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            piece = piece[count:]
            take(side.filled(count))
        if piece:
            take(side.receive_data(piece))
    if side.mid_frame:
        side.receive_eof()
    with contextlib.suppress(RemoteProtocolError):  # it may not leave here, but up to here all is well
        side.receive_eof()
    return side.state


def _conversation(name: str, description: str, rules: Rules, role: enum.Enum, caps: BodyCaps | None = None) -> Target:
    def make() -> Conversation:
        if rules is INFERENCE:
            return _KnownOwner() if role is Role.OWNER else _KnownServer()
        return _Known(role, caps or sharing.Caps(), rules)

    def seeds() -> list[bytes]:
        found = []
        for picks in (
            [0],
            [0, 0, 0, 0],
            [0, 1, 0, 1, 2],
            [0, 0, 1, 0, 2, 0, 3],
            [0, 2, 0, 1, 3],
            [0, 0, 0, 1, 0, 0, 0, 0],
        ):
            data = _stream(rules, role, picks)
            with contextlib.suppress(RemoteProtocolError):  # it comes all at once
                _converse(make(), data)
                found.append(data)
        return list(dict.fromkeys(found))

    return Target(name, description, lambda data: _converse(make(), data), seeds, retag, change_head)


# ---------------------------------------------------------------------------------------------------- single messages


def _message_target(name: str, catalogue: Catalogue, caps: Any, speakers: list[Rules]) -> Target:
    kinds = sorted(
        {kind for rules in speakers for said in rules.speaks.values() for kind in said}, key=lambda k: k.__name__
    )

    def decode(data: bytes) -> object:
        if len(data) < HEADER_BYTES:
            raise RemoteProtocolError("cut short")
        header = catalogue.header(data[:HEADER_BYTES], caps)
        if header.head != len(data) - HEADER_BYTES:
            raise RemoteProtocolError("of another length")
        header.check(data[HEADER_BYTES:], None)
        message = catalogue.head(header.kind, data[HEADER_BYTES:])
        again = catalogue.encode(message)  # what was accepted can be said
        return catalogue.head(header.kind, again[HEADER_BYTES:])

    def seeds() -> list[bytes]:
        return [catalogue.encode(EXAMPLES[kind]) for kind in kinds]

    def right_length(data: bytes) -> bytes:
        return (
            data[:6] + min(len(data) - HEADER_BYTES, 0xFFFF).to_bytes(2, "big") + data[8:]
            if len(data) >= HEADER_BYTES
            else data
        )

    return Target(name, "one header and head of any message", decode, seeds, right_length, change_head)


# --------------------------------------------------------------------------------------------------- the parties' link

_SIZES: Final = (8, 0, 100, 5, 4096)
_MARK: Final = b"SIMR"


class _Incoming:
    """The reading end of a connection over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = memoryview(data), 0

    def settimeout(self, seconds: float) -> None:
        pass

    def recv_into(self, memory: memoryview) -> int:
        count = min(len(memory), len(self._data) - self._place)
        memory[:count] = self._data[self._place : self._place + count]
        self._place += count
        return count


def _link_decode(data: bytes) -> object:
    link = Link(_Incoming(b""), _Incoming(data), (Tagger(KEY), Tagger(KEY)), 60.0)  # type: ignore[arg-type]
    for size in _SIZES:
        link.receive(np.empty(size, dtype=np.uint8))
    return link.received


def _link_retag(data: bytes) -> bytes:
    out, tagger, place = bytearray(data), Tagger(KEY), 0
    for size in _SIZES:
        if len(out) < place + 16 + TAG_BYTES:
            break
        out[place + 16 : place + 16 + TAG_BYTES] = tagger.tag(bytes(out[place : place + 16]))
        place += 16 + TAG_BYTES + size
    return bytes(out)


def _link_seeds() -> list[bytes]:
    parts = [
        _MARK + number.to_bytes(4, "big") + size.to_bytes(8, "big") + bytes(TAG_BYTES) + bytes(range(256)) * (size // 256)
        + bytes(size % 256)
        for number, size in enumerate(_SIZES)
    ]  # fmt: skip
    return [_link_retag(b"".join(parts))]


# ------------------------------------------------------------------------------------------------------------- rounds


_MSGPACK: Final = msgpack_codec(lambda base: base, lambda base, tree: tree)


def _roster_decode(data: bytes) -> object:
    roster = federated.Roster.from_bytes(data)
    assert federated.Roster.from_bytes(roster.to_bytes()) == roster
    return roster


def _roster_seeds() -> list[bytes]:
    owner, other = "ab" * 32, "cd" * 32
    return [
        federated.Roster(owners=(owner,), left_out={other: "its update is longer than the bound"}).to_bytes(),
        federated.Roster(owners=(owner, other), left_out={}).to_bytes(),
    ]


def _offer_seeds() -> list[bytes]:
    head = {"round": "0123456789abcdef" * 2, "purpose": "finish", "terms": "ef" * 32}
    owners = [["ab" * 32, "01" * 16], ["cd" * 32, "23" * 16]]
    verdict = {"owners": ["ab" * 32], "left_out": {"cd" * 32: "late"}}
    return [
        msgspec.msgpack.encode(offer)
        for offer in (
            head,
            {**head, "owners": owners},
            {**head, "owners": owners, "verdict": verdict, "dropped": "few"},
        )
    ]


def make_targets() -> list[Target]:
    """Conversations, messages and the link."""
    visit, join, supply = sharing.VISIT, sharing.JOIN, sharing.SUPPLY
    contribute, attend, many = federated.CONTRIBUTE, federated.ATTEND, federated.Caps()
    return [
        _conversation("inference-owner", "what the CKKS server says to an owner", INFERENCE, Role.OWNER),
        _conversation("inference-server", "what an owner says to the CKKS server", INFERENCE, Role.SERVER),
        _conversation("visit-owner", "what a party says to an owner", visit, sharing.Role.OWNER),
        _conversation("visit-party", "what an owner says to a party", visit, sharing.Role.PARTY),
        _conversation("join-party-0", "what party 1 says to party 0", join, sharing.Role.ZERO),
        _conversation("join-party-1", "what party 0 says to party 1", join, sharing.Role.ONE),
        _conversation("supply-party", "what the dealer says to a party", supply, sharing.Role.PARTY),
        _conversation("supply-dealer", "what a party says to the dealer", supply, sharing.Role.DEALER),
        _conversation(
            "contribute-owner", "what a party says to an owner with an update", contribute, federated.Role.OWNER, many
        ),
        _conversation("contribute-party", "what an owner with an update says", contribute, federated.Role.PARTY, many),
        _conversation(
            "attend-coordinator", "what a party says to the coordinator", attend, federated.Role.COORDINATOR, many
        ),
        _conversation("attend-party", "what the coordinator says to a party", attend, federated.Role.PARTY, many),
        _message_target("messages-inference", inference.CATALOGUE, inference.Caps(), [INFERENCE]),
        _message_target("messages-sharing", sharing.CATALOGUE, sharing.Caps(), [visit, join, supply]),
        _message_target("messages-federated", federated.CATALOGUE, many, [contribute, attend]),
        Target("roster", "who is in a sum, from a party", _roster_decode, _roster_seeds, tree=_MSGPACK),
        Target("offer", "what a party tells the other of a round", decode_offer, _offer_seeds, tree=_MSGPACK),
        Target("link", "the rounds between the two parties", _link_decode, _link_seeds, _link_retag),
    ]
