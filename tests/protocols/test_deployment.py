"""Processes of a deployment, each from its file: they serve, reload, stop, and say what is wrong when they cannot."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from protocols import OwnerClient, RefusedError
from protocols.operations import AuditLog
from protocols.pki import Authority, Bundle, create_bundles
from protocols.sharing import SharesClient
from protocols.tls import bundle_context
from protocols.web.tokens import add_entry, make_entry, new_secret, shown_to
from secureimg.ckks import OwnerKeys
from secureimg.errors import SecureImgError
from secureimg.graph import load_onnx, run_plain

from .conftest import run_json, write_config, write_model

CLI = [sys.executable, "-P", "-m", "protocols.cli"]
ROLES = ("server", "party-0", "party-1", "dealer", "owner", "operator")


class Running:
    """`secureimg serve` as an operator starts it."""

    def __init__(self, file: Path, log: Path) -> None:
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*CLI, "serve", str(file), "--json"], stdout=subprocess.PIPE, stderr=stream, stdin=subprocess.DEVNULL
            )
        self.log = log
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in self.facts, self.facts

    @property
    def address(self) -> str:
        return f"{self.facts['host']}:{self.facts['port']}"

    def says(self, text: str) -> None:
        """Wait until its log has this."""
        deadline = time.monotonic() + 20
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Running]


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    return create_bundles(tmp_path / "tls", ROLES)


@pytest.fixture
def start(tmp_path: Path, bundles: dict[str, Path]) -> Iterator[Start]:
    """Start a process of a role with settings; whatever still runs in the end is killed."""
    with contextlib.ExitStack() as stack:

        def launch(role: Any, **given: Any) -> Running:
            bundle = bundles[role.replace("party", "party-")]
            values = {"identity": bundle, "state": tmp_path / f"{role}-state", "operations__port": 0, **given}
            running = Running(write_config(tmp_path / f"{role}.toml", role, **values), tmp_path / f"{role}.log")
            stack.callback(running.kill)
            return running

        yield launch


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path) -> Path:
    """A model's file that a test may replace."""
    return Path(shutil.copy(tiny_model, tmp_path / "model.onnx"))


def replace_model(model: Path, factor: float) -> None:
    """Another model in the same file: all weights of its last layer times a factor."""
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load(write_model(model.with_suffix(".new")))
    for tensor in loaded.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), "w2"))
    onnx.save(loaded, model)


