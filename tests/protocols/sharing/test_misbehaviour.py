"""Whoever misbehaves ends one session, with a clear error and in time; the others go on being served."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols import Code, RefusedError
from protocols.binding import Tagger, Terms
from protocols.conversation import Conversation
from protocols.listener import Guest, Listener
from protocols.messages import Hangup
from protocols.pki import Bundle
from protocols.sharing import DEALINGS, JOIN, SUPPLY, VISIT, Caps, Link, Role
from protocols.sharing.messages import (
    CATALOGUE,
    Deal,
    Dealt,
    Engaged,
    Input,
    Join,
    Joined,
    Open,
    Prepare,
    Welcome,
    link_terms,
    supply_terms,
)
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import RemoteProtocolError

PATIENCE = 1.0
SPARE = 5.0
HEADER = struct.Struct(">4sIQ")
REFUSAL = Hangup(code=Code.BUSY, message="busy", remedy="later")


def connect(server: Any, bundle: Path, side: Role, rules: Any, role: str) -> Talk:
    context = bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
    wire = Wire(dial(*server.listener.address, context, 5, role))
    return Talk(Conversation(side, Caps(), rules), wire, 10.0)


def own_fingerprint(bundle: Path) -> str:
    return Bundle.load(bundle).fingerprint


def open_visit(talk: Talk, token: str) -> Open:
    return Open(key=talk.conversation.key, session=token, dealing="client-aided")


class LoneOwner:
    """An owner that visits one party only, on wires of its own."""

    def __init__(self, place: Any, server: Any, token: str) -> None:
        self.public, self.number = place.net.program.public, server.number
        self.talk = connect(server, place.bundles["owner"], Role.OWNER, VISIT, f"party-{server.number}")
        self.opened = open_visit(self.talk, token)
        self.parties = [own_fingerprint(place.bundles[name]) for name in ("party-0", "party-1", "owner")]
        self.talk.say(self.opened)
        self.correlation = secrets.token_hex(16)

    def welcome(self) -> None:
        heard = self.talk.hear()
        said = heard.message
        assert isinstance(said, Welcome)
        zero, one, owner = self.parties
        self.talk.conversation.bind(
            Terms(
                protocol="visit", session=self.opened.session, owner=owner, party_0=zero, party_1=one,
                dealing=self.opened.dealing, model=said.model, program=said.program, reveal=said.reveal,
            )
        )  # fmt: skip
        self.weight_seed = (heard.body or b"")[:32]

    def prepare(self) -> None:
        message = Prepare(request=0, images=1, correlation=self.correlation, seconds=60)
        self.talk.say(message, self.correlations())
        self.talk.hear()

    def correlations(self) -> bytes:
        seeds = sharing.fresh_seed(), sharing.fresh_seed()
        if self.number == 0:
            return seeds[0]
        return seeds[1] + b"".join(
            part.tobytes() for part in sharing.Dealer(self.public, self.weight_seed).deal(1, seeds)
        )

    def input(self) -> bytes:
        return secrets.token_bytes(32 if self.number == 0 else self.public.share_bytes(1))

    def ends_in_time(self, limit: float, match: str = "", code: Code = Code.PEER) -> None:
        """The party must hang up, name the reason, and not take longer than the limit."""
        start = time.monotonic()
        with pytest.raises(RefusedError, match=match) as caught:
            self.talk.hear()
        assert caught.value.code is code
        assert time.monotonic() - start < limit + SPARE

    def leave(self) -> None:
        self.talk.wire.close()


class FakeZero:
    """Party 0 with a certificate, and bad intentions: it joins as it should."""

    def __init__(self, place: Any, token: str) -> None:
        self.talks = []
        for stream in ("to party 1", "to party 0"):
            talk = connect(place.one, place.bundles["party-0"], Role.ZERO, JOIN, "party-1")
            owner = own_fingerprint(place.bundles["owner"])
            join = Join(key=talk.conversation.key, session=token, owner=owner, dealing="client-aided", stream=stream)
            talk.say(join)
            self.talks.append((talk, join))
        for talk, join in self.talks:
            ours, theirs = (own_fingerprint(place.bundles[name]) for name in ("party-0", "party-1"))
            talk.conversation.bind(link_terms(join, talk.hear().message, ours, theirs))
        out, back = (talk for talk, _ in self.talks)
        taggers = out.conversation.taggers[0], back.conversation.taggers[1]
        self.link = Link(out.wire.sock, back.wire.sock, taggers, 10.0)
        sharing.PartyZero(place.net.program.public).load_masked_weights(self.link.receive)

    def close(self) -> None:
        self.link.close()


class FakeOne:
    """Party 1 with a certificate, and bad intentions: it answers to Join as it should, unless `answer` does."""

    def __init__(self, place: Any, port: int, answer: Callable[[Talk, Join], None] | None = None) -> None:
        self.program, self.seed, self.answer = place.net.program, sharing.fresh_seed(), answer
        self.streams: dict[str, Talk] = {}
        self.fingerprint = own_fingerprint(place.bundles["party-1"])
        self.link: Link | None = None
        self.linked = threading.Event()
        self.lock = threading.Lock()
        self.listener = Listener(place.bundles["party-1"], "127.0.0.1", port, self._serve)
        self.thread = threading.Thread(target=self.listener.run, daemon=True)
        self.thread.start()

    def _serve(self, guest: Guest) -> None:
        talk = Talk(Conversation(Role.ONE, Caps(), JOIN), Wire(guest.sock), 10.0)
        message = talk.hear().message
        if self.answer is not None:
            self.answer(talk, message)
            return
        public = self.program.public
        joined = Joined(
            key=talk.conversation.key, model=public.model, program=public.fingerprint,
            epoch=sharing.seed_name(self.seed), weights=True,
        )  # fmt: skip
        talk.say(joined, public.to_bytes() if message.stream == "to party 0" else b"")
        talk.conversation.bind(link_terms(message, joined, guest.fingerprint, self.fingerprint))
        with self.lock:
            guest.keep()
            self.streams[message.stream] = talk
            if len(self.streams) == 2:
                out, back = self.streams["to party 0"], self.streams["to party 1"]
                taggers = out.conversation.taggers[0], back.conversation.taggers[1]
                self.link = Link(out.wire.sock, back.wire.sock, taggers, 10.0)
                for piece in sharing.PartyOne(self.program).masked_weights(self.seed):
                    self.link.send(piece)
                self.linked.set()

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.listener.close()
        self.thread.join(5)


def header(link: Link, length: int, step: int = 0) -> bytes:
    plain = HEADER.pack(b"SIMR", link._numbers[0] + step, length)
    return plain + link._taggers[0].tag(plain)


def echo(link: Link) -> None:
    """Agree to whatever the other party is about to run."""
    run = np.empty(256, dtype=np.uint8)
    link.receive(run)
    link.send(run)


def hold(talk: Talk) -> None:
    """Say nothing until the connection is closed."""
    with contextlib.suppress(OSError, ValueError):
        while talk.wire.sock.recv(1 << 14):
            pass


def reset(link: Link) -> None:
    for sock in (link._out, link._in):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def another_run(link: Link) -> None:
    link.send(np.frombuffer(f"{'cd' * 16} 0 {'ef' * 16} 1 {'ab' * 32}".encode().ljust(256), dtype=np.uint8))


def agree_then(fault: Callable[[Link], Any]) -> Callable[[Link], None]:
    def play(link: Link) -> None:
        echo(link)
        fault(link)

    return play


def misbehave(fault: Callable[[Link], Any], link: Link) -> None:
    with contextlib.suppress(OSError, RemoteProtocolError):  # the victim may be faster, and the link gone
        fault(link)


LINK_FAULTS: dict[str, tuple[Callable[[Link], Any], float, str]] = {
    "closes": (Link.close, 0.0, "link"),
    "resets": (reset, 0.0, "link"),
    "is silent": (lambda _: None, PATIENCE, "silent or too slow for 1 s"),
    "sends garbage": (lambda link: link._out.sendall(bytes(range(256)) * 16), 0.0, "not a message of the link"),
    "takes a wrong step": (lambda link: link._out.sendall(header(link, 256, 1) + bytes(256)), 0.0, "expected is"),
    "sends too much": (lambda link: link._out.sendall(header(link, 1 << 40)), 0.0, "expected are 256"),
    "speaks of an old session": (another_run, 0.0, "about to run different things"),
    "closes under way": (agree_then(Link.close), 0.0, "link"),
    "falls silent under way": (agree_then(lambda _: None), PATIENCE, "silent or too slow"),
    "sends garbage under way": (agree_then(lambda link: link._out.sendall(secrets.token_bytes(9999))), 0.0, "link"),
    "repeats a message": (agree_then(lambda link: link._out.sendall(header(link, 256, -1) + bytes(256))), 0.0, "expected"),
}  # fmt: skip


@pytest.mark.parametrize("what", LINK_FAULTS)
def test_party_1_outlives_a_party_0_that(impatient: Any, what: str) -> None:
    """A party 0 that joined lawfully and then misbehaves ends its session at party 1, in time and with a reason."""
    fault, limit, match = LINK_FAULTS[what]
    token = secrets.token_hex(16)
    fake = FakeZero(impatient, token)
    owner = LoneOwner(impatient, impatient.one, token)
    owner.welcome()
    owner.prepare()
    owner.talk.say(Input(request=0, seconds=60), owner.input())
    thread = threading.Thread(target=misbehave, args=(fault, fake.link), daemon=True)
    thread.start()
    owner.ends_in_time(limit + PATIENCE, match)
    fake.close()
    thread.join(10)
    owner.leave()
    impatient.serves()


@pytest.fixture(scope="module")
def fooled(impatient: Any) -> Any:
    """A party 0 whose party 1 is at an address where first the wrong one listens, then the right one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()[:2]
    return impatient.start_zero(address)


