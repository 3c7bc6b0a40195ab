"""The deployment under soak: processes of `secureimg serve` from their files, and a relay on every link."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from protocols.deployment.settings import Role
from protocols.deployment.template import plain_text
from protocols.pki import Authority, create_bundles
from secureimg.graph import Graph

from .share_onnx import save_onnx
from .soak_links import Link, free_port
from .soak_models import small_net

__all__ = ["PATIENCE", "SERVICES", "Deployment", "Server"]

_log = logging.getLogger(__name__)

SERVICES: Final = {"shares": ("dealer", "party1", "party0"), "ckks": ("server",)}
"""Processes of each service; who dials comes after whom it dials."""

PATIENCE: Final = 5.0
"""Seconds that a party waits for the other one."""

_CLI: Final = [sys.executable, "-P", "-m", "protocols.cli"]
_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 60.0
_DRAIN: Final = 10.0
_BUNDLES: Final = {"server": "server", "party0": "party-0", "party1": "party-1", "dealer": "dealer"}
_LINKS: Final = {
    "shares": {
        "owner-party0": "party0", "owner-party1": "party1", "party0-party1": "party1", "party0-dealer": "dealer",
        "party1-dealer": "dealer",
    },
    "ckks": {"owner-server": "server"},
}  # fmt: skip


class Server:
    """One process, which can be ended in any way and started again on its port and state.

    Attributes
    ----------
    name, service : str
    port : int
    state : Path
    pid : int or None
        While it runs.
    """

    def __init__(self, name: str, service: str, port: int, file: Path, state: Path) -> None:
        self.name, self.service, self.port, self.file, self.state = name, service, port, file, state
        self.log = file.with_suffix(".log")
        self.busy = threading.Lock()  # whoever does something to it
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start it and wait until it takes requests.

        Raises
        ------
        RuntimeError
            If it does not start.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*_CLI, "serve", str(self.file), "--json", "--until-stdin-closes"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._process, self.starts = process, self.starts + 1
        timer = threading.Timer(_START_SECONDS, process.kill)
        timer.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            raise RuntimeError(f"{self.name} did not start (status {process.wait()}): {self.last_words()}")
        assert json.loads(line)["port"] == self.port

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """End it as an operator would; return its status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return ""

    def wait(self) -> int:
        """Wait until it has ended; return its status. One that does not end is killed."""
        process = self._process
        if process is None:
            return 0
        try:
            status = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _log.error("%s does not stop: killed", self.name)
            process.kill()
            process.wait()
            status = -1
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return status


class Deployment:
    """All processes of one or both services with their links; a context manager that starts and stops them.

    Parameters
    ----------
    directory : Path
        For identities, files, state and logs; empty.
    services : sequence of str
        Keys of `SERVICES`.
    owners : int
        How many bundles to make: `owner(0)` and on, and `flooder`.
    rng : random.Random
    options : mapping, optional
        More settings, by process and dotted key.

    Attributes
    ----------
    servers : dict of str to Server
    links : dict of str to Link
    graphs : dict of str to Graph
        What each service computes.
    """

    def __init__(
        self,
        directory: Path,
        services: tuple[str, ...],
        owners: int,
        rng: random.Random,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.directory, self.services = directory, services
        self._stack = contextlib.ExitStack()
        self._options = options or {}
        names = [name for service in services for name in SERVICES[service]]
        self._bundles = create_bundles(directory / "tls", [_BUNDLES[name] for name in names])
        authority = Authority.open(directory / "tls")
        for number in range(owners):
            authority.issue("owner", f"owner {number}", self.owner(number))
        authority.issue("owner", "flooder", self.flooder)
        self.graphs: dict[str, Graph] = {}
        for service in services:
            self.graphs[service] = small_net(service)
            save_onnx(self.graphs[service], directory / f"{service}.onnx")
        self._ports = {name: free_port(rng) for name in names}
        self.links: dict[str, Link] = {}
        for service in services:
            for name, target in _LINKS[service].items():
                self.links[name] = self._stack.enter_context(Link(name, free_port(rng), self._ports[target]))
        self.servers = {name: self._server(name, service) for service in services for name in SERVICES[service]}

    def __enter__(self) -> Self:
        try:
            for server in self.servers.values():
                self._stack.callback(server.kill)
            with ThreadPoolExecutor() as pool:  # none needs another one to start
                list(pool.map(Server.start, self.servers.values()))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def owner(self, number: int) -> Path:
        """Return an owner's bundle."""
        return self.directory / "tls" / f"owner-{number}.pem"

    @property
    def flooder(self) -> Path:
        """The bundle of an owner who means no good."""
        return self.directory / "tls" / "flooder.pem"

    def address(self, link: str) -> tuple[str, int]:
        """Return where a link is entered."""
        return "127.0.0.1", self.links[link].port

    def links_of(self, service: str) -> list[Link]:
        """Return the links of a service."""
        return [self.links[name] for name in _LINKS[service]]

    def reveal(self, what: str) -> None:
        """Write into party 1's file what owners learn; it holds after a SIGHUP or restart."""
        server = self.servers["party1"]
        server.file.write_text(self._text("party1", reveal=what), encoding="utf-8")

    def stop(self) -> dict[str, int]:
        """Stop all processes at once; return their statuses."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.servers, pool.map(Server.stop, self.servers.values()), strict=True))

    def _server(self, name: str, service: str) -> Server:
        file = self.directory / f"{name}.toml"
        file.write_text(self._text(name), encoding="utf-8")
        return Server(name, service, self._ports[name], file, self.directory / f"{name}-state")

    def _text(self, name: str, reveal: str = "scores") -> str:
        link = {key: "{}:{}".format(*self.address(key)) for key in self.links}
        values: dict[str, Any] = {
            "identity": self._bundles[_BUNDLES[name]],
            "state": self.directory / f"{name}-state",
            "listen.port": self._ports[name],
            "limits.idle": 30.0,
        }
        if name != "dealer":
            values |= {"limits.drain": _DRAIN, "owners.requests_per_minute": 3000.0, "owners.sessions": 4}
        if name in ("party0", "party1"):
            values |= {
                "limits.patience": PATIENCE,
                "dealing.client_aided": True,
                "peers.dealer": link[f"{name}-dealer"],
            }
        if name == "party0":
            values |= {"peers.party1": link["party0-party1"], "stock.low": 4, "stock.high": 8}
        if name == "party1":
            values |= {"model.name": self.directory / "shares.onnx", "model.reveal": reveal}
        if name == "server":
            values |= {"model.name": self.directory / "ckks.onnx", "limits.workers": 2}
        role: Role = name  # type: ignore[assignment]
        return plain_text(role, values | self._options.get(name, {}))