def ask_operations(running: Running, bundle: Path, path: str) -> tuple[int, bytes]:
    context = bundle_context(bundle, ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    place = running.facts["operations"]
    try:
        with urllib.request.urlopen(
            f"https://{place['host']}:{place['port']}{path}", context=context, timeout=10
        ) as told:
            return told.status, told.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_parties_and_dealer_from_their_files(
    start: Start, bundles: dict[str, Path], model: Path, pictures: np.ndarray, tmp_path: Path
) -> None:
    """Three processes answer like the plain model; ready lines, stock, metrics, audit logs tell of it; SIGTERM ends them."""
    dealer = start("dealer")
    one = start("party1", model__name="model.onnx", peers__dealer=dealer.address)
    zero = start("party0", peers__party1=one.address, peers__dealer=dealer.address, stock__low=1, stock__high=2)
    assert one.facts["model"] == "tiny"
    assert one.facts["rounds"] > 0
    zero.says("stock filled")
    addresses = [(running.facts["host"], running.facts["port"]) for running in (zero, one)]
    with SharesClient(*addresses, bundles["owner"], dealing="dealer", timeout=20) as client:
        assert client.program.fingerprint == one.facts["program"]
        values = client.run(pictures[:1]).values
    assert np.abs(values - run_plain(load_onnx(model), pictures[:1])).max() < 2e-3
    for running in (zero, one):
        status, metrics = ask_operations(running, bundles["operator"], "/metrics")
        assert status == 200
        assert b'secureimg_requests_total{outcome="answered"} 1.0' in metrics
        assert ask_operations(running, bundles["operator"], "/readyz")[0] == 200
        assert ask_operations(running, bundles["owner"], "/metrics")[0] == 403
    assert [running.stop() for running in (zero, one, dealer)] == [0, 0, 0]
    for role in ("party0", "party1"):
        summary = AuditLog.verify(tmp_path / f"{role}-state" / "audit.log")
        assert summary.events["answered"] == 1
        assert {"start", "stop"} <= set(summary.events)
        assert "Traceback" not in (tmp_path / f"{role}.log").read_text()
    items = run_json("stock", tmp_path / "party0.toml")["correlations"]
    assert {item["program"] for item in items} == {one.facts["program"]}


def test_both_parties_know_the_model(start: Start, bundles: dict[str, Path], model: Path, pictures: np.ndarray) -> None:
    """With public weights both files name the model. If they differ, the doctor tells, and no session begins."""
    given = {"dealing__client_aided": True, "model__name": "model.onnx", "model__public_weights": True}
    one = start("party1", **given)
    zero = start("party0", peers__party1=one.address, **given)
    addresses = [(running.facts["host"], running.facts["port"]) for running in (zero, one)]
    with SharesClient(*addresses, bundles["owner"], dealing="client-aided", timeout=20) as client:
        values = client.run(pictures).values
    assert np.abs(values - run_plain(load_onnx(model), pictures)).max() < 2e-3
    file = zero.log.with_name("party0.toml")
    assert run_json("doctor", file)["passed"]
    told = run_json("doctor", file, "--set", 'model.reveal="label"', status=2)
    assert [item["check"] for item in told["findings"] if item["verdict"] == "wrong"] == ["program"]


def test_web_interfaces_are_served_where_the_file_says(
    start: Start, bundles: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    """Each role's own interface, over TLS 1.3 under its own certificate, for owners with a token and no certificate."""
    secret = new_secret()
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    for role in ("server", "party0", "party1"):
        add_entry(tmp_path / f"tokens-{role}.toml", make_entry(role, "ann", secret, expires))
    dealer = start("dealer")
    web = {"web__port": 0, "peers__dealer": dealer.address}
    one = start("party1", model__name="model.onnx", web__tokens="tokens-party1.toml", **web)
    other = f"https://127.0.0.1:{one.facts['web']['port']}"
    zero = start("party0", peers__party1=one.address, web__tokens="tokens-party0.toml", web__other=other, **web)
    server = start("server", model__name="model.onnx", limits__workers=1, web__port=0, web__tokens="tokens-server.toml")
    authorities = "".join(c.public_bytes(Encoding.PEM).decode() for c in Bundle.load(bundles["owner"]).authorities)
    for role, running in (("party0", zero), ("party1", one), ("server", server)):
        context = ssl.create_default_context(cadata=authorities)
        address = f"https://127.0.0.1:{running.facts['web']['port']}/v1/model"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {shown_to(role, secret)}"})
        with urllib.request.urlopen(request, context=context, timeout=10) as told:
            assert running.facts.get("program", one.facts["program"]) in told.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(address, context=context, timeout=10)
        refused.value.close()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(urllib.error.URLError, match=r"(?i)protocol"):
            urllib.request.urlopen(request, context=context, timeout=10)
    address = f"https://127.0.0.1:{zero.facts['web']['port']}/"
    page = urllib.request.urlopen(address, context=ssl.create_default_context(cadata=authorities), timeout=10)
    with page:
        assert other in page.headers["Content-Security-Policy"]
    found = {item["check"]: item for item in run_json("doctor", tmp_path / "party0.toml")["findings"]}
    assert re.search("[0-2] s apart", found["clock"]["found"])
    assert one.facts["program"][:16] in found["program"]["found"]
    assert [running.stop() for running in (zero, one, server, dealer)] == [0, 0, 0, 0]


def test_a_party_gets_another_model_while_it_serves(
    start: Start, bundles: dict[str, Path], model: Path, pictures: np.ndarray
) -> None:
    """SIGHUP: a session that is open goes on with the old model, a new one has the new. A broken file changes nothing."""
    one = start("party1", model__name="model.onnx", dealing__client_aided=True)
    zero = start("party0", peers__party1=one.address, dealing__client_aided=True)
    addresses = [(running.facts["host"], running.facts["port"]) for running in (zero, one)]

    def client() -> SharesClient:
        return SharesClient(*addresses, bundles["owner"], dealing="client-aided", timeout=20)

    old = run_plain(load_onnx(model), pictures)
    with client() as before:
        replace_model(model, 0.5)
        one.process.send_signal(signal.SIGHUP)
        one.says("model swapped")
        assert np.abs(before.run(pictures).values - old).max() < 2e-3
    new = run_plain(load_onnx(model), pictures)
    assert np.abs(new - old).max() > 0.01
    with client() as after:
        assert np.abs(after.run(pictures).values - new).max() < 2e-3
    model.write_bytes(b"no model")
    one.process.send_signal(signal.SIGHUP)
    one.says("what was served is served on")
    with client() as still:
        assert np.abs(still.run(pictures).values - new).max() < 2e-3


def test_the_ckks_server_gets_another_model_while_it_serves(
    start: Start, bundles: dict[str, Path], model: Path, pictures: np.ndarray
) -> None:
    """The same on ciphertexts: keys for the old program serve out the session that is open."""
    server = start("server", model__name="model.onnx", limits__workers=1)

    def check(client: OwnerClient, keys: OwnerKeys, expected: np.ndarray) -> None:
        assert np.abs(client.infer(pictures[:1]) - expected).max() < client.program.error_bound

    with OwnerClient(server.facts["host"], server.facts["port"], bundles["owner"], timeout=60) as before:
        keys = OwnerKeys.generate(before.program)
        before.register(keys)
        old = run_plain(load_onnx(model), pictures[:1])
        check(before, keys, old)
        replace_model(model, 0.5)
        server.process.send_signal(signal.SIGHUP)
        server.says("model swapped")
        check(before, keys, old)
    with OwnerClient(server.facts["host"], server.facts["port"], bundles["owner"], timeout=60) as after:
        keys = OwnerKeys.generate(after.program)
        after.register(keys)
        check(after, keys, run_plain(load_onnx(model), pictures[:1]))
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_certificates_are_read_anew(start: Start, bundles: dict[str, Path], tmp_path: Path, model: Path) -> None:
    """After `pki rotate` and SIGHUP new connections see the new certificate; owners are answered under it."""
    server = start("server", model__name="model.onnx", limits__workers=1)

    def shown() -> str:
        with OwnerClient(server.facts["host"], server.facts["port"], bundles["owner"], timeout=60):
            return ssl.get_server_certificate((server.facts["host"], server.facts["port"]))

    first = shown()
    Authority.open(tmp_path / "tls").rotate(bundles["server"])
    assert shown() == first
    server.process.send_signal(signal.SIGHUP)
    server.says("certificate read")
    assert Bundle.load(bundles["server"]).fingerprint in server.log.read_text()
    assert shown() != first


def test_an_owner_that_stays_connected_does_not_keep_a_process_from_stopping(
    start: Start, bundles: dict[str, Path], model: Path
) -> None:
    """Nothing is under way: a drain of a minute is not waited for."""
    server = start("server", model__name="model.onnx", limits__workers=1, limits__drain=60)
    with OwnerClient(server.facts["host"], server.facts["port"], bundles["owner"], timeout=60):
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < 20


def test_a_second_signal_does_not_wait(
    start: Start, bundles: dict[str, Path], model: Path, pictures: np.ndarray
) -> None:
    """A run that cannot end holds the process up to the limit drain; a second SIGTERM ends it at once."""
    slow = {"limits__patience": 60, "limits__drain": 60, "dealing__client_aided": True}
    one = start("party1", model__name="model.onnx", **slow)
    zero = start("party0", peers__party1=one.address, **slow)
    addresses = [(running.facts["host"], running.facts["port"]) for running in (zero, one)]

    def ask(client: SharesClient) -> None:
        with contextlib.suppress(SecureImgError, RefusedError, OSError):
            client.run(pictures[:1])

    with SharesClient(*addresses, bundles["owner"], dealing="client-aided", timeout=20, retry=0.0) as client:
        client.prepare(1)
        one.process.send_signal(signal.SIGSTOP)
        thread = threading.Thread(target=ask, args=(client,), daemon=True)
        thread.start()
        time.sleep(0.5)
        zero.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            zero.process.wait(2)
        zero.process.send_signal(signal.SIGTERM)
        assert zero.process.wait(5) == 128 + signal.SIGTERM
        one.process.send_signal(signal.SIGCONT)
        thread.join(30)


def test_the_service_manager_is_told(
    start: Start, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd a process says when it is ready, reloads, is ready again, and stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        dealer = start("dealer")
        assert manager.recv(100) == b"READY=1"
        dealer.process.send_signal(signal.SIGHUP)
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        assert dealer.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identity": "party-0"}, ["party-0", "identity", "dealer"]),
        ({"identity": "expired"}, ["expired", "pki rotate"]),
        ({"identity": "missing"}, ["missing.pem", "check the path"]),
        ({"state": "open"}, ["open to others", "chmod 700"]),
        ({"listen__port": "taken"}, ["cannot listen on"]),
    ],
)
def test_a_process_that_cannot_start_says_why(
    bundles: dict[str, Path], tmp_path: Path, changes: dict[str, str], words: list[str]
) -> None:
    """One line with file, value and remedy, status 2."""
    given: dict[str, Any] = {"identity": bundles["dealer"], **changes}
    with contextlib.ExitStack() as stack:
        if "identity" in changes:
            given["identity"] = tmp_path / "tls" / f"{changes['identity']}.pem"
        if changes.get("identity") == "expired":
            expire(tmp_path / "tls", given["identity"])
        if "state" in changes:
            given["state"] = tmp_path / "open"
            given["state"].mkdir(mode=0o755)
        if "listen__port" in changes:
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            given["listen__port"] = taken.getsockname()[1]
        file = write_config(tmp_path / "dealer.toml", "dealer", **given)
        done = subprocess.run([*CLI, "serve", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stderr


def expire(directory: Path, path: Path) -> None:
    """A dealer's bundle that was valid yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    authority = (directory / "ca.key").read_bytes()
    bundle = (directory / "dealer.pem").read_bytes()
    old = Bundle.load(directory / "dealer.pem")
    builder = x509.CertificateBuilder(
        issuer_name=old.certificate.issuer, subject_name=old.certificate.subject, public_key=old.certificate.public_key(),
        serial_number=x509.random_serial_number(), extensions=list(old.certificate.extensions),
    )  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    builder = builder.not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(
        now - datetime.timedelta(days=1)
    )
    key: Any = load_pem_private_key(authority, None)
    made = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    path.touch(mode=0o600)
    path.write_bytes(bundle.replace(old.certificate.public_bytes(Encoding.PEM), made))
