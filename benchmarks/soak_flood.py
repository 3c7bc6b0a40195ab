"""Floods: many connections at once that mean no good."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocols.client import OwnerClient
from protocols.sharing import SharesClient
from protocols.tls import bundle_context, dial
from secureimg.errors import SecureImgError

__all__ = ["FLOODS", "flood"]

_TIMEOUT: Final = 5.0


def flood(kind: str, ports: dict[str, int], role: str, bundle: Path, count: int, seconds: float, seed: int) -> None:
    """Open `count` connections of a kind and keep up to that for some seconds.

    Parameters
    ----------
    kind : str
        One of `FLOODS`.
    ports : dict of str to int
        Where the processes listen on this machine, by their role.
    role : str
        Whom to flood.
    bundle : Path
        Of an owner whom the authority knows.
    count : int
    seconds : float
    seed : int
    """
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    address = "127.0.0.1", ports[role]
    if kind == "refused":
        _many(8, lambda: _refused(ports, bundle, role, until))
        return
    if kind == "noise":
        _many(8, lambda: _noise(address, bundle, role, until, rng))
        return
    with contextlib.ExitStack() as held:
        for _ in range(count):
            with contextlib.suppress(OSError):
                sock = held.enter_context(socket.create_connection(address, _TIMEOUT))
                if kind == "garbage":
                    sock.sendall(rng.randbytes(rng.randint(1, 20_000)))
                elif kind == "half":
                    sock.sendall(_hello()[: rng.randint(5, 200)])
                elif kind == "anonymous":
                    _anonymous(sock)
        time.sleep(max(0.0, until - time.monotonic()))


FLOODS: Final = ("nothing", "garbage", "half", "anonymous", "noise", "refused")
"""Connections that say nothing, garbage, or half a handshake; that show no certificate; owners who send noise or ask for a
model that there is not."""


def _many(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _hello() -> bytes:
    """The first message of a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def _anonymous(sock: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError), context.wrap_socket(sock) as secured:
        secured.recv(1)


def _noise(address: tuple[str, int], bundle: Path, role: str, until: float, rng: random.Random) -> None:
    context = bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
    while time.monotonic() < until:
        with contextlib.suppress(OSError, SecureImgError), dial(*address, context, _TIMEOUT, role) as sock:
            sock.sendall(rng.randbytes(rng.randint(1, 5_000)))
            sock.recv(65_536)
        time.sleep(0.05)


def _refused(ports: dict[str, int], bundle: Path, role: str, until: float) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(OSError, SecureImgError):
            if role == "server":
                OwnerClient("127.0.0.1", ports[role], bundle, model="no such model", timeout=_TIMEOUT).close()
            elif role == "dealer":  # has nothing to say to owners
                dial("127.0.0.1", ports[role], bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT), _TIMEOUT, role).close()
            else:
                zero, one = (("127.0.0.1", ports[party]) for party in ("party-0", "party-1"))
                SharesClient(zero, one, bundle, dealing="dealer", model="no such model", timeout=_TIMEOUT).close()
        time.sleep(0.05)
