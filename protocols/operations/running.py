"""An HTTPS server in a thread: what the page, the endpoint for everyone else and the operator's endpoint run on."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
from types import TracebackType
from typing import Any, Final, Self

import uvicorn

from protocols.operations.connection import KEEP_ALIVE, Connection, Peer
from secureimg.errors import ProtocolError, SecureImgError

__all__ = ["HttpsServer", "Peer"]

_log = logging.getLogger(__name__)

_HEADER_BYTES: Final = 16 << 10
_START: Final = 30.0


class HttpsServer:
    """Serves an ASGI application over TLS 1.3 from a thread of its own.

    The context says who may connect. If it asks for client certificates (`verify_mode = CERT_REQUIRED`), each request finds
    the verified other side as `scope["state"]["peer"]` (a `Peer`; in starlette `request.state.peer`), which is None where
    the context asks for none; a certificate that has no role ends the connection. **Which role may do what is the
    application's to check.** So are the size of bodies (read them as a stream and stop at a cap; the server holds back what
    the application has not read), tokens and rates.

    What is bounded here: connections, those in their handshake included; the time of a `handshake`; the header (16 KiB); the
    time from a request's first byte to its last (`patience`), so that slow senders do not hold connections; the pause before
    a request (15 s); the time that a receiver takes nothing (`patience`). There is no access log, no server header, no
    websocket, no handling of signals, and proxy headers are not believed. All connections may be one client's: where
    strangers can connect, put a limit for each address in front (a firewall rule, a proxy that passes TLS through).

    Parameters
    ----------
    app : ASGI application
        For instance `starlette.applications.Starlette`. Its lifespan runs in the thread.
    context : ssl.SSLContext
        Of the server's side. TLS 1.3 is made its minimum, whatever it was.
    host, port : str, int
        Where to listen; port 0 takes a free one. The port is bound at once, requests are served from `start` on.
    name : str
        Of the thread, for logs.
    connections : int
        How many at a time; more wait in the system's queue.
    patience, handshake : float
        Seconds, see above.
    drain : float
        Seconds that `stop` gives the requests under way.

    Raises
    ------
    ProtocolError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        app: Any,
        context: ssl.SSLContext,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "https",
        connections: int = 64,
        patience: float = 60.0,
        handshake: float = 10.0,
        drain: float = 5.0,
    ) -> None:
        self._name, self._drain = name, drain
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            number = error.errno or 0 if isinstance(error, OSError) else 0
            reason = os.strerror(number) if number > 0 else str(error)
            raise ProtocolError(f"cannot listen on {host}:{port}: {reason}: choose another host or port") from None
        self._listener.setblocking(False)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(drain)),
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ssl_context_factory=lambda *_: _hardened(context),
        )
        self._server = _Server(config, self._listener, connections)
        self._server.patience, self._server.handshake = patience, handshake
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._address = self._listener.getsockname()[:2]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the server listens on."""
        return str(self._address[0]), int(self._address[1])

    @property
    def connections(self) -> int:
        """How many connections are open, those in their handshake included."""
        return self._server.taken

    def start(self) -> Self:
        """Serve from now on; return when requests are taken.

        Raises
        ------
        SecureImgError
            If the application does not come up. The log says why.
        """
        self._thread.start()
        if not self._server.up.wait(_START) or not self._server.started:
            self.stop()
            raise SecureImgError(f"the {self._name} endpoint on port {self.address[1]} did not start: the log says why")
        _log.info("the %s endpoint is at https://%s:%d", self._name, *self.address)
        return self

    def stop(self) -> None:
        """Take no more requests, see those under way off within `drain`, and close. May be called twice, from any thread."""
        self._server.should_exit = True
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(self._drain + 5.0)
        self._listener.close()

    def renew(self, context: ssl.SSLContext) -> None:
        """Greet new connections with another context, whose certificate is newer. Callable from any thread."""
        self._server.config.ssl = _hardened(context)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run()
        except BaseException:  # noqa: BLE001 - SystemExit included: uvicorn leaves that way
            _log.exception("the %s endpoint ended", self._name)
        finally:
            self._server.up.set()


class _Server(uvicorn.Server):
    """Accepts connections itself: uvicorn would count them only after TLS and never end a handshake under a minute."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, connections: int) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self.taken = 0
        self._listener, self._connections = listener, connections
        self.patience, self.handshake = 60.0, 10.0
        self._greeting: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bring the application up, then accept."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        self._room = asyncio.Semaphore(self._connections)
        self.servers = []
        self._accepting = asyncio.create_task(self._accept())
        self.started = True
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, then do as uvicorn does, and cut what is left."""
        self._accepting.cancel()
        for task in list(self._greeting):
            task.cancel()
        self._listener.close()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.05)  # for what that sets off

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # out of descriptors: wait for some to be closed
                self._room.release()
                _log.warning("cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(0.2)
                continue
            self.taken += 1
            task = loop.create_task(self._greet(connection))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        protocol = Connection(self.config, self.server_state, self.lifespan.state, loop)
        protocol.patience, protocol.at_end = self.patience, self.leave
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # a receiver that takes nothing is given up
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.patience * 1000))
            await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self.handshake,
                ssl_shutdown_timeout=2.0,
            )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the other connections are still served
            connection.close()
            protocol.end()
            _log.info("TLS handshake failed: %s", getattr(error, "reason", None) or type(error).__name__)

    def leave(self) -> None:
        """Give a connection's place to the next one."""
        self.taken -= 1
        self._room.release()


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context
