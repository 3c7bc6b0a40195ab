"""The link between the parties over real TLS: order, both directions at once, and everything a bad peer can send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from protocols.binding import SessionKeys
from protocols.sharing import Link
from secureimg.errors import RemoteProtocolError

PLAIN = struct.Struct(">4sIQ")
HEADER_BYTES = 32


def message(number: int, length: int, tagged: int | None = None) -> bytes:
    """A header that party 1 could send; its tag is that of its `tagged`-th message (default: of its number)."""
    tagger = KEYS.taggers(opened=False)[0]
    for _ in range(number if tagged is None else tagged):
        tagger.tag(b"")
    plain = PLAIN.pack(b"SIMR", number, length)
    return plain + tagger.tag(plain)


PATIENCE = 0.5
KEYS = SessionKeys(bytes(32), bytes([1]) * 32)


class Ends:
    """A link's end for party 0 and one for party 1, or the bare sockets instead of one of them."""

    def __init__(self, tls_pair: Any, patience: float) -> None:
        self.stack = contextlib.ExitStack()
        (up_0, up_1), (down_0, down_1) = tls_pair(), tls_pair()
        self.sockets = up_0, up_1, down_0, down_1
        for sock in self.sockets:
            self.stack.callback(sock.close)
        self.zero = Link(up_0, down_0, KEYS.taggers(opened=True), patience)
        self._patience = patience
        self.raw_in, self.raw_out = up_1, down_1

    def one(self) -> Link:
        link = Link(self.raw_out, self.raw_in, KEYS.taggers(opened=False), self._patience)
        self.stack.callback(link.close)
        return link


@pytest.fixture
def ends(tls_pair: Any) -> Iterator[Callable[..., Ends]]:
    with contextlib.ExitStack() as stack:

        def make(patience: float = 10.0) -> Ends:
            made = Ends(tls_pair, patience)
            stack.enter_context(made.stack)
            stack.callback(made.zero.close)
            return made

        yield make


def together(*tasks: Callable[[], None]) -> None:
    """Run tasks at the same time; raise what one of them raises."""
    failures: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "deadlock"
    if failures:
        raise failures[0]


def words(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint8)


def fails_within(seconds: float, task: Callable[[], Any], match: str) -> None:
    """The task must raise RemoteProtocolError, and in time (with seconds to spare for a busy machine)."""
    start = time.monotonic()
    with pytest.raises(RemoteProtocolError, match=match):
        task()
    assert time.monotonic() - start < seconds + 4.0


def test_messages_of_all_sizes_arrive_whole_and_in_order(ends: Any) -> None:
    """Small messages leave on the caller's thread, large ones on another: their order stays, empty ones count too."""
    pair = ends()
    one, rng = pair.one(), np.random.default_rng(4)
    sizes = [1, 0, 1 << 15, (1 << 15) + 1, 7, 3_000_000, 5, 0, 1 << 15, 100_000, 2]
    messages = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]

    def send() -> None:
        for message in messages:
            pair.zero.send(message)
        pair.zero.flush()

    def receive() -> None:
        for message in messages:
            arrived = np.empty_like(message)
            one.receive(arrived)
            assert np.array_equal(arrived, message)

    together(send, receive)
    assert pair.zero.sent == one.received == sum(sizes) + HEADER_BYTES * len(sizes)


def test_thousands_of_small_rounds(ends: Any) -> None:
    """Each round is one exchange; no message is lost, repeated or swapped."""
    pair = ends()
    one, rounds = pair.one(), 2000

    def play(link: Link, party: int) -> None:
        theirs = np.empty(8, dtype=np.uint8)
        for number in range(rounds):
            link.send(np.frombuffer(struct.pack(">II", party, number), dtype=np.uint8))
            link.receive(theirs)
            assert struct.unpack(">II", theirs.tobytes()) == (1 - party, number)

    together(lambda: play(pair.zero, 0), lambda: play(one, 1))


