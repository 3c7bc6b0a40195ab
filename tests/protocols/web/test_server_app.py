"""The CKKS server's HTTPS interface, with a real service behind it: keys and ciphertexts in, an encrypted answer out."""

from __future__ import annotations

import datetime
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from protocols.desk import ServerDesk
from protocols.engine import CkksEngine
from protocols.pki import create_bundles
from protocols.service import Service
from protocols.web import TokenFile, server_application, web_server
from protocols.web.openapi import server_document
from protocols.web.tokens import add_entry, make_entry, new_secret, shown_to
from secureimg import ckks
from secureimg.graph import Graph, GraphBuilder, run_plain

DOCUMENT = server_document()


def small() -> Graph:
    """A layer of four outputs on pictures of 6 x 6."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder("small", (1, 6, 6))
    flat = builder.flatten(builder.input)
    return builder.build(builder.dense(flat, rng.normal(0, 0.2, (4, 36)), rng.normal(0, 0.1, 4)))


@dataclass(frozen=True)
class Running:
    """The interface, an owner's client for it, and the owner's keys."""

    client: httpx.Client
    graph: Graph
    keys: ckks.OwnerKeys
    app: Any

    def keep(self) -> httpx.Response:
        return self.client.put(f"/v1/keys/{self.keys.key_id}", content=self.keys.evaluation_keys().to_bytes())

    def evaluate(self, request: str, data: bytes, **query: Any) -> httpx.Response:
        asked = {"key": self.keys.key_id, **query}
        return self.client.put(f"/v1/evaluations/{request}", params=asked, content=data)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("server")
    bundle = create_bundles(directory / "pki", ("server",))["server"]
    secret, expires = new_secret(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    add_entry(directory / "tokens.toml", make_entry("server", "owner", secret, expires))
    graph = small()
    program = ckks.compile(graph)
    with ExitStack() as stack:
        engine = stack.enter_context(CkksEngine(graph, program, 1))
        service = Service(engine, bundle)
        stack.callback(service.close)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        stack.callback(service.stop)
        app = server_application(ServerDesk(service), TokenFile(directory / "tokens.toml"))
        server = stack.enter_context(web_server(app, bundle))
        client = stack.enter_context(
            httpx.Client(
                base_url="https://{}:{}".format(*server.address),
                verify=ssl.create_default_context(cafile=directory / "pki" / "ca.pem"),
                headers={"Authorization": f"Bearer {shown_to('server', secret)}"},
                timeout=60,
            )
        )
        public = ckks.PublicProgram.from_bytes(client.get("/v1/program").content)
        yield Running(client, graph, ckks.OwnerKeys.generate(public), app)


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    schema = {"$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)
    assert answer.json()["code"] == code


def test_an_encrypted_answer_is_the_plain_models(running: Running) -> None:
    images = np.random.default_rng(2).random((1, 1, 6, 6))
    assert running.keep().json()["key_id"] == running.keys.key_id
    answer = running.evaluate(secrets.token_hex(16), running.keys.encrypt(images))
    assert answer.status_code == 200, answer.text
    assert answer.headers["server-timing"].startswith("queue;dur=")
    values = running.keys.decrypt(answer.content, 1)
    assert np.abs(values - run_plain(running.graph, images)).max() < 0.02


def test_a_request_is_evaluated_once(running: Running) -> None:
    """CKKS evaluation of other ciphertexts would give other octets: the second input is not looked at."""
    running.keep()
    request = secrets.token_hex(16)
    images = np.zeros((1, 1, 6, 6))
    first = running.evaluate(request, running.keys.encrypt(images))
    again = running.evaluate(request, running.keys.encrypt(images))
    assert first.content == again.content


def test_the_model_is_described(running: Running) -> None:
    facts = running.client.get("/v1/model").json()
    schema = {"$ref": "#/components/schemas/ServedProgram", "components": DOCUMENT["components"]}
    jsonschema.validate(facts, schema, cls=jsonschema.Draft202012Validator)
    assert facts["program"] == running.keys.public.fingerprint
    assert facts["program_bytes"] == len(running.client.get("/v1/program").content)


def test_nothing_but_the_description_is_told_without_a_token(running: Running) -> None:
    request = secrets.token_hex(16)
    bare = {"Authorization": ""}
    assert running.client.get("/v1/openapi.json", headers=bare).json() == DOCUMENT
    for method, path in (
        ("GET", "/v1/model"), ("GET", "/v1/program"), ("PUT", "/v1/keys/0123456789abcdef"),
        ("PUT", f"/v1/evaluations/{request}?key=0123456789abcdef"),
    ):  # fmt: skip
        is_problem(running.client.request(method, path, headers=bare), 401, "unauthorized")


def test_what_is_no_key_or_ciphertext_is_refused(running: Running) -> None:
    key, request = running.keys.key_id, secrets.token_hex(16)
    is_problem(running.client.put(f"/v1/keys/{key}", content=b"keys"), 400, "bad-keys")
    is_problem(running.client.put("/v1/keys/x", content=b"keys"), 400, "malformed")
    other = secrets.token_hex(16)
    is_problem(
        running.client.put(f"/v1/evaluations/{request}", params={"key": other}, content=b"x"), 404, "unknown-key"
    )
    running.keep()
    is_problem(running.evaluate(request, b"ciphertext"), 400, "bad-ciphertext")
    is_problem(running.evaluate(request, b"x", images=0), 400, "malformed")
    facts = running.client.get("/v1/model").json()
    is_problem(running.evaluate(request, bytes(facts["max_ciphertext_bytes"] + 1)), 413, "too-large")


def test_keys_are_capped_before_they_are_read(running: Running) -> None:
    most = running.client.get("/v1/model").json()["max_keys_bytes"]
    answer = running.client.put("/v1/keys/0123456789abcdef", content=bytes(most + 1))
    is_problem(answer, 413, "too-large")


def test_the_description_served_is_that_of_the_routes(running: Running) -> None:
    described = {
        (path, method.upper())
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in ("get", "put")
    }
    assert described == {(route.path, method) for route in running.app.routes for method in route.methods - {"HEAD"}}
