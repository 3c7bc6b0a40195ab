"""A small model as a file, one server process for all tests here, and the wire to talk to it without manners."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from protocols import OwnerClient
from protocols.deployment.settings import Role
from protocols.deployment.template import plain_text
from protocols.pki import Authority, create_bundles
from secureimg.ckks import OwnerKeys

CLI = [sys.executable, "-P", "-m", "protocols.cli"]


def write_model(path: Path, activation: str = "Mul") -> Path:
    """A network of two layers on (1, 28, 28): convolution 4x7x7 stride 3, activation, dense 10."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.15, (4, 1, 7, 7)),
        "b1": rng.normal(0, 0.1, 4),
        "w2": rng.normal(0, 0.1, (10, 256)),
        "b2": rng.normal(0, 0.1, 10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="conv1", strides=[3, 3], kernel_shape=[7, 7]),
        helper.make_node(activation, ["c", "c"] if activation == "Mul" else ["c"], ["a"], name="act1"),
        helper.make_node("Flatten", ["a"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def run_cli(*words: str | Path, status: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would; check its exit status, and that no traceback is shown."""
    done = subprocess.run([*CLI, *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_json(*words: str | Path, status: int = 0) -> dict[str, Any]:
    """Run the command with --json: its stdout must be one JSON object and nothing else."""
    return json.loads(run_cli(*words, "--json", status=status).stdout)


@dataclass(frozen=True)
class RunningServer:
    """A server process and the identities of its owners."""

    host: str
    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    def bundle(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def client(self, name: str = "owner", **options: Any) -> OwnerClient:
        return OwnerClient(self.host, self.port, self.bundle(name), timeout=60, **options)

    def alive(self) -> bool:
        return self.process.poll() is None


def write_config(path: Path, role: Role, **given: Any) -> Path:
    """A process's file with what is given, on a free port. Keys with `__` for the dot."""
    values = {"listen.port": 0, **{name.replace("__", "."): value for name, value in given.items()}}
    path.write_text(plain_text(role, values))
    return path


def start_server(model: Path, directory: Path, **given: Any) -> RunningServer:
    """Start `secureimg serve` and wait until it listens. Identities are made in the directory if there are none."""
    if not directory.exists():
        create_bundles(directory, ("server", "owner"))
    identity = directory / "server.pem"
    values = {
        "identity": identity, "model__name": model, "limits__workers": 1, "owners__requests_per_minute": 1e6,
        "owners__sessions": 64, **given,
    }  # fmt: skip
    file = write_config(directory.with_suffix(".toml"), "server", **values)
    process = subprocess.Popen([*CLI, "serve", str(file), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    return RunningServer(line["host"], line["port"], directory, process)


def stop_server(server: RunningServer) -> None:
    """End the server as an operator would; it must obey, and say that all is well."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with two owners, for all tests: whatever they do to it, the next one finds it serving."""
    directory = tmp_path_factory.mktemp("tls") / "identity"
    create_bundles(directory, ("server", "owner"))
    Authority.open(directory).issue("owner", "other", directory / "other.pem")
    running = start_server(tiny_model, directory, limits__queue=0)
    yield running
    assert running.alive()
    stop_server(running)


@pytest.fixture(scope="session")
def owner_keys(server: RunningServer) -> OwnerKeys:
    """Keys of the first owner, registered."""
    with server.client() as client:
        keys = OwnerKeys.generate(client.program)
        client.register(keys)
    return keys


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    return np.random.default_rng(11).random((3, 1, 28, 28))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an owner of another server."""
    directory = tmp_path_factory.mktemp("elsewhere") / "identity"
    Authority.create(directory).issue("owner", "eve", directory / "eve.pem")
    return directory / "eve.pem"


def no_certificate() -> ssl.SSLContext:
    """A client that shows no certificate and trusts anyone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


os.environ.setdefault("COLUMNS", "120")


class CommandLine:
    """The command, run as a process."""

    run = staticmethod(run_cli)
    json = staticmethod(run_json)
    write_model = staticmethod(write_model)
    write_config = staticmethod(write_config)
    start_server = staticmethod(start_server)
    stop_server = staticmethod(stop_server)


@pytest.fixture(scope="session")
def command() -> CommandLine:
    return CommandLine()


@pytest.fixture
def anonymous() -> ssl.SSLContext:
    return no_certificate()