@contextlib.contextmanager
def then_serves(place: Any, fooled: Any, fake: FakeOne) -> Iterator[None]:
    """After the block the fake one is replaced by the real party 1, and all must be well."""
    with contextlib.ExitStack() as stack:
        try:
            yield
        finally:
            fake.close()
        from protocols.sharing import PartyOneServer

        one = PartyOneServer(
            place.bundles["party-1"],
            place.net.program,
            client_aided=True,
            dealer=None,
            port=fooled._peer[1],
            limits=place.limits,
        )
        thread = threading.Thread(target=one.listener.run, daemon=True)
        thread.start()
        stack.callback(thread.join, 5)
        stack.callback(one.close)
        place.serves(zero=fooled, one=one)


@pytest.mark.parametrize("what", LINK_FAULTS)
def test_party_0_outlives_a_party_1_that(impatient: Any, fooled: Any, what: str) -> None:
    """The same with the roles swapped: party 0 dials a party 1 that misbehaves once the link is up."""
    fault, limit, match = LINK_FAULTS[what]
    fake = FakeOne(impatient, fooled._peer[1])
    with then_serves(impatient, fooled, fake):
        owner = LoneOwner(impatient, fooled, secrets.token_hex(16))
        owner.welcome()
        owner.prepare()
        assert fake.linked.wait(5)
        owner.talk.say(Input(request=0, seconds=60), owner.input())
        thread = threading.Thread(target=misbehave, args=(fault, fake.link), daemon=True)
        thread.start()
        owner.ends_in_time(limit + PATIENCE, match)
        fake.close()
        thread.join(10)
        owner.leave()


