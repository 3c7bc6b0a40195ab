"""The state machines over the memory pair: every legal move works, every other one is somebody's named fault."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import (
    MOVES,
    Caps,
    Code,
    Conversation,
    MemoryPair,
    Opening,
    OwnerConversation,
    Received,
    Role,
    ServerConversation,
    State,
)
from protocols.conversation import INFERENCE, SPEAKS
from protocols.frames import VERSION
from protocols.messages import (
    AskKeys,
    Bye,
    Evaluate,
    Hangup,
    Hello,
    KeysState,
    KeysStored,
    Message,
    Offer,
    Refusal,
    RegisterKeys,
    Result,
    encode_frame,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

from .pairs import ANY_KEY, Led, lead

KEY, TOKEN = "ab" * 16, "cd" * 16
MESSAGES: list[Message] = [
    Hello(key=ANY_KEY),
    Offer(key=ANY_KEY, model="m", program=KEY, max_keys_bytes=1, max_ciphertext_bytes=2),
    AskKeys(key_id=KEY),
    KeysState(key_id=KEY, known=True, room=5),
    RegisterKeys(key_id=KEY),
    KeysStored(key_id=KEY),
    Evaluate(request_id=TOKEN, key_id=KEY, count=1, seconds=9.0),
    Result(request_id=TOKEN, seconds=0.5, waited=0.0, peak_rss=1),
    Refusal(code=Code.BUSY, message="busy", remedy="later"),
    Hangup(code=Code.MALFORMED, message="bad", remedy="none"),
    Bye(),
]
BY_KIND = {type(message): message for message in MESSAGES}
PATHS: dict[State, list[type[Message]]] = {State.START: []}
for _ in range(len(State)):
    for known, follows in [(state, MOVES[state]) for state in list(PATHS)]:
        for step, reached in follows.items():
            PATHS.setdefault(reached, [*PATHS[known], step])


def at(role: Role, state: State) -> Led:
    """A conversation led to a state by legal moves."""
    side = lead(INFERENCE, role, PATHS[state], BY_KIND)
    assert side.state is state
    return side


def forged(sender: Conversation, message: Message, body: int = 0) -> bytes:
    """A frame that the sender would not send, tagged as it would."""
    return INFERENCE.catalogue.encode(message, body, sender.taggers[0])


def greeted(pair: MemoryPair) -> MemoryPair:
    pair.to_server(pair.owner.hello())
    pair.to_owner(pair.server.offer(model="m", program=KEY, public=b"program"))
    return pair


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_a_whole_conversation_whatever_the_pieces(chunk: int) -> None:
    pair = greeted(MemoryPair(chunk=chunk))
    keys, blob, answer = bytes(range(256)) * 8, b"ciphertext" * 50, b"answer" * 60
    assert pair.to_server(pair.owner.ask_keys(KEY))[-1].message.key_id == KEY
    pair.to_owner(pair.server.keys_state(KEY, known=False, room=10_000))
    assert pair.to_server(pair.owner.register_keys(KEY, keys)) == [
        Opening(RegisterKeys(key_id=KEY), len(keys)),
        Received(RegisterKeys(key_id=KEY), keys),
    ]
    pair.to_owner(pair.server.keys_stored(KEY))
    for request in range(2):
        name = f"{request:032x}"
        event = pair.to_server(pair.owner.evaluate(KEY, 1, blob, request_id=name, seconds=9.0))[-1]
        assert event == Received(Evaluate(request_id=name, key_id=KEY, count=1, seconds=9.0), blob)
        buffers = pair.server.result(name, answer, seconds=1.0, waited=0.0, peak_rss=7)
        assert pair.to_owner(buffers)[-1].body == answer
    pair.to_server(pair.owner.bye())
    assert pair.owner.state is pair.server.state is State.CLOSED
    pair.server.receive_eof()


@pytest.mark.parametrize(("role", "state", "kind"), list(itertools.product(Role, State, BY_KIND)))
def test_a_move_is_legal_for_both_sides_or_a_fault_of_its_maker(role: Role, state: State, kind: type[Message]) -> None:
    legal = kind in MOVES[state] and kind in SPEAKS[role]
    sender = at(role, state)
    receiver = sender.other
    if legal:
        data = b"".join(sender.send(BY_KIND[kind]))
        assert isinstance(receiver.receive_data(data)[-1], Received)
        assert sender.state is receiver.state is MOVES[state][kind]
        return
    with pytest.raises(LocalProtocolError):
        sender.send(BY_KIND[kind])
    assert sender.state is state
    if state is State.CLOSED:
        return  # the side that closed ignores what comes late; the other one is tested below
    with pytest.raises(RemoteProtocolError):
        receiver.receive_data(receiver.forge(BY_KIND[kind]))


def test_every_truncation_of_a_frame_is_an_error_at_the_end_and_not_before() -> None:
    whole_length = len(encode_frame(BY_KIND[Evaluate], 40)) + 40
    for length in range(1, whole_length):
        server = at(Role.SERVER, State.READY)
        whole = server.forge(BY_KIND[Evaluate], 40) + bytes(40)
        assert not [e for e in server.receive_data(whole[:length]) if isinstance(e, Received)]
        with pytest.raises(RemoteProtocolError, match="inside a frame"):
            server.receive_eof()


def test_an_owner_may_leave_between_requests_but_a_server_owes_its_answer() -> None:
    at(Role.SERVER, State.READY).receive_eof()
    with pytest.raises(RemoteProtocolError, match="server closed"):
        at(Role.OWNER, State.EVALUATING).receive_eof()


def test_nothing_is_taken_after_the_end_or_after_a_fault() -> None:
    server = at(Role.SERVER, State.READY)
    with pytest.raises(RemoteProtocolError):
        server.receive_data(b"GET / HTTP/1.1\r\n")
    with pytest.raises(RemoteProtocolError, match="already failed"):
        server.receive_data(server.forge(BY_KIND[Evaluate]))
    assert ServerConversation().hang_up(Code.MALFORMED, "m", "r")
    closed = MemoryPair()
    closed.to_owner(closed.server.hang_up(Code.TIMEOUT, "m", "r"))
    assert closed.server.hang_up(Code.TIMEOUT, "again", "r") == []
    assert closed.server.receive_data(encode_frame(BY_KIND[Hello])) == []
    with pytest.raises(RemoteProtocolError, match="after the end"):
        closed.owner.receive_data(encode_frame(BY_KIND[Offer]))


def test_bodies_above_the_cap_are_neither_sent_nor_taken() -> None:
    small = Caps(program=100, keys=100, ciphertext=100, result=100)
    pair = greeted(MemoryPair.with_caps(small))
    with pytest.raises(LocalProtocolError, match="takes 100"):
        pair.owner.register_keys(KEY, bytes(101))
    with pytest.raises(LocalProtocolError, match="takes 100"):
        pair.owner.evaluate(KEY, 1, bytes(101))
    with pytest.raises(RemoteProtocolError, match="cap of 100"):
        pair.server.receive_data(forged(pair.owner, RegisterKeys(key_id=KEY), 101))


def test_a_discarded_body_is_counted_but_not_kept() -> None:
    server = at(Role.SERVER, State.READY)
    (opening,) = server.receive_data(server.forge(BY_KIND[Evaluate], 1000))
    assert isinstance(opening, Opening)
    server.discard_body()
    assert server.receive_data(bytes(999)) == []
    assert server.receive_data(bytes(1)) == [Received(BY_KIND[Evaluate], None)]


def test_a_body_that_does_not_come_takes_no_memory() -> None:
    server = at(Role.SERVER, State.READY)
    server.receive_data(server.forge(BY_KIND[RegisterKeys], 4 << 30))
    assert server.mid_frame
    assert server._body is not None
    assert server._body.getbuffer().nbytes == 0


def test_answers_must_match_their_questions() -> None:
    pair = greeted(MemoryPair())
    pair.to_server(pair.owner.ask_keys(KEY))
    with pytest.raises(RemoteProtocolError, match="another key"):
        pair.owner.receive_data(forged(pair.server, KeysState(key_id="cd" * 16, known=True, room=1)))
    pair = greeted(MemoryPair())
    pair.to_server(pair.owner.evaluate(KEY, 1, b"x"))
    with pytest.raises(RemoteProtocolError, match="answers request 9999"):
        pair.owner.receive_data(forged(pair.server, Result(request_id="9" * 32, seconds=0, waited=0, peak_rss=0)))


@given(st.sampled_from([State.START, State.READY]), st.binary(max_size=100), st.integers(1, 11), st.integers(0, 80))
def test_any_bytes_give_events_or_one_error(state: State, data: bytes, number: int, head: int) -> None:
    for raw in (data, struct.pack(">4sBBHQ16x", b"SIMG", VERSION, number, head, 0) + data):
        server = at(Role.SERVER, state)
        try:
            for event in server.receive_data(raw):
                assert type(event.message) in SPEAKS[Role.OWNER]
            server.receive_eof()
        except RemoteProtocolError:
            continue
        assert server.state in State


def test_the_owner_never_speaks_before_it_is_its_turn() -> None:
    owner = OwnerConversation()
    with pytest.raises(LocalProtocolError, match="while start"):
        owner.evaluate(KEY, 1, b"x")
    owner.hello()
    with pytest.raises(LocalProtocolError, match="while greeted"):
        owner.hello()
