"""Answers kept for owners who come back, and what one owner may ask for."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.owner_limits import OwnerGate, OwnerLimits
from protocols.results import Results
from secureimg.errors import KeyMaterialError


def test_a_name_is_taken_once_and_gives_the_same_answer_until_it_is_forgotten() -> None:
    results: Results[bytes] = Results(len)
    kept = results.begin(("owner", "1"))
    assert kept is not None
    assert results.begin(("owner", "1")) is None
    assert results.begin(("other", "1")) is not None
    kept.future.set_result(b"answer")
    found = results.find(("owner", "1"))
    assert found is kept
    assert found.future.result() == b"answer"
    results.forget(kept)
    assert results.find(("owner", "1")) is None


def test_an_answer_is_recorded_once_and_before_anyone_may_send_it() -> None:
    """A record that cannot be written stops every sender; the next one tries again; after that nobody writes."""
    results: Results[bytes] = Results(len)
    kept = results.begin(("owner", "1"))
    assert kept is not None
    written: list[int] = []

    def fails() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        kept.record(fails)
    threads = [threading.Thread(target=kept.record, args=(lambda: written.append(1),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [1]


def test_what_failed_is_not_kept() -> None:
    results: Results[bytes] = Results(len)
    kept = results.begin(("owner",))
    assert kept is not None
    kept.future.set_exception(RuntimeError("no"))
    assert results.find(("owner",)) is None


@given(st.lists(st.integers(1, 60), max_size=30))
def test_memory_is_bounded_and_the_newest_answer_is_always_there(sizes: list[int]) -> None:
    results: Results[bytes] = Results(len, limit=100)
    for number, size in enumerate(sizes):
        kept = results.begin((str(number),))
        assert kept is not None
        kept.future.set_result(bytes(size))
        assert sum(entry.size for entry in results._kept.values()) <= 100
        assert results.find((str(number),)) is kept


def test_old_answers_go_but_what_is_under_way_stays() -> None:
    results: Results[bytes] = Results(len, seconds=0.0)
    running, done = results.begin(("running",)), results.begin(("done",))
    assert running is not None
    assert done is not None
    done.future.set_result(b"")
    assert results.find(("done",)) is None
    assert results.find(("running",)) is running


def test_an_owner_has_as_many_sessions_as_it_may_and_others_have_theirs() -> None:
    gate = OwnerGate(OwnerLimits(sessions=2))
    with gate.session("a"), gate.session("a"):
        with pytest.raises(RefusedError) as refused, gate.session("a"):
            pass
        assert refused.value.code is Code.BUSY
        with gate.session("b"):
            pass
    with gate.session("a"):
        pass
    assert not gate._sessions


def test_the_rate_of_requests_is_limited_for_each_owner() -> None:
    gate = OwnerGate(OwnerLimits(requests_per_minute=3, images_per_request=5))
    for _ in range(3):
        gate.admit("a", 5)
    with pytest.raises(RefusedError) as refused:
        gate.admit("a", 1)
    assert refused.value.code is Code.RATE
    assert refused.value.retry_after is not None
    assert 10 < refused.value.retry_after <= 20
    gate.admit("b", 1)
    with pytest.raises(RefusedError, match="6 images in one request, the limit is 5"):
        gate.admit("b", 6)


def release_ten(gate: OwnerGate) -> None:
    for _ in range(10):
        gate.release("a", 1)


def test_answers_are_counted_across_restarts_and_threads(tmp_path: Path) -> None:
    limits = OwnerLimits(releases=100)
    for _ in range(2):
        gate = OwnerGate(limits, tmp_path)
        threads = [threading.Thread(target=release_ten, args=(gate,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gate.close()
    gate = OwnerGate(limits, tmp_path)
    with pytest.raises(RefusedError, match="answered 100 images, 1 more"):
        gate.release("a", 1)
    gate.release("b", 100)
    gate.close()
    assert (tmp_path / "releases.sqlite").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(tmp_path / "releases.sqlite") as base:
        assert dict(base.execute("SELECT owner, images FROM releases")) == {"a": 100, "b": 100}


def test_a_limit_on_answers_needs_a_place_to_count_them(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="state directory"):
        OwnerGate(OwnerLimits(releases=1))
    (tmp_path / "releases.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(KeyMaterialError, match="cannot be used"):
        OwnerGate(OwnerLimits(releases=1), tmp_path)