def test_64_megabytes_both_ways_at_once_do_not_deadlock(ends: Any) -> None:
    """Both parties send before either receives: no buffer of the system's holds that much."""
    pair = ends()
    one, size = pair.one(), 64 << 20

    def play(link: Link, party: int) -> None:
        own, theirs = np.full(size, 1 + party, dtype=np.uint8), np.empty(size, dtype=np.uint8)
        link.send(own)
        link.receive(theirs)
        link.flush()
        assert theirs[0] == theirs[-1] == 2 - party
        assert int(theirs.sum(dtype=np.int64)) == size * (2 - party)

    together(lambda: play(pair.zero, 0), lambda: play(one, 1))


def test_flush_returns_only_when_the_memory_may_change(ends: Any) -> None:
    """After flush the message's memory belongs to the caller again; what was sent is what it held before."""
    pair = ends()
    one = pair.one()
    message, arrived, begun = np.full(8 << 20, 7, dtype=np.uint8), np.empty(8 << 20, dtype=np.uint8), threading.Event()

    def send() -> None:
        pair.zero.send(message)
        begun.set()
        pair.zero.flush()
        message[:] = 9

    def receive() -> None:
        begun.wait(10)
        time.sleep(0.2)
        one.receive(arrived)

    together(send, receive)
    assert arrived.min() == arrived.max() == 7


