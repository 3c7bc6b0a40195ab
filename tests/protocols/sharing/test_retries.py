"""An owner whose connection breaks gets its answer, or a clear refusal; nothing is run or spent twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.operations import Observer
from protocols.owner_limits import OwnerLimits
from protocols.sharing import PartyLimits, SharesClient
from protocols.sharing.desk import PartyDesk
from secureimg import sharing

from ..relays import Relay


class Notes(Observer):
    """Remembers what was answered and refused."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []
        self.correlations: list[str] = []
        self.refusals: list[str] = []

    def answered(self, owner: str, *, session: str, correlation: str = "", **facts: Any) -> None:
        self.answers.append(session)
        self.correlations.append(correlation)

    def refused(self, owner: str, *, code: str, message: str) -> None:
        self.refusals.append(code)


class Parties:
    """A deployment whose owner reaches both parties through relays."""

    def __init__(self, deployment: Any, **options: Any) -> None:
        self.deployment = deployment
        self.notes = Notes(), Notes()
        self.one = deployment.start_one(observer=self.notes[1], **options)
        self.zero = deployment.start_zero(self.one.listener.address, observer=self.notes[0], **options)
        self.relays = Relay(self.zero.listener.address), Relay(self.one.listener.address)

    def client(self, **options: Any) -> SharesClient:
        settings = {"dealing": "dealer", "timeout": 20.0, "retry": 5.0, **options}
        return SharesClient(*(relay.address for relay in self.relays), self.deployment.bundles["owner"], **settings)


@pytest.fixture
def parties(deployment: Any) -> Iterator[Callable[..., Parties]]:
    made: list[Parties] = []

    def make(**options: Any) -> Parties:
        made.append(Parties(deployment, **options))
        return made[-1]

    yield make
    for item in made:
        for relay in item.relays:
            relay.__exit__(None, None, None)
        item.zero.close()
        item.one.close()


@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1)], ids=str)
def test_an_answer_that_was_lost_on_the_way_is_fetched_and_not_computed_again(
    parties: Callable[..., Parties], lost: tuple[int, ...]
) -> None:
    """Whichever connection breaks after the shares were sent, one run at each party is all that happens."""
    place = parties()
    images = place.deployment.net.images(1, 3)
    with place.client() as client:
        client.prepare(1)
        for number in lost:
            place.relays[number].muted.set()

        def cut_when_answered() -> None:
            deadline = time.monotonic() + 10
            while not all(notes.answers for notes in place.notes) and time.monotonic() < deadline:
                time.sleep(0.01)
            for number in lost:
                place.relays[number].cut()

        cutting = threading.Thread(target=cut_when_answered)
        cutting.start()
        place.deployment.net.check(client.run(images).values, images)
        cutting.join()
        assert [len(notes.answers) for notes in place.notes] == [1, 1]
        place.deployment.net.check(client.run(images).values, images)
        assert [len(notes.answers) for notes in place.notes] == [2, 2]
        zero, one = (notes.correlations for notes in place.notes)
        assert zero == one, "both parties write down the same"
        assert len(set(zero)) == 2, "and no correlation twice"


def test_a_run_that_never_was_is_refused_clearly_and_can_be_asked_for_anew(parties: Callable[..., Parties]) -> None:
    """When the connection breaks before the share of one party is through, nothing is revealed, and the owner is told."""
    place = parties(limits=PartyLimits(patience=1.0, dealer=4.0))
    images = place.deployment.net.images(1, 3)
    with place.client() as client:
        client.prepare(1)
        place.relays[0].cut()
        with pytest.raises(RefusedError) as refused:
            client.run(images)
        assert refused.value.code is Code.GONE
        assert not place.notes[0].answers
        place.deployment.net.check(client.run(images).values, images)


def test_an_owner_that_was_away_for_long_just_goes_on(parties: Callable[..., Parties]) -> None:
    """A session that a party ended for its idleness is opened anew when there is something to ask."""
    place = parties(limits=PartyLimits(patience=4.0, idle=0.3))
    images = place.deployment.net.images(1, 3)
    with place.client() as client:
        place.deployment.net.check(client.run(images).values, images)
        time.sleep(1.0)
        place.deployment.net.check(client.run(images).values, images)


