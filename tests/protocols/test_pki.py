"""Certificates: who may play which role, what is refused and in which words, and rotation without an interruption."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from protocols.cli.pki import app
from protocols.listener import Guest, Listener
from protocols.pki import ROLES, Authority, Bundle, create_bundles, replace_authorities, role_name
from protocols.pki.bundles import load_authorities
from protocols.tls import accept, bundle_context, dial, handshake_failure, peer_fingerprint, peer_role
from secureimg.errors import KeyMaterialError, LocalProtocolError, RemoteProtocolError

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
SERVING = ("server", "party-0", "party-1", "dealer")
DIALLING = ("party-0", "party-1", "dealer", "owner", "coordinator", "operator")
BOTH_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki") / "ca"
    create_bundles(directory, ROLES)
    return directory


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another deployment."""
    directory = tmp_path_factory.mktemp("other") / "ca"
    create_bundles(directory, ROLES)
    return directory


def forge(
    home: Path,
    path: Path,
    names: Sequence[str],
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
    usages: Sequence[x509.ObjectIdentifier] = BOTH_USAGES,
) -> Path:
    """A bundle that the authority's key signs, but that `Authority.issue` would never make."""
    signer = serialization.load_pem_private_key((home / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    authority = x509.load_pem_x509_certificate((home / "ca.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(signer, hashes.SHA256()).public_bytes(pem)
        + authority.public_bytes(pem)
    )
    path.chmod(0o600)
    return path


def raw_context(bundle: Path, side: int, home: Path | None = None) -> ssl.SSLContext:
    """What someone would use who has a bundle and none of our checks."""
    context = ssl.SSLContext(side)
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if home is None else ssl.CERT_REQUIRED
    if home is not None:
        context.load_verify_locations(home / "ca.pem")
    context.load_cert_chain(bundle)
    return context


@contextlib.contextmanager
def answering(context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """Someone who takes one connection, does the handshake, and says `hello`."""

    def serve() -> None:
        with contextlib.suppress(OSError, ValueError):
            plain, _ = listener.accept()
            with accept(plain, context, 5.0) as secured:
                secured.sendall(b"hello")
                secured.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5.0)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            thread.join(10)


def talks(server: Path, client: Path, **pins: frozenset[str]) -> bool:
    """Whether two bundles are accepted by each other; the server's role is what its bundle says."""
    role = Bundle.load(server).role
    with answering(bundle_context(server, ssl.PROTOCOL_TLS_SERVER)) as (host, port):
        try:
            with dial(host, port, bundle_context(client, ssl.PROTOCOL_TLS_CLIENT), 5.0, role, **pins) as secured:
                return secured.recv(5) == b"hello"
        except (OSError, RemoteProtocolError):
            return False


@contextlib.contextmanager
def listening(bundle: Path, **options: object) -> Iterator[tuple[tuple[str, int], list[Guest]]]:
    """A `Listener`; it says `hello` to those whom it serves."""
    welcomed: list[Guest] = []

    def welcome(guest: Guest) -> None:
        welcomed.append(guest)
        guest.sock.sendall(b"hello")

    with Listener(bundle, "127.0.0.1", 0, welcome, **options) as listener:  # type: ignore[arg-type]
        thread = threading.Thread(target=listener.run)
        thread.start()
        yield listener.address, welcomed
    thread.join(10)


def heard(address: tuple[str, int], bundle: Path, role: str) -> bytes:
    """What a listener says to whoever shows this bundle."""
    with dial(*address, bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT), 5.0, role) as secured:
        try:
            return secured.recv(5)
        except OSError:
            return b""


def first_bytes(address: tuple[str, int], context: ssl.SSLContext, name: str | None = None) -> bytes:
    """What a listener says to whoever connects in this way, past `dial` and its checks."""
    with (
        socket.create_connection(address, 5) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        return secured.recv(5)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# --- what is in a certificate


@pytest.mark.parametrize("role", ROLES)
def test_a_certificate_says_what_its_role_needs_and_no_more(home: Path, role: str) -> None:
    bundle = Bundle.load(home / f"{role}.pem")
    certificate = bundle.certificate
    of = certificate.extensions.get_extension_for_class
    assert bundle.role == role
    assert of(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)[0] == role_name(role)
    assert bundle.hosts == (("localhost", "127.0.0.1") if role in SERVING else ())
    expected = {ExtendedKeyUsageOID.SERVER_AUTH} if role in SERVING else set()
    expected |= {ExtendedKeyUsageOID.CLIENT_AUTH} if role in DIALLING else set()
    assert set(of(x509.ExtendedKeyUsage).value) == expected
    usage = of(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not of(x509.BasicConstraints).value.ca
    (authority,) = bundle.authorities
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert of(x509.AuthorityKeyIdentifier).value.key_identifier == identifier
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)
    assert certificate.serial_number.bit_length() > 64
    assert 396 <= bundle.days_left <= 397
    assert (authority.not_valid_after_utc - NOW).days in (3649, 3650)


def test_lifetimes_are_capped_and_end_with_the_authoritys(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=10)
    bundle = Bundle.load(authority.issue("owner", "alice", tmp_path / "alice.pem"))
    assert bundle.not_after == authority.certificate.not_valid_after_utc
    for days in (0, 826):
        with pytest.raises(KeyMaterialError, match=f"1 to 825 days, not {days}"):
            authority.issue("owner", "bob", tmp_path / "bob.pem", days=days)
    assert not (tmp_path / "bob.pem").exists()


def test_hosts_are_names_and_addresses_and_never_roles(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    hosts = ("Party1.example.org", "192.0.2.7", "2001:db8::1")
    bundle = Bundle.load(authority.issue("party-1", "p1", tmp_path / "p.pem", hosts=hosts))
    assert set(bundle.hosts) == {"party1.example.org", "192.0.2.7", "2001:db8::1", "localhost", "127.0.0.1"}
    for host in ("dealer.secureimg.internal", "*.secureimg.internal", "a b", "x:7441", "", "*.org", "-a.org", "ä.org"):
        with pytest.raises(KeyMaterialError, match=r"kept for roles|neither an IP address"):
            authority.issue("party-1", "p1", tmp_path / "q.pem", hosts=[host])


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "line\nbreak", "nul\0"])
def test_names_are_printable_and_short(tmp_path: Path, home: Path, name: str) -> None:
    with pytest.raises(KeyMaterialError, match="1 to 64 printable characters"):
        Authority.open(home).issue("owner", name, tmp_path / "x.pem")


@pytest.mark.parametrize("algorithm", ["p256", "ed25519"])
def test_both_algorithms_serve_and_rotate(tmp_path: Path, algorithm: str) -> None:
    bundles = create_bundles(tmp_path / "ca", ("server", "owner"), algorithm=algorithm)
    authority = Authority.open(tmp_path / "ca")
    assert authority.algorithm == algorithm
    assert talks(bundles["server"], bundles["owner"])
    authority.rotate(bundles["server"])
    assert talks(bundles["server"], bundles["owner"])


def test_unknown_algorithms_and_roles_are_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(KeyMaterialError, match="p256, ed25519"):
        Authority.create(tmp_path / "ca", algorithm="rsa")
    with pytest.raises(KeyMaterialError, match="'admin' is not a role"):
        Authority.open(home).issue("admin", "x", tmp_path / "x.pem")


# --- files


def test_secrets_are_private_and_never_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    create_bundles(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())
    with pytest.raises(KeyMaterialError, match="not overwritten"):
        Authority.create(directory)
    with pytest.raises(KeyMaterialError, match="not overwritten"):
        Authority.open(directory).issue("owner", "owner", directory / "owner.pem")


def test_no_secret_is_in_a_repr(home: Path) -> None:
    secret = (home / "owner.pem").read_text().splitlines()[2]
    signing = (home / "ca.key").read_text().splitlines()[2]
    told = repr(Bundle.load(home / "owner.pem")) + str(Bundle.load(home / "owner.pem")) + repr(Authority.open(home))
    assert secret not in told
    assert signing not in told


def test_others_must_not_be_able_to_read_keys(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    bundle = create_bundles(directory, ("owner",))["owner"]
    for mode in (0o644, 0o640, 0o604):
        bundle.chmod(mode)
        with pytest.raises(
            KeyMaterialError, match=rf"owner\.pem is readable by others \(mode {mode:o}\): run chmod 600"
        ):
            bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
    (directory / "ca.key").chmod(0o640)
    with pytest.raises(KeyMaterialError, match="readable by others"):
        Authority.open(directory)


def blocks(path: Path) -> list[str]:
    """Private key, own certificate, authorities' certificates, each as PEM."""
    return re.findall(r"-----BEGIN .*?-----END [A-Z ]+-----\n", path.read_text(), re.DOTALL)


def test_what_is_no_bundle_is_refused_with_the_reason(tmp_path: Path, home: Path, elsewhere: Path) -> None:
    path = tmp_path / "bundle.pem"
    pem = (home / "owner.pem").read_text()
    key, own, authority = blocks(home / "owner.pem")
    foreign_key, _, foreign_authority = blocks(elsewhere / "owner.pem")
    cases = {
        "no PEM": "nonsense",
        "no PEM in it": "",
        "0 private keys": own + authority,
        "2 private keys": key + pem,
        "1 certificates": key + own,
        "does not belong to its certificate, subject owner, valid until 20": foreign_key + own + authority,
        "signed by another authority than those in it .*, subject owner, valid until 20": key + own + foreign_authority,
        "is not an authority's": key + own + own,
        "private key is damaged": key.replace(key[40:60], "A" * 20) + own + authority,
    }
    for reason, text in cases.items():
        path.touch(0o600)
        path.write_text(text)
        with pytest.raises(KeyMaterialError, match=rf"bundle\.pem is not an identity \(.*{reason}"):
            Bundle.load(path)


def test_what_is_not_a_small_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="cannot be read"):
        Bundle.load(tmp_path / "missing.pem")
    os.mkfifo(tmp_path / "pipe.pem", 0o600)
    with pytest.raises(KeyMaterialError, match="is not a file"):
        Bundle.load(tmp_path / "pipe.pem")
    large = tmp_path / "large.pem"
    large.touch(0o600)
    large.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(KeyMaterialError, match="larger than the limit of 1048576 bytes"):
        Bundle.load(large)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_bundle_is_a_bundle_or_one_error(tmp_path: Path, home: Path, data: st.DataObject) -> None:
    """Whatever is in the file. Inside of the base64, too, where the certificate's own parser meets it."""
    whole = bytearray((home / "party-0.pem").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        kind = data.draw(st.sampled_from(("byte", "letter", "cut", "twice")))
        if kind == "byte":
            whole[place] = data.draw(st.integers(0, 255))
        elif kind == "letter":
            whole[place] = data.draw(st.sampled_from(b"ABCDEFGHabcdefgh0123456789+/"))
        elif kind == "cut":
            del whole[place : place + data.draw(st.integers(1, 200))]
        else:
            whole[place:place] = whole[place : place + data.draw(st.integers(1, 200))]
        if not whole:
            break
    path = tmp_path / "damaged.pem"
    path.touch(0o600)
    path.write_bytes(whole)
    try:
        told = bundle_context(path, ssl.PROTOCOL_TLS_SERVER).identity.role
    except KeyMaterialError as error:
        told = str(error)
    assert told == "party-0" or "damaged.pem" in told


# --- roles


@pytest.mark.parametrize("names", [(), ("party-0.example.org",)])
def test_a_certificate_without_a_role_is_refused(tmp_path: Path, home: Path, names: tuple[str, ...]) -> None:
    forged = forge(home, tmp_path / "forged.pem", names)
    with pytest.raises(KeyMaterialError, match=r"forged\.pem is not an identity \(.*role.*subject forged, valid until"):
        Bundle.load(forged)
    refused_on_the_wire(home, forged)


@pytest.mark.parametrize(
    "names",
    [
        ("party-0.secureimg.internal", "owner.secureimg.internal"),
        ("owner.secureimg.internal", "owner.secureimg.internal"),
        ("owner.secureimg.internal", "OWNER.secureimg.internal."),
        ("admin.secureimg.internal",),
        ("*.secureimg.internal",),
        ("x.owner.secureimg.internal",),
        ("owner.secureimg.internal", "secureimg.internal"),
    ],
)
def test_a_certificate_of_two_roles_or_an_unknown_one_is_refused(
    tmp_path: Path, home: Path, names: tuple[str, ...]
) -> None:
    forged = forge(home, tmp_path / "forged.pem", names)
    with pytest.raises(KeyMaterialError, match=r"exactly one role|is not a role"):
        Bundle.load(forged)
    refused_on_the_wire(home, forged)


def refused_on_the_wire(home: Path, forged: Path) -> None:
    """Whoever has such a certificate is accepted neither as a guest nor as a host."""
    with listening(home / "party-1.pem") as (address, welcomed):
        with contextlib.suppress(OSError):
            assert first_bytes(address, raw_context(forged, ssl.PROTOCOL_TLS_CLIENT)) == b""
        assert not welcomed
    with answering(raw_context(forged, ssl.PROTOCOL_TLS_SERVER, home)) as (host, port):
        own = bundle_context(home / "party-0.pem", ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(RemoteProtocolError):
            dial(host, port, own, 5.0, "party-1")


@pytest.mark.parametrize("role", ["owner", "operator", "dealer", "server", "party-0"])
def test_only_party_1_can_play_party_1(home: Path, role: str) -> None:
    """Not even one who skips our own checks: the other side makes them."""
    with answering(raw_context(home / f"{role}.pem", ssl.PROTOCOL_TLS_SERVER, home)) as (host, port):
        own = bundle_context(home / "owner.pem", ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(
            RemoteProtocolError, match=rf"{host}:{port} did not prove to be the expected server, party-1"
        ):
            dial(host, port, own, 5.0, "party-1")


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_who_only_asks_cannot_listen(home: Path, role: str) -> None:
    with pytest.raises(KeyMaterialError, match=rf"{role}\.pem \({role}, subject {role}, .*cannot listen"):
        bundle_context(home / f"{role}.pem", ssl.PROTOCOL_TLS_SERVER)


def test_a_server_cannot_play_an_owner(home: Path) -> None:
    with pytest.raises(KeyMaterialError, match="cannot connect to others"):
        bundle_context(home / "server.pem", ssl.PROTOCOL_TLS_CLIENT)
    with listening(home / "party-1.pem") as (address, welcomed):
        with contextlib.suppress(OSError):
            assert first_bytes(address, raw_context(home / "server.pem", ssl.PROTOCOL_TLS_CLIENT)) == b""
        assert not welcomed


def test_a_listener_serves_the_roles_that_it_names(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "protocols.listener"),
        listening(home / "party-1.pem", roles={"owner", "party-0"}) as (address, welcomed),
    ):
        assert heard(address, home / "owner.pem", "party-1") == b"hello"
        assert heard(address, home / "party-0.pem", "party-1") == b"hello"
        for role in ("dealer", "operator", "party-1"):
            assert heard(address, home / f"{role}.pem", "party-1") == b""
        assert [guest.role for guest in welcomed] == ["owner", "party-0"]
        assert until(lambda: "is party-1 (" in caplog.text)
    assert "is dealer (" in caplog.text
    assert "only owner, party-0 are served here" in caplog.text


def test_a_listener_knows_its_roles(home: Path) -> None:
    for options in ({"roles": {"owners"}}, {"pins": {"owners": frozenset({"00" * 32})}}):
        with pytest.raises(LocalProtocolError, match="owners: no such role"):
            Listener(home / "party-1.pem", "127.0.0.1", 0, lambda guest: None, **options)


def test_roles_and_fingerprints_are_what_the_other_side_sees(home: Path) -> None:
    with (
        answering(bundle_context(home / "dealer.pem", ssl.PROTOCOL_TLS_SERVER)) as (host, port),
        dial(host, port, bundle_context(home / "party-0.pem", ssl.PROTOCOL_TLS_CLIENT), 5.0, "dealer") as secured,
    ):
        assert peer_role(secured) == "dealer"
        assert peer_fingerprint(secured) == Bundle.load(home / "dealer.pem").fingerprint


# --- pins


def test_a_dialled_server_must_be_the_pinned_one(tmp_path: Path, home: Path) -> None:
    second = Authority.open(home).issue("party-1", "second", tmp_path / "second.pem")
    pinned, other = Bundle.load(home / "party-1.pem").fingerprint, Bundle.load(second).fingerprint
    assert talks(home / "party-1.pem", home / "owner.pem", pins=frozenset({pinned}))
    assert talks(home / "party-1.pem", home / "owner.pem", pins=frozenset({pinned.upper(), other}))
    with answering(bundle_context(second, ssl.PROTOCOL_TLS_SERVER)) as (host, port):
        own = bundle_context(home / "owner.pem", ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(RemoteProtocolError, match=rf"of role party-1 .*expected SHA-256 {pinned}, got {other}"):
            dial(host, port, own, 5.0, "party-1", frozenset({pinned}))


def test_a_guest_must_be_a_pinned_one(tmp_path: Path, home: Path) -> None:
    """Pins of one role say nothing about another."""
    second = Authority.open(home).issue("party-0", "second", tmp_path / "second.pem")
    pins = {"party-0": frozenset({Bundle.load(home / "party-0.pem").fingerprint})}
    with listening(home / "party-1.pem", pins=pins) as (address, welcomed):
        assert heard(address, home / "party-0.pem", "party-1") == b"hello"
        assert heard(address, second, "party-1") == b""
        assert heard(address, home / "owner.pem", "party-1") == b"hello"
        assert [guest.role for guest in welcomed] == ["party-0", "owner"]


# --- expiry, other authorities, older TLS


def test_an_expired_bundle_names_file_subject_and_expiry(tmp_path: Path, home: Path) -> None:
    expired = forge(home, tmp_path / "old.pem", [role_name("party-0")], NOW - 3 * DAY, NOW - DAY)
    day = f"{NOW - DAY:%Y-%m-%d %H:%M}"
    with pytest.raises(
        KeyMaterialError, match=rf"old\.pem \(party-0, subject forged, valid until {day} UTC\) has expired"
    ):
        bundle_context(expired, ssl.PROTOCOL_TLS_CLIENT)
    assert Bundle.load(expired, any_time=True).days_left < 0
    early = forge(home, tmp_path / "new.pem", [role_name("party-0")], NOW + DAY, NOW + 3 * DAY)
    with pytest.raises(KeyMaterialError, match=r"new\.pem \(party-0, .*is not valid before .*this machine's clock"):
        bundle_context(early, ssl.PROTOCOL_TLS_CLIENT)


def test_an_expired_authority_is_named(tmp_path: Path, home: Path) -> None:
    bundle = Bundle.load(home / "owner.pem")
    late = bundle.issuer.not_valid_after_utc + DAY
    forged = Bundle.load(forge(home, tmp_path / "x.pem", [role_name("owner")], end=late + DAY))
    with pytest.raises(KeyMaterialError, match=r"x\.pem .*its authority, secureimg authority .*, has expired on"):
        forged.check_time(late)


def test_their_expired_certificate_is_blamed_on_them(tmp_path: Path, home: Path) -> None:
    expired = forge(home, tmp_path / "old.pem", [role_name("party-1")], NOW - 3 * DAY, NOW - DAY)
    with answering(raw_context(expired, ssl.PROTOCOL_TLS_SERVER, home)) as (host, port):
        own = bundle_context(home / "party-0.pem", ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(
            RemoteProtocolError,
            match=rf"the certificate that {host}:{port} shows does not pass: certificate has expired",
        ):
            dial(host, port, own, 5.0, "party-1")


def test_our_certificate_that_expires_while_we_run_is_blamed_on_us(tmp_path: Path, home: Path) -> None:
    """By us before we dial; and by what the other side says, if our clock is behind."""
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=2)
    short = forge(home, tmp_path / "short.pem", [role_name("party-0")], end=end)
    context = bundle_context(short, ssl.PROTOCOL_TLS_CLIENT)
    time.sleep(max(0.0, (end - datetime.datetime.now(datetime.UTC)).total_seconds()) + 1.1)
    with listening(home / "party-1.pem") as (address, welcomed):
        with pytest.raises(KeyMaterialError, match=r"short\.pem \(party-0, subject forged, valid until .*has expired"):
            dial(*address, context, 5.0, "party-1")
        where = "{}:{}".format(*address)
        with pytest.raises(ssl.SSLError) as caught:
            first_bytes(address, context, role_name("party-1"))
        told = handshake_failure(caught.value, context, where)
        assert f"{where} does not accept our certificate" in told
        assert "short.pem (party-0, subject forged, valid until" in told
        assert not welcomed


def test_another_deployment_is_refused_and_both_sides_are_named(
    home: Path, elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "protocols.listener"),
        listening(home / "party-1.pem") as (address, welcomed),
    ):
        stranger = bundle_context(elsewhere / "party-0.pem", ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(RemoteProtocolError) as caught:
            dial(*address, stranger, 5.0, "party-1")
        assert "certificate that {}:{} shows does not pass".format(*address) in str(caught.value)
        assert f"ours is {elsewhere / 'party-0.pem'} (party-0, subject party-0, valid until" in str(caught.value)
        with contextlib.suppress(OSError):
            assert first_bytes(address, raw_context(elsewhere / "party-0.pem", ssl.PROTOCOL_TLS_CLIENT)) == b""
        assert not welcomed
        assert until(lambda: "shows does not pass" in caplog.text)
    assert f"ours is {home / 'party-1.pem'}" in caplog.text


def test_older_tls_and_guests_without_a_certificate_are_refused(home: Path) -> None:
    with listening(home / "party-1.pem") as (address, welcomed):
        old = bundle_context(home / "owner.pem", ssl.PROTOCOL_TLS_CLIENT)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(RemoteProtocolError, match="protocol version"):
            dial(*address, old, 5.0, "party-1")
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            first_bytes(address, nobody)
        assert not welcomed
        assert heard(address, home / "owner.pem", "party-1") == b"hello"


# --- rotation


def test_a_rotated_bundle_keeps_who_it_is_and_the_file_before(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    path = authority.issue("party-1", "hospital", tmp_path / "p.pem", hosts=["192.0.2.7"])
    before, data = Bundle.load(path), path.read_bytes()
    kept = [authority.rotate(path) for _ in range(3)]
    after = Bundle.load(path)
    assert (after.role, after.subject, set(after.hosts)) == (before.role, before.subject, set(before.hosts))
    assert after.fingerprint != before.fingerprint
    assert kept[0].name.startswith("p.pem.old-20")
    assert kept[0].read_bytes() == data
    assert len({*kept, path}) == 4
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in (*kept, path))
    assert path.read_text().splitlines()[1:3] != data.decode().splitlines()[1:3]


def test_an_expired_bundle_can_be_rotated_and_a_foreign_one_cannot(tmp_path: Path, home: Path, elsewhere: Path) -> None:
    authority = Authority.open(home)
    expired = forge(home, tmp_path / "old.pem", [role_name("dealer")], NOW - 3 * DAY, NOW - DAY)
    authority.rotate(expired)
    assert Bundle.load(expired).days_left > 300
    with pytest.raises(KeyMaterialError, match="not by the authority in"):
        authority.rotate(elsewhere / "dealer.pem")


def test_a_listener_takes_a_rotated_bundle_without_a_restart(tmp_path: Path) -> None:
    bundles = create_bundles(tmp_path / "ca", ("party-1", "owner"))
    with Listener(bundles["party-1"], "127.0.0.1", 0, lambda guest: guest.sock.sendall(b"hello")) as listener:
        thread = threading.Thread(target=listener.run)
        thread.start()
        Authority.open(tmp_path / "ca").rotate(bundles["party-1"])
        own = bundle_context(bundles["owner"], ssl.PROTOCOL_TLS_CLIENT)
        fresh = frozenset({Bundle.load(bundles["party-1"]).fingerprint})
        with pytest.raises(RemoteProtocolError, match="another certificate of role party-1"):
            dial(*listener.address, own, 5.0, "party-1", fresh)
        listener.renew()
        dial(*listener.address, own, 5.0, "party-1", fresh).close()
        bundles["party-1"].chmod(0o644)
        with pytest.raises(KeyMaterialError, match="readable by others"):
            listener.renew()
        dial(*listener.address, own, 5.0, "party-1", fresh).close()
    thread.join(10)


def test_a_new_authority_takes_over_without_an_interruption(tmp_path: Path) -> None:
    """Old and new bundles talk at every step; once the old authority is dropped, its bundles are out."""
    directory = tmp_path / "ca"
    bundles = create_bundles(directory, ("party-1", "owner"))
    party, owner = bundles["party-1"], bundles["owner"]
    never_updated = tmp_path / "left-behind.pem"
    never_updated.touch(0o600)
    never_updated.write_bytes(owner.read_bytes())
    before = Authority.open(directory)

    authority = before.rotate_authority()
    assert authority.certificate != before.certificate
    assert Authority.open(directory).trusted == (authority.certificate, before.certificate)
    with pytest.raises(KeyMaterialError, match="overlap of 2 authorities already"):
        authority.rotate_authority()
    fingerprint = Bundle.load(owner).fingerprint
    for path in (party, owner):
        authority.update(path)
    assert Bundle.load(owner).fingerprint == fingerprint  # no new key: pins still hold
    assert Bundle.load(owner).authorities == authority.trusted
    assert talks(party, owner)
    assert talks(party, never_updated)

    authority.rotate(party)
    assert Bundle.load(party).issuer == authority.certificate
    assert talks(party, owner)  # new and old
    assert not talks(party, never_updated)  # knows the old one alone
    replace_authorities(never_updated, load_authorities(directory / "ca.pem"))
    assert talks(party, never_updated)
    with pytest.raises(KeyMaterialError, match=r"owner\.pem .*is still signed by"):
        authority.drop_old()
    authority.rotate(owner)
    assert talks(party, owner)

    alone = authority.drop_old()
    assert load_authorities(directory / "ca.pem") == (authority.certificate,)
    for path in (party, owner):
        alone.update(path)
    assert talks(party, owner)
    assert not talks(party, never_updated)
    with pytest.raises(KeyMaterialError, match="give it a new certificate first"):
        alone.update(never_updated)


def test_an_authority_whose_key_is_damaged_is_one_clear_error(tmp_path: Path, elsewhere: Path) -> None:
    directory = tmp_path / "ca"
    with pytest.raises(KeyMaterialError, match=r"holds no authority .*secureimg pki init"):
        Authority.open(directory)
    Authority.create(directory)
    file = directory / "ca.key"
    own, foreign = file.read_text(), (elsewhere / "ca.key").read_text()
    middle = own.index("-----BEGIN CERTIFICATE")
    for text, reason in (("", "damaged"), (own[middle:], "damaged"), (own[:middle], "no authority's certificate")):
        file.write_text(text)
        with pytest.raises(KeyMaterialError, match=reason):
            Authority.open(directory)
    file.write_text(foreign[: foreign.index("-----BEGIN CERTIFICATE")] + own[middle:])
    with pytest.raises(KeyMaterialError, match="does not belong to its certificate"):
        Authority.open(directory)


# --- the command line


def pki(*words: str | Path, status: int = 0) -> Any:
    """What `secureimg pki ... --json` says; in this process, for the command takes a while to start."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == status
    return json.loads(done.stdout)


def test_the_command_makes_checks_and_rotates(tmp_path: Path, command: Any) -> None:
    home = tmp_path / "ca"
    made = pki("init", home)["authorities"][0]
    assert made["subject"].startswith("secureimg authority ")
    issued = pki("issue", home, "party-0", "party-1", "--host", "party.example.org")["bundles"]
    assert [Path(one["file"]).name for one in issued] == ["party-0.pem", "party-1.pem"]
    assert all("party.example.org" in one["hosts"] for one in issued)
    alice = pki("issue", home, "owner", "--name", "alice")["bundles"][0]
    assert (alice["file"], alice["role"], alice["subject"]) == (str(home / "alice.pem"), "owner", "alice")
    checked = pki("check", home)
    assert checked["ok"]
    assert {one["role"] for one in checked["files"]} == {"authority", "owner", "party-0", "party-1"}
    assert alice["fingerprint"] in {one["fingerprint"] for one in checked["files"]}
    rotated = pki("rotate", home, "owner", home / "party-0.pem")["bundles"]
    assert {one["subject"] for one in rotated} == {"alice", "party-0"}
    assert Bundle.load(home / "alice.pem").fingerprint != alice["fingerprint"]
    assert all(Path(one["kept"]).exists() for one in rotated)
    command.run("pki", "issue", home, "owner", "--name", "alice", status=2)  # not over another


def test_check_says_what_to_do(tmp_path: Path, command: Any) -> None:
    """Status 2 if something is wrong or ends within 30 days, and a line for each that says what to do."""
    authority = Authority.create(tmp_path / "ca")
    soon = authority.issue("owner", "alice", tmp_path / "ca" / "alice.pem", days=20)
    forge(tmp_path / "ca", tmp_path / "ca" / "old.pem", [role_name("owner")], NOW - 3 * DAY, NOW - DAY)
    shared = authority.issue("dealer", "dealer", tmp_path / "ca" / "dealer.pem")
    shared.chmod(0o644)
    done = command.run("pki", "check", tmp_path / "ca", status=2)
    said = " ".join(done.stderr.split())
    assert re.search(r"alice\.pem \(owner, subject alice\) expires on .*secureimg pki rotate DIR alice\.pem", said)
    assert re.search(r"old\.pem \(owner, subject forged\) expired on .*secureimg pki rotate DIR old\.pem", said)
    assert re.search(r"dealer\.pem is readable by others \(mode 644\): run chmod 600", said)
    assert "Traceback" not in said
    checked = pki("check", soon, status=2)
    assert not checked["ok"]
    assert checked["files"][0]["days_left"] == 19


def test_a_new_authority_from_the_command_line(tmp_path: Path) -> None:
    home, away = tmp_path / "ca", tmp_path / "away.pem"
    create_bundles(home, ("party-1", "owner"))
    away.touch(0o600)
    away.write_bytes((home / "owner.pem").read_bytes())
    assert len(pki("rotate", home, "--authority")["authorities"]) == 2
    pki("trust", home / "ca.pem", away)
    assert len(Bundle.load(away).authorities) == 2
    assert len(pki("rotate", home)["bundles"]) == 2
    assert talks(home / "party-1.pem", away)
    assert len(pki("rotate", home, "--drop-old")["authorities"]) == 1
    assert talks(home / "party-1.pem", home / "owner.pem")
    assert not talks(home / "party-1.pem", away)
