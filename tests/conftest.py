"""Settings that every test shares: repeatable property tests, seeded generators, no network but this machine itself."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

import hypothesis
import numpy as np
import pytest

# One BLAS thread: the machine's cores belong to the processes under test. Must precede the first product.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Encryption makes single examples slow on a busy machine: a time limit per example would only measure the machine.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts alike in every test: a failure is the same failure when it is run alone."""
    return np.random.default_rng(20260101)


def _leaves_this_machine(address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return False
    host = address[0]
    if host in ("", "localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the project may need the network at run time: a connection that leaves the machine fails the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if _leaves_this_machine(address):
            raise AssertionError(f"a test tried to connect to {address!r}, which is not this machine")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