def _joined(place: Any, **changes: Any) -> Callable[[Talk, Join], None]:
    program = place.net.program.public
    fields = {"model": "m", "program": program.fingerprint, "epoch": "ab" * 16, "weights": True, **changes}
    body = fields.pop("body", program.to_bytes())

    def answer(talk: Talk, message: Join) -> None:
        talk.say(Joined(key=talk.conversation.key, **fields), body if message.stream == "to party 0" else b"")
        hold(talk)

    return answer


def _weights(make_data: Callable[[Tagger], bytes]) -> Callable[[Any], Callable[[Talk, Join], None]]:
    def make(place: Any) -> Callable[[Talk, Join], None]:
        program = place.net.program.public
        parties = [own_fingerprint(place.bundles[name]) for name in ("party-0", "party-1")]

        def answer(talk: Talk, message: Join) -> None:
            up = message.stream == "to party 1"
            joined = Joined(
                key=talk.conversation.key, model="m", program=program.fingerprint, epoch="ab" * 16, weights=True
            )
            talk.say(joined, b"" if up else program.to_bytes())
            talk.conversation.bind(link_terms(message, joined, *parties))
            if not up:
                talk.wire.sock.sendall(make_data(talk.conversation.taggers[0]))
            hold(talk)

        return answer

    return make


def _many_weights(tagger: Tagger) -> bytes:
    plain = HEADER.pack(b"SIMR", 0, 1 << 50)
    return plain + tagger.tag(plain)


