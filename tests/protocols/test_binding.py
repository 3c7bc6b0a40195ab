"""Messages belong to one session: what was made for another one, in another place or under other terms is refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protocols.binding import Ephemeral, Terms
from protocols.conversation import Conversation
from protocols.sharing import VISIT, Caps, Role
from protocols.sharing.messages import Fetch, Hangup, Open, Prepare, Prepared, Welcome
from secureimg.errors import LocalProtocolError, RemoteProtocolError

from .pairs import TERMS, bind, with_key

NAME, TOKEN = "cd" * 32, "ab" * 16
OPEN = Open(key=bytes(32), session=TOKEN, dealing="dealer", model="m")
WELCOME = Welcome(key=bytes(32), party=0, peer=NAME, model="m", program=NAME, reveal="label")
PREPARE = Prepare(request=0, images=1, correlation=TOKEN, seconds=9.0)


def pair(opening: Open = OPEN, welcome: Welcome = WELCOME) -> tuple[Conversation, Conversation]:
    """Owner and party after their opening messages, not bound yet."""
    owner, party = Conversation(Role.OWNER, Caps(), VISIT), Conversation(Role.PARTY, Caps(), VISIT)
    party.receive_data(b"".join(owner.send(with_key(opening, owner))))
    owner.receive_data(b"".join(party.send(with_key(welcome, party))))
    return owner, party


def frame(sender: Conversation, message: object) -> bytes:
    return b"".join(sender.send(message))  # type: ignore[arg-type]


def feed(side: Conversation, data: bytes) -> None:
    """All there is, and the end."""
    side.receive_data(data)
    side.receive_eof()


@pytest.mark.parametrize("field", [field.name for field in structs.fields(Terms)])
def test_sides_that_mean_other_terms_cannot_talk(field: str) -> None:
    """One different term, whichever it is, and no message passes in either direction."""
    owner, party = pair()
    bind(owner)
    bind(party, terms=structs.replace(TERMS, **{field: "else"}))
    with pytest.raises(RemoteProtocolError, match="other terms"):
        party.receive_data(frame(owner, PREPARE))
    with pytest.raises(RemoteProtocolError, match="other terms"):
        owner.receive_data(frame(party, Hangup(code="peer", message="m", remedy="r")))


@pytest.mark.parametrize(
    "change", [{"model": "n"}, {"session": "ef" * 16}, {"dealing": "client-aided"}, {"model": None}], ids=str
)
def test_an_opening_message_that_was_changed_on_the_way_is_noticed(change: dict[str, str]) -> None:
    """The keys follow from both opening frames as each side saw them: nothing can be talked down."""
    owner, party = Conversation(Role.OWNER, Caps(), VISIT), Conversation(Role.PARTY, Caps(), VISIT)
    opening = with_key(OPEN, owner)
    owner.send(opening)
    party.receive_data(VISIT.catalogue.encode(structs.replace(opening, **change)))
    owner.receive_data(frame(party, with_key(WELCOME, party)))
    bind(owner, party)
    with pytest.raises(RemoteProtocolError, match="does not belong to this session"):
        party.receive_data(frame(owner, PREPARE))


def test_a_message_passes_once_and_in_its_place_only() -> None:
    owner, party = pair()
    bind(owner, party)
    first = frame(owner, PREPARE)
    party.receive_data(first)
    owner.receive_data(frame(party, Prepared(request=0, seconds=0.0, dealt=0, weights=0)))
    party.state = VISIT.start.__class__("ready")  # as if another one were due
    with pytest.raises(RemoteProtocolError, match="replayed"):
        party.receive_data(first)


def test_a_message_of_another_session_under_equal_terms_is_refused() -> None:
    """Two sessions of the same parties about the same program share no keys."""
    (owner, party), (other_owner, other_party) = pair(), pair()
    bind(owner, party, other_owner, other_party)
    with pytest.raises(RemoteProtocolError, match="does not belong to this session"):
        party.receive_data(frame(other_owner, PREPARE))


def test_a_tag_covers_the_head_and_both_lengths() -> None:
    owner, party = pair()
    bind(owner, party)
    changed = bytearray(frame(owner, Fetch(session=TOKEN, request=1, seconds=9.0)))
    changed[-10] ^= 1
    with pytest.raises(RemoteProtocolError):
        party.receive_data(bytes(changed))


@given(place=st.integers(8, 47), bit=st.integers(0, 7))
def test_no_bit_of_lengths_or_tag_can_be_changed(place: int, bit: int) -> None:
    owner, party = pair()
    bind(owner, party)
    changed = bytearray(frame(owner, Fetch(session=TOKEN, request=1, seconds=9.0)))
    changed[place] ^= 1 << bit
    with pytest.raises(RemoteProtocolError):
        feed(party, bytes(changed))


def test_the_directions_have_keys_of_their_own() -> None:
    keys = Ephemeral().agree(Ephemeral().public, bytes(32), TERMS)
    mine, theirs = keys.taggers(opened=True)
    assert mine.tag(b"x") != theirs.tag(b"x")
    assert keys.taggers(opened=False)[1].tag(b"x") == keys.taggers(opened=True)[0].tag(b"x")


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_that_would_make_the_secret_known_is_refused(key: bytes) -> None:
    """Points of low order give the same secret whatever our private key is."""
    with pytest.raises(RemoteProtocolError, match="usable X25519 key"):
        Ephemeral().agree(key, bytes(32), TERMS)


def test_nothing_is_said_or_judged_before_the_terms_are_set() -> None:
    owner, party = pair()
    with pytest.raises(LocalProtocolError, match="before the conversation is bound"):
        owner.send(PREPARE)
    bind(party)
    hangup = frame(party, Hangup(code="peer", message="m", remedy="r"))
    assert owner.receive_data(hangup) == []
    bind(owner)
    assert [type(event.message) for event in owner.receive_data(b"")] == [Hangup, Hangup]
    with pytest.raises(LocalProtocolError, match="bound once"):
        bind(owner)


def test_no_secret_is_shown() -> None:
    """Keys have no representation that tells them."""
    ephemeral = Ephemeral()
    keys = ephemeral.agree(Ephemeral().public, bytes(32), TERMS)
    shown = f"{ephemeral!r} {keys!r} {keys.taggers(opened=True)!r}"
    assert not any(part.hex() in shown for part in vars(keys).values())
    assert not dataclasses.is_dataclass(keys)
