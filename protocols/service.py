"""The server process's heart: accepts owners over TLS, one thread each, and keeps going whatever they send."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from protocols.engine import Engine
from protocols.evaluation import EvaluationQueue
from protocols.keystore import KeyStore
from protocols.limits import Limits
from protocols.messages import Code
from protocols.server import ServerConversation
from protocols.session import Budget, Session, Shared
from protocols.tls import accept, peer_fingerprint, server_context
from protocols.wire import Wire
from secureimg.errors import ProtocolError, RemoteProtocolError

__all__ = ["Service"]

_log = logging.getLogger(__name__)


class Service:
    """Serves one compiled model to many owners.

    Parameters
    ----------
    engine : Engine
        The compiled model. Evaluations run on one thread; the engine may use processes of its own.
    identity : Path
        Directory with the server's TLS identity, see `protocols.identity`.
    limits : Limits, optional
        What owners are granted.
    host, port : str, int
        Where to listen; port 0 takes a free one.

    Raises
    ------
    KeyMaterialError
        If the identity cannot be loaded.
    ProtocolError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        engine: Engine[Any],
        identity: Path,
        limits: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._limits = (limits or Limits()).fitted(engine.keys_bytes, engine.input_bytes)
        self._context = server_context(identity)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, Session | None] = {}
        self._owners: Counter[str] = Counter()
        try:
            self._listener = socket.create_server((host, port), backlog=128)
        except (OSError, OverflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ProtocolError(f"cannot listen on {host}:{port}: {reason}: choose another --host or --port") from None
        self._shared = Shared(
            engine=engine,
            limits=self._limits,
            keys=KeyStore(self._limits.keys_per_owner, self._limits.keys_total),
            evaluations=EvaluationQueue(self._limits.queue),
            inputs=Budget(self._limits.inputs_total),
            stopping=self._stop.is_set,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the service listens on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.close()

    def stop(self) -> None:
        """Take no new work; `run` returns soon. Callable from any thread and from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Accept owners until `stop` is called, then finish what is under way."""
        self._listener.settimeout(0.2)
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # out of descriptors: wait for some to be closed
                _log.warning("cannot accept a connection: %s", error.strerror)
                time.sleep(0.2)
                continue
            self._start(connection)
        self.close()

    def close(self) -> None:
        """Stop listening and see all sessions off, within the limit `drain`."""
        self._stop.set()
        self._listener.close()
        deadline = time.monotonic() + self._limits.drain
        with self._lock:
            sessions = dict(self._sessions)
        for session in sessions.values():
            if session is not None:
                session.wake()
        for thread in sessions:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._shared.evaluations.close(max(0.0, deadline - time.monotonic()))

    def _start(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._sessions) >= 2 * self._limits.connections:  # not even a thread to refuse it politely
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="owner", daemon=True)
            self._sessions[thread] = None
            crowded = len(self._sessions) > self._limits.connections
        thread.name = "crowded" if crowded else "owner"
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._greet(connection)
        except (OSError, ValueError, RemoteProtocolError) as error:
            _log.info("TLS handshake failed: %s", getattr(error, "reason", None) or type(error).__name__)
        except Exception:  # noqa: BLE001 - whatever it is, the other owners are still served
            _log.exception("internal error")
        finally:
            connection.close()
            with self._lock:
                del self._sessions[threading.current_thread()]

    def _greet(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        secured = accept(connection, self._context, self._limits.handshake)
        with secured:
            owner = peer_fingerprint(secured)
            with self._lock:
                crowded = threading.current_thread().name == "crowded"
                crowded = crowded or self._owners[owner] >= self._limits.connections_per_owner
                self._owners[owner] += 1
            try:
                if crowded:
                    self._turn_away(secured)
                else:
                    self._run_session(secured, owner)
            finally:
                with self._lock:
                    self._owners[owner] -= 1
                    if not self._owners[owner]:
                        del self._owners[owner]

    def _run_session(self, secured: ssl.SSLSocket, owner: str) -> None:
        session = Session(secured, owner, self._shared)
        with self._lock:
            self._sessions[threading.current_thread()] = session
        session.run()

    def _turn_away(self, secured: ssl.SSLSocket) -> None:
        buffers = ServerConversation().hang_up(
            Code.BUSY, "server busy: too many connections", "close some, or connect again later", retry_after=5.0
        )
        wire = Wire(secured)
        with contextlib.suppress(OSError):
            wire.send(buffers, time.monotonic() + self._limits.frame)
        wire.close(linger=True)
