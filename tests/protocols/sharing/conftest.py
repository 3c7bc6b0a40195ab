"""A small network, identities, and the three services: in threads of this process, or as processes of their own."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from protocols.deployment.settings import Role
from protocols.deployment.template import plain_text
from protocols.pki import Authority, create_bundles
from protocols.sharing import DealerServer, PartyLimits, PartyOneServer, PartyZeroServer, SharesClient
from secureimg import sharing
from secureimg.graph import Graph, load_onnx, run_plain

CLI = [sys.executable, "-P", "-m", "protocols.cli"]
TOLERANCE = 2e-3


def write_model(path: Path) -> Path:
    """A network on (1, 6, 6) with every kind of step: convolution 3x3, ReLU, max pool 2x2, dense 4."""
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.normal(0, 0.4, (3, 1, 3, 3)),
        "b1": rng.normal(0, 0.1, 3),
        "w2": rng.normal(0, 0.4, (4, 12)),
        "b2": rng.normal(0, 0.1, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="conv1", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["a"], name="act1"),
        helper.make_node("MaxPool", ["a"], ["p"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@dataclass
class Net:
    """The network: as a file, as a graph, compiled."""

    path: Path
    graph: Graph
    program: sharing.Program

    def images(self, count: int = 2, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).random((count, 1, 6, 6))

    def check(self, values: np.ndarray, images: np.ndarray) -> None:
        """The answer must be that of the plain model."""
        plain = run_plain(self.graph, images)
        assert values.shape == plain.shape
        assert np.abs(values - plain).max() < TOLERANCE


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    path = write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    sharing.warm_up()  # whoever is measured by a time limit later must not be compiling kernels
    graph = load_onnx(path)
    return Net(path, graph, sharing.compile(graph))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Identities of the three machines, and of the owners "owner" and "other"."""
    directory = tmp_path_factory.mktemp("tls") / "identities"
    made = create_bundles(directory)
    Authority.open(directory).issue("owner", "other", directory / "other.pem")
    return {**made, "other": directory / "other.pem"}


def served(stack: contextlib.ExitStack, server: Any) -> Any:
    """Run a service on a thread until the stack closes."""
    thread = threading.Thread(target=server.listener.run, daemon=True)
    thread.start()
    stack.callback(thread.join, 10)
    stack.callback(server.close if hasattr(server, "close") else server.listener.close)
    return server


class Deployment:
    """Dealer, party 1 and party 0 on threads of this process, over TLS on loopback."""

    def __init__(self, net: Net, bundles: dict[str, Path], *, patience: float = 4.0, idle: float = 30.0) -> None:
        self.net, self.bundles = net, bundles
        self.limits = PartyLimits(patience=patience, idle=idle, dealer=patience)
        self.stack = contextlib.ExitStack()
        self.dealer = served(self.stack, DealerServer(bundles["dealer"]))
        self.one = self.start_one()
        self.zero = self.start_zero(self.one.listener.address)

    def start_one(self, program: sharing.Program | None = None, **options: Any) -> PartyOneServer:
        settings = {"client_aided": True, "dealer": self.dealer.listener.address, "limits": self.limits, **options}
        return served(self.stack, PartyOneServer(self.bundles["party-1"], program or self.net.program, **settings))

    def start_zero(self, peer: tuple[str, int], **options: Any) -> PartyZeroServer:
        settings = {"client_aided": True, "dealer": self.dealer.listener.address, "limits": self.limits, **options}
        return served(self.stack, PartyZeroServer(self.bundles["party-0"], peer, **settings))

    def client(self, owner: str = "owner", *, zero: Any = None, one: Any = None, **options: Any) -> SharesClient:
        addresses = [(server or own).listener.address for server, own in ((zero, self.zero), (one, self.one))]
        settings = {"dealing": "client-aided", "timeout": 20.0, **options}
        return SharesClient(*addresses, self.bundles[owner], **settings)

    def serves(self, **options: Any) -> None:
        """A fresh session gives the right answer."""
        images = self.net.images(2, 5)
        with self.client(**options) as client:
            self.net.check(client.run(images).values, images)

    def close(self) -> None:
        self.stack.close()


@pytest.fixture(scope="session")
def deployment(net: Net, bundles: dict[str, Path]) -> Iterator[Deployment]:
    """Services for all tests that end well: whatever one does, the next one finds them serving."""
    running = Deployment(net, bundles)
    yield running
    running.serves()
    running.close()


@pytest.fixture(scope="session")
def impatient(net: Net, bundles: dict[str, Path]) -> Iterator[Deployment]:
    """Services that wait one second, for tests where somebody misbehaves."""
    running = Deployment(net, bundles, patience=1.0)
    yield running
    running.serves()
    running.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Any]]:
    """Run a service on a thread until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda server: served(stack, server)


class Child:
    """A process of a deployment, from its file."""

    def __init__(self, file: Path, log: Path) -> None:
        self.file, self.log = file, log
        self.address = ("127.0.0.1", 0)
        self.start()

    def start(self) -> None:
        """Start it, again on the port that it had before."""
        words = ["serve", str(self.file), "--set", f"listen.port={self.address[1]}", "--json", "--until-stdin-closes"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*CLI, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )  # fmt: skip

    def wait(self) -> Child:
        """Wait until it listens."""
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.address = (ready["host"], ready["port"])
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def restart(self) -> None:
        self.stop()
        self.start()
        self.wait()


@pytest.fixture(scope="session")
def commands(
    net: Net, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Child]]:
    """Dealer, party 1 and party 0 as processes that wait one second for each other."""
    logs = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:
        children: dict[str, Child] = {}

        def start(name: str, role: Role, **given: Any) -> str:
            values = {"identity": bundles[name], "state": logs / f"{name}-state"}
            if role != "dealer":
                values |= {"limits.patience": 1.0, "dealing.client_aided": True, "owners.requests_per_minute": 1e6}
            file = logs / f"{name}.toml"
            file.write_text(plain_text(role, values | {key.replace("__", "."): value for key, value in given.items()}))
            children[name] = Child(file, logs / f"{name}.log")
            stack.callback(children[name].stop)
            return "{}:{}".format(*children[name].wait().address)

        dealer = start("dealer", "dealer")
        one = start("party-1", "party1", model__name=net.path, peers__dealer=dealer)
        start("party-0", "party0", peers__party1=one, peers__dealer=dealer, stock__high=0)
        yield children
        for child in children.values():
            assert child.process.poll() is None
    for name in children:
        assert "Traceback" not in (logs / f"{name}.log").read_text()


@dataclass
class TlsPair:
    """Makes connected TLS sockets, as party 0 and party 1 have them."""

    bundles: dict[str, Path]

    def __call__(self) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
        import socket

        from protocols.tls import bundle_context, dial

        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepted: list[ssl.SSLSocket] = []
            context = bundle_context(self.bundles["party-1"], ssl.PROTOCOL_TLS_SERVER)

            def accept() -> None:
                plain, _ = listener.accept()
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.append(context.wrap_socket(plain, server_side=True))

            thread = threading.Thread(target=accept)
            thread.start()
            own = bundle_context(self.bundles["party-0"], ssl.PROTOCOL_TLS_CLIENT)
            dialled = dial(*listener.getsockname()[:2], own, 10, "party-1")
            thread.join(10)
        return dialled, accepted[0]


@pytest.fixture(scope="session")
def tls_pair(bundles: dict[str, Path]) -> TlsPair:
    return TlsPair(bundles)
