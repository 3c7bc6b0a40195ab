"""The three state machines without I/O: every legal move works, every other one is somebody's named fault."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.conversation import Conversation, Opening, Received, Rules
from protocols.frames import VERSION, Head
from protocols.messages import Bye, Code, Hangup, Refusal
from protocols.sharing import JOIN, SUPPLY, VISIT, Caps, Role, Stage
from protocols.sharing.messages import (
    CATALOGUE,
    Deal,
    Dealt,
    Engage,
    Engaged,
    Fetch,
    Input,
    Join,
    Joined,
    Open,
    Output,
    Prepare,
    Prepared,
    Welcome,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

from ..pairs import ANY_KEY, Led, bind, lead, with_key

TOKEN, NAME = "ab" * 16, "cd" * 32
MESSAGES: list[Head] = [
    Refusal(code=Code.DEALER, message="no", remedy="none"),
    Hangup(code=Code.PEER, message="no", remedy="none"),
    Bye(),
    Open(key=ANY_KEY, session=TOKEN, dealing="dealer"),
    Welcome(key=ANY_KEY, party=1, peer=NAME, model="m", program=NAME, reveal="label"),
    Prepare(request=0, images=2, correlation=TOKEN, seconds=9.0),
    Prepared(request=0, seconds=0.5, dealt=1, weights=2),
    Input(request=0, seconds=9.0),
    Fetch(session=TOKEN, request=0, seconds=9.0),
    Output(request=0, seconds=0.5, rounds=3, sent=4, peak_rss=5),
    Join(key=ANY_KEY, session=TOKEN, owner=NAME, dealing="dealer", stream="to party 1"),
    Joined(key=ANY_KEY, model="m", program=NAME, epoch=TOKEN, weights=True),
    Engage(key=ANY_KEY, party=1, program=NAME, epoch=TOKEN),
    Engaged(key=ANY_KEY),
    Deal(correlation=TOKEN, images=1),
    Dealt(correlation=TOKEN),
]
BY_KIND = {type(message): message for message in MESSAGES}
PROTOCOLS = {"visit": VISIT, "join": JOIN, "supply": SUPPLY}


def paths(rules: Rules) -> dict[Any, list[type[Head]]]:
    """A way of legal moves to every state that can be reached."""
    known: dict[Any, list[type[Head]]] = {rules.start: []}
    for _ in rules.moves:
        for state, way in list(known.items()):
            for kind, reached in rules.moves[state].items():
                known.setdefault(reached, [*way, kind])
    return known


PATHS = {name: paths(rules) for name, rules in PROTOCOLS.items()}
CASES = [
    (name, role, state, kind)
    for name, rules in PROTOCOLS.items()
    for role, state, kind in itertools.product(rules.speaks, rules.moves, BY_KIND)
]
SIDES = [
    (name, role, state)
    for name, rules in PROTOCOLS.items()
    for role, state in itertools.product(rules.speaks, rules.moves)
]


def other(rules: Rules, role: Any) -> Any:
    return next(peer for peer in rules.speaks if peer is not role)


def at(name: str, role: Any, state: Any, caps: Caps | None = None) -> Led:
    """A conversation led to a state by legal moves."""
    side = lead(PROTOCOLS[name], role, PATHS[name][state], BY_KIND, caps or Caps())
    assert side.state is state
    return side


def test_every_state_of_the_tables_can_be_reached_and_every_message_is_somebodys() -> None:
    """A state or message that nothing leads to would be a rule that no test can check."""
    for name, rules in PROTOCOLS.items():
        assert set(PATHS[name]) == set(rules.moves)
        spoken = set().union(*rules.speaks.values())
        assert spoken == set().union(*(moves.keys() for moves in rules.moves.values()))
    assert set(BY_KIND) == set(CATALOGUE._numbers)


@pytest.mark.parametrize(("name", "role", "state", "kind"), CASES)
def test_a_move_is_legal_for_both_sides_or_a_fault_of_its_maker(
    name: str, role: Any, state: Any, kind: type[Head]
) -> None:
    """Sender and receiver judge a message alike, and stand in the same state after it."""
    rules = PROTOCOLS[name]
    sender = at(name, role, state)
    receiver = sender.other
    if kind in rules.moves[state] and kind in rules.speaks[role]:
        data = b"".join(bytes(part) for part in sender.send(BY_KIND[kind]))
        assert receiver.receive_data(data)[-1] == Received(BY_KIND[kind], b"")
        assert sender.state is receiver.state is rules.moves[state][kind]
        return
    with pytest.raises(LocalProtocolError):
        sender.send(BY_KIND[kind])
    assert sender.state is state
    if state is rules.closed and receiver._closed_by_us:
        assert receiver.receive_data(receiver.forge(BY_KIND[kind])) == []
        return
    with pytest.raises(RemoteProtocolError):
        receiver.receive_data(receiver.forge(BY_KIND[kind]))


@pytest.mark.parametrize(("name", "role", "state"), SIDES)
def test_the_other_side_may_leave_only_where_the_table_says_so(name: str, role: Any, state: Any) -> None:
    """The end of the stream is fine where nobody waits for the side that left, and its fault elsewhere."""
    rules, side = PROTOCOLS[name], at(name, role, state)
    if state in rules.leave[role]:
        side.receive_eof()
        return
    with pytest.raises(RemoteProtocolError, match="closed the connection while"):
        side.receive_eof()


def test_nobody_may_leave_when_the_other_side_waits_for_an_answer() -> None:
    """Whoever has the word owes a message: its leaving is never silent, except an owner's or a party's own pauses."""
    for rules in PROTOCOLS.values():
        for role, quiet in rules.leave.items():
            theirs = rules.speaks[other(rules, role)]
            for state in quiet - {rules.closed}:
                assert any(kind in theirs and kind is not Hangup for kind in rules.moves[state])
    assert VISIT.leave[Role.OWNER] == SUPPLY.leave[Role.PARTY] == {Stage.CLOSED}


@pytest.mark.parametrize("chunk", [1, 3, 17, 1 << 16])
def test_a_whole_visit_whatever_the_pieces(chunk: int) -> None:
    """Bytes may arrive in pieces of any size."""
    owner, party = Conversation(Role.OWNER, Caps(), VISIT), Conversation(Role.PARTY, Caps(), VISIT)

    def pass_on(sender: Conversation, receiver: Conversation, message: Head, body: bytes) -> None:
        data = b"".join(bytes(part) for part in sender.send(message, body))
        events = [e for i in range(0, len(data), chunk) for e in receiver.receive_data(data[i : i + chunk])]
        assert events == [Opening(message, len(body)), Received(message, body)]

    pass_on(owner, party, with_key(BY_KIND[Open], owner), b"")
    pass_on(party, owner, with_key(BY_KIND[Welcome], party), b"program" * 40)
    bind(owner, party)
    for number in range(3):
        pass_on(owner, party, Prepare(request=number, images=1, correlation=TOKEN, seconds=9.0), bytes(range(256)))
        pass_on(party, owner, Prepared(request=number, seconds=0.1, dealt=256, weights=0), b"")
        pass_on(owner, party, Input(request=number, seconds=9.0), b"share" * 30)
        pass_on(party, owner, Output(request=number, seconds=0.1, rounds=3, sent=4, peak_rss=5), b"result")
    pass_on(owner, party, Bye(), b"")
    assert owner.state is party.state is Stage.CLOSED
    party.receive_eof()
    owner.receive_eof()


def test_bodies_above_the_cap_are_neither_sent_nor_taken() -> None:
    """A cap holds for sender and receiver, and is checked before a byte of the body is there."""
    caps = Caps(program=100, corrections=200, share=50)
    limits = {Welcome: 100, Joined: 100, Engage: 100, Prepare: 200, Dealt: 200, Input: 50, Output: 50}
    for name, rules in PROTOCOLS.items():
        for state, role in itertools.product(rules.moves, rules.speaks):
            for kind in rules.moves[state].keys() & rules.speaks[role]:
                cap = limits.get(kind, 0)
                with pytest.raises(LocalProtocolError, match=f"cap of {cap}"):
                    at(name, role, state, caps).announce(BY_KIND[kind], cap + 1)
                receiver = at(name, other(rules, role), state, caps)
                with pytest.raises(RemoteProtocolError, match=f"cap of {cap}"):
                    receiver.receive_data(receiver.forge(BY_KIND[kind], cap + 1))
                receiver = at(name, other(rules, role), state, caps)
                assert receiver.receive_data(receiver.forge(BY_KIND[kind], cap))


def test_a_large_body_that_does_not_come_takes_no_memory() -> None:
    """Announcing 16 GiB costs the receiver nothing."""
    party = at("visit", Role.PARTY, Stage.READY)
    party.receive_data(party.forge(BY_KIND[Prepare], 16 << 30))
    assert party.mid_frame
    assert party._body is not None
    assert party._body.getbuffer().nbytes == 0


def test_nothing_is_taken_after_a_fault_or_after_the_end() -> None:
    """One fault ends a conversation: what comes later is not even looked at, but a Hangup may still be said."""
    party = at("visit", Role.PARTY, Stage.READY)
    with pytest.raises(RemoteProtocolError, match="SIMG"):
        party.receive_data(b"GET / HTTP/1.1\r\n")
    with pytest.raises(RemoteProtocolError, match="already failed"):
        party.receive_data(party.forge(BY_KIND[Prepare]))
    assert party.send(BY_KIND[Hangup])
    owner = at("visit", Role.OWNER, Stage.READY)
    owner.receive_data(owner.forge(BY_KIND[Hangup]))
    with pytest.raises(RemoteProtocolError, match="after the end"):
        owner.receive_data(owner.forge(BY_KIND[Prepared]))


def _variants(message: Head) -> list[tuple[str, dict[str, Any]]]:
    fields = msgspec.structs.asdict(message) | {"type": message.__struct_config__.tag}
    wrong: list[tuple[str, dict[str, Any]]] = [("extra", {**fields, "also": 1})]
    required = {f.name for f in msgspec.structs.fields(type(message)) if f.required}
    wrong += [(f"without {name}", {key: value for key, value in fields.items() if key != name}) for name in required]
    outside = {
        "images": [0, 4097, -1, 1.5, "1"], "request": [-1, 2**53 + 1, None], "party": [2, -1],
        "session": ["", "AB" * 16, "ab" * 15],
        "correlation": ["../" + "a" * 29, "ab" * 17, TOKEN + "\n"],
        "dealing": ["", "two-party", 1], "stream": ["to party 2"],
        "purpose": ["else"], "seconds": [-1.0, 1e10, "a"], "rounds": [-1], "sent": [-1, 2**54],
        "key": [b"", bytes(31), bytes(33), "k" * 32], "peer": ["", "zz" * 32], "reveal": ["", "all"],
        "peak_rss": [-1], "dealt": [-1],
        "weights": [-1, "x"], "program": ["xyz" * 4, "ab"], "owner": ["", "zz" * 32], "epoch": ["", "ab"],
        "epochs": [[TOKEN] * 9, ["x"]], "model": ["", "m" * 201],
    }  # fmt: skip
    wrong += [
        (f"{name}={value!r}", {**fields, name: value})
        for name in fields.keys() & outside.keys()
        for value in outside[name]
    ]
    return wrong


@pytest.mark.parametrize("kind", [kind for kind in BY_KIND if kind.__module__ == "protocols.sharing.messages"])
def test_a_head_with_a_field_missing_too_many_or_out_of_range_is_refused(kind: type[Head]) -> None:
    """Each head is checked field by field before anyone acts on it; the untouched one is taken."""
    decode = CATALOGUE.head
    assert decode(kind, msgspec.msgpack.encode(BY_KIND[kind])) == BY_KIND[kind]
    for what, fields in _variants(BY_KIND[kind]):
        try:
            decode(kind, msgspec.msgpack.encode(fields))
        except RemoteProtocolError as error:
            reason = str(error)
        else:
            pytest.fail(f"taken: {what}")
        assert "does not fit its type" in reason


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(MESSAGES), st.data())
def test_any_head_is_a_message_within_its_limits_or_one_error(message: Head, data: st.DataObject) -> None:
    """Whatever a head holds, it decodes to a message that encodes again, or raises RemoteProtocolError."""
    fields = msgspec.structs.asdict(message) | {"type": message.__struct_config__.tag}
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(VALUES)
    try:
        decoded = CATALOGUE.head(type(message), msgspec.msgpack.encode(fields))
    except RemoteProtocolError:
        return
    assert CATALOGUE.head(type(message), msgspec.msgpack.encode(decoded)) == decoded


@given(
    st.sampled_from(SIDES),
    st.binary(max_size=120),
    st.integers(0, 50),
    st.integers(0, 80),
    st.integers(0, 60),
    st.integers(1, 40),
)
def test_any_bytes_give_events_or_one_error(
    side: tuple[str, Any, Any], data: bytes, number: int, head: int, body: int, chunk: int
) -> None:
    """Fuzzed bytes, with and without a plausible header, never raise anything but RemoteProtocolError."""
    name, role, state = side
    rules = PROTOCOLS[name]
    for raw in (data, struct.pack(">4sBBHQ16x", b"SIMG", VERSION, number, head, body) + data):
        conversation = at(name, role, state)
        try:
            for start in range(0, len(raw), chunk):
                for event in conversation.receive_data(raw[start : start + chunk]):
                    assert type(event.message) in rules.speaks[other(rules, role)]
            conversation.receive_eof()
        except RemoteProtocolError:
            continue
        assert conversation.state in rules.moves


@given(st.sampled_from(SIDES), st.data())
def test_a_damaged_frame_is_taken_as_another_message_or_refused(
    case: tuple[str, Any, Any], data: st.DataObject
) -> None:
    """One changed byte anywhere in a legal frame gives a message of the same speaker or RemoteProtocolError."""
    name, role, state = case
    rules = PROTOCOLS[name]
    legal = [kind for kind in rules.moves[state] if kind in rules.speaks[other(rules, role)]]
    if not legal:
        return
    side = at(name, role, state)
    raw = bytearray(side.forge(BY_KIND[data.draw(st.sampled_from(legal))]))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        for event in side.receive_data(bytes(raw)):
            assert type(event.message) in legal
            assert side._taggers is None, "a tagged frame was changed unnoticed"
    except RemoteProtocolError:
        pass
