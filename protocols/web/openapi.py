"""What the HTTPS interfaces say about themselves: OpenAPI 3.1 documents, with schemas made of the types of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from protocols.web.descriptions import Answer, Model, PageFacts, Problem, ServedProgram, Stored

__all__ = ["party_document", "server_document"]

_REFUSALS: Final[Mapping[str, str]] = {
    "400": "What was sent is malformed, or not a share, key set or ciphertext of this program.",
    "401": "No token, or one that is not valid here.",
    "403": "Above a limit of this owner.",
    "404": "The model, the session or the key is not known here.",
    "410": "The answer is no longer kept.",
    "413": "More octets than the program takes.",
    "429": "Too much at a time: ask again after Retry-After seconds.",
    "500": "Our own fault; the operator finds it in the log.",
    "502": "The other party or the dealer failed; nothing was revealed.",
    "503": "Shutting down, or the operator has something to mend.",
    "504": "Not done in the time allowed.",
}
_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_BINARY: Final[Mapping[str, Any]] = {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}


def _document(title: str, text: str, paths: dict[str, Any], types: Sequence[type]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components([*types, Problem], ref_template="#/components/schemas/{name}")
    refusals = {
        status: {"description": text, "content": {"application/problem+json": _schema(Problem)}}
        for status, text in _REFUSALS.items()
    }
    refusals["401"]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    for status in ("429", "503"):
        refusals[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("secureimg"), "description": text},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {f"Refused{status}": refusal for status, refusal in refusals.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        'SHA-256("secureimg token ROLE SECRET") in hexadecimal, ROLE being party0, party1 or server: each '
                        "process is shown another value."
                    ),
                }
            },
        },
    }


def _schema(kind: type) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}


def _get(name: str, summary: str, content: Mapping[str, Any], *refusals: str, **more: Any) -> dict[str, Any]:
    good = {"200": {"description": summary, "content": content}}
    return {"operationId": name, "summary": summary, "responses": good | _refer(refusals), **more}


def _refer(refusals: Sequence[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/Refused{status}"} for status in refusals}


def _in_path(name: str, pattern: str, text: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _in_query(name: str, schema: dict[str, Any], text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _open(name: str, summary: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"get": _get(name, summary, content, security=[])}


_OWN: Final = {"get": _get("openapi", "This document.", {_JSON: {"schema": {"type": "object"}}}, security=[])}
_SECONDS: Final = _in_query(
    "seconds", {"type": "number", "minimum": 0, "maximum": 900, "default": 60}, "How long the caller waits."
)
_ACCESS: Final = ("401", "503")


def party_document(most_images: int) -> dict[str, Any]:
    """Return the OpenAPI document of a party's interface."""
    session = _in_path("session", "^[0-9a-f]{32}$", "Drawn at random by the caller; the same at both parties.")
    running = ("400", *_ACCESS, "403", "404", "410", "413", "429", "500", "502", "504")
    images = {"type": "integer", "minimum": 1, "maximum": most_images, "default": 1}
    paths: dict[str, Any] = {
        "/v1/openapi.json": _OWN,
        "/v1/page": _open("page", "What the page must know before it asks for a token.", {_JSON: _schema(PageFacts)}),
        "/v1/model": {
            "get": _get(
                "model", "What is computed, how to prepare and share an image, and who may learn what.",
                {_JSON: _schema(Model)}, *_ACCESS, "500", "502",
            )
        },
        "/v1/answers/{session}": {
            "parameters": [session],
            "put": _get(
                "ask",
                "Hand in this party's share and get its share of the result. Both parties must be asked at about the same "
                "time. Asked again under the same session, a party returns the answer that it has and runs nothing.",
                {_JSON: _schema(Answer)}, *running,
                parameters=[
                    _in_query("program", {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                              "The program that the share was made for.", required=True),
                    _in_query("images", images, "Images in the share."),
                    _SECONDS,
                ],
                requestBody={"required": True, "description": "The share.", "content": _BINARY},
            ),
            "get": _get("answer", "The answer of a session that is done.", {_JSON: _schema(Answer)}, "400", *_ACCESS, "410"),
        },
    }  # fmt: skip
    text = (
        "One of two parties that compute on additive shares. Split an image x into r, uniform modulo 2**width, for party 0 "
        "and x - r for party 1; ask both; add their answers modulo 2**width. Neither sees anything but noise, as long as "
        "the two do not work together."
    )
    return _document("secureimg, a party on shares", text, paths, (Model, Answer, PageFacts))


def server_document() -> dict[str, Any]:
    """Return the OpenAPI document of the CKKS server's interface."""
    key = {"type": "string", "pattern": "^[0-9a-f]{8,128}$"}
    common = ("400", *_ACCESS, "403", "404", "413", "429", "500")
    evaluated = {
        "200": {
            "description": "The encrypted answer.",
            "content": _BINARY,
            "headers": {
                "Server-Timing": {
                    "description": "Milliseconds of waiting (queue) and evaluation (evaluate).",
                    "schema": {"type": "string"},
                }
            },
        }
    }
    paths: dict[str, Any] = {
        "/v1/openapi.json": _OWN,
        "/v1/model": {"get": _get("model", "What is evaluated.", {_JSON: _schema(ServedProgram)}, *_ACCESS)},
        "/v1/program": {"get": _get("program", "The public program, to make keys and ciphertexts for.", _BINARY, *_ACCESS)},
        "/v1/keys/{key_id}": {
            "parameters": [_in_path("key_id", key["pattern"], "The key set's id.")],
            "put": _get(
                "keep", "Keep this owner's evaluation keys.", {_JSON: _schema(Stored)}, *common, "504",
                requestBody={"required": True, "description": "The evaluation keys.", "content": _BINARY},
            ),
        },
        "/v1/evaluations/{request}": {
            "parameters": [_in_path("request", "^[0-9a-f]{32}$", "Drawn at random by the caller.")],
            "put": {
                "operationId": "evaluate",
                "summary": "Evaluate an encrypted input. Asked again under the same request: the same answer, no second "
                "evaluation.",
                "parameters": [
                    _in_query("key", key, "Id of the key set to use.", required=True),
                    _in_query("images", {"type": "integer", "minimum": 1, "maximum": 2**20, "default": 1},
                              "Images in the input."),
                    _SECONDS,
                ],
                "requestBody": {"required": True, "description": "The encrypted input.", "content": _BINARY},
                "responses": evaluated | _refer((*common, "410", "504")),
            },
        },
    }  # fmt: skip
    text = "Evaluates a model on CKKS ciphertexts. It never holds a secret key."
    return _document("secureimg, server on ciphertexts", text, paths, (ServedProgram, Stored))
