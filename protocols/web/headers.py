"""Headers of every answer: what a browser may do with the page, and that nobody keeps what the interface says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secureimg.errors import LocalProtocolError

__all__ = ["SecurityHeaders", "origin_of"]

_EVERY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), "
        "payment=(), usb=()"
    ),
    "Strict-Transport-Security": "max-age=31536000",
}
_API: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def origin_of(address: str) -> str:
    """Return the origin of an address as browsers write it: no path, no default port, lower case.

    Raises
    ------
    LocalProtocolError
        If it is not the address of an HTTPS server.
    """
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme != "https" or not parts.hostname or port == -1 or parts.username is not None:
        raise LocalProtocolError(f"{address[:200]!r} is not the address of the other party: write https://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"


class SecurityHeaders:
    """Adds the headers.

    Parameters
    ----------
    app : ASGI application
    other : str or None
        The other origin that the page may talk to.
    """

    def __init__(self, app: ASGIApp, other: str | None = None) -> None:
        self._app = app
        self._page = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            f"connect-src 'self'{f' {other}' if other else ''}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = scope["path"].startswith("/v1/")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_EVERY)
                headers["Content-Security-Policy"] = _API if api else self._page
                headers.setdefault("Cache-Control", "no-store" if api else "no-cache")
            await send(message)

        await self._app(scope, receive, with_headers)
