"""HTTPS requests to a party's and the CKKS server's applications, from the bytes inside TLS to the answer."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

import h11
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette

from fuzzing.decoders.scratch import written
from fuzzing.decoders.worlds import KEY_ID, ckks_world, share_programs
from fuzzing.targets import Target
from protocols.errors import RefusedError
from protocols.messages import Code, InputPreparation
from protocols.web.party_app import party_application
from protocols.web.server_app import server_application
from protocols.web.tokens import TokenFile, TokenRole, add_entry, make_entry, shown_to
from secureimg import sharing
from secureimg.ckks import EvaluationKeys
from secureimg.ckks.runtime import read_input
from secureimg.errors import RemoteProtocolError

__all__ = ["make_targets"]

_SECRET: Final = "s" * 43
_SESSION: Final = "0123456789abcdef" * 2
_KEPT: Final = "f" * 32
_MOST: Final = 1 << 20
_FAILED: Final = 500
_REFUSED: Final = 400


@dataclass
class _Answer:
    """What either application gets from behind it."""

    share: NDArray[np.uint8]
    blob: bytes = b"answer"
    rounds: int = 3
    seconds: float = 0.5
    offline_seconds: float = 0.25
    waited: float = 0.0
    sent: int = 100


class _Party:
    def public(self) -> sharing.PublicProgram:
        return share_programs()[0].public

    def kept(self, owner: str, session: str) -> _Answer | None:
        return _Answer(np.zeros(4, dtype=np.uint8)) if session == _KEPT else None

    def answer(
        self,
        owner: str,
        session: str,
        share: NDArray[np.uint8],
        *,
        images: int,
        seconds: float,
        model: str | None = None,
    ) -> _Answer:
        if share.size != self.public().share_bytes(images):
            raise AssertionError(f"a share of {share.size} bytes for {images} images came through")
        return _Answer(share[:8].copy())


class _Server:
    model = "net"
    preparation: InputPreparation | None = None
    largest = (_MOST, _MOST)

    @property
    def fingerprint(self) -> str:
        return ckks_world().public.fingerprint

    @property
    def public(self) -> bytes:
        return ckks_world().public.to_bytes()

    def register(self, owner: str, key_id: str, data: bytes) -> None:
        EvaluationKeys.from_bytes(data, ckks_world().public)

    def evaluate(self, owner: str, key_id: str, request: str, data: bytes, seconds: float, images: int = 1) -> _Answer:
        if key_id != KEY_ID:
            raise RefusedError(Code.UNKNOWN_KEY, "no such keys", "send them")
        read_input(ckks_world().public, data, key_id)
        return _Answer(np.zeros(0, dtype=np.uint8))


def _tokens(role: TokenRole) -> TokenFile:
    path = written(b"", f".{role}.tokens")
    path.unlink()
    year = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    add_entry(path, make_entry(role, "fuzzer", _SECRET, year))
    return TokenFile(path)


@cache
def _running(pid: int, role: TokenRole) -> tuple[asyncio.AbstractEventLoop, Starlette]:
    """An application and its loop, for each process its own: threads and loops do not outlive a fork."""
    if role == "server":
        return asyncio.new_event_loop(), server_application(_Server(), _tokens(role))
    return asyncio.new_event_loop(), party_application(
        _Party(), _tokens(role), other="https://party1.example:8443", number=0, images=2
    )


def _request(data: bytes) -> tuple[h11.Request, list[bytes], bool]:
    """The first request in the bytes, its body, and whether it is whole."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            raise RemoteProtocolError("no whole request head")
        body = []
        while isinstance(event := connection.next_event(), h11.Data):
            body.append(bytes(event.data))
        return request, body, isinstance(event, h11.EndOfMessage)
    except h11.RemoteProtocolError as error:
        raise RemoteProtocolError(f"not HTTP: {error}") from None


async def _ask(app: Starlette, request: h11.Request, body: list[bytes], whole: bool) -> tuple[int, bytes]:
    path, _, query = request.target.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "https", "root_path": "",
        "method": request.method.decode(), "path": unquote(path.decode()), "raw_path": path, "query_string": query,
        "headers": list(request.headers), "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8443), "state": {},
    }  # fmt: skip
    coming = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    coming += [{"type": "http.request", "body": b"", "more_body": False}] if whole else []
    said: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    starts = [message for message in said if message["type"] == "http.response.start"]
    if len(starts) != 1 or said[-1].get("more_body"):
        raise AssertionError(f"{len(starts)} answers to one request, or half of one")
    return starts[0]["status"], b"".join(message.get("body", b"") for message in said)


def _decoder(role: TokenRole) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        request, body, whole = _request(data)
        loop, app = _running(os.getpid(), role)
        status, answer = loop.run_until_complete(_ask(app, request, body, whole))
        if status == _FAILED:
            raise AssertionError(f"status {status}: {answer[:300]!r}")
        if status >= _REFUSED:
            raise RemoteProtocolError(f"refused with {status}")
        return answer

    return decode


def _text(line: str, role: TokenRole, body: bytes = b"", **more: str) -> bytes:
    headers = {"Host": "party0.example", "Authorization": f"Bearer {shown_to(role, _SECRET)}", **more}
    if body:
        headers["Content-Length"] = str(len(body))
    return "\r\n".join([f"{line} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode() + body


def _party_seeds() -> list[bytes]:
    public = share_programs()[0].public
    ask = f"PUT /v1/answers/{_SESSION}?program={public.fingerprint}"
    one, two = (bytes(range(public.share_bytes(count) % 256)) for count in (1, 2))
    return [
        _text("GET /v1/model", "party0"),
        _text("GET /v1/page", "party0", Accept="*/*"),
        _text("GET /v1/openapi.json", "party0"),
        _text(f"GET /v1/answers/{_KEPT}", "party0"),
        _text(ask, "party0", one.ljust(public.share_bytes(1), b"x")),
        _text(f"{ask}&images=2&seconds=5.5", "party0", two.ljust(public.share_bytes(2), b"x")),
        _text("OPTIONS /v1/model", "party0", Origin="https://party1.example:8443").replace(
            b"\r\n\r\n", b"\r\nAccess-Control-Request-Method: GET\r\n\r\n"
        ),
    ]


def _server_seeds() -> list[bytes]:
    world = ckks_world()
    return [
        _text("GET /v1/model", "server"),
        _text("GET /v1/program", "server"),
        _text("GET /v1/openapi.json", "server"),
        _text(f"PUT /v1/keys/{KEY_ID}", "server", world.evaluation_keys),
        _text(f"PUT /v1/evaluations/{_SESSION}?key={KEY_ID}&images=1&seconds=9", "server", world.input),
    ]


def _right_length(data: bytes) -> bytes:
    """The length of the body as it is now."""
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + blank + body


def make_targets() -> list[Target]:
    """Requests."""
    return [
        Target("web-party", "an HTTPS request to a party", _decoder("party0"), _party_seeds, _right_length),
        Target("web-server", "an HTTPS request to the CKKS server", _decoder("server"), _server_seeds, _right_length),
    ]