JOIN_FAULTS: dict[str, tuple[Callable[[Any], Callable[[Talk, Join], None]], float, str]] = {
    "closes": (lambda _: lambda talk, _join: talk.wire.close(), 0.0, "no link to party 1"),
    "is silent": (lambda _: lambda talk, _j: hold(talk), PATIENCE, "no link to party 1"),
    "sends garbage": (lambda _: lambda talk, _j: talk.wire.sock.sendall(b"HTTP/1.1 200 OK\r\n"), 0.0, "no link to party 1"),
    "refuses": (lambda _: lambda talk, _j: talk.say(REFUSAL), 0.0, "party 1 refused"),
    "sends no program": (lambda place: _joined(place, body=b""), 0.0, "the program of party 1"),
    "sends a program of garbage": (lambda place: _joined(place, body=bytes(500)), 0.0, "the program of party 1"),
    "sends another program": (lambda place: _joined(place, program="cd" * 32), 0.0, "not the one it names"),
    "claims that weights are here": (lambda place: _joined(place, weights=False), 0.0, "masked weights are here"),
    "sends no weights": (lambda place: _joined(place), PATIENCE, "silent or too slow"),
    "sends weights of garbage": (_weights(lambda _: bytes(5000)), 0.0, "not a message of the link"),
    "sends weights of another session": (_weights(lambda _: HEADER.pack(b"SIMR", 0, 9) + bytes(25)), 0.0, "belong to this"),
    "sends too many weights": (_weights(_many_weights), 0.0, "expected are"),
}  # fmt: skip


@pytest.mark.parametrize("what", JOIN_FAULTS)
def test_party_0_tells_its_owner_when_party_1(impatient: Any, what: str) -> None:
    """Until the link is up nothing that party 1 says is taken on trust."""
    make, limit, match = JOIN_FAULTS[what]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()[:2]
    zero = impatient.start_zero(address)
    fake = FakeOne(impatient, address[1], make(impatient))
    with then_serves(impatient, zero, fake):
        owner = LoneOwner(impatient, zero, secrets.token_hex(16))
        owner.ends_in_time(limit + PATIENCE, match)
        owner.leave()


