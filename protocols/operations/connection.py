"""One HTTPS connection: who is at its other end, and how long it may take."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from protocols.tls import peer_fingerprint, peer_role
from secureimg.errors import SecureImgError

__all__ = ["KEEP_ALIVE", "Connection", "Peer"]

_log = logging.getLogger(__name__)

KEEP_ALIVE: Final = 15
"""Seconds that a connection may be silent before a request."""


class Peer(NamedTuple):
    """Who is at the other end of a connection, by the certificate that TLS has verified.

    Attributes
    ----------
    role : str
        "operator", "owner", "server", "party-0", "party-1", "dealer".
    fingerprint : str
        Hexadecimal SHA-256 of the certificate.
    """

    role: str
    fingerprint: str


class Connection(H11Protocol):
    """uvicorn's connection, that also says who is at its other end, and ends if a request takes too long to come.

    Attributes
    ----------
    patience : float
        Seconds from a request's first byte to its last.
    at_end : callable or None
        Called once, when the connection is gone.
    """

    patience = 60.0
    at_end: Callable[[], None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look at the certificate and wait for a request."""
        super().connection_made(transport)
        peer = None
        secured = transport.get_extra_info("ssl_object")
        if secured is None:
            transport.abort()
            return
        if secured.context.verify_mode is ssl.CERT_REQUIRED:
            try:
                peer = Peer(peer_role(secured), peer_fingerprint(secured))
            except SecureImgError as error:
                _log.info("certificate refused: %s", error)
                transport.abort()
                return
        self.app = functools.partial(_with_peer, self.app, peer)
        self._timer = self.loop.call_later(min(self.patience, KEEP_ALIVE), self._late)

    def data_received(self, data: bytes) -> None:
        """Note when a request begins and when it is here whole."""
        if not self._begun and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._begun = True
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request as long as uvicorn says, from its first byte on as long as we do."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place up."""
        self.end()
        super().connection_lost(exc)

    def end(self) -> None:
        """Give the connection's place up, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.at_end is not None:
            self.at_end()
            self.at_end = None

    def _watch(self) -> None:
        waiting = self.timeout_keep_alive_task is not None
        coming = not waiting and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if coming and self._timer is None:
            self._timer = self.loop.call_later(self.patience, self._late)
        elif not coming and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        _log.info("a request did not come whole within %g s", self.patience)
        self.transport.abort()


async def _with_peer(app: Any, peer: Peer | None, scope: Any, receive: Any, send: Any) -> None:
    scope["state"]["peer"] = peer
    await app(scope, receive, send)
