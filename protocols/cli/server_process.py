"""A server as a process of its own, for commands that play both sides on one machine."""

from __future__ import annotations

import abc
import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import secureimg.errors
from protocols.cli.options import ModelOptions
from protocols.deployment.settings import Role
from protocols.deployment.template import plain_text
from protocols.pki import create_bundles
from secureimg.errors import ProtocolError, SecureImgError

__all__ = ["LocalProcesses", "ServerProcess", "address_of", "spell", "start_process"]

_START_SECONDS = 900.0
_STOP_SECONDS = 10.0


class LocalProcesses(abc.ABC):
    """Processes on this machine, with identities that live as long as they do: a context.

    Attributes
    ----------
    pids : dict of str to int
        By the name that each was started under.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.pids: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._start(Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-"))))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abc.abstractmethod
    def _start(self, home: Path) -> None:
        """Make identities and start all processes; `home` goes when they end."""

    def _launch(self, name: str, role: Role, given: Mapping[str, Any], home: Path) -> dict[str, Any]:
        """Start one process; return what it says when it is ready."""
        ready = start_process(self._stack, role, given, home)
        self.pids[name] = int(ready["pid"])
        return ready


def address_of(ready: Mapping[str, Any]) -> tuple[str, int]:
    """Where a process listens, of what it says when it is ready."""
    return str(ready["host"]), int(ready["port"])


def spell(address: tuple[str, int]) -> str:
    """Return an address as HOST:PORT."""
    return "{}:{}".format(*address)


class ServerProcess(LocalProcesses):
    """Starts a CKKS server on this machine with identities that live as long as it does.

    Parameters
    ----------
    options : ModelOptions
        The model to serve.
    workers : int
        Processes to evaluate with.

    Attributes
    ----------
    address : (str, int)
        Where it listens.
    identity : Path
        The owner's bundle.
    compile_seconds : float
        What compiling took there.
    pid : int

    Raises
    ------
    SecureImgError
        What the server says if it cannot start, e.g. that the model cannot be compiled.
    """

    def __init__(self, options: ModelOptions, workers: int) -> None:
        super().__init__()
        self._options = options
        self._workers = workers
        self.address = ("", 0)
        self.identity = Path()
        self.compile_seconds = 0.0
        self.pid = 0

    def _start(self, home: Path) -> None:
        bundles = create_bundles(home / "tls", ("server", "owner"), days=1)
        self.identity = bundles["owner"]
        given = {"identity": bundles["server"], "limits.workers": self._workers, **self._options.ckks_settings()}
        ready = self._launch("server", "server", given, home)
        self.pid = self.pids["server"]
        self.address = address_of(ready)
        self.compile_seconds = float(ready["seconds"]["compile"])


def start_process(stack: contextlib.ExitStack, role: Role, given: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Start `secureimg serve` on this machine and a free port, for the command that calls and nobody else.

    Parameters
    ----------
    stack : ExitStack
        Ends the process when it closes.
    role : str
    given : mapping
        Values for its file by dotted key, over what suits a process of one command: no stock, no limits for its one owner.
    home : Path
        Directory for file, state and log.

    Returns
    -------
    dict
        What it says when it is ready.

    Raises
    ------
    SecureImgError
        What it says if it cannot start.
    """
    path = home / f"{role}.toml"
    path.write_text(plain_text(role, {**_for_one_command(role), "state": home / f"{role}-state", **given}))
    log = stack.enter_context(path.with_suffix(".log").open("w+b"))
    command = [sys.executable, "-P", "-m", "protocols.cli", "serve", str(path), "--json", "--until-stdin-closes"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    stack.callback(_end, process)
    assert process.stdout is not None
    return _read_ready(process.stdout, process, log)


def _for_one_command(role: Role) -> dict[str, Any]:
    given: dict[str, Any] = {"listen.port": 0, "log.level": "WARNING"}
    if role != "dealer":
        given |= {"owners.requests_per_minute": 1e9, "owners.images_per_request": 1 << 20, "owners.sessions": 1024}
    if role == "party0":
        given["stock.high"] = 0
    return given


def _read_ready(stream: IO[bytes], process: subprocess.Popen[bytes], log: IO[bytes]) -> dict[str, Any]:
    """Read the one line by which the server says that it listens, or why it does not."""
    deadline = time.monotonic() + _START_SECONDS
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not text.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise ProtocolError(
                    f"the server process was not ready within {_START_SECONDS:g} s: use a smaller model"
                )
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                break
            text += piece
    try:
        ready: dict[str, Any] = json.loads(text)
    except ValueError:
        process.kill()  # if it is not gone already
        status = process.wait()
        log.seek(0)
        last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        said = text.decode(errors="replace").strip()[:200] or last[0]
        raise ProtocolError(f"the server process did not come up (status {status}): {said}") from None
    if "error" in ready:
        kind = getattr(secureimg.errors, str(ready["error"]["type"]), SecureImgError)
        raise kind(ready["error"]["message"])
    return ready


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, then make it."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
