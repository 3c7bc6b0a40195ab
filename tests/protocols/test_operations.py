"""Metrics, health and logs of a running process, over real TLS: who may read them, and what no client can do to them."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from protocols.messages import Code
from protocols.operations import AuditLog, Metrics, Observer
from protocols.operations.endpoint import Readiness, operations_server
from protocols.operations.logs import JsonFormatter, configure
from protocols.operations.running import HttpsServer
from protocols.pki import create_bundles
from protocols.tls import bundle_context, dial
from secureimg.errors import LocalProtocolError, ProtocolError, SecureImgError

OWNER = "ab" * 32
ROLES = ("owner", "server", "party-0", "party-1", "dealer")


class Authority:
    """Issues certificates with any role names, sensible or not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self._certificate = self._build(self._name, self._key.public_key(), ca=True)

    def _build(self, name: x509.Name, key: Any, roles: tuple[str, ...] = (), *, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True
            )
        )  # fmt: skip
        if not ca:
            usages = [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            names = [x509.DNSName(f"{role}.secureimg.internal") for role in roles] or [x509.DNSName("else.where")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, side: int, *roles: str) -> ssl.SSLContext:
        """The context of whoever holds a certificate of these roles."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "-".join(roles) or "nobody")])
        certificate = self._build(name, key.public_key(), roles)
        path = self._directory / f"{certificate.serial_number}.pem"
        pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()) + certificate.public_bytes(pem))
        context = ssl.SSLContext(side)
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=self._certificate.public_bytes(serialization.Encoding.DER))
        if side == ssl.PROTOCOL_TLS_SERVER:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, port: int, *roles: str) -> httpx.Client:
        return client(port, self.context(ssl.PROTOCOL_TLS_CLIENT, *roles))


def client(port: int, context: ssl.SSLContext) -> httpx.Client:
    """A client that checks the server's role name, not the address that it dials."""

    def name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = "party-0.secureimg.internal"

    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        verify=context,
        timeout=20,
        trust_env=False,
        event_hooks={"request": [name]},
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Operated:
    """A server's operator's endpoint, and the parts behind it."""

    def __init__(self, authority: Authority) -> None:
        self.metrics, self.reasons = Metrics(), dict[str, str]()
        self.observer = Observer(metrics=self.metrics)
        self.readiness = Readiness(
            {"peer": lambda: self.reasons.get("peer"), "audit": self.observer.trouble}, fresh=0.0
        )
        context = authority.context(ssl.PROTOCOL_TLS_SERVER, "party-0")
        self.server = operations_server(context, self.metrics, self.readiness)
        self.port = self.server.address[1]


@pytest.fixture
def operated(authority: Authority) -> Iterator[Operated]:
    running = Operated(authority)
    with running.server:
        yield running


def values(text: str) -> dict[str, float]:
    """Metrics by name and labels."""
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ------------------------------------------------------------------------------------------------------------- endpoint


def test_an_operator_reads_what_happened(authority: Authority, operated: Operated) -> None:
    observer = operated.observer
    for _ in range(3):
        observer.opened(OWNER, model="tiny", program="p", dealer="dealer")
    observer.answered(
        OWNER, session="s", model="tiny", program="p", images=5, reveal="label", seconds=0.2, waited=0.004
    )
    observer.refused(OWNER, code=Code.BUSY, message="queue full")
    observer.closed(OWNER)
    observer.event("stock-filled", correlations=4)
    observer.transferred(received=1000, sent=20)
    observer.gauge("stock", "Correlations ready.", lambda: 4)
    with authority.client(operated.port, "operator") as http:
        answer = http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = values(answer.text)
        observer.gauge("stock", "Correlations ready.", lambda: 9)  # after a model swap, say
        assert values(http.get("/metrics").text)["secureimg_stock"] == 9
    expected = {
        "secureimg_sessions_opened_total": 3,
        "secureimg_sessions_open": 2,
        "secureimg_requests_total{outcome=answered}": 1,
        "secureimg_requests_total{outcome=busy}": 1,
        "secureimg_images_total{reveal=label}": 5,
        "secureimg_evaluation_seconds_bucket{le=0.3}": 1,
        "secureimg_evaluation_seconds_bucket{le=0.1}": 0,
        "secureimg_waiting_seconds_sum": 0.004,
        "secureimg_events_total{event=stock-filled}": 1,
        "secureimg_received_bytes_total": 1000,
        "secureimg_sent_bytes_total": 20,
        "secureimg_stock": 4,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["process_resident_memory_bytes"] > 1e6
    assert found["process_open_fds"] > 3
    assert found["secureimg_peak_memory_bytes"] > 1e6
    assert OWNER[:12] not in answer.text, "metrics do not name owners"


def test_the_deployments_own_certificates_do(tmp_path: Path) -> None:
    bundles = create_bundles(tmp_path / "pki", ("server", "operator", "owner"))
    context = bundle_context(bundles["server"], ssl.PROTOCOL_TLS_SERVER)
    with operations_server(context, Metrics(), Readiness({})) as server:
        for role, status in (("operator", 200), ("owner", 403)):
            theirs = bundle_context(bundles[role], ssl.PROTOCOL_TLS_CLIENT)
            with dial(*server.address, theirs, 15, "server") as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("role", ROLES)
def test_other_roles_are_refused_whatever_they_ask_for(authority: Authority, operated: Operated, role: str) -> None:
    with authority.client(operated.port, role) as http:
        for path in ("/metrics", "/healthz", "/readyz", "/", "/nowhere"):
            answer = http.get(path)
            assert answer.status_code == 403
            assert role in answer.json()["error"]
            assert "secureimg_" not in answer.text


@pytest.mark.parametrize("roles", [(), ("operator", "owner"), ("operator", "operators")])
def test_a_certificate_that_does_not_have_one_role_gets_nothing(
    authority: Authority, operated: Operated, roles: tuple[str, ...]
) -> None:
    ending = contextlib.suppress(httpx.TransportError)  # before anything is answered
    with authority.client(operated.port, *roles) as http, ending:
        assert http.get("/metrics").status_code == 403


def test_a_role_belongs_to_its_connection(authority: Authority, operated: Operated) -> None:
    with authority.client(operated.port, "operator") as operator, authority.client(operated.port, "owner") as owner:
        for _ in range(5):  # both connections stay open
            assert operator.get("/healthz").json() == {"status": "alive"}
            assert owner.get("/healthz").status_code == 403


def test_without_a_certificate_of_the_authority_nothing_is_answered(
    authority: Authority, operated: Operated, anonymous: ssl.SSLContext, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).context(ssl.PROTOCOL_TLS_CLIENT, "operator")
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    for context in (anonymous, stranger):
        with client(operated.port, context) as http, pytest.raises(httpx.TransportError):
            http.get("/healthz")
    with socket.create_connection(("127.0.0.1", operated.port)) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(OSError):
            assert b"HTTP" not in plain.recv(4096)
    with authority.client(operated.port, "operator") as http:
        assert http.get("/healthz").status_code == 200


def test_older_tls_is_refused(authority: Authority, operated: Operated) -> None:
    context = authority.context(ssl.PROTOCOL_TLS_CLIENT, "operator")
    with connect(operated.server, context) as connection:
        assert connection.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError, match=r"(?i)eof|alert|reset"):
        connect(operated.server, context)


def test_readiness_says_what_is_missing(authority: Authority, operated: Operated) -> None:
    with authority.client(operated.port, "operator") as http:
        assert http.get("/readyz").json() == {"status": "ready"}
        operated.reasons["peer"] = "no connection to 192.0.2.7:7441 (timed out)"
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == {"peer": "no connection to 192.0.2.7:7441 (timed out)"}
        assert http.get("/healthz").status_code == 200, "a process that is not ready is alive"
        assert http.post("/healthz").status_code == 405
        assert http.get("/nowhere").status_code == 404


def test_a_check_that_hangs_or_fails_is_a_reason_and_does_not_pile_up() -> None:
    release, started = threading.Event(), []

    def hang() -> None:
        started.append(1)
        release.wait(20)

    readiness = Readiness({"hangs": hang, "fails": lambda: str(1 / 0), "fine": lambda: None}, patience=0.1, fresh=0.0)
    try:
        for _ in range(2):
            reasons = readiness.reasons()
            assert reasons["hangs"] == "no answer within 0.1 s"
            assert "ZeroDivisionError" in reasons["fails"]
            assert "fine" not in reasons
        assert len(started) == 1
    finally:
        release.set()
        readiness.close()


def test_an_answer_is_given_again_for_a_while() -> None:
    asked: list[int] = []
    readiness = Readiness({"peer": lambda: asked.append(1)}, fresh=60.0)
    for _ in range(5):  # whoever asks often does not make the process dial often
        assert readiness.reasons() == {}
    assert len(asked) == 1
    readiness.close()


def test_an_audit_log_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        observer = Observer(log)
        readiness = Readiness({"audit": observer.trouble}, fresh=0.0)
        assert readiness.reasons() == {}
        (tmp_path / "audit.jsonl").unlink()
        observer.event("anything")
        assert "no answer leaves without its record" in readiness.reasons()["audit"]
        readiness.close()


def test_the_endpoint_needs_a_context_that_asks_for_certificates(authority: Authority) -> None:
    context = authority.context(ssl.PROTOCOL_TLS_SERVER, "party-0")
    context.verify_mode = ssl.CERT_OPTIONAL
    with pytest.raises(LocalProtocolError, match="CERT_REQUIRED"):
        operations_server(context, Metrics(), Readiness({}))


# -------------------------------------------------------------------------------------------------------------- metrics


def test_labels_are_bounded_and_a_broken_gauge_costs_nothing_else() -> None:
    metrics = Metrics()
    observer = Observer(metrics=metrics)
    for number in range(200):
        observer.event(f"event-{number}")
        observer.refused(OWNER, code=f"made-up-{number}", message="m")
        observer.answered(OWNER, session="s", model="m", program="p", images=1, reveal=f"r{number}", seconds=1)
    observer.gauge("broken", "Raises.", lambda: 1 / 0)
    observer.gauge("no name!", "Refused.", lambda: 1)
    observer.gauge("sessions_open", "Taken.", lambda: 1)
    found = values(metrics.text().decode())
    assert sum(name.startswith("secureimg_events_total") for name in found) == 33
    assert found["secureimg_events_total{event=other}"] == 200 - 32
    assert found["secureimg_requests_total{outcome=other}"] == 200
    assert sum(name.startswith("secureimg_images_total") for name in found) == 33
    assert str(found["secureimg_broken"]) == "nan"
    assert found["secureimg_sessions_open"] == 0


def test_an_observer_without_parts_only_logs(caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    with caplog.at_level(logging.INFO):
        observer.opened(OWNER, model="tiny", program="p", dealer="")
        observer.answered(OWNER, session="s", model="tiny", program="p", images=1, reveal="label", seconds=1, waited=0)
        observer.event("stopping", level="now", message="m", name="n", text="t")
        observer.gauge("stock", "Correlations ready.", lambda: 1)
        observer.closed(OWNER)
    assert observer.trouble() is None
    assert "answered 1 image in 1.000 s" in caplog.text
    assert OWNER not in caplog.text, "the log names an owner by the beginning of its fingerprint"


# -------------------------------------------------------------------------------------------------------------- running


async def _echo(request: Request) -> Response:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    assert request.client is not None
    return JSONResponse({"size": size, "client": request.client.host, "peer": request.state.peer})


def _slow(request: Request) -> Response:
    time.sleep(0.6)
    return PlainTextResponse("done")


ECHO = Starlette(routes=[Route("/", _echo, methods=["GET", "POST"]), Route("/slow", _slow)])


@contextlib.contextmanager
def serving(authority: Authority, app: Any = ECHO, **options: Any) -> Iterator[tuple[HttpsServer, ssl.SSLContext]]:
    """A server for everyone: it shows a certificate and asks for none."""
    context = authority.context(ssl.PROTOCOL_TLS_SERVER, "party-0")
    context.verify_mode = ssl.CERT_NONE
    with HttpsServer(app, context, **options) as server:
        yield server, authority.context(ssl.PROTOCOL_TLS_CLIENT)


def connect(server: HttpsServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(server.address, timeout=15)
    return context.wrap_socket(plain, server_hostname="party-0.secureimg.internal")


def ended(connection: socket.socket) -> float:
    """Wait until the server ends a connection, and return how long that took."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while connection.recv(4096):
            pass
    return time.monotonic() - start


def test_a_server_for_everyone_sees_no_peer_and_believes_no_proxy_header(authority: Authority) -> None:
    with serving(authority) as (server, context), client(server.address[1], context) as http:
        answer = http.post(
            "/", content=b"x" * 3_000_000, headers={"x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}
        )
        assert answer.json() == {"size": 3_000_000, "client": "127.0.0.1", "peer": None}
        assert "server" not in answer.headers
        assert http.get("/").json()["size"] == 0
        assert server.connections == 1, "the connection is kept"


def test_a_certificate_can_be_renewed_while_it_serves(authority: Authority) -> None:
    with serving(authority) as (server, context), connect(server, context) as before:
        newer = authority.context(ssl.PROTOCOL_TLS_SERVER, "party-0")
        newer.verify_mode, newer.minimum_version = ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
        server.renew(newer)
        with connect(server, context) as after:
            assert before.getpeercert(binary_form=True) != after.getpeercert(binary_form=True)
            for connection in (before, after):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match=r"(?i)eof|alert|reset"):
            connect(server, context)


def test_headers_are_bounded(authority: Authority) -> None:
    with serving(authority) as (server, context), client(server.address[1], context) as http:
        assert http.get("/", headers={"x": "y" * 8_000}).status_code == 200
        with contextlib.suppress(httpx.TransportError):  # it may end the connection while more is coming
            assert http.get("/", headers={"x": "y" * 200_000}).status_code in (400, 431)
        assert http.get("/").status_code == 200


def test_slow_senders_are_cut(authority: Authority) -> None:
    """Neither a handshake, nor a header, nor a body, nor silence holds a connection."""
    begun = (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
    with serving(authority, patience=0.5, handshake=0.5) as (server, context):
        with socket.create_connection(server.address, timeout=15) as silent:
            assert ended(silent) < 5
        for beginning in begun:
            with connect(server, context) as slow:
                slow.sendall(beginning)
                if beginning:
                    with contextlib.suppress(OSError):
                        for _ in range(5):  # a byte now and then does not help
                            time.sleep(0.15)
                            slow.sendall(b"a")
                assert ended(slow) < 5
        with client(server.address[1], context) as http:
            assert http.get("/slow").text == "done", "an answer may take longer than a request"
            time.sleep(0.7)
            assert http.get("/slow").text == "done", "and so may the pause between two"
        wait_for(lambda: server.connections == 0)


def test_connections_are_bounded_and_their_places_come_back(authority: Authority) -> None:
    with serving(authority, connections=3) as (server, context):
        held: list[socket.socket] = [connect(server, context), connect(server, context)]
        held.append(socket.create_connection(server.address))  # never says a word: counts as well
        wait_for(lambda: server.connections == 3)
        answers: list[int] = []

        def ask() -> None:
            with client(server.address[1], context) as http:
                answers.append(http.get("/").status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(0.3)
        assert not answers, "the fourth waits"
        held[0].close()
        thread.join(10)
        assert answers == [200]
        for connection in held:
            connection.close()
        wait_for(lambda: server.connections == 0)


def test_damaged_requests_end_their_connection_alone(authority: Authority) -> None:
    damaged = (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        os.urandom(5000),
    )
    with serving(authority) as (server, context):
        for data in damaged:
            with connect(server, context) as connection:
                connection.sendall(data + b"\r\n\r\n")
                ended(connection)
        with client(server.address[1], context) as http:
            assert http.get("/").status_code == 200
        wait_for(lambda: server.connections == 0)


def test_stopping_lets_a_request_end_and_leaves_nothing_open(authority: Authority) -> None:
    before = open_files()
    for _ in range(3):
        with serving(authority) as (server, context):
            answers: list[str] = []

            def ask(
                port: int = server.address[1], context: ssl.SSLContext = context, into: list[str] = answers
            ) -> None:
                with client(port, context) as http:
                    into.append(http.get("/slow").text)

            thread = threading.Thread(target=ask)
            thread.start()
            wait_for(lambda server=server: server.connections == 1)
            time.sleep(0.2)
        assert not server._thread.is_alive()
        thread.join(10)
        assert answers == ["done"]
        with pytest.raises(OSError):
            socket.create_connection(server.address, timeout=1)
        server.stop()
    assert open_files() <= before


def test_what_cannot_start_says_so(authority: Authority) -> None:
    @contextlib.asynccontextmanager
    async def broken(_: Starlette) -> Any:
        raise RuntimeError("no")
        yield

    context = authority.context(ssl.PROTOCOL_TLS_SERVER, "party-0")
    taken = r"cannot listen on 127.0.0.1:\d+: Address already in use: choose another host or port"
    with serving(authority) as (server, _), pytest.raises(ProtocolError, match=taken):
        HttpsServer(ECHO, context, port=server.address[1])
    with pytest.raises(SecureImgError, match="did not start"), serving(authority, Starlette(lifespan=broken)):
        pass


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def wait_for(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ----------------------------------------------------------------------------------------------------------------- logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_json_logs_are_one_object_a_line(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    configure("INFO", "json", stream)  # the last call counts: no line is written twice
    Observer().answered(OWNER, session="s", model="m", program="p", images=2, reveal="label", seconds=1.5)
    log = logging.getLogger("protocols.somewhere")
    log.debug("not shown")
    log.warning("two\nlines \x1b[31m \ud800", extra={"share": b"secret", "count": 2**70, "facts": {"message": "no"}})
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["INFO", "WARNING", "ERROR"]
    assert lines[0]["images"] == 2
    assert lines[0]["time"].endswith("Z")
    assert lines[1]["message"].startswith("two\nlines")
    assert lines[1]["share"] == "<bytes>"
    assert lines[1]["count"] == str(2**70)
    assert "ZeroDivisionError" in lines[2]["exception"]
    unfit = logging.makeLogRecord({"msg": "%d", "args": ("not a number",)})
    assert json.loads(JsonFormatter().format(unfit))["message"] == "%d", (
        "a message that cannot be formatted is not lost"
    )


def test_text_logs_cannot_be_faked_by_what_others_send(stream: io.StringIO) -> None:
    configure("WARNING", "text", stream)
    Observer().refused(OWNER, code="malformed", message="x\n2026-01-01 00:00:00,000 INFO protocols: all is well\x1b[2J")
    (line,) = stream.getvalue().splitlines()
    assert r"\n2026-01-01" in line
    try:
        raise ValueError("x\n2026-01-01 00:00:00,000 INFO protocols: all is well\x1b[2J")
    except ValueError:
        logging.getLogger("protocols.somewhere").exception("failed")
    assert [text for text in stream.getvalue().splitlines() if text.startswith("2026-01-01")] == []
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("format", ["text", "json"])
def test_private_keys_are_not_logged(stream: io.StringIO, format: str) -> None:  # noqa: A002
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAsecret\n-----END PRIVATE KEY-----"
    configure("INFO", format, stream)
    log = logging.getLogger("protocols.somewhere")
    log.error("cannot read %s: stop", pem, extra={"file": pem})
    try:
        raise ValueError(pem)
    except ValueError:
        log.exception("failed")
    assert "MIGH" not in stream.getvalue()
    assert "<private key>: stop" in stream.getvalue()


def test_unknown_levels_and_formats_are_refused() -> None:
    with pytest.raises(SecureImgError, match="use one of DEBUG, INFO"):
        configure("LOUD")
    with pytest.raises(SecureImgError, match="use one of text, json"):
        configure("INFO", "xml")
