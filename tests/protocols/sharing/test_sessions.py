"""Whole sessions over TLS: right answers, what comes once, what never comes twice, and who may do what."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols import Code, RefusedError
from protocols.conversation import Conversation
from protocols.sharing import DEALINGS, JOIN, SUPPLY, VISIT, Caps, Role, Supply
from protocols.sharing.messages import Engage, Join, Open
from protocols.sharing.talk import Talk
from protocols.tls import IdentityContext, bundle_context, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import LocalProtocolError, RemoteProtocolError
from secureimg.graph import run_plain

from ..pairs import ANY_KEY


@pytest.fixture
def seeds_used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Every correlation that a party works in, as (party, digest of its seed)."""
    used: list[tuple[int, str]] = []
    for kind in (sharing.PartyZero, sharing.PartyOne):

        def prepare(self: Any, images: int, seed: bytes, *rest: Any, _own: Any = kind.prepare) -> Any:
            used.append((self.number, hashlib.sha256(seed).hexdigest()))
            return _own(self, images, seed, *rest)

        monkeypatch.setattr(kind, "prepare", prepare)
    return used


def dialling(bundle: Path) -> IdentityContext:
    return bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)


def talk_to(server: Any, bundle: Path, side: Role, rules: Any, role: str, patience: float = 5.0) -> Talk:
    """A wire to a service, to say whatever one likes on."""
    context = bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
    return Talk(Conversation(side, Caps(), rules), Wire(dial(*server.listener.address, context, 5, role)), patience)


def turned_away(talk: Talk, message: Any, body: bytes = b"") -> bool:
    """Whether the service refuses, or closes the connection without a word."""
    try:
        talk.say(message, body)
        talk.hear()
    except (OSError, RemoteProtocolError, RefusedError):
        return True
    return False


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """Run tasks at the same time; return what each returned or raised."""
    results: list[Any] = [None] * len(tasks)

    def run(number: int) -> None:
        try:
            results[number] = tasks[number]()
        except Exception as error:  # noqa: BLE001 - judged by the caller
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize("dealing", DEALINGS)
def test_answers_are_those_of_the_plain_model(deployment: Any, seeds_used: list[Any], dealing: Any) -> None:
    """Several requests of different sizes in one session, prepared ahead or not; weights come once."""
    net, weights = deployment.net, []
    with deployment.client(dealing=dealing) as client:
        assert client.program.fingerprint == net.program.public.fingerprint
        for number, count in enumerate((1, 3, 7, 1)):
            images = net.images(count, number)
            offline = client.prepare(count)
            weights.append(offline.weights)
            assert offline.dealt >= 32 + 32 + sharing.cost_of(net.program.public, count).offline_bytes
            net.check(client.run(images).values, images)
        net.check(client.run(net.images(2, 9)).values, net.images(2, 9))
    assert weights[1:] == [0, 0, 0]
    assert len(set(seeds_used)) == len(seeds_used) == 10


@pytest.mark.parametrize("dealing", DEALINGS)
def test_masked_weights_come_once_for_a_model_and_dealer(deployment: Any, dealing: Any) -> None:
    """A second session under the same weight mask gets none: sending them again would only cost."""
    zero = deployment.start_zero(deployment.one.listener.address)
    total = sharing.cost_of(deployment.net.program.public).masked_weight_bytes
    sent = []
    for _ in range(2):
        with deployment.client(zero=zero, dealing=dealing) as client:
            sent.append(client.prepare(1).weights)
    assert sent[0] > total
    assert sent[1] == 0


@pytest.mark.parametrize("dealing", DEALINGS)
@pytest.mark.parametrize(("reveal", "top"), [("label", 1), ("top-k", 3)])
def test_labels_and_top_k_are_those_of_the_plain_model(deployment: Any, dealing: Any, reveal: Any, top: int) -> None:
    """Only places are revealed, best first."""
    net = deployment.net
    one = deployment.start_one(sharing.compile(net.graph, reveal=reveal, top=top))
    zero = deployment.start_zero(one.listener.address)
    images = net.images(6, 4)
    with deployment.client(zero=zero, one=one, dealing=dealing) as client:
        values = client.run(images).values
    plain = run_plain(net.graph, images)
    assert np.array_equal(values, np.argsort(-plain, axis=1)[:, :top])


def test_public_weights_need_no_masked_ones(deployment: Any) -> None:
    """Party 0 started with the model too gets no masked weights; without it, it refuses."""
    net = deployment.net
    program = sharing.compile(net.graph, weights="public")
    one = deployment.start_one(program)
    zero = deployment.start_zero(one.listener.address, program=program)
    images = net.images(3)
    with deployment.client(zero=zero, one=one) as client:
        assert client.prepare(3).weights == 0
        net.check(client.run(images).values, images)
    without = deployment.start_zero(one.listener.address)
    with pytest.raises(RefusedError, match="public weights"):
        deployment.client(zero=without, one=one)


