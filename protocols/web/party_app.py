r"""A party's web application: the page, and the interface for owners without a certificate.

The interface describes itself at ``/v1/openapi.json``. The command line of an owner who has split an image itself:

    TOKEN=...                            # from `secureimg token new`
    SHOWN=$(printf 'secureimg token party0 %s' "$TOKEN" | sha256sum | cut -d' ' -f1)
    curl --cacert ca.pem -H "Authorization: Bearer $SHOWN" https://party0.example:8442/v1/model
    curl --cacert ca.pem -H "Authorization: Bearer $SHOWN" -T share-0.bin \
        "https://party0.example:8442/v1/answers/$SESSION?program=$PROGRAM"

and the same, at the same time, with ``party1`` at the other party.
"""

from __future__ import annotations

import functools
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.web.descriptions import Answer, PageFacts
from protocols.web.facts import describe
from protocols.web.headers import SecurityHeaders, origin_of
from protocols.web.openapi import party_document
from protocols.web.page import page_files, page_routes
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
from secureimg import sharing

__all__ = ["Party", "WebAnswer", "party_application"]

_LONGEST: Final = 900.0
_THREADS: Final = 32
_MEMORY: Final = 512 << 20
_PROGRAMS: Final = 4


class WebAnswer(Protocol):
    """What a party found out; `protocols.sharing.party.SharedAnswer` is one."""

    @property
    def share(self) -> NDArray[np.uint8]:
        """A share of the result, this party's."""

    @property
    def rounds(self) -> int:
        """Messages between the parties that waited for each other."""

    @property
    def seconds(self) -> float:
        """In the run."""

    @property
    def offline_seconds(self) -> float:
        """In getting ready for it."""

    @property
    def sent(self) -> int:
        """Bytes to the other party."""


class Party(Protocol):
    """What the application asks of a party; `protocols.sharing.desk.PartyDesk` is one. Thread-safe; calls block."""

    def public(self) -> sharing.PublicProgram:
        """Return the program that would run now."""

    def kept(self, owner: str, session: str) -> WebAnswer | None:
        """Return the answer of a session that is done."""

    def answer(
        self,
        owner: str,
        session: str,
        share: NDArray[np.uint8],
        *,
        images: int,
        seconds: float,
        model: str | None = None,
    ) -> WebAnswer:
        """Run the program on a share, with the other party; once for each session."""


def party_application(
    party: Party, tokens: TokenFile, *, other: str | None, number: int, images: int = 64
) -> Starlette:
    """Return the application, to be served with `protocols.web.web_server`.

    Parameters
    ----------
    party : Party
    tokens : TokenFile
        Owners who may ask.
    other : str or None
        Address of the other party's application, for the page. Scripts of that origin, and no other, may ask here.
    number : int
        Which party this is, 0 or 1.
    images : int
        How many images one request may hold.

    Raises
    ------
    LocalProtocolError
        If `other` is not an HTTPS address.
    """
    origin = None if other is None else origin_of(other)
    files = page_files()
    interface = _Interface(party, Admission(tokens, _THREADS, _MEMORY), origin, number, images)
    facts = PageFacts(
        party=number,
        other=origin,
        software=f"secureimg {version('secureimg')}",
        files={name: file.digest for name, file in files.items()},
    )
    document = json.dumps(party_document(images)).encode()

    async def page(_: Request) -> Response:
        return json_response(facts)

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    cross = Middleware(
        CORSMiddleware,
        allow_origins=[] if origin is None else [origin],
        allow_methods=["GET", "PUT"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
        max_age=600,
    )
    return Starlette(
        routes=[
            Route("/v1/openapi.json", openapi),
            Route("/v1/page", page),
            Route("/v1/model", interface.model),
            Route("/v1/answers/{session}", interface.ask, methods=["PUT"]),
            Route("/v1/answers/{session}", interface.fetch, methods=["GET"]),
            *page_routes(files),
        ],
        middleware=[Middleware(SecurityHeaders, other=origin), cross, Middleware(LastResort)],
        exception_handlers=HANDLERS,
    )


class _Interface:
    """Answers the requests that need a token."""

    def __init__(self, party: Party, admission: Admission, other: str | None, number: int, images: int) -> None:
        self._party, self._admission, self._other, self._number, self._images = party, admission, other, number, images
        self._programs: OrderedDict[str, sharing.PublicProgram] = OrderedDict()
        self._lock = threading.Lock()

    async def model(self, request: Request) -> Response:
        """GET /v1/model."""
        owner = self._admission.owner(request)
        public = await self._admission.work(owner, self._current)
        facts = functools.partial(describe, public, party=self._number, other=self._other, images=self._images)
        return json_response(await self._admission.work(owner, facts))

    async def fetch(self, request: Request) -> Response:
        """GET /v1/answers/{session}."""
        owner = self._admission.owner(request)
        session = text_in(request.path_params, "session", "[0-9a-f]{32}")
        kept = self._party.kept(owner, session)
        if kept is None:
            raise RefusedError(Code.GONE, "that session has no answer here", "ask for one with PUT")
        return self._answer(session, kept)

    async def ask(self, request: Request) -> Response:
        """PUT /v1/answers/{session}."""
        owner = self._admission.owner(request)
        session = text_in(request.path_params, "session", "[0-9a-f]{32}")
        fingerprint = text_in(request.query_params, "program", "[0-9a-f]{64}")
        images = int(number_in(request.query_params, "images", 1, 1, self._images))
        seconds = number_in(request.query_params, "seconds", 60.0, 0.0, _LONGEST)
        kept = self._party.kept(owner, session)
        if kept is not None:
            return self._answer(session, kept)
        public = await self._admission.work(owner, functools.partial(self._named, fingerprint))
        size = public.share_bytes(images)
        with self._admission.room(announced_size(request, size)):
            share = np.frombuffer(await read_body(request, size), dtype=np.uint8)
            if share.size != size:
                said = f"a share of {share.size} bytes, expected {size}"
                raise RefusedError(Code.BAD_SHARE, said, "share the image anew, as /v1/model says")
            run: Callable[[], WebAnswer] = functools.partial(
                self._party.answer, owner, session, share, images=images, seconds=seconds, model=fingerprint
            )
            answer = await self._admission.work(owner, run)
        return self._answer(session, answer)

    def _current(self) -> sharing.PublicProgram:
        """The program of now. Party 0 has to ask party 1 for it."""
        public = self._party.public()
        with self._lock:
            self._programs[public.fingerprint] = public
            self._programs.move_to_end(public.fingerprint)
            while len(self._programs) > _PROGRAMS:
                self._programs.popitem(last=False)
        return public

    def _named(self, fingerprint: str) -> sharing.PublicProgram:
        """The program that an owner made its shares for. Party 1, who has the model, knows whether it still runs."""
        known = None if self._number else self._programs.get(fingerprint)
        public = known or self._current()
        if public.fingerprint != fingerprint:
            raise RefusedError(Code.UNKNOWN_MODEL, "the model was changed", "load the model again and ask anew")
        return public

    def _answer(self, session: str, answer: WebAnswer) -> Response:
        return json_response(
            Answer(
                party=self._number, session=session, share=answer.share.tobytes(), rounds=answer.rounds,
                seconds=answer.seconds, offline_seconds=answer.offline_seconds, sent=answer.sent,
            )
        )  # fmt: skip
