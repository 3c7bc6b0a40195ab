"""The doctor finds each planted fault, says what to do, and finds nothing where nothing is."""

from __future__ import annotations

import datetime
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from protocols.deployment.doctor import examine, passed
from protocols.deployment.findings import Finding, Verdict, wrong
from protocols.pki import Bundle, create_bundles
from protocols.sharing import DealerServer

from .conftest import run_cli, run_json, write_config
from .sharing.conftest import served

ROLES = ("server", "party-0", "party-1", "dealer", "owner")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with a bundle of each role, and one of another authority."""
    place = tmp_path_factory.mktemp("doctor")
    create_bundles(place / "tls", ROLES)
    create_bundles(place / "strangers", ROLES)
    return place


@pytest.fixture(scope="module")
def dealer(directory: Path) -> Iterator[str]:
    """A dealer that runs; its address."""
    import contextlib

    with contextlib.ExitStack() as stack:
        server = served(stack, DealerServer(directory / "tls" / "dealer.pem"))
        yield "{}:{}".format(*server.listener.address)


class Patient:
    """A party 1 in good health, but for what is changed."""

    def __init__(self, home: Path, directory: Path, dealer: str, model: Path) -> None:
        self.home = home
        self.values: dict[str, Any] = {
            "identity": directory / "tls" / "party-1.pem", "peers__dealer": dealer, "model__name": model,
        }  # fmt: skip

    def file(self, **changes: Any) -> Path:
        return write_config(self.home / "party1.toml", "party1", **{**self.values, **changes})

    def examine(self, *, role: str = "party1", **changes: Any) -> list[Finding]:
        values = {**self.values, **changes}
        values = {name: value for name, value in values.items() if value is not None}
        return list(examine(write_config(self.home / f"{role}.toml", role, **values)))  # type: ignore[arg-type]


@pytest.fixture
def patient(tmp_path: Path, directory: Path, dealer: str, tiny_model: Path) -> Patient:
    return Patient(tmp_path, directory, dealer, tiny_model)


def only(findings: list[Finding], check: str, verdict: Verdict = Verdict.WRONG) -> Finding:
    """The one thing that was found, which must be this check and have a remedy; all others are fine."""
    found = [finding for finding in findings if finding.verdict is not Verdict.OK]
    assert [(finding.check, finding.verdict) for finding in found] == [(check, verdict)], findings
    assert found[0].remedy
    assert passed(findings) == (verdict is Verdict.WARNING)
    return found[0]


def test_nothing_is_found_where_nothing_is(patient: Patient) -> None:
    """Every check speaks, and says ok."""
    findings = patient.examine()
    assert {finding.verdict for finding in findings} == {Verdict.OK}, findings
    checks = [finding.check for finding in findings]
    assert checks == [
        "versions", "configuration", "certificate", "state", "port (listen)", "peer (dealer)", "clock", "files", "model",
        "memory",
    ]  # fmt: skip
    assert not (patient.home / "state").exists(), "looking changes nothing"


def test_the_command_tells_by_its_exit_status(patient: Patient) -> None:
    """0 and a table if all is well; 2 if something is wrong, with JSON that has each finding."""
    assert "0 wrong" in run_cli("doctor", patient.file()).stdout
    assert "listen.prot" in run_cli("doctor", patient.file(listen__prot=1), status=2).stdout
    told = run_json("doctor", patient.file(), "--set", 'peers.dealer="127.0.0.1:1"', status=2)
    assert not told["passed"]
    assert [item["check"] for item in told["findings"] if item["verdict"] == "wrong"] == ["peer (dealer)"]


def test_an_unknown_key(patient: Patient) -> None:
    assert "listen.prot" in only(patient.examine(listen__prot=1), "configuration").found


def test_an_expired_certificate(patient: Patient, directory: Path) -> None:
    path = patient.home / "expired.pem"
    dated(directory / "tls", "party-1", path, days=-1)
    findings = patient.examine(identity=path)
    told = next(finding for finding in findings if finding.check == "certificate")
    assert told.verdict is Verdict.WRONG
    assert "expired" in told.found
    assert "pki rotate" in f"{told.found} {told.remedy}"


def test_a_certificate_that_expires_soon(patient: Patient, directory: Path) -> None:
    path = patient.home / "soon.pem"
    dated(directory / "tls", "party-1", path, days=5)
    told = only(patient.examine(identity=path), "certificate", Verdict.WARNING)
    assert "pki rotate" in told.remedy


def test_a_certificate_of_another_role(patient: Patient, directory: Path) -> None:
    findings = patient.examine(identity=directory / "tls" / "party-0.pem")
    told = next(finding for finding in findings if finding.verdict is Verdict.WRONG)
    assert (told.check, "party-1" in told.remedy) == ("certificate", True)


def test_a_bundle_that_others_can_read(patient: Patient, directory: Path) -> None:
    path = patient.home / "open.pem"
    path.write_bytes((directory / "tls" / "party-1.pem").read_bytes())
    path.chmod(0o644)
    told = next(finding for finding in patient.examine(identity=path) if finding.verdict is Verdict.WRONG)
    assert told.check == "certificate"
    assert "chmod 600" in told.remedy


def test_a_state_directory_that_others_can_read(patient: Patient) -> None:
    (patient.home / "state").mkdir(mode=0o755)
    assert "chmod 700" in only(patient.examine(), "state").remedy


def test_a_state_directory_that_is_a_file(patient: Patient) -> None:
    (patient.home / "state").touch()
    assert "not a directory" in only(patient.examine(), "state").found


def test_an_audit_log_that_was_changed(patient: Patient) -> None:
    from protocols.operations import AuditLog

    path = patient.home / "state" / "audit.log"
    with AuditLog(path) as log:
        log.record("event", facts={"name": "start"})
        log.record("event", facts={"name": "stop"})
    path.write_bytes(path.read_bytes().replace(b"start", b"stare"))
    assert str(path) in only(patient.examine(), "audit log").found


def test_a_port_that_another_process_has(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        told = only(patient.examine(listen__port=other.getsockname()[1]), "port (listen)")
    assert "taken by another process" in told.found


def test_a_port_that_a_stranger_serves_tls_on(patient: Patient, directory: Path, dealer: str) -> None:
    """Somebody else's certificate there is not taken for one's own process."""
    told = only(patient.examine(listen__port=int(dealer.rpartition(":")[2])), "port (listen)")
    assert "taken by another process" in told.found


def test_a_running_process_is_recognized(directory: Path, dealer: str, tmp_path: Path) -> None:
    """The port is in use by the very process that is examined: no fault."""
    port = int(dealer.rpartition(":")[2])
    file = write_config(
        tmp_path / "dealer.toml", "dealer", identity=directory / "tls" / "dealer.pem", listen__port=port
    )
    findings = list(examine(file))
    assert passed(findings), findings
    assert "running" in next(finding for finding in findings if finding.check == "port (listen)").found


def test_an_address_that_is_not_this_machines(patient: Patient) -> None:
    assert "listen.host" in only(patient.examine(listen__host="192.0.2.1", listen__port=7441), "port (listen)").remedy


def test_a_peer_that_is_down(patient: Patient) -> None:
    told = only(patient.examine(peers__dealer="127.0.0.1:1"), "peer (dealer)")
    assert "127.0.0.1:1" in told.found


def test_a_peer_that_is_someone_else(patient: Patient, directory: Path, dealer: str) -> None:
    """A dealer where party 1 should be does not pass for one."""
    findings = patient.examine(
        role="party0", identity=directory / "tls" / "party-0.pem", peers__party1=dealer, model__name=None, stock__high=0
    )
    told = only(findings, "peer (party-1)")
    assert "party-1" in f"{told.found} {told.remedy}"


def test_a_peer_of_another_authority(patient: Patient, directory: Path) -> None:
    """Two authorities: either side's certificate is refused, and that is said."""
    told = only(patient.examine(identity=directory / "strangers" / "party-1.pem"), "peer (dealer)")
    assert "authority" in f"{told.found} {told.remedy}"