FAULTS: dict[str, tuple[bytes, str]] = {
    "the number of an earlier message": (
        message(0, 4, tagged=1) + b"abcd",
        "message 0 of the session, expected is 1",
    ),
    "the number of a later message": (message(2, 4, tagged=1) + b"abcd", "message 2 of the session, expected is 1"),
    "a shorter message": (message(1, 3) + b"abc", "sent 3 bytes as message 1, expected are 4"),
    "a longer message": (message(1, 5) + b"abcde", "sent 5 bytes as message 1"),
    "a message of 16 exabytes": (message(1, 2**64 - 1), "sent 18446744073709551615 bytes"),
    "a message that came before": (message(0, 2) + b"ok", "does not belong to this session"),
    "our own message sent back": (
        PLAIN.pack(b"SIMR", 1, 4) + KEYS.taggers(opened=True)[0].tag(b"") + b"abcd",
        "belong to",
    ),
    "garbage": (bytes(range(100, 164)), "not a message of the link"),
    "another protocol": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not a message of the link"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_not_the_next_message_is_named(ends: Any, what: str) -> None:
    """Number and length of the next message are known; anything else ends the session at once, and says why."""
    pair = ends()
    pair.raw_out.sendall(message(0, 2) + b"ok")
    arrived = np.empty(2, dtype=np.uint8)
    pair.zero.receive(arrived)
    assert arrived.tobytes() == b"ok"
    data, match = FAULTS[what]
    pair.raw_out.sendall(data)
    fails_within(0.0, lambda: pair.zero.receive(np.empty(4, dtype=np.uint8)), match)


@pytest.mark.parametrize("before", [b"", b"SIMR\0\0", message(0, 4) + b"ab"], ids=["between", "header", "body"])
def test_a_peer_that_closes_is_noticed_at_once(ends: Any, before: bytes) -> None:
    """The end of the stream is an error wherever a message is due, with or without TLS's own goodbye."""
    pair = ends(5.0)
    pair.raw_out.sendall(before)
    pair.raw_out.close()
    fails_within(
        0.0, lambda: pair.zero.receive(np.empty(4, dtype=np.uint8)), "closed the link|link to the other party broke"
    )


def test_bytes_that_are_not_of_the_tls_session_are_an_error(ends: Any) -> None:
    """Whoever cuts into the connection below TLS cannot make a message."""
    pair = ends(5.0)
    socket.socket.send(pair.raw_out, b"\x17\x03\x03\x00\x20" + bytes(32))
    fails_within(0.0, lambda: pair.zero.receive(np.empty(4, dtype=np.uint8)), "broke")


@pytest.mark.parametrize("before", [b"", b"SIMR\0\0", message(0, 4) + b"ab"], ids=["between", "header", "body"])
def test_a_peer_that_stalls_is_given_up(ends: Any, before: bytes) -> None:
    """A party that is silent for as long as the patience ends the session."""
    pair = ends(PATIENCE)
    pair.raw_out.sendall(before)
    fails_within(2 * PATIENCE, lambda: pair.zero.receive(np.empty(4, dtype=np.uint8)), r"silent or too slow for 0\.5 s")


def test_a_peer_that_drips_is_given_up(ends: Any) -> None:
    """A byte now and then does not keep a session alive: the whole message has a time limit."""
    pair, stop = ends(PATIENCE), threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in message(0, 100) + bytes(100):
                pair.raw_out.sendall(bytes([byte]))
                if stop.wait(0.2):
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    fails_within(3 * PATIENCE, lambda: pair.zero.receive(np.empty(100, dtype=np.uint8)), "too slow")
    stop.set()
    thread.join(5)


def test_a_peer_that_takes_nothing_is_given_up(ends: Any) -> None:
    """A message that the other party does not take fails, and so does every later use of the link."""
    pair = ends(PATIENCE)
    pair.zero.send(np.zeros(32 << 20, dtype=np.uint8))
    fails_within(2 * PATIENCE, pair.zero.flush, r"took no data, or too slowly, for 0\.5 s")
    fails_within(0.0, lambda: pair.zero.send(words(1)), "took no data")
    fails_within(0.0, pair.zero.flush, "took no data")


def test_a_peer_that_takes_a_little_now_and_then_is_given_up(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit of a whole message holds for its sender too, or a peer could hold a session for days."""
    monkeypatch.setattr("protocols.sharing.link.SLOWEST", 32 << 20)
    pair, stop = ends(PATIENCE), threading.Event()
    pair.zero._out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)

    def sip() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.1):
                for _ in range(16):
                    pair.raw_in.recv(1 << 14)

    thread = threading.Thread(target=sip, daemon=True)
    thread.start()
    pair.zero.send(np.zeros(16 << 20, dtype=np.uint8))
    try:
        fails_within(2 * PATIENCE + 0.5, pair.zero.flush, "too slowly")
    finally:
        stop.set()
        thread.join(5)


def test_a_large_message_may_take_longer_than_the_patience(ends: Any) -> None:
    """Patience is for silence: who takes a large message steadily, if slowly, gets all of it."""
    pair = ends(PATIENCE)
    pair.zero._out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    size, place = 8 << 20, 0
    pair.zero.send(np.full(size, 5, dtype=np.uint8))
    start = time.monotonic()
    while place < size + HEADER_BYTES:
        data = pair.raw_in.recv(1 << 14)
        assert data
        place += len(data)
        time.sleep(max(0.0, 3 * PATIENCE * place / size - (time.monotonic() - start)))
    pair.zero.flush()
    assert time.monotonic() - start > 2 * PATIENCE


@pytest.mark.parametrize("waiting", ["receive", "flush"])
def test_closing_from_another_thread_ends_a_wait(ends: Any, waiting: str) -> None:
    """Whoever waits on a link that is closed gets an error at once, not after the patience."""
    pair = ends(20.0)
    if waiting == "flush":
        pair.zero.send(np.zeros(32 << 20, dtype=np.uint8))
    tasks = {"receive": lambda: pair.zero.receive(np.empty(4, dtype=np.uint8)), "flush": pair.zero.flush}
    timer = threading.Timer(0.2, pair.zero.close)
    timer.start()
    fails_within(1.0, tasks[waiting], "closed|broke")
    timer.join(5)
    fails_within(0.0, lambda: pair.zero.send(words(1)), "link is closed")


def test_closing_never_takes_tls_from_under_a_thread_that_sends(ends: Any) -> None:
    """`SSLSocket.shutdown` forgets TLS first and shuts down second: a send between the two would go out in the clear."""
    pair, forgotten = ends(), []

    class Watched(ssl.SSLSocket):
        def shutdown(self, how: int) -> None:
            forgotten.append(how)
            super().shutdown(how)

    for sock in (pair.zero._out, pair.zero._in):
        sock.__class__ = Watched
    pair.zero.close()
    assert forgotten == []


def test_a_second_close_does_nothing(ends: Any) -> None:
    """Both a session and the thread that gave it up may close a link."""
    pair = ends()
    pair.zero.close()
    pair.zero.close()