def test_party_0_tells_its_owner_that_party_1_is_not_there(impatient: Any) -> None:
    """Nobody at the address, or somebody without party 1's certificate: both are named at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()[:2]
    for peer, match in ((address, "is the server running"), (impatient.dealer.listener.address, "did not prove")):
        owner = LoneOwner(impatient, impatient.start_zero(peer), secrets.token_hex(16))
        owner.ends_in_time(0.0, match)
        owner.leave()


def test_party_1_tells_its_owners_when_party_0_does_not_join(impatient: Any) -> None:
    """Party 1 waits for a link no longer than its patience, and keeps nothing of a half-made one."""
    owners, talks = [], []
    for what in ("nothing", "garbage", "half a Join", "one stream", "the same stream twice"):
        token = secrets.token_hex(16)
        own = own_fingerprint(impatient.bundles["owner"])
        pair = [connect(impatient.one, impatient.bundles["party-0"], Role.ZERO, JOIN, "party-1") for _ in range(2)]
        joins = [
            Join(key=x.conversation.key, session=token, owner=own, dealing="client-aided", stream="to party 1")
            for x in pair
        ]
        if what == "garbage":
            pair[0].wire.sock.sendall(secrets.token_bytes(300))
        elif what == "half a Join":
            pair[0].wire.sock.sendall(pair[0].conversation.announce(joins[0], 0)[:-5])
        elif what != "nothing":
            for talk, join in list(zip(pair, joins, strict=True))[: 1 if what == "one stream" else 2]:
                talk.say(join)
        owners.append(LoneOwner(impatient, impatient.one, token))
        talks += pair
    for owner in owners:
        owner.ends_in_time(PATIENCE, "did not open its link")
        owner.leave()
    impatient.serves()
    deadline = time.monotonic() + 2 * PATIENCE + SPARE
    while impatient.one._streams or impatient.one._links:
        assert time.monotonic() < deadline, "what nobody comes for must be given up"
        time.sleep(0.05)
    for talk in talks:
        talk.wire.close()


class FakeDealer:
    """A dealer with a certificate that answers as `answer` says, once it is engaged."""

    def __init__(self, place: Any, answer: Callable[[Talk], None]) -> None:
        self.own = own_fingerprint(place.bundles["dealer"])
        self.listener = Listener(place.bundles["dealer"], "127.0.0.1", 0, lambda guest: self._serve(guest, answer))

    def _serve(self, guest: Guest, answer: Callable[[Talk], None]) -> None:
        talk = Talk(Conversation(Role.DEALER, Caps(), SUPPLY), Wire(guest.sock), 10.0)
        talk.guest, talk.own = guest.fingerprint, self.own  # type: ignore[attr-defined]
        answer(talk)


def engaged(talk: Any) -> Deal:
    asked = talk.hear().message
    talk.say(Engaged(key=talk.conversation.key))
    talk.conversation.bind(supply_terms(asked, talk.guest, talk.own))
    return talk.hear().message


def cut_short(talk: Talk) -> None:
    deal = engaged(talk)
    with contextlib.suppress(OSError, RemoteProtocolError):
        talk.wire.send(
            [talk.conversation.announce(Dealt(correlation=deal.correlation), 100_000), bytes(50)], time.monotonic() + 5
        )


DEALER_FAULTS: dict[str, tuple[Callable[[Talk], Any], str]] = {
    "leaves": (lambda talk: talk.hear(), "dealer|other side|closed"),
    "is silent": (lambda talk: (talk.hear(), hold(talk)), "dealer was silent"),
    "sends garbage": (lambda talk: (talk.hear(), talk.wire.sock.sendall(secrets.token_bytes(99))), "not a secureimg frame"),
    "refuses": (lambda talk: (talk.hear(), talk.say(REFUSAL)), "dealer refused"),
    "leaves when asked": (engaged, "dealer|other side|closed"),
    "is silent when asked": (lambda talk: (engaged(talk), hold(talk)), "dealer was silent"),
    "deals too little": (lambda talk: talk.say(Dealt(correlation=engaged(talk).correlation), bytes(31)), "not .* bytes"),
    "deals too much": (lambda talk: talk.say(Dealt(correlation=engaged(talk).correlation), bytes(99999)), "not .* bytes"),
    "deals another one": (lambda talk: (engaged(talk), talk.say(Dealt(correlation="ab" * 16), bytes(32))), "sent another"),
    "leaves while it deals": (cut_short, "inside a frame|broke"),
}  # fmt: skip


@pytest.mark.parametrize("what", DEALER_FAULTS)
def test_parties_outlive_a_dealer_that(impatient: Any, what: str) -> None:
    """The owner hears that it is the dealer's fault; sessions with another dealer go on at the same parties."""
    answer, match = DEALER_FAULTS[what]
    fake = FakeDealer(impatient, answer)
    thread = threading.Thread(target=fake.listener.run, daemon=True)
    thread.start()
    one = impatient.start_one(dealer=fake.listener.address)
    zero = impatient.start_zero(one.listener.address, dealer=fake.listener.address)
    start = time.monotonic()
    with (
        impatient.client(zero=zero, one=one, dealing="dealer") as client,
        pytest.raises(RefusedError, match=match) as caught,
    ):
        client.prepare(1)
    assert time.monotonic() - start < 2 * PATIENCE + SPARE
    assert caught.value.code is Code.DEALER
    impatient.serves(zero=zero, one=one)
    fake.listener.close()
    thread.join(5)


STEPS = ["connected", "opened", "in the correlation", "prepared", "in the share", "run at one party", "run at both"]