def test_limits_of_an_owner_end_in_refusals_that_say_when_to_come_back(
    parties: Callable[..., Parties], tmp_path: Path
) -> None:
    place = parties(owner_limits=OwnerLimits(requests_per_minute=2, images_per_request=3, sessions=1))
    images = place.deployment.net.images(1, 3)
    with place.client() as client:
        with pytest.raises(RefusedError, match="sessions open"):
            place.client(retry=0.0)
        with pytest.raises(RefusedError, match="4 images in one request, the limit is 3"):
            client.prepare(4)
    time.sleep(0.3)
    with place.client() as client:
        for _ in range(2):
            client.run(images)
        with pytest.raises(RefusedError) as refused:
            client.run(images)
        assert refused.value.code is Code.RATE
        assert refused.value.retry_after is not None
    assert {"busy", "limit", "rate"} <= {*place.notes[0].refusals, *place.notes[1].refusals}


def test_an_owner_that_had_all_its_answers_gets_no_more(
    deployment: Any, parties: Callable[..., Parties], tmp_path: Path
) -> None:
    """The count outlives the parties; what is above it is computed for nobody."""
    notes = Notes(), Notes()
    limits = OwnerLimits(releases=2)
    one = deployment.start_one(owner_limits=limits, state=tmp_path / "one", observer=notes[1])
    zero = deployment.start_zero(one.listener.address, owner_limits=limits, state=tmp_path / "zero", observer=notes[0])
    images = deployment.net.images(2, 3)
    with deployment.client(zero=zero, one=one, dealing="dealer") as client:
        deployment.net.check(client.run(images).values, images)
        with pytest.raises(RefusedError) as refused:
            client.run(images[:1])
    assert refused.value.code is Code.LIMIT
    assert [len(note.answers) for note in notes] == [1, 1]
    zero.close()
    one.close()


def test_the_parties_give_up_when_the_owner_does(parties: Callable[..., Parties]) -> None:
    """A deadline travels with the request: a party does not wait for the other one longer than the owner waits."""
    place = parties(limits=PartyLimits(patience=30.0))
    with place.client(timeout=1.5) as client:
        client.prepare(1)
        place.relays[1].cut()  # party 1 never gets its share
        start = time.monotonic()
        with pytest.raises(RefusedError):
            client.run(place.deployment.net.images(1, 3))
        assert time.monotonic() - start < 10


def test_a_stopping_party_lets_runs_end_and_takes_no_new_ones(parties: Callable[..., Parties]) -> None:
    place = parties()
    images = place.deployment.net.images(1, 3)
    with place.client(retry=0.0) as client:
        client.prepare(1)
        place.deployment.net.check(client.run(images).values, images)
        closing = threading.Thread(target=place.zero.close)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
        with pytest.raises(RefusedError) as refused:
            client.run(images)
        assert refused.value.code is Code.SHUTTING_DOWN


def test_a_swapped_model_serves_new_sessions_and_old_ones_keep_theirs(parties: Callable[..., Parties]) -> None:
    place = parties()
    net = place.deployment.net
    images = net.images(1, 3)
    label = sharing.compile(net.graph, reveal="label")
    with place.client() as before:
        place.one.swap(label)
        with place.client() as after:
            assert after.program.reveal == "label"
            net.check(before.run(images).values, images)
            assert after.run(images).values.shape == (1, 1)


def test_one_call_at_each_party_is_a_whole_session(deployment: Any) -> None:
    """What the web page does: full random shares, one call at each party, answered once however often it is asked."""
    notes = Notes(), Notes()
    one = deployment.start_one(observer=notes[1])
    zero = deployment.start_zero(one.listener.address, observer=notes[0])
    desks = PartyDesk(zero), PartyDesk(one)
    images = deployment.net.images(1, 3)
    public = desks[0].public()
    assert public.fingerprint == desks[1].public().fingerprint == deployment.net.program.public.fingerprint
    seed, second = sharing.share_images(public, images)
    shares = sharing.expand_share(public, seed, 1), second
    answers: list[Any] = [None, None]

    def ask(number: int) -> None:
        answers[number] = desks[number].answer("ab" * 32, "cd" * 16, shares[number], images=1, seconds=10)

    for _ in range(2):
        threads = [threading.Thread(target=ask, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        values = sharing.join_result(public, answers[0].share, answers[1].share, 1)
        deployment.net.check(values, images)
    assert [len(note.answers) for note in notes] == [1, 1]
    assert desks[0].kept("ab" * 32, "cd" * 16) is answers[0]
    assert desks[0].kept("ba" * 32, "cd" * 16) is None
    with pytest.raises(RefusedError, match="expected"):
        desks[0].answer("ab" * 32, "ef" * 16, np.empty(3, dtype=np.uint8), images=1, seconds=1)
    zero.close()
    one.close()
