"""A party's HTTPS interface: who may ask, what is refused and how, that a session runs once, and what browsers are told."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import socket
import ssl
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from protocols.web import TokenFile, web_server
from protocols.web.headers import origin_of
from protocols.web.openapi import party_document, server_document
from protocols.web.party_app import party_application
from protocols.web.tokens import ROLES, add_entry, make_entry, new_secret, read_entries, remove_entries
from secureimg.errors import LocalProtocolError
from secureimg.graph import load_model, run_plain

from .conftest import Pair

DOCUMENT = party_document(4)


def image(seed: int = 1, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 28, 28))


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Every refusal is a problem document with code, message and remedy."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    fits(answer.json(), "Problem")
    assert answer.json()["code"] == code
    assert answer.json()["remedy"]


def fits(value: Any, name: str) -> None:
    """A value is as the OpenAPI document says."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


# -------------------------------------------------------------------------------------------------------------- answers


def test_two_answers_add_up_to_the_plain_models(pair: Pair, session: str) -> None:
    images = image(count=3)
    answers = pair.ask(session, pair.shares(images), images=3)
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    for answer in answers:
        fits(answer.json(), "Answer")
    assert np.abs(pair.scores(answers, 3) - run_plain(load_model("mnist-cnn"), images)).max() < 0.02


def test_a_session_runs_once_and_is_answered_again(pair: Pair, session: str) -> None:
    shares = pair.shares(image())
    first = pair.ask(session, shares)
    again = [
        pair.put(number, session, shares[number]) for number in (0, 1)
    ]  # one after the other: nobody is waited for
    assert [answer.json() for answer in again] == [answer.json() for answer in first]
    for number in (0, 1):
        with pair.client(number) as client:
            assert client.get(f"/v1/answers/{session}").json() == first[number].json()


def test_a_session_is_its_owners_own(pair: Pair, session: str) -> None:
    pair.ask(session, pair.shares(image()))
    other = add_owner(pair, "other")
    with pair.client(1, headers=pair.bearer(1, other)) as client:
        is_problem(client.get(f"/v1/answers/{session}"), 410, "gone")


def test_a_party_that_is_asked_alone_says_so_and_reveals_nothing(pair: Pair, session: str) -> None:
    share = pair.shares(image())[1]
    is_problem(pair.put(1, session, share, seconds=1), 502, "peer")


def test_the_model_is_described_so_that_others_can_share_for_it(pair: Pair) -> None:
    facts = []
    for number in (0, 1):
        with pair.client(number) as client:
            found = client.get("/v1/model").json()
        fits(found, "Model")
        assert (found["party"], found["other"]) == (number, pair.urls[1 - number])
        facts.append({**found, "party": 0, "other": None})
    assert facts[0] == facts[1]
    public = pair.public
    assert facts[0]["program"] == public.fingerprint
    assert facts[0]["input"]["share_bytes"] == public.share_bytes(1)
    assert facts[0]["result"]["share_bytes"] == public.result_bytes(1)
    assert facts[0]["preparation"] == {"mode": "L", "size": [28, 28], "mean": [0.0], "std": [1.0]}
    assert [who["who"] for who in facts[0]["learns"]][:3] == ["You", "Party 0", "Party 1"]


def test_shares_for_a_model_that_was_swapped_are_refused(pair: Pair, session: str) -> None:
    share = pair.shares(image())[0]
    for number in (0, 1):
        is_problem(pair.put(number, session, share, program="0" * 64), 404, "unknown-model")


# ------------------------------------------------------------------------------------------------------------ who may ask


