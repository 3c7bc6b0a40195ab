"""What both HTTPS interfaces do with a request: who asks, its body under a cap, blocking work, and refusals."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.web.descriptions import Problem
from protocols.web.tokens import TokenError, TokenFile
from secureimg.errors import BlobError, KeyMaterialError, RemoteProtocolError, SecureImgError

__all__ = [
    "HANDLERS",
    "Admission",
    "LastResort",
    "announced_size",
    "json_response",
    "number_in",
    "read_body",
    "text_in",
]

_log = logging.getLogger(__name__)
T = TypeVar("T")

_STATUS: Final[Mapping[Code, int]] = {
    Code.MALFORMED: 400, Code.BAD_SHARE: 400, Code.BAD_KEYS: 400, Code.BAD_CIPHERTEXT: 400, Code.LIMIT: 403,
    Code.UNKNOWN_MODEL: 404, Code.UNKNOWN_KEY: 404, Code.GONE: 410, Code.BUSY: 429, Code.RATE: 429, Code.KEY_MEMORY: 429,
    Code.PEER: 502, Code.DEALER: 502, Code.SHUTTING_DOWN: 503, Code.UNKNOWN_DEALER: 503, Code.TIMEOUT: 504,
}  # fmt: skip
_TITLES: Final[Mapping[int, str]] = {
    400: "Bad request", 401: "Not authorized", 403: "Above a limit", 404: "Not found", 405: "No such method", 410: "Gone",
    413: "Too large", 429: "Too many requests", 500: "Internal error", 502: "Another process failed", 503: "Not available",
    504: "Too late",
}  # fmt: skip
_INTERNAL: Final = "internal error"
_TELL: Final = "tell the operator, who finds it in the log"


class Admission:
    """What one application grants to its requests: by token, threads for blocking work, memory for bodies.

    Parameters
    ----------
    tokens : TokenFile
    threads : int
        Blocking calls at a time; more are refused, not queued.
    memory : int
        Bytes of bodies that may be held at a time.
    """

    def __init__(self, tokens: TokenFile, threads: int, memory: int) -> None:
        self._tokens = tokens
        self._threads = anyio.CapacityLimiter(threads)
        self._busy: Counter[str] = Counter()
        self._memory, self._held = memory, 0

    def owner(self, request: Request) -> str:
        """Return the id of the owner who asks.

        Raises
        ------
        TokenError, KeyMaterialError
            If its token is missing or not valid, or the file of tokens cannot be read.
        """
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise TokenError("no token was shown")
        return self._tokens.check(shown.strip()).id

    async def work(self, owner: str, call: Callable[[], T]) -> T:
        """Run a blocking call of an owner's in a thread. One owner gets a quarter of them at most."""
        if not self._threads.available_tokens or 4 * self._busy[owner] >= self._threads.total_tokens:
            raise RefusedError(Code.BUSY, "as many requests are under way as may be", "ask again in a moment", 1.0)
        self._busy[owner] += 1
        try:
            return await anyio.to_thread.run_sync(call, limiter=self._threads)
        finally:
            self._busy[owner] -= 1
            if not self._busy[owner]:
                del self._busy[owner]

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Hold memory for a body of at most `size` bytes."""
        if self._held and self._held + size > self._memory:
            raise RefusedError(Code.BUSY, "the memory for requests is in use", "ask again in a moment", 1.0)
        self._held += size
        try:
            yield
        finally:
            self._held -= size


def announced_size(request: Request, most: int) -> int:
    """Return how many bytes a body may turn out to have, before any of it is read.

    Raises
    ------
    HTTPException
        If that is more than `most`.
    """
    announced = request.headers.get("content-length", "")
    if not (announced.isascii() and announced.isdigit()):
        return most
    if len(announced) > 18 or int(announced) > most:
        raise HTTPException(413, f"{announced[:20]} bytes, expected at most {most}")
    return int(announced)


async def read_body(request: Request, most: int) -> bytearray:
    """Read a body of at most `most` bytes.

    Raises
    ------
    HTTPException
        If it is larger.
    """
    body = bytearray()
    async for piece in request.stream():
        if len(body) + len(piece) > most:
            raise HTTPException(413, f"more than {most} bytes")
        body += piece
    return body


def text_in(values: Mapping[str, str], name: str, pattern: str) -> str:
    """Return a word of the path or the query that must fit a pattern."""
    value = values.get(name, "")
    if not re.fullmatch(pattern, value):
        raise RefusedError(Code.MALFORMED, f"{name} is {value[:80]!r}", f"it must fit {pattern}")
    return value


def number_in(values: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """Return a number of the query."""
    text = values.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # nor is a NaN
        raise RefusedError(Code.MALFORMED, f"{name} is {text[:80]!r}", f"give a number from {low:g} to {high:g}")
    return value


def json_response(value: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a struct as JSON."""
    kind = "application/problem+json" if isinstance(value, Problem) else "application/json"
    return Response(msgspec.json.encode(value), status, dict(headers or {}), kind)


def _problem(
    status: int, code: str, message: str, remedy: str, retry_after: float | None = None, **headers: str
) -> Response:
    body = Problem(
        title=_TITLES.get(status, "Error"), status=status, code=code, message=message, remedy=remedy, retry_after=retry_after
    )  # fmt: skip
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return json_response(body, status, headers)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    status = _STATUS.get(error.code, 500)
    retry_after = error.retry_after if error.retry_after is not None or status != 429 else 1.0
    return _problem(status, error.code.value, error.message, error.remedy, retry_after)


def _unauthorized(_: Request, error: Exception) -> Response:
    _log.info("refused: %s", error)
    response = _problem(401, "unauthorized", str(error), "ask the operator for a token (`secureimg token new`)")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _unusable(_: Request, error: Exception) -> Response:
    _log.error("%s", error)  # names a file of ours: for the log alone
    return _problem(503, "unavailable", "something that the operator keeps cannot be used", _TELL)


def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, RemoteProtocolError):
        _log.warning("%s", error)
        return _problem(502, Code.PEER.value, "the other party cannot be reached", "see to it, then ask again")
    if isinstance(error, BlobError):
        return _problem(400, Code.MALFORMED.value, str(error), "use equal releases of secureimg")
    _log.error("internal error: %s", error, exc_info=error)
    return _problem(500, Code.INTERNAL.value, _INTERNAL, _TELL)


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, remedy = {
        404: ("not-found", "see /v1/openapi.json"),
        405: ("method-not-allowed", "see /v1/openapi.json"),
        413: ("too-large", "send what the program takes, see /v1/model"),
    }.get(error.status_code, ("http", "see /v1/openapi.json"))
    response = _problem(error.status_code, code, str(error.detail), remedy)
    response.headers.update(error.headers or {})
    return response


def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


_TABLE: Final[dict[Any, ExceptionHandler]] = {
    RefusedError: _refused,
    TokenError: _unauthorized,
    KeyMaterialError: _unusable,
    SecureImgError: _failed,
    ClientDisconnect: _left,
    HTTPException: _http,
}
HANDLERS: Final[Mapping[Any, ExceptionHandler]] = _TABLE
"""Every exception that a request may end in becomes an answer of `application/problem+json`."""


class LastResort:
    """Turns an error of our own into an answer too, inside of what adds headers: the page may read it then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            _log.exception("internal error (%s)", type(error).__name__)
            await _problem(500, Code.INTERNAL.value, _INTERNAL, _TELL)(scope, receive, send)
