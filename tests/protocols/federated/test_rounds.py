"""Rounds of secure aggregation over TLS: drop-outs, restarts, rule-breakers, and what is kept on disk."""

from __future__ import annotations

import os
import ssl
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocols.conversation import Conversation
from protocols.errors import RefusedError
from protocols.federated import Coordinator, Uploader
from protocols.federated import uploader as uploading
from protocols.federated.closing import decode_offer
from protocols.federated.messages import ATTEND, CONTRIBUTE, MAX_ROSTER, Attend, Caps, Contribute, Role, Roster
from protocols.federated.store import RoundStore
from protocols.messages import Code
from protocols.pki import Bundle
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial
from protocols.wire import Wire
from secureimg.errors import KeyMaterialError, ParameterError, RemoteProtocolError
from secureimg.federated import TOO_LONG, Shares, share_update

from .conftest import OWNERS, TERMS, Bundles, Group, Processes


def fingerprint(path: Path) -> str:
    return Bundle.load(path).fingerprint


def to_one_party(group: Group, name: str, owner: int, party: int) -> None:
    """The owner dies between its two shares."""
    sent = uploading.TwoTalks.ask

    def ask(self: uploading.TwoTalks, questions: tuple, kind: type, *rest: object) -> list:  # type: ignore[type-arg]
        if kind is not uploading.Stored:
            return sent(self, questions, kind, *rest)  # type: ignore[arg-type]
        talk = self.talks[party]
        talk.say(*questions[party])
        talk.hear(5.0)
        raise KeyboardInterrupt

    uploading.TwoTalks.ask = ask  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            group.send(name, owner)
    finally:
        uploading.TwoTalks.ask = sent  # type: ignore[method-assign]


# -------------------------------------------------------------------------------------------------------------- the sum


def test_the_sum_of_a_round_is_the_plain_sum_whoever_drops_out_and_when(group: Group) -> None:
    """Before sharing: says nothing. During: its share reached one party. After: is gone, and still counted."""
    rng = np.random.default_rng(3)
    coordinator = group.coordinator()
    for _ in range(6):
        fates = rng.permutation(OWNERS)
        stay, lost = sorted(fates[:4].tolist()), int(fates[4])
        name = coordinator.open(TERMS)
        group.send(name, *stay)
        to_one_party(group, name, lost, int(rng.integers(2)))
        opened = coordinator.close(name, TERMS)
        group.check(opened, *stay)
        assert set(opened.owners) == {fingerprint(group.bundles.owners[owner]) for owner in stay}
        assert opened.left_out == {fingerprint(group.bundles.owners[lost]): "its share reached one party only"}