def test_a_peer_that_is_not_the_pinned_one(patient: Patient) -> None:
    told = only(patient.examine(pins__dealer=["ab" * 32]), "peer (dealer)")
    assert "pin" in f"{told.found} {told.remedy}"


def test_a_peer_that_does_not_accept_us(patient: Patient, directory: Path, serve_pinned: str) -> None:
    """The handshake is fine from here; the other side turns our certificate away after it."""
    told = only(patient.examine(peers__dealer=serve_pinned), "peer (dealer)")
    assert "does not accept" in told.found
    assert "pins" in told.remedy


@pytest.fixture
def serve_pinned(directory: Path) -> Iterator[str]:
    """A dealer that accepts another party 1 than ours."""
    import contextlib

    with contextlib.ExitStack() as stack:
        pins = {"party-1": frozenset({"ab" * 32})}
        server = served(stack, DealerServer(directory / "tls" / "dealer.pem", pins=pins))
        yield "{}:{}".format(*server.listener.address)


def test_a_model_that_does_not_load(patient: Patient) -> None:
    assert "no-such" in only(patient.examine(model__name="no-such"), "model").found


def test_too_few_open_files(patient: Patient) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limits[1]), limits[1]))
        told = only(patient.examine(limits__connections=60_000), "files")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "LimitNOFILE" in told.remedy


def test_more_memory_promised_than_there_is(patient: Patient, tiny_model: Path, directory: Path) -> None:
    given: dict[str, Any] = {"identity": directory / "tls" / "server.pem", "model__name": tiny_model}
    file = write_config(patient.home / "server.toml", "server", **given, limits__key_memory_mb=1 << 20)
    findings = list(examine(file))
    assert "key_memory_mb" in only(findings, "memory", Verdict.WARNING).remedy


def test_web_needs_tokens_and_a_sound_certificate(patient: Patient, directory: Path) -> None:
    """Without a file of tokens nobody could ask; a certificate without its key cannot be shown."""
    assert "tokens-" in only(patient.examine(web__port=0), "web tokens").found
    path = directory / "tls" / "party-1.pem"
    findings = patient.examine(web__port=0, web__certificate=path, web__key=directory / "tls" / "dealer.pem")
    assert [f.check for f in findings if f.verdict is Verdict.WRONG] == ["web tokens", "web certificate"]


def test_errors_of_ours_end_in_their_remedy() -> None:
    """What follows the last colon of an error is shown as what to do."""
    finding = wrong("x", "a.pem is readable: by others: run chmod")
    assert (finding.found, finding.remedy) == ("a.pem is readable: by others", "run chmod")


def dated(directory: Path, name: str, path: Path, days: int) -> None:
    """The same bundle, but valid for so many days from now."""
    old = Bundle.load(directory / f"{name}.pem")
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=old.certificate.issuer, subject_name=old.certificate.subject, public_key=old.certificate.public_key(),
        serial_number=x509.random_serial_number(), extensions=list(old.certificate.extensions),
    )  # fmt: skip
    builder = builder.not_valid_before(now - datetime.timedelta(days=30))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    key: Any = load_pem_private_key((directory / "ca.key").read_bytes(), None)
    made = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(old.path.read_bytes().replace(old.certificate.public_bytes(Encoding.PEM), made))
