"""The server's parts on their own: key memory, the queue, ranges, the handshake's time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.cli.inputs import round_outwards
from protocols.evaluation import EvaluationQueue, QueueFullError
from protocols.keystore import KeyStore, NoRoomError
from protocols.pki import create_bundles
from protocols.tls import accept, bundle_context


def put(store: KeyStore[str], owner: str, key: str, size: int) -> None:
    store.fill(store.reserve(owner, key, size), f"{owner} {key}")


def test_keys_are_found_by_their_owner_only() -> None:
    store: KeyStore[str] = KeyStore(100, 300)
    put(store, "alice", "k", 50)
    put(store, "bob", "k", 50)
    assert not store.holds("eve", "k")
    with store.use("alice", "k") as keys, store.use("eve", "k") as none:
        assert (keys, none) == ("alice k", None)


def test_an_owners_share_evicts_its_own_oldest_keys_first() -> None:
    store: KeyStore[str] = KeyStore(100, 300)
    for key in ("a", "b"):
        put(store, "alice", key, 50)
    put(store, "bob", "x", 100)
    with store.use("alice", "a"):
        pass
    put(store, "alice", "c", 50)
    assert [store.holds("alice", key) for key in "abc"] == [True, False, True]
    assert store.holds("bob", "x")


def test_keys_in_use_or_on_their_way_are_not_evicted() -> None:
    store: KeyStore[str] = KeyStore(100, 150)
    put(store, "alice", "a", 100)
    with store.use("alice", "a"), pytest.raises(NoRoomError, match="in use"):
        store.reserve("bob", "b", 100)
    arriving = store.reserve("bob", "b", 100)
    with pytest.raises(NoRoomError):
        store.reserve("carol", "c", 100)
    store.cancel(arriving)
    store.reserve("carol", "c", 100)
    with pytest.raises(NoRoomError, match="one owner may hold 100"):
        store.reserve("alice", "a", 101)


def test_the_queue_refuses_at_once_when_full_and_serves_on() -> None:
    gate = threading.Event()
    jobs = EvaluationQueue(places=1)

    def slow() -> bytes:
        gate.wait(20)
        return b"done"

    first, second = jobs.submit(slow), jobs.submit(lambda: b"next")
    with pytest.raises(QueueFullError, match="queue of 1 full") as caught:
        jobs.submit(slow)
    assert caught.value.retry_after > 0
    assert second.cancel()
    third = jobs.submit(lambda: b"third")
    gate.set()
    assert (first.result(20).blob, third.result(20).blob) == (b"done", b"third")
    failing = jobs.submit(lambda: bytes(-1))
    assert isinstance(failing.exception(20), ValueError)
    jobs.close(5)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_range_is_rounded_outwards_and_little_more_is_told(a: float, b: float) -> None:
    low, high = sorted((a, b))
    bottom, top = round_outwards(low, high)
    assert bottom <= low <= high <= top
    assert bottom < top
    assert top - bottom <= (high - low) + max(abs(low), abs(high)) + 1


def test_a_handshake_that_drips_is_cut(tmp_path: Path) -> None:
    """The handshake has one time limit in all: a byte now and then does not extend it."""
    bundles = create_bundles(tmp_path / "tls")
    here, there = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400):
                there.sendall(bytes([byte]))
                if stop.wait(0.1):
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises((OSError, ValueError)):
            accept(here, bundle_context(bundles["dealer"], ssl.PROTOCOL_TLS_SERVER), 0.5)
        assert time.monotonic() - start < 5.0
    finally:
        stop.set()
        thread.join()
        there.close()