@pytest.mark.parametrize("step", STEPS)
def test_parties_outlive_an_owner_that_leaves_when(impatient: Any, step: str) -> None:
    """An owner may vanish at any moment: both parties end its session in time and keep nothing of it."""
    open_before = [len(party.listener._open) for party in (impatient.zero, impatient.one)]
    token, correlation = secrets.token_hex(16), secrets.token_hex(16)
    owners = []
    for party in (impatient.zero, impatient.one):
        if step == "connected":
            connect(party, impatient.bundles["owner"], Role.OWNER, VISIT, f"party-{party.number}").wire.close()
            continue
        owner = LoneOwner(impatient, party, token)
        owner.correlation = correlation
        owners.append(owner)
    if step not in ("connected", "opened"):
        for owner in owners:
            owner.welcome()
            if step == "in the correlation":
                message = Prepare(request=0, images=1, correlation=correlation, seconds=60)
                owner.talk.wire.sock.sendall(
                    owner.talk.conversation.announce(message, len(owner.correlations())) + b"abc"
                )
                continue
            owner.prepare()
            if step == "in the share":
                owner.talk.wire.sock.sendall(
                    owner.talk.conversation.announce(Input(request=0, seconds=60), len(owner.input())) + b"abc"
                )
            elif step == "run at both" or (step == "run at one party" and owner.number == 0):
                owner.talk.say(Input(request=0, seconds=60), owner.input())
    for owner in owners:
        owner.leave()
    impatient.serves()
    deadline = time.monotonic() + 2 * PATIENCE + SPARE
    while [len(party.listener._open) for party in (impatient.zero, impatient.one)] > open_before:
        assert time.monotonic() < deadline, "a session outlived its owner"
        time.sleep(0.05)
    impatient.serves()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "what", ["garbage", "a large share", "a small share", "the wrong request", "corrections too small", "too early"]
)
def test_an_owner_that_sends_nonsense_is_told_so(impatient: Any, number: int, what: str) -> None:
    """What does not fit is refused before it is stored or computed on, at both parties."""
    token = secrets.token_hex(16)
    party = impatient.one if number else impatient.zero
    fake = FakeZero(impatient, token) if number else None
    owner = LoneOwner(impatient, party, token)
    owner.welcome()
    prepare = Prepare(request=0, images=1, correlation=owner.correlation, seconds=60)
    if what == "garbage":
        owner.talk.wire.sock.sendall(secrets.token_bytes(100))
    elif what == "corrections too small":
        owner.talk.say(prepare, owner.correlations()[:-1])
    elif what == "too early":
        body = owner.correlations()
        conversation = owner.talk.conversation
        frame = conversation.announce(prepare, len(body)) + body
        early = CATALOGUE.encode(Input(request=0, seconds=60), len(owner.input()), conversation.taggers[0])
        owner.talk.wire.sock.sendall(frame + early + owner.input())
    else:
        owner.prepare()
        share = owner.input()
        wrong = {"a large share": share + b"x", "a small share": share[:-1], "the wrong request": share}[what]
        owner.talk.say(Input(request=7 if what == "the wrong request" else 0, seconds=60), wrong)
    with pytest.raises(RefusedError) as caught:
        all(owner.talk.hear() for _ in range(9))
    assert caught.value.code is Code.MALFORMED
    owner.leave()
    if fake is not None:
        fake.close()
    impatient.serves()


@pytest.mark.parametrize("dealing", DEALINGS)
def test_more_images_than_a_party_has_room_for_are_refused(impatient: Any, dealing: Any) -> None:
    """Party 0 gets a seed whatever the number of images: it must not take it for a small request."""
    room = 32 + sharing.cost_of(impatient.net.program.public, 3).offline_bytes
    limits = dataclasses.replace(impatient.limits, caps=Caps(corrections=room))
    zero = impatient.start_zero(impatient.one.listener.address, limits=limits)
    images = impatient.net.images(3)
    with impatient.client(zero=zero, dealing=dealing) as client:
        impatient.net.check(client.run(images).values, images)
        with pytest.raises(RefusedError, match=f"4 images need .* the limit is {room}: send fewer images"):
            client.prepare(4)
    impatient.serves(zero=zero)


def test_a_session_leaves_no_timer_behind(impatient: Any) -> None:
    """Sessions may come many a second: what waits for something that came must end with it, not with the patience."""

    def timers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}

    before = timers()
    impatient.serves()
    deadline = time.monotonic() + PATIENCE
    while timers() - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_party_that_freezes_while_connecting_does_not_hold_others(impatient: Any) -> None:
    """Connections that never finish TLS, or say nothing after it, take one thread each and nothing else."""
    bare = [
        socket.create_connection(party.listener.address) for party in (impatient.zero, impatient.one) for _ in range(5)
    ]
    quiet = [connect(impatient.one, impatient.bundles["owner"], Role.OWNER, VISIT, "party-1") for _ in range(5)]
    assert peer_fingerprint(quiet[0].wire.sock)
    impatient.serves()
    quiet[0].conversation.send(open_visit(quiet[0], "ab" * 16))  # and not put on the wire
    with pytest.raises(RefusedError) as caught:
        quiet[0].hear(2 * PATIENCE + SPARE)
    assert caught.value.code is Code.TIMEOUT
    for raw in bare:
        raw.close()
    for talk in quiet:
        talk.wire.close()
