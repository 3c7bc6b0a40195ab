"""The CKKS server's web application: the interface for owners without a certificate.

The interface describes itself at ``/v1/openapi.json``. Keys and ciphertexts are made by `secureimg keygen` and `secureimg
encrypt`, or `secureimg.ckks.OwnerKeys` in Python:

    TOKEN=...                            # from `secureimg token new --for server`
    SHOWN=$(printf 'secureimg token server %s' "$TOKEN" | sha256sum | cut -d' ' -f1)
    ask() { curl --fail-with-body --cacert ca.pem -H "Authorization: Bearer $SHOWN" "$@"; }
    ask https://server.example:8443/v1/program -o program.public
    ask https://server.example:8443/v1/keys/$KEY_ID -T evaluation.keys
    ask "https://server.example:8443/v1/evaluations/$(openssl rand -hex 16)?key=$KEY_ID" -T input.ct -o answer.ct
"""

from __future__ import annotations

import functools
import json
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from protocols.messages import InputPreparation
from protocols.web.descriptions import ServedProgram, Stored
from protocols.web.headers import SecurityHeaders
from protocols.web.openapi import server_document
from protocols.web.requests import (
    HANDLERS,
    Admission,
    LastResort,
    announced_size,
    json_response,
    number_in,
    read_body,
    text_in,
)
from protocols.web.tokens import TokenFile

__all__ = ["Evaluated", "Server", "server_application"]

_KEY: Final = "[0-9a-f]{8,128}"
_LONGEST: Final = 900.0
_THREADS: Final = 32
_OCTETS: Final = "application/octet-stream"


class Evaluated(Protocol):
    """An encrypted answer; `protocols.evaluation.Outcome` is one."""

    @property
    def blob(self) -> bytes:
        """The answer."""

    @property
    def waited(self) -> float:
        """Seconds in the queue."""

    @property
    def seconds(self) -> float:
        """Seconds of evaluation."""


class Server(Protocol):
    """What the application asks of the CKKS server; `protocols.desk.ServerDesk` is one. Thread-safe; calls block."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def fingerprint(self) -> str:
        """Of its program."""

    @property
    def public(self) -> bytes:
        """The public program."""

    @property
    def preparation(self) -> InputPreparation | None:
        """How a picture becomes an input."""

    @property
    def largest(self) -> tuple[int, int]:
        """Bytes that evaluation keys, and an encrypted input, may take."""

    def register(self, owner: str, key_id: str, data: bytes) -> None:
        """Keep an owner's evaluation keys."""

    def evaluate(
        self, owner: str, key_id: str, request: str, data: bytes, seconds: float, images: int = 1
    ) -> Evaluated:
        """Evaluate an encrypted input; once for each request."""


def server_application(server: Server, tokens: TokenFile, *, memory: int = 4 << 30) -> Starlette:
    """Return the application, to be served with `protocols.web.web_server`.

    Parameters
    ----------
    server : Server
    tokens : TokenFile
        Owners who may ask.
    memory : int
        Bytes of keys and inputs that may be on their way at a time.
    """
    interface = _Interface(server, Admission(tokens, _THREADS, memory))
    document = json.dumps(server_document()).encode()

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    return Starlette(
        routes=[
            Route("/v1/openapi.json", openapi),
            Route("/v1/model", interface.model),
            Route("/v1/program", interface.program),
            Route("/v1/keys/{key_id}", interface.keep, methods=["PUT"]),
            Route("/v1/evaluations/{request}", interface.evaluate, methods=["PUT"]),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(LastResort)],
        exception_handlers=HANDLERS,
    )


class _Interface:
    """Answers the requests that need a token."""

    def __init__(self, server: Server, admission: Admission) -> None:
        self._server, self._admission = server, admission

    async def model(self, request: Request) -> Response:
        """GET /v1/model."""
        self._admission.owner(request)
        server = self._server
        keys, inputs = server.largest
        return json_response(
            ServedProgram(
                model=server.model, program=server.fingerprint, preparation=server.preparation,
                program_bytes=len(server.public), max_keys_bytes=keys, max_ciphertext_bytes=inputs,
            )
        )  # fmt: skip

    async def program(self, request: Request) -> Response:
        """GET /v1/program."""
        self._admission.owner(request)
        return Response(self._server.public, media_type=_OCTETS)

    async def keep(self, request: Request) -> Response:
        """PUT /v1/keys/{key_id}."""
        owner = self._admission.owner(request)
        key_id = text_in(request.path_params, "key_id", _KEY)
        size = announced_size(request, self._server.largest[0])
        with self._admission.room(size):
            data = bytes(await read_body(request, size))
            await self._admission.work(owner, functools.partial(self._server.register, owner, key_id, data))
        return json_response(Stored(key_id=key_id, bytes=len(data)))

    async def evaluate(self, request: Request) -> Response:
        """PUT /v1/evaluations/{request}."""
        owner = self._admission.owner(request)
        name = text_in(request.path_params, "request", "[0-9a-f]{32}")
        key_id = text_in(request.query_params, "key", _KEY)
        images = int(number_in(request.query_params, "images", 1, 1, 2**20))
        seconds = number_in(request.query_params, "seconds", 60.0, 0.0, _LONGEST)
        size = announced_size(request, self._server.largest[1])
        with self._admission.room(size):
            data = bytes(await read_body(request, size))
            outcome = await self._admission.work(
                owner, functools.partial(self._server.evaluate, owner, key_id, name, data, seconds, images)
            )
        timing = f"queue;dur={1000 * outcome.waited:.1f}, evaluate;dur={1000 * outcome.seconds:.1f}"
        return Response(outcome.blob, headers={"Server-Timing": timing}, media_type=_OCTETS)
