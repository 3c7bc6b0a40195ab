"""A relay passes on every byte in order, not before its delay and not above its rate, and says when an end closes."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from benchmarks.relay import Relay


@contextmanager
def echo():
    """A server that sends back all that it gets, and closes when the other side has."""

    def serve():
        with suppress(OSError), listener.accept()[0] as guest:
            while data := guest.recv(1 << 16):
                guest.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        thread.join(10)


def receive(sock, size):
    got = bytearray()
    while len(got) < size and (data := sock.recv(1 << 16)):
        got += data
    return bytes(got)


def test_bytes_arrive_whole_and_in_order_and_a_closed_end_is_passed_on():
    sent = bytes(range(256)) * 4000
    with echo() as target, Relay(target, 1e9, 0.001) as relay, socket.create_connection(relay.address) as near:
        threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert receive(near, len(sent)) == sent
        assert near.recv(1) == b""


def test_a_round_trip_takes_at_least_the_delay_both_ways():
    with echo() as target, Relay(target, 1e9, 0.03) as relay, socket.create_connection(relay.address) as near:
        start = time.perf_counter()
        near.sendall(b"x")
        assert near.recv(1) == b"x"
        taken = time.perf_counter() - start
        near.shutdown(socket.SHUT_WR)
    assert 0.059 < taken < 2.0


@pytest.mark.parametrize("connections", [1, 2])
def test_the_connections_of_a_link_together_do_not_exceed_its_rate(connections):
    size, rate = 400_000, 2e6
    with socket.create_server(("127.0.0.1", 0)) as sink, Relay(sink.getsockname(), rate, 0.0) as relay:
        near = [socket.create_connection(relay.address) for _ in range(connections)]
        far = [sink.accept()[0] for _ in near]
        start = time.perf_counter()
        for one in near:
            threading.Thread(target=one.sendall, args=(bytes(size),), daemon=True).start()
        readers = [threading.Thread(target=receive, args=(one, size), daemon=True) for one in far]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(10)
        taken = time.perf_counter() - start
        for one in (*near, *far):
            one.close()
    assert 0.95 * connections * size / rate < taken < 3 * connections * size / rate + 2.0


def test_a_relay_to_nobody_closes_what_it_accepts():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    with Relay(target, 1e9, 0.0) as relay, socket.create_connection(relay.address) as near:
        near.settimeout(10)
        with suppress(OSError):
            assert near.recv(1) == b""
