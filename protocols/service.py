"""The server process's heart: accepts owners over TLS, one thread each, and keeps going whatever they send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from protocols.engine import Engine
from protocols.evaluation import EvaluationQueue
from protocols.keystore import KeyStore
from protocols.limits import Limits
from protocols.listener import Guest, Listener
from protocols.messages import Code
from protocols.operations import Observer
from protocols.owner_limits import OwnerGate, OwnerLimits
from protocols.results import Results
from protocols.server import ServerConversation
from protocols.session import Session
from protocols.station import Budget, Shared, Station
from protocols.wire import Wire

__all__ = ["Service"]


class Service:
    """Serves one compiled model to many owners.

    Parameters
    ----------
    engine : Engine
        The compiled model. Evaluations run on one thread; the engine may use processes of its own.
    identity : Path
        The server's bundle, see `protocols.pki`.
    limits : Limits, optional
        What owners are granted.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    owner_limits : OwnerLimits, optional
        What one owner may ask for.
    observer : Observer, optional
        Is told of every session, answer and refusal. What it cannot record is not answered.
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "owner"; all of the authority's, if it is not named.
    state : Path, optional
        Directory for what must outlive a restart: counts of releases.

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
        *,
        owner_limits: OwnerLimits | None = None,
        observer: Observer | None = None,
        pins: Mapping[str, frozenset[str]] | None = None,
        state: Path | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, Session | None] = {}
        self.listener = Listener(
            identity, host, port, self._greet, connections=2 * self._limits.connections,
            handshake=self._limits.handshake, roles={"owner"}, pins=dict(pins or {}),
        )  # fmt: skip
        self._shared = Shared(
            limits=self._limits,
            inputs=Budget(self._limits.inputs_total),
            gate=OwnerGate(owner_limits or OwnerLimits(), state),
            results=Results(lambda outcome: len(outcome.blob)),
            observer=observer or Observer(),
            stopping=self._stop.is_set,
        )
        self._station = self._set_up(engine)
        self._former: list[tuple[Station, Callable[[], None]]] = []
        self._users: Counter[int] = Counter()
        told = self._shared.observer
        told.gauge("sessions", "Connections that are open.", lambda: len(self._sessions))
        told.gauge("keys", "Sets of evaluation keys in memory.", lambda: len(self._station.keys))

    def _set_up(self, engine: Engine[Any]) -> Station:
        keys: KeyStore[Any] = KeyStore(self._limits.keys_per_owner, self._limits.keys_total)
        return Station(engine, keys, EvaluationQueue(self._limits.queue, engine.parallel), self._shared)

    @property
    def station(self) -> Station:
        """The model that is served now."""
        return self._station

    def swap(self, engine: Engine[Any], retire: Callable[[], None]) -> None:
        """Serve another model from now on.

        Sessions that are open go on with the one they began with; `retire` is called when the last of them has ended, to
        close its engine.
        """
        station = self._set_up(engine)
        with self._lock:
            former, self._station = self._station, station
            self._former.append((former, retire))
        self._shared.observer.event("model swapped", model=engine.model, program=engine.fingerprint)
        self._retire()

    def _retire(self) -> None:
        """Close models that nobody uses any more."""
        with self._lock:
            done = [item for item in self._former if not self._users[id(item[0])]]
            self._former = [item for item in self._former if item not in done]
        for station, retire in done:
            station.evaluations.close(self._limits.drain)
            retire()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the service listens on."""
        return self.listener.address

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
        self.listener.stop()

    def renew(self) -> None:
        """Read the bundle anew, for connections from now on. Raises `KeyMaterialError` if it cannot be used."""
        self.listener.renew()

    def run(self) -> None:
        """Accept owners until `stop` is called, then finish what is under way."""
        self.listener.run()
        self.close()

    def close(self) -> None:
        """Stop listening and see all sessions off, within the limit `drain`."""
        self.stop()
        deadline = time.monotonic() + self._limits.drain
        with self._lock:
            sessions = dict(self._sessions)
        for session in sessions.values():
            if session is not None:
                session.wake()
        for thread in sessions:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.listener.close()
        self._station.evaluations.close(max(0.0, deadline - time.monotonic()))
        self._retire()
        self._shared.gate.close()

    def _greet(self, guest: Guest) -> None:
        guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        thread = threading.current_thread()
        with self._lock:
            self._sessions[thread] = None
            crowded = len(self._sessions) > self._limits.connections
        try:
            if crowded:
                self._turn_away(guest.sock)
            else:
                self._run_session(guest)
        finally:
            with self._lock:
                del self._sessions[thread]

    def _run_session(self, guest: Guest) -> None:
        with self._lock:
            station = self._station
            self._users[id(station)] += 1
        try:
            session = Session(guest, station)
            with self._lock:
                self._sessions[threading.current_thread()] = session
            session.run()
        finally:
            with self._lock:
                self._users[id(station)] -= 1
            self._retire()

    def _turn_away(self, secured: ssl.SSLSocket) -> None:
        buffers = ServerConversation().hang_up(
            Code.BUSY, "server busy: too many connections", "close some, or connect again later", retry_after=5.0
        )
        wire = Wire(secured)
        with contextlib.suppress(OSError):
            wire.send(buffers, time.monotonic() + self._limits.frame)
        wire.close(linger=True)
