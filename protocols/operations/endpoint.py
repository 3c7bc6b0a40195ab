"""The operator's endpoint: metrics and health over HTTPS, for certificates of the role "operator" alone."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from protocols.operations.metrics import CONTENT_TYPE, Metrics
from protocols.operations.running import HttpsServer
from secureimg.errors import LocalProtocolError

__all__ = ["OPERATOR", "Check", "Readiness", "operations_server"]

_log = logging.getLogger(__name__)

OPERATOR: Final = "operator"
"""The role that may read metrics and health."""

Check = Callable[[], str | None]
"""Returns why the process cannot serve now, or None if it can. Within seconds, from any thread."""


class Readiness:
    """Asks all checks whether the process can serve. Safe to use from several threads.

    Parameters
    ----------
    checks : mapping of str to Check
        By name: "model", "peer", "dealer", "audit".
    patience : float
        Seconds after which a check that has not answered is itself a reason. It is not started a second time until it has.
    fresh : float
        Seconds for which an answer is given again.
    """

    def __init__(self, checks: Mapping[str, Check], patience: float = 5.0, fresh: float = 1.0) -> None:
        self._checks, self._patience, self._fresh = dict(checks), patience, fresh
        self._pool = ThreadPoolExecutor(max(1, len(self._checks)), thread_name_prefix="ready")
        self._running: dict[str, Future[str | None]] = {}
        self._lock = threading.Lock()
        self._asked, self._reasons = -1.0, dict[str, str]()

    def reasons(self) -> dict[str, str]:
        """Return why the process cannot serve, by check; empty if it can."""
        with self._lock:
            if self._asked < 0 or time.monotonic() - self._asked > self._fresh:
                self._reasons = self._ask()
                self._asked = time.monotonic()
            return dict(self._reasons)

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> dict[str, str]:
        for name, check in self._checks.items():
            if name not in self._running:
                self._running[name] = self._pool.submit(check)
        done, _ = wait(self._running.values(), self._patience)
        found: dict[str, str] = {}
        for name, future in list(self._running.items()):
            if future not in done:
                found[name] = f"no answer within {self._patience:g} s"
                continue
            del self._running[name]
            try:
                reason = future.result()
            except Exception as error:  # noqa: BLE001 - a check that fails has not said that all is well
                _log.warning("readiness check %r failed", name, exc_info=True)
                reason = f"the check failed ({type(error).__name__}): see the log"
            if reason is not None:
                found[name] = reason
        return found


def operations_server(
    context: ssl.SSLContext, metrics: Metrics, readiness: Readiness, host: str = "127.0.0.1", port: int = 0
) -> HttpsServer:
    """Return the server of an operator's endpoint, not yet started.

    It answers `GET /metrics` (Prometheus's text format), `GET /healthz` (200: the process is alive) and `GET /readyz` (200
    if all checks pass, else 503 with the reasons as JSON). A certificate of another role than "operator" gets 403 whatever
    it asks for.

    Parameters
    ----------
    context : ssl.SSLContext
        The process's own, of the server's side; it must ask for client certificates.
    metrics, readiness
        What it tells.
    host, port : str, int
        Where to listen; port 0 takes a free one.

    Raises
    ------
    LocalProtocolError
        If the context lets in whoever has no certificate.
    ProtocolError
        If the address cannot be listened on.
    """
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise LocalProtocolError(
            "the operator's endpoint needs a context that asks for client certificates (CERT_REQUIRED)"
        )

    def read_metrics(request: Request) -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    def ready(request: Request) -> Response:
        reasons = readiness.reasons()
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, 503)
        return JSONResponse({"status": "ready"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        readiness.close()

    routes = [
        Route("/metrics", read_metrics, methods=["GET"]),
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(_OperatorsOnly)], lifespan=lifespan)
    return HttpsServer(app, context, host, port, name="operations", connections=16, patience=15.0)


class _OperatorsOnly:
    """Refuses every request of any other role, before it is looked at."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # the application's own start and end
            await self._app(scope, receive, send)
            return
        peer: Any = scope.get("state", {}).get("peer")
        if peer is None or peer.role != OPERATOR:
            role, who = ("no", "nobody") if peer is None else (peer.role, peer.fingerprint[:12])
            _log.warning("the operator's endpoint refused %s, whose role is %r", who, role)
            error = (
                f"a certificate of the role {OPERATOR!r} is needed, this one's is {role!r}: ask for one to be issued"
            )
            await JSONResponse({"error": error}, 403, {"cache-control": "no-store"})(scope, receive, send)
            return
        await self._app(scope, receive, send)