def add_owner(pair: Pair, name: str) -> str:
    """Hand out one more token, while the parties run."""
    secret, expires = new_secret(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    for path, role in zip(pair.files, ROLES[:2], strict=True):
        if not any(entry.name == name for entry in read_entries(path)):
            add_entry(path, make_entry(role, name, secret, expires))
    return secret


def test_all_but_the_page_and_its_description_needs_a_token(pair: Pair, session: str) -> None:
    with pair.client(0, headers={}) as client:
        for path in ("/", "/app.js", "/style.css", "/v1/openapi.json", "/v1/page"):
            assert client.get(path).status_code == 200
        for answer in (
            client.get("/v1/model"),
            client.get(f"/v1/answers/{session}"),
            client.put(f"/v1/answers/{session}", content=b"x"),
        ):
            is_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_what_is_shown_to_one_party_is_nothing_to_the_other(pair: Pair) -> None:
    for number in (0, 1):
        with pair.client(number, headers=pair.bearer(1 - number)) as client:
            is_problem(client.get("/v1/model"), 401, "unauthorized")


@pytest.mark.parametrize("shown", ["", "Basic abc", "Bearer", "Bearer x", "Bearer " + "0" * 64, "Bearer " + "é" * 64])
def test_other_tokens_are_refused(pair: Pair, shown: str) -> None:
    with pair.client(0, headers={"Authorization": shown.encode("latin-1")}) as client:
        is_problem(client.get("/v1/model"), 401, "unauthorized")


def test_a_token_that_is_revoked_is_refused_at_once(pair: Pair) -> None:
    secret = add_owner(pair, "leaver")
    with pair.client(0, headers=pair.bearer(0, secret)) as client:
        assert client.get("/v1/model").status_code == 200
        remove_entries(pair.files[0], ["leaver"])
        is_problem(client.get("/v1/model"), 401, "unauthorized")


def test_a_file_of_tokens_that_is_damaged_lets_nobody_in_and_tells_nothing_of_it(pair: Pair) -> None:
    path = pair.files[1]
    good = path.read_bytes()
    with pair.client(1) as client:
        path.write_bytes(b"damaged")
        answer = client.get("/v1/model")
        path.write_bytes(good)
        is_problem(answer, 503, "unavailable")
        assert path.name not in answer.text
        assert client.get("/v1/model").status_code == 200


# ---------------------------------------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize("size", [0, 1, -1, 1 << 20])
def test_a_share_of_another_size_is_refused(pair: Pair, session: str, size: int) -> None:
    right = pair.public.share_bytes(1)
    length = size if size in (0, 1 << 20) else right + size
    answer = pair.put(1, session, bytes(length))
    is_problem(answer, *((413, "too-large") if length > right else (400, "bad-share")))


def test_a_body_is_capped_before_it_is_read(pair: Pair, session: str) -> None:
    """The refusal of a terabyte comes while none of it was sent."""
    host, port = pair.urls[1].removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=pair.authority, timeout=10)
    connection.putrequest("PUT", f"/v1/answers/{session}?program={pair.public.fingerprint}")
    for name, value in {**pair.bearer(1), "Content-Length": str(10**12)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_without_a_length_is_capped_while_it_comes(pair: Pair, session: str) -> None:
    def pieces() -> Any:
        for _ in range(16):
            yield bytes(1024)

    with pair.client(1) as client:
        query = {"program": pair.public.fingerprint}
        is_problem(client.put(f"/v1/answers/{session}", params=query, content=pieces()), 413, "too-large")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    token=st.one_of(st.text(max_size=40), st.from_regex("[0-9a-f]{32}", fullmatch=True)),
    query=st.dictionaries(st.sampled_from(["program", "images", "seconds"]), st.text(max_size=70), max_size=3),
    body=st.binary(max_size=200),
    number=st.integers(0, 1),
)
def test_whatever_is_sent_ends_in_one_refusal(
    pair: Pair, token: str, query: dict[str, str], body: bytes, number: int
) -> None:
    """None of these can be a request: the share is too small."""
    with pair.client(number) as client:
        path = (
            httpx.URL(pair.urls[number]).copy_with(raw_path=b"/v1/answers/" + _quoted(token)).copy_merge_params(query)
        )
        answer = client.put(path, content=body)
    assert 400 <= answer.status_code < 500, answer.text
    fits(answer.json(), "Problem")


def _quoted(text: str) -> bytes:
    return quote(text.encode("utf-8", "surrogatepass"), safe="").encode()


@pytest.mark.parametrize(
    "query",
    [{"images": "0"}, {"images": "5"}, {"images": "x"}, {"seconds": "nan"}, {"seconds": "-1"}, {"seconds": "1e9"}],
)
def test_numbers_out_of_range_are_refused(pair: Pair, session: str, query: dict[str, str]) -> None:
    is_problem(pair.put(0, session, b"", **query), 400, "malformed")


def test_unknown_places_and_methods_are_refused(pair: Pair) -> None:
    with pair.client(0) as client:
        is_problem(client.get("/v2/model"), 404, "not-found")
        is_problem(client.post("/v1/model"), 405, "method-not-allowed")
        is_problem(client.get("/../pyproject.toml"), 404, "not-found")


# --------------------------------------------------------------------------------------------------- what browsers are told