def test_several_owners_at_once_get_their_own_answers(deployment: Any, seeds_used: list[Any]) -> None:
    """Sessions of different owners and dealers do not mix, and share no correlation."""
    net = deployment.net

    def session(number: int) -> None:
        with deployment.client(("owner", "other")[number % 2], dealing=DEALINGS[number // 2 % 2]) as client:
            for request in range(3):
                images = net.images(2, 10 * number + request)
                net.check(client.run(images).values, images)

    assert at_once(*(lambda number=number: session(number) for number in range(6))) == [None] * 6
    assert len(set(seeds_used)) == len(seeds_used) == 36


def test_more_owners_than_party_0_keeps_weights_for(deployment: Any, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Each owner that deals has a weight mask of its own; party 0 keeps few, and gets the others again."""
    from protocols.pki import Authority

    owners = {f"owner-{n}": tmp_path / f"{n}.pem" for n in range(4)}
    for name, path in owners.items():
        Authority.open(bundles["owner"].parent).issue("owner", name, path)
    deployment.bundles = {**bundles, **owners}

    def session(name: str) -> None:
        for seed in range(4):
            images = deployment.net.images(1, seed)
            with deployment.client(name) as client:
                deployment.net.check(client.run(images).values, images)

    assert at_once(*(lambda name=name: session(name) for name in owners)) == [None] * 4


def test_a_correlation_made_ahead_is_used_once_and_by_one_session(
    deployment: Any, seeds_used: list[Any], tmp_path: Path
) -> None:
    """Sessions that run at once pick different ones from the stock; when it is empty, the dealer makes more."""
    net = deployment.net
    one = deployment.start_one(client_aided=False, state=tmp_path / "1")
    zero = deployment.start_zero(one.listener.address, client_aided=False, state=tmp_path / "0", stock=(4, 4))
    deadline = time.monotonic() + 10
    while any(len(_kept(party, net)) < 4 for party in (zero, one)):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    def session(number: int) -> None:
        with deployment.client(zero=zero, one=one, dealing="dealer") as client:
            for request in range(2):
                images = net.images(1, 10 * number + request)
                net.check(client.run(images).values, images)

    assert at_once(*(lambda number=number: session(number) for number in range(4))) == [None] * 4
    assert len(set(seeds_used)) == len(seeds_used) == 16


def _kept(party: Any, net: Any) -> list[Any]:
    return list(party._stock.store.available(program=net.program.public.fingerprint, images=1))


def test_only_the_dealers_that_both_parties_allow_can_be_asked_for(deployment: Any) -> None:
    """Who may deal is the parties' choice, and each of them says no by itself."""
    own = deployment.dealer.listener.address
    one_only = deployment.start_one(client_aided=True, dealer=None)
    zero_any = deployment.start_zero(one_only.listener.address)
    deployment.serves(zero=zero_any, one=one_only)
    with pytest.raises(RefusedError, match="does not accept the dealer 'dealer'"):
        deployment.client(zero=zero_any, one=one_only, dealing="dealer")
    zero_dealer = deployment.start_zero(deployment.one.listener.address, client_aided=False, dealer=own)
    deployment.serves(zero=zero_dealer, dealing="dealer")
    with pytest.raises(RefusedError, match="ask for one of: dealer") as caught:
        deployment.client(zero=zero_dealer)
    assert caught.value.code is Code.UNKNOWN_DEALER


def test_another_model_than_asked_for_is_refused(deployment: Any) -> None:
    """An owner that names a model gets that one or none."""
    with pytest.raises(RefusedError, match="model 'resnet' is not served here"):
        deployment.client(model="resnet")
    deployment.serves(model=deployment.net.program.public.fingerprint)


def test_an_owner_cannot_take_over_a_session(deployment: Any, bundles: dict[str, Path]) -> None:
    """A session belongs to the certificate that opened it: the other owner is refused, and the first one goes on."""
    token = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:

        def to(party: Any, role: str, owner: str) -> Talk:
            talk = talk_to(party, bundles[owner], Role.OWNER, VISIT, role)
            stack.callback(talk.wire.close)
            talk.say(Open(key=talk.conversation.key, session=token, dealing="client-aided"))
            return talk

        mine_0 = to(deployment.zero, "party-0", "owner")
        assert mine_0.hear().message.party == 0
        with pytest.raises(RefusedError, match="another owner's"):
            to(deployment.one, "party-1", "other").hear()
        mine_1 = to(deployment.one, "party-1", "owner")
        assert mine_1.hear().message.party == 1
    deployment.serves()


def test_only_party_0_can_join_party_1(deployment: Any, bundles: dict[str, Path]) -> None:
    """A certificate names a role: no other one gets to the link. An owner that tries is heard as an owner, and refused."""
    token = secrets.token_hex(16)
    join = Join(key=ANY_KEY, session=token, owner="ab" * 32, dealing="client-aided", stream="to party 1")
    for name in ("owner", "party-1", "dealer"):
        talk = talk_to(deployment.one, bundles[name], Role.ZERO, JOIN, "party-1")
        assert turned_away(talk, join)
        talk.wire.close()
    for name in ("party-0", "party-1", "dealer"):
        talk = talk_to(deployment.zero, bundles[name], Role.OWNER, VISIT, "party-0")
        assert turned_away(talk, Open(key=ANY_KEY, session=token, dealing="client-aided"))
        talk.wire.close()
    assert join.session not in deployment.one._streams


def test_the_dealer_deals_to_the_parties_alone_and_each_part_once(deployment: Any, bundles: dict[str, Path]) -> None:
    """An owner gets nothing, party 0 cannot draw party 1's part, and a part is dealt once to each party."""
    public, token = deployment.net.program.public, secrets.token_hex(16)
    seed = secrets.token_bytes(32)
    epoch, size = sharing.seed_name(seed), sharing.cost_of(public, 2).offline_bytes
    address = deployment.dealer.listener.address
    for name in ("owner", "dealer"):
        talk = talk_to(deployment.dealer, bundles[name], Role.PARTY, SUPPLY, "dealer")
        assert turned_away(
            talk, Engage(key=ANY_KEY, party=1, program=public.fingerprint, epoch=epoch), seed + public.to_bytes()
        )
        talk.wire.close()
    with pytest.raises(RemoteProtocolError, match=r"refused|closed|broke"):
        Supply(address, dialling(bundles["party-0"]), 1, epoch, public, seed, 5.0)
    with (
        Supply(address, dialling(bundles["party-0"]), 0, epoch, public, b"", 5.0) as zero,
        Supply(address, dialling(bundles["party-1"]), 1, epoch, public, seed, 5.0) as one,
    ):
        first = zero.fetch(token, 2, 0)
        with pytest.raises(RemoteProtocolError, match="refused"):
            zero.fetch(token, 2, 0)
        second = one.fetch(token, 2, size)
        assert second[1].size == size
        again = zero.fetch(token, 2, 0), one.fetch(token, 2, size)
    drawn = [first[0], second[0], again[0][0], again[1][0]]
    assert len(set(drawn)) == 4, "a token that comes again names another correlation"


def test_the_dealer_refuses_what_is_no_program(deployment: Any, bundles: dict[str, Path]) -> None:
    """Party 1's program is checked before anything is dealt for it; the dealer goes on."""
    public = deployment.net.program.public
    body = secrets.token_bytes(32) + public.to_bytes()
    whole = [(wrong, public.fingerprint) for wrong in (b"", body[:40], body[:-1], secrets.token_bytes(500))]
    for wrong, name in [*whole, (body, "ab" * 32)]:
        talk = talk_to(deployment.dealer, bundles["party-1"], Role.PARTY, SUPPLY, "dealer")
        engage = Engage(key=talk.conversation.key, party=1, program=name, epoch="ab" * 16)
        talk.say(engage, wrong)
        with pytest.raises(RefusedError) as refused:
            talk.hear()
        assert refused.value.code is Code.MALFORMED
        talk.wire.close()
    deployment.serves(dealing="dealer")


def test_a_client_keeps_its_own_order(deployment: Any) -> None:
    """Wrong use on the owner's own side is told as such, before anything is sent."""
    with deployment.client() as client:
        client.prepare(2)
        with pytest.raises(LocalProtocolError, match="prepared already"):
            client.prepare(2)
        with pytest.raises(LocalProtocolError, match=r"prepared for 2 image\(s\), got 3"):
            client.run(deployment.net.images(3))


def test_joins_are_tied_to_an_owner_whoever_sends_them(deployment: Any, bundles: dict[str, Path]) -> None:
    """Party 1 serves an owner only on a link that was opened in that owner's name."""
    with contextlib.ExitStack() as stack:
        token = secrets.token_hex(16)
        for stream in ("to party 1", "to party 0"):
            talk = talk_to(deployment.one, bundles["party-0"], Role.ZERO, JOIN, "party-1")
            stack.callback(talk.wire.close)
            own = talk.conversation.key
            talk.say(Join(key=own, session=token, owner="ab" * 32, dealing="client-aided", stream=stream))
            assert talk.hear().message.program == deployment.net.program.public.fingerprint
        owner = talk_to(deployment.one, bundles["owner"], Role.OWNER, VISIT, "party-1")
        stack.callback(owner.wire.close)
        assert peer_fingerprint(owner.wire.sock) != "ab" * 32
        owner.say(Open(key=owner.conversation.key, session=token, dealing="client-aided"))
        with pytest.raises(RefusedError, match="another owner's"):
            owner.hear()
