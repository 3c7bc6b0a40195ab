"""What goes wrong in a soak: one fault at a time is drawn at random and carried out, others may still be going on."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from .soak_deployment import Deployment, Server
from .soak_flood import FLOODS, flood
from .soak_links import Link

__all__ = ["ENDING", "KINDS", "Fault", "Faults"]

_log = logging.getLogger(__name__)

ENDING: Final = ("kill", "terminate")
"""Faults that begin a new process."""

KINDS: Final = (*ENDING, "freeze", "reload", "swap", "cut", "silence", "refuse", "delay", "corrupt", "flood")

_LINK_KINDS: Final = frozenset({"cut", "silence", "refuse", "delay", "corrupt"})
_ROLES: Final = {"party0": "party-0", "party1": "party-1", "dealer": "dealer", "server": "server"}


@dataclass
class Fault:
    """One fault.

    Attributes
    ----------
    kind, target, service : str
    began, ended : float
        On the clock of `time.monotonic`; `ended` when it is mended.
    note : str
    """

    kind: str
    target: str
    service: str
    began: float
    ended: float | None = None
    note: str = ""


@dataclass
class Faults:
    """Draws faults and carries them out.

    Attributes
    ----------
    done : list of Fault
    troubles : list of str
        Processes that did not start again, or did not stop when told.
    endings : bool
        Whether processes may be ended.
    """

    deployment: Deployment
    rng: random.Random
    kinds: Sequence[str] = KINDS
    done: list[Fault] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    endings: bool = True
    _threads: list[threading.Thread] = field(default_factory=list)
    _reveal: str = "scores"

    def strike(self) -> Fault | None:
        """Begin a fault; None if what was drawn is not possible now."""
        rng = self.rng
        kinds = [kind for kind in self.kinds if self.endings or kind not in ENDING]
        kind = rng.choice(kinds)
        if kind in _LINK_KINDS:
            link = rng.choice(list(self.deployment.links.values()))
            service = next(name for name in self.deployment.services if link in self.deployment.links_of(name))
            fault = Fault(kind, link.name, service, time.monotonic())
            self._begin(fault, self._on_link(fault, link))
            return fault
        if kind == "swap" and "shares" not in self.deployment.services:
            return None
        servers = self.deployment.servers
        server = servers["party1"] if kind == "swap" else rng.choice(list(servers.values()))
        if not server.busy.acquire(blocking=False):
            return None
        fault = Fault(kind, server.name, server.service, time.monotonic())
        self._begin(fault, self._on_server(fault, server))
        return fault

    def wait(self, seconds: float = 120.0) -> None:
        """Wait until all is mended."""
        limit = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))
            if thread.is_alive():
                self.troubles.append(f"a fault was not over {seconds:g} s after the last one began")
        self._threads.clear()

    def _begin(self, fault: Fault, work: Callable[[], None]) -> None:
        def carry_out() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - shown, and the soak fails
                _log.exception("%s of %s", fault.kind, fault.target)
                self.troubles.append(f"{fault.kind} of {fault.target}: {error}")
            fault.ended = time.monotonic()

        self.done.append(fault)
        thread = threading.Thread(target=carry_out, daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()]
        self._threads.append(thread)
        thread.start()
        _log.info("fault: %s %s %s", fault.kind, fault.target, fault.note)

    def _on_link(self, fault: Fault, link: Link) -> Callable[[], None]:
        rng = self.rng
        seconds = rng.uniform(0.5, 8.0)
        if fault.kind == "cut":
            return link.cut
        if fault.kind == "corrupt":
            bits = [rng.getrandbits(30) for _ in range(rng.randint(1, 3))]

            def corrupt() -> None:
                link.corrupt(bits)
                time.sleep(2.0)
                link.calm()

            return corrupt
        fault.note = f"{seconds:.1f} s"
        lag = rng.uniform(0.02, 0.5)

        def spoil() -> None:
            spoilt = {"silence": link.silent, "refuse": link.refusing}
            with link.lagging(lag) if fault.kind == "delay" else spoilt[fault.kind]():
                time.sleep(seconds)

        return spoil

    def _on_server(self, fault: Fault, server: Server) -> Callable[[], None]:
        rng, kind = self.rng, fault.kind
        seconds, seed = rng.uniform(0.2, 8.0), rng.getrandbits(32)
        flood_kind, count = rng.choice(FLOODS), rng.choice((20, 100, 300))
        pause = rng.uniform(0.0, 3.0)
        fault.note = {"freeze": f"{seconds:.1f} s", "flood": f"{flood_kind}, {count}, {seconds:.1f} s"}.get(kind, "")

        def act() -> None:
            with contextlib.ExitStack() as held:
                held.callback(server.busy.release)
                if kind in ENDING:
                    status = 0
                    if kind == "terminate":
                        status = server.stop()
                    else:
                        server.kill()
                    if status:
                        self.troubles.append(
                            f"{server.name} ended with status {status} on SIGTERM: {server.last_words()}"
                        )
                    time.sleep(pause)
                    server.start()
                elif kind == "freeze":
                    held.callback(server.signal, signal.SIGCONT)
                    server.signal(signal.SIGSTOP)
                    time.sleep(seconds)
                elif kind == "reload":
                    server.signal(signal.SIGHUP)
                elif kind == "swap":
                    self._reveal = "label" if self._reveal == "scores" else "scores"
                    self.deployment.reveal(self._reveal)
                    server.signal(signal.SIGHUP)
                elif kind == "flood":
                    ports = {_ROLES[name]: other.port for name, other in self.deployment.servers.items()}
                    flood(flood_kind, ports, _ROLES[server.name], self.deployment.flooder, count, seconds, seed)

        return act