def test_scripts_of_the_other_partys_page_may_ask_and_no_others(pair: Pair) -> None:
    preflight = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,content-type"}
    with pair.client(0) as client:
        path = f"/v1/answers/{'0' * 32}"
        good = client.options(path, headers={"Origin": pair.urls[1], **preflight})
        assert good.status_code == 200
        assert good.headers["access-control-allow-origin"] == pair.urls[1]
        assert "access-control-allow-credentials" not in good.headers
        bad = client.options(path, headers={"Origin": "https://evil.example", **preflight})
        assert bad.status_code == 400
        assert "access-control-allow-origin" not in bad.headers
        answer = client.get("/v1/model", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_strict_headers(pair: Pair) -> None:
    with pair.client(0) as client:
        answers = [client.get(path) for path in ("/", "/app.js", "/v1/model", "/v1/nothing", "/v1/openapi.json")]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["strict-transport-security"].startswith("max-age=")
        assert "camera=()" in headers["permissions-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert headers["cache-control"] == ("no-store" if "/v1/" in str(answer.url) else "no-cache")
    rules = dict(rule.split(" ", 1) for rule in answers[0].headers["content-security-policy"].split("; "))
    assert rules["connect-src"] == f"'self' {pair.urls[1]}"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == "'none'"


def test_the_pages_files_have_their_types_and_are_not_sent_twice(pair: Pair) -> None:
    kinds = {"": "text/html", "app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}
    with pair.client(0, headers={}) as client:
        for name, kind in kinds.items():
            answer = client.get(f"/{name}")
            assert answer.headers["content-type"].startswith(kind)
            again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_both_parties_serve_the_same_page_and_say_its_digests(pair: Pair) -> None:
    facts = []
    for number in (0, 1):
        with pair.client(number, headers={}) as client:
            facts.append(client.get("/v1/page").json())
            fits(facts[-1], "PageFacts")
            for name, digest in facts[-1]["files"].items():
                content = client.get("/" if name == "index.html" else f"/{name}").content
                assert hashlib.sha256(content).hexdigest() == digest
    assert facts[0]["files"] == facts[1]["files"]
    assert [found["party"] for found in facts] == [0, 1]


def test_our_own_faults_are_answers_too_and_tell_nothing(pair: Pair) -> None:
    app = party_application(None, TokenFile(pair.files[0]), other=pair.urls[1], number=0)  # type: ignore[arg-type]
    headers = {**pair.bearer(0), "Origin": pair.urls[1]}
    with web_server(app, pair.directory / "pki" / "party-0.pem") as server:
        host, port = server.address
        answer = httpx.get(f"https://{host}:{port}/v1/model", verify=pair.authority, headers=headers)
    is_problem(answer, 500, "internal")
    assert "NoneType" not in answer.text
    assert answer.headers["access-control-allow-origin"] == pair.urls[1]  # or the page could not say what happened
    assert answer.headers["cache-control"] == "no-store"


def test_only_tls_1_3_is_spoken_and_no_certificate_is_asked_for(pair: Pair) -> None:
    host, port = pair.urls[0].removeprefix("https://").split(":")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host, int(port)), 10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        pair.authority.wrap_socket(plain, server_hostname=host) as secured,
    ):
        assert secured.version() == "TLSv1.3"


# ------------------------------------------------------------------------------------------------------- the description


@pytest.mark.parametrize("document", [party_document(64), server_document()], ids=["party", "server"])
def test_the_description_is_openapi_3_1(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_the_description_served_is_that_of_the_routes(pair: Pair) -> None:
    with pair.client(0, headers={}) as client:
        served = client.get("/v1/openapi.json").json()
    assert served == DOCUMENT
    described = {
        (path, method.upper()) for path, item in served["paths"].items() for method in item if method in ("get", "put")
    }
    app = party_application(None, None, other=None, number=0)  # type: ignore[arg-type]
    routes: Any = app.routes
    offered = {
        (route.path, method) for route in routes if route.path.startswith("/v1/") for method in route.methods - {"HEAD"}
    }
    assert described == offered


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://Party1.example", "https://party1.example"),
        ("https://party1.example:443/page", "https://party1.example"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_is_written_as_browsers_do(address: str, origin: str) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize("address", ["http://party1.example", "https://", "https://a:99999", "https://u:p@a", "party1"])
def test_what_is_no_https_address_is_refused(address: str) -> None:
    with pytest.raises(LocalProtocolError):
        origin_of(address)