def test_owners_upload_at_once(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    threads = [threading.Thread(target=group.send, args=(name, owner)) for owner in range(OWNERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert group.coordinator().count(name) == (OWNERS, OWNERS)
    group.check(group.coordinator().close(name), *range(OWNERS))


def test_an_owner_that_sends_again_counts_once_with_its_last_update(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    group.send(name, 0, 1, 2)
    group.uploader(2).send(name, TERMS, group.updates[5], 0.5)
    to_one_party(group, name, 1, 0)  # another contribution of it is at party 0 now, none of them at both
    opened = group.coordinator()
    with pytest.raises(RefusedError, match="shares of 2 owners"):
        opened.close(name)
    name = group.coordinator().open(TERMS)
    group.send(name, 0, 1, 2)
    group.uploader(2).send(name, TERMS, group.updates[5], 0.5)
    group.check(group.coordinator().close(name), 0, 1, 5)


def test_an_owner_that_shares_too_much_is_left_out_and_named(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    name = group.coordinator().open(TERMS)
    group.send(name, 0, 1, 2, 3)

    def greedy(units: np.ndarray) -> Shares:
        return share_update(units * np.uint32(3))

    with monkeypatch.context() as patch:
        patch.setattr(uploading, "share_update", greedy)
        group.uploader(4).send(name, TERMS, group.updates[4] * 100, 1.0)
    opened = group.coordinator().close(name)
    group.check(opened, 0, 1, 2, 3)
    assert opened.left_out == {fingerprint(group.bundles.owners[4]): TOO_LONG}


def test_both_parties_add_noise_and_closing_again_opens_the_same(make_group: Callable[..., Group]) -> None:
    group = make_group(noise=1.0, weighted=False)
    coordinator = group.coordinator()
    name = coordinator.open(group.terms)
    group.send(name, 0, 1, 2, weight=1.0)
    opened = coordinator.close(name)
    error = (opened.total - group.updates[:3].sum(axis=0)) * group.terms.unit / group.terms.sigma
    assert error.std() == pytest.approx(np.sqrt(2), rel=0.06)
    assert (coordinator.close(name).total == opened.total).all()
    for number in (0, 1):
        group.restart(number)
    assert (coordinator.close(name).total == opened.total).all()


# -------------------------------------------------------------------------------------------------------- who is refused


def test_the_sum_of_too_few_is_never_opened(group: Group) -> None:
    coordinator = group.coordinator()
    name = coordinator.open(TERMS)
    group.send(name, 0, 1)
    for _ in range(2):
        with pytest.raises(RefusedError, match="at least 3 are needed") as caught:
            coordinator.close(name)
        assert caught.value.code is Code.LIMIT
    with pytest.raises(RefusedError, match="no shares any more"):
        group.uploader(3, retry=0.0).send(name, TERMS, group.updates[3])


def test_a_late_share_and_one_owner_too_many_are_refused(group: Group) -> None:
    coordinator = group.coordinator()
    name = coordinator.open(TERMS)
    group.send(name, *range(OWNERS))
    with pytest.raises(RefusedError, match="as many as it may"):
        group.uploader(OWNERS, retry=0.0).send(name, TERMS, group.updates[OWNERS])
    coordinator.close(name)
    with pytest.raises(RefusedError, match="no shares any more"):
        group.uploader(0, retry=0.0).send(name, TERMS, group.updates[0])


def test_a_round_that_nobody_opened_takes_nothing(group: Group) -> None:
    with pytest.raises(RefusedError, match="there is no round"):
        group.uploader(0, retry=0.0).send("0" * 32, TERMS, group.updates[0])
    with pytest.raises(RefusedError, match="there is no round"):
        group.coordinator(retry=0.0).close("0" * 32)


def test_no_more_rounds_than_the_terms_allow_restarts_or_not(make_group: Callable[..., Group]) -> None:
    group = make_group(rounds=2)
    coordinator = group.coordinator(retry=0.0)
    for _ in range(2):
        coordinator.open(group.terms)
    group.restart(1)
    group.restart(0)
    with pytest.raises(RefusedError, match="2 rounds were opened, as many as the terms allow"):
        coordinator.open(group.terms)


def test_an_owner_sends_nothing_under_terms_that_it_does_not_expect(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    strict = type(TERMS)(parameters=3000, clip=1.0, owners=OWNERS, least=3, noise=1.0)
    with pytest.raises(RemoteProtocolError, match="not those expected"):
        group.uploader(0, retry=0.0).send(name, strict, group.updates[0])
    assert group.coordinator().count(name) == (0, 0)


def test_parties_with_different_terms_open_no_round(group: Group) -> None:
    group.stop(1)
    group.start(1, terms=type(TERMS)(parameters=3000, clip=2.0, owners=OWNERS, least=3))
    with pytest.raises(RemoteProtocolError, match="different terms"):
        group.coordinator(retry=0.0).open(TERMS)


def test_only_a_coordinator_opens_rounds_and_only_owners_bring_shares(group: Group) -> None:
    """The clients say so at once; a party that is asked all the same goes by the certificate."""
    with pytest.raises(KeyMaterialError, match="does not make the coordinator"):
        Coordinator(group.addresses, group.bundles.owners[0]).open(TERMS)
    name = group.coordinator().open(TERMS)
    with pytest.raises(KeyMaterialError, match="does not make the owner"):
        Uploader(group.addresses, group.bundles["coordinator"]).send(name, TERMS, group.updates[0])
    for bundle, role, rules, said in (
        (group.bundles.owners[0], Role.COORDINATOR, ATTEND, lambda key: Attend(key=key)),
        (group.bundles["coordinator"], Role.OWNER, CONTRIBUTE, lambda key: Contribute(key=key, round=name)),
    ):
        context = bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
        talk = Talk(Conversation(role, Caps(), rules), Wire(dial(*group.addresses[0], context, 5.0, "party-0")), 5.0)
        talk.say(said(talk.conversation.key))
        with pytest.raises(RefusedError, match="is not a message of the"):
            talk.hear()
        talk.wire.close()
    assert group.coordinator().count(name) == (0, 0)


def test_a_share_of_another_size_ends_that_owner_only(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    name = group.coordinator().open(TERMS)
    with monkeypatch.context() as patch:
        patch.setattr(uploading, "share_update", lambda units: share_update(units[:-7].copy()))
        with pytest.raises(RefusedError, match="a share of 11976 bytes, expected 12004"):
            group.uploader(0, retry=0.0).send(name, TERMS, group.updates[0])
    group.send(name, 0, 1, 2)
    group.check(group.coordinator().close(name), 0, 1, 2)


# ---------------------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("step", ["freeze", "decide", "finish"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_around_any_step_of_closing_loses_nothing_and_opens_one_sum(
    make_group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch, party: int, step: str, after: bool
) -> None:
    """A party breaks off before or after a step is on disk, and comes back; the coordinator only asks again."""
    group = make_group(noise=0.5, weighted=False)
    coordinator = group.coordinator(retry=0.0)
    name = coordinator.open(group.terms)
    group.send(name, 0, 1, 2, 3, weight=1.0)
    original = getattr(RoundStore, step)
    broken = threading.Event()

    def breaks(self: RoundStore, *values: object) -> object:
        if self._party != party or broken.is_set():
            return original(self, *values)
        broken.set()
        if after:
            original(self, *values)
        raise RemoteProtocolError("the process was killed")

    monkeypatch.setattr(RoundStore, step, breaks)
    with pytest.raises(RefusedError):
        coordinator.close(name)
    assert broken.is_set()
    for number in (1, 0):
        group.restart(number)
    opened = group.coordinator().close(name)
    assert len(opened.owners) == 4
    error = (opened.total - group.updates[:4].sum(axis=0)) * group.terms.unit / group.terms.sigma
    assert error.std() == pytest.approx(np.sqrt(2), rel=0.06)  # one noise of each party: no more, no less
    assert (group.coordinator().close(name).total == opened.total).all()


def test_killed_processes_come_back_in_the_middle_of_a_round_and_nothing_is_lost(processes: Processes) -> None:
    updates = np.random.default_rng(4).normal(0, 0.012, (OWNERS, TERMS.parameters)).astype(np.float32)
    bundles: Bundles = processes.bundles
    coordinator = Coordinator(processes.addresses, bundles["coordinator"], timeout=20.0, retry=40.0)
    name = coordinator.open(TERMS)

    def send(*owners: int) -> None:
        for owner in owners:
            uploader = Uploader(processes.addresses, bundles.owners[owner], timeout=10.0, retry=40.0)
            uploader.send(name, TERMS, updates[owner], 1.0)

    send(0, 1)
    processes.children["party-1"].restart()
    late = threading.Thread(target=send, args=(2, 3))
    processes.children["party-0"].stop()
    late.start()  # finds party 0 away, and insists
    time.sleep(0.5)
    processes.children["party-0"].start()
    processes.children["party-0"].wait()
    late.join()
    result: list[np.ndarray] = []
    closing = threading.Thread(target=lambda: result.append(coordinator.close(name).total))
    closing.start()
    time.sleep(0.02)
    processes.children["party-1"].restart()
    closing.join()
    exact = updates[:4].astype(np.float64).sum(axis=0)
    assert np.abs(result[0] - exact).max() <= 4 * 0.51 / TERMS.unit + 1e-7
    for party in ("party-0", "party-1"):
        assert "Traceback" not in processes.log(party)
        assert "round opened" in processes.log(party) or "answered" in processes.log(party)


# ------------------------------------------------------------------------------------------------------------- on disk


def test_what_is_kept_is_for_its_account_alone_and_shares_go_when_a_round_ends(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    group.send(name, 0, 1, 2)
    kept = [path for path in group.home.rglob("*") if name in str(path)]
    assert sum(path.suffix == ".share" for path in kept) == 6
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o700), path
    group.coordinator().close(name)
    left = {path.name for path in group.home.rglob("*") if path.is_file() and name in str(path)}
    assert left == {"round", "roster", "sum"}


def test_answers_of_old_rounds_go_and_their_names_stay_taken(group: Group) -> None:
    coordinator = group.coordinator()
    names = []
    for _ in range(10):
        names.append(coordinator.open(TERMS))
        group.send(names[-1], 0, 1, 2)
        coordinator.close(names[-1])
    with pytest.raises(RefusedError, match="no longer kept"):
        group.coordinator(retry=0.0).close(names[0])
    group.restart(0)
    with pytest.raises(RefusedError, match="no longer kept"):
        group.coordinator(retry=0.0).close(names[0])
    coordinator.close(names[-1])


def test_a_crash_while_a_share_is_written_leaves_no_half_of_it(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    place = group.home / "state-1" / "rounds" / name
    (place / ".0123456789abcdef").write_bytes(b"half")
    (place / f"{'ab' * 32}.{'cd' * 16}.share").write_bytes(b"short")
    group.restart(1)
    assert group.coordinator().count(name) == (0, 0)
    assert not (place / ".0123456789abcdef").exists()


def test_a_round_half_opened_is_opened_again(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, broken = RoundStore.begin, threading.Event()

    def breaks(self: RoundStore, *values: str) -> None:
        if self._party == 0 and not broken.is_set():
            broken.set()
            raise RefusedError(Code.PEER, "away", "again")
        begin(self, *values)

    monkeypatch.setattr(RoundStore, "begin", breaks)
    name = group.coordinator().open(TERMS)
    group.send(name, 0, 1, 2)
    group.check(group.coordinator().close(name), 0, 1, 2)


# ------------------------------------------------------------------------------------------------------------- decoders


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", os.urandom(40), Roster(owners=("ab" * 32,), left_out={"ab" * 32: "twice"}).to_bytes(),
     bytes(MAX_ROSTER + 1)],
)  # fmt: skip
def test_a_malformed_roster_is_one_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Roster.from_bytes(data)
    with pytest.raises(RemoteProtocolError):
        decode_offer(data)


def test_an_update_that_does_not_fit_never_leaves(group: Group) -> None:
    name = group.coordinator().open(TERMS)
    with pytest.raises(ParameterError, match="takes 3000 real numbers"):
        group.uploader(0).send(name, TERMS, group.updates[0][:10])
