"""A process of a deployment, from its file to its end: state, logs, audit, the role's server, endpoints, signals."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from protocols.deployment.config import load
from protocols.deployment.models import compile_model
from protocols.deployment.notify import notify, notify_reloading
from protocols.deployment.roles import Server, build, own_bundle
from protocols.deployment.settings import Config, Web
from protocols.memory_use import peak_memory
from protocols.operations import AuditLog, Metrics, Observer
from protocols.operations.endpoint import Readiness, operations_server
from protocols.operations.logs import configure
from protocols.operations.running import HttpsServer
from protocols.tls import bundle_context
from protocols.web import web_context, web_server
from secureimg.errors import KeyMaterialError, SecureImgError
from secureimg.sharing import one_blas_thread

__all__ = ["AUDIT_FILE", "Process", "prepare_state"]

_log = logging.getLogger(__name__)

AUDIT_FILE: Final = "audit.log"
"""Name of the audit log in the state directory."""

_PATIENCE: Final = 60.0


class Process:
    """One process of a deployment.

    Parameters
    ----------
    path : Path
        Its TOML file.
    overrides : sequence of str
        See `load`.

    Attributes
    ----------
    config : Config
    facts : dict
        What its operator is told when it is ready: addresses, model, program.

    Raises
    ------
    SecureImgError
        If the file, the identity, the state directory, the model or an address cannot be used.
    """

    def __init__(self, path: Path, overrides: Sequence[str] = ()) -> None:
        self._path, self._overrides = path, tuple(overrides)
        self.config = config = load(path, overrides)
        configure(config.log.level, config.log.format)
        self._outer, self._inner = ExitStack(), ExitStack()  # audit and operations outlive the server
        self._reloading = threading.Lock()
        self._stopping = threading.Event()
        self._signalled = self._running = False
        self._web: HttpsServer | None = None
        self._operations: HttpsServer | None = None
        try:
            self._start(config)
        except BaseException:
            self._close()
            raise

    def _start(self, config: Config) -> None:
        own_bundle(config)
        prepare_state(config.state)
        audit = self._outer.enter_context(AuditLog(config.state / AUDIT_FILE))
        metrics = Metrics() if config.operations is not None else None
        self._observer = Observer(audit, metrics)
        self._model = compile_model(config)
        self._server = self._inner.enter_context(closing(build(config, self._model, self._observer)))
        self.facts: dict[str, Any] = {"role": config.role, **_place(self._server.address), **self._server.facts}
        if config.web is not None:
            self._web = self._inner.enter_context(_web(config, config.web, self._server))
            self.facts["web"] = _place(self._web.address)
        if metrics is not None and config.operations is not None:
            context = bundle_context(config.identity, ssl.PROTOCOL_TLS_SERVER)
            readiness = Readiness({"process": self._leaving, **self._server.checks})
            place = config.operations
            self._operations = operations_server(context, metrics, readiness, place.host, place.port)
            self._outer.enter_context(self._operations)
            self.facts["operations"] = _place(self._operations.address)

    def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is under way; a second one ends at once. SIGHUP reloads.

        Parameters
        ----------
        ready : callable
            Called with the facts when requests are taken.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, lambda *_: self.reload())
        model = {} if self._model is None else {"model": self.facts["model"], "program": self.facts["program"]}
        self._observer.event("start", role=self.config.role, **model)
        self._running = True
        try:
            notify("READY=1")
            ready({**self.facts, "pid": os.getpid(), "peak_rss": peak_memory()})
            threading.Thread(target=self._stop_when_told, name="stop", daemon=True).start()
            with one_blas_thread():  # for good: the matrix library's own threads would take the cores from the others
                self._server.run()
        finally:
            self._close()

    def _close(self) -> None:
        """See owners off first; what tells of them ends last."""
        self._stopping.set()
        self._inner.close()
        if self._running:
            self._observer.event("stop", role=self.config.role)
        self._outer.close()

    def stop(self) -> None:
        """Have `run` finish what is under way and return. Callable from any thread."""
        self._stopping.set()

    def reload(self) -> None:
        """Read certificates, file and model anew, in the background. What cannot be used changes nothing but the log.

        Of the file, the section `model` counts; all else takes a restart.
        """
        threading.Thread(target=self._reload, name="reload", daemon=True).start()

    def _reload(self) -> None:
        with self._reloading:
            notify_reloading()
            try:
                config = load(self._path, self._overrides)
                self._renew()
                if structs.replace(config, model=self.config.model) != self.config:
                    _log.warning("%s has changed outside of [model]: that takes a restart", self._path)
                model = compile_model(config)
                if model is not None and self._model is not None and model.name != self._model.name:
                    self._server.swap(model)
                    self._model = model
            except SecureImgError as error:
                _log.error("reload: %s; what was served is served on", error)
            except Exception:  # noqa: BLE001 - owners are still served
                _log.exception("reload: internal error; what was served is served on")
            finally:
                notify("READY=1")

    def _renew(self) -> None:
        """Use the certificate that the bundle holds now for connections from now on."""
        config = self.config
        identity = own_bundle(config)
        self._server.renew()
        if self._operations is not None:
            self._operations.renew(bundle_context(config.identity, ssl.PROTOCOL_TLS_SERVER))
        if self._web is not None and config.web is not None:
            self._web.renew(web_context(*_chain(config, config.web)))
        self._observer.event("certificate read", fingerprint=identity.fingerprint)

    def _on_stop(self, number: int, frame: object) -> None:
        if self._signalled:
            os._exit(128 + number)
        self._signalled = True
        self._stopping.set()

    def _stop_when_told(self) -> None:
        self._stopping.wait()
        notify("STOPPING=1")
        self._server.stop()
        if self._web is not None:
            self._web.stop()

    def _leaving(self) -> str | None:
        return "the process is stopping" if self._stopping.is_set() else None


def prepare_state(directory: Path) -> None:
    """Make a process's state directory, for its user only.

    Raises
    ------
    KeyMaterialError
        If it cannot be made or used, or others may look into it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode & 0o777
    except OSError as error:
        raise KeyMaterialError(
            f"{directory} cannot be made: {error.strerror}: name another directory in state"
        ) from None
    if mode & 0o077:
        raise KeyMaterialError(f"{directory} is open to others (mode {mode:o}): run chmod 700 on it")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise KeyMaterialError(f"{directory} cannot be written by this user: give it to the user that runs the process")


def _chain(config: Config, web: Web) -> tuple[Path, Path | None]:
    """What browsers are shown: a chain of its own and its key, or the bundle, which holds both."""
    return (config.identity, None) if web.certificate is None else (web.certificate, web.key)


def _web(config: Config, web: Web, server: Server) -> HttpsServer:
    patience = config.limits.idle if config.role == "server" else _PATIENCE
    return web_server(
        server.application(web), *_chain(config, web), host=web.host, port=web.port,
        connections=config.limits.connections, patience=patience, drain=config.limits.drain,
    )  # fmt: skip


def _place(address: tuple[str, int]) -> dict[str, Any]:
    return {"host": address[0], "port": address[1]}
