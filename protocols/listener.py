"""Accepts connections over TLS, a thread for each, and keeps going whatever comes."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import TracebackType
from typing import Self

from protocols.pki import ROLES
from protocols.tls import accept, bundle_context, check_pins, cut, handshake_failure, peer_fingerprint, peer_role
from secureimg.errors import LocalProtocolError, ProtocolError, RemoteProtocolError

__all__ = ["Guest", "Listener"]

_log = logging.getLogger(__name__)

_DRAIN = 5.0
_HANDSHAKES = 256
"""Connections that may be in their handshake, beside those that are through it."""


class Guest:
    """Someone who proved who they are.

    Attributes
    ----------
    sock : ssl.SSLSocket
    role : str
        One of `protocols.pki.ROLES`, from the certificate.
    fingerprint : str
        SHA-256 of the certificate, in hexadecimal.
    own : str
        SHA-256 of the certificate that it was shown: ours may be renewed meanwhile.

    Raises
    ------
    RemoteProtocolError
        If the certificate does not name exactly one role.
    """

    def __init__(self, sock: ssl.SSLSocket, own: str) -> None:
        self.sock = sock
        self.own = own
        self.role = peer_role(sock)
        self.fingerprint = peer_fingerprint(sock)
        self.kept = False

    def keep(self) -> ssl.SSLSocket:
        """Take the connection over: it stays open when its thread ends."""
        self.kept = True
        return self.sock


class Listener:
    """A TLS 1.3 service with client certificates.

    Parameters
    ----------
    identity : Path
        Bundle of this machine.
    host, port : str, int
        Port 0 takes a free one.
    welcome : callable
        Serves one guest on a thread of its own. What it raises ends that connection only.
    connections : int
        Open connections at most, of guests who proved who they are. As many as 256 more may be about to.
    handshake : float
        Seconds for TLS.
    roles : set of str
        Who is served. Others are turned away.
    pins : mapping of role to fingerprints
        The certificates to accept of a role (SHA-256, in hexadecimal). A role without any: all of the authority's.
    """

    def __init__(
        self,
        identity: Path,
        host: str,
        port: int,
        welcome: Callable[[Guest], None],
        *,
        connections: int = 64,
        handshake: float = 10.0,
        roles: AbstractSet[str] = frozenset(ROLES),
        pins: Mapping[str, frozenset[str]] = types.MappingProxyType({}),
    ) -> None:
        self._identity = identity
        self._context = bundle_context(identity, ssl.PROTOCOL_TLS_SERVER)
        self._welcome = welcome
        self._connections, self._handshake = connections, handshake
        self._roles, self._pins = frozenset(roles), {role: frozenset(pinned) for role, pinned in pins.items()}
        unknown = (self._roles | self._pins.keys()) - set(ROLES)
        if unknown:
            raise LocalProtocolError(f"{', '.join(sorted(unknown))}: no such role, choose from {', '.join(ROLES)}")
        self._stop = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._guests = 0
        self._lock = threading.Lock()
        try:
            self._socket = socket.create_server((host, port), backlog=128)
        except (OSError, OverflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ProtocolError(f"cannot listen on {host}:{port}: {reason}: choose another host or port") from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Make `run` return soon. Callable from any thread."""
        self._stop.set()

    def renew(self) -> None:
        """Read the bundle anew, for connections from now on. Callable from any thread.

        Raises
        ------
        KeyMaterialError
            If it cannot be used. The one before stays in use.
        """
        self._context = bundle_context(self._identity, ssl.PROTOCOL_TLS_SERVER)

    def run(self) -> None:
        """Accept guests until `stop` is called."""
        self._socket.settimeout(0.2)
        while not self._stop.is_set():
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._stop.is_set():
                    return
                _log.warning("cannot accept a connection: %s", error.strerror)
                time.sleep(0.2)
                continue
            with self._lock:
                if len(self._open) - self._guests >= _HANDSHAKES:
                    _log.warning("%d connections are in their handshake, the limit: one more is cut", _HANDSHAKES)
                    connection.close()
                    continue
                thread = threading.Thread(
                    target=self._serve, args=(connection, f"{address[0]}:{address[1]}"), name="guest", daemon=True
                )
                self._open[thread] = connection
            thread.start()

    def close(self) -> None:
        """Stop listening, cut what is open."""
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `run`
        self._socket.close()
        with self._lock:
            left = dict(self._open)
        for connection in left.values():
            cut(connection)
        deadline = time.monotonic() + _DRAIN
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Hold one of the places of those who proved who they are: strangers take none of them."""
        with self._lock:
            if self._guests >= self._connections:
                raise RemoteProtocolError(f"{self._guests} connections are open, the limit: one more is turned away")
            self._guests += 1
        try:
            yield
        finally:
            with self._lock:
                self._guests -= 1

    def _check(self, guest: Guest, where: str) -> None:
        """Refuse a guest that has a certificate, but no business here."""
        if guest.role not in self._roles:
            raise RemoteProtocolError(
                f"{where} is {guest.role} ({guest.fingerprint[:16]}), only {', '.join(sorted(self._roles))} are served here"
            )
        check_pins(guest.fingerprint, where, guest.role, self._pins.get(guest.role, frozenset()))

    def _serve(self, connection: socket.socket, where: str) -> None:
        guest: Guest | None = None
        try:
            context = self._context
            connection = secured = accept(connection, context, self._handshake)
            with self._lock:
                self._open[threading.current_thread()] = secured
            guest = Guest(secured, context.identity.fingerprint)
            self._check(guest, where)
            with self._place():
                self._welcome(guest)
        except (OSError, ValueError) as error:
            _log.info("connection from %s ended: %s", where, handshake_failure(error, self._context, where))
        except RemoteProtocolError as error:
            _log.info("connection from %s ended: %s", where, error)
        except Exception:  # noqa: BLE001 - whatever it is, the others are still served
            _log.exception("internal error")
        finally:
            if guest is None or not guest.kept:
                with contextlib.suppress(OSError):
                    connection.close()
            with self._lock:
                self._open.pop(threading.current_thread(), None)
