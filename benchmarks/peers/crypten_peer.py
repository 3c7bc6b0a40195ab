"""CrypTen on one row, two parties as processes, its trusted first party: ``python crypten_peer.py DIRECTORY REPEAT``.

Runs in an interpreter that has CrypTen and nothing of ours. Prints one line of JSON.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Start the two parties, or be one of them."""
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    if "RANK" in os.environ:
        be_party(directory, repeat)
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "RENDEZVOUS": f"tcp://127.0.0.1:{port}", "GLOO_SOCKET_IFNAME": "lo",
              "DISTRIBUTED_BACKEND": "gloo"}  # fmt: skip
    parties = [subprocess.Popen([sys.executable, *sys.argv], env={**common, "RANK": str(rank)}) for rank in (0, 1)]
    while any(party.poll() is None for party in parties) and not any(party.poll() for party in parties):
        time.sleep(0.05)
    for party in parties:
        if party.poll() is None:
            party.kill()  # the other one has failed, and CrypTen would wait for ever
    sys.exit(max(abs(party.wait()) for party in parties))


def be_party(directory: Path, repeat: int) -> None:
    """Compute as party RANK; party 0 has the image, party 1 the weights."""
    crypten, torch = load()
    crypten.init()
    rank = int(os.environ["RANK"])
    program = json.loads((directory / "program.json").read_text())
    stored = np.load(directory / "weights.npz")
    weights = {name: crypten.cryptensor(torch.tensor(stored[name]), src=1) for name in stored.files}
    image = crypten.cryptensor(torch.tensor(np.load(directory / "input.npy")), src=0)
    talk = crypten.communicator.get()
    seconds: list[float] = []
    rounds = counted = size = 0
    result: Any = None
    for turn in range(repeat + 1):
        crypten.cfg.communicator.verbose = turn == 0  # counts rounds and bytes, which takes time
        crypten.reset_communication_stats()
        talk.barrier()
        before, start = loopback_bytes(), time.perf_counter()
        result = evaluate(crypten, program, weights, image)
        talk.barrier()
        taken = time.perf_counter() - start
        if turn:
            seconds.append(taken)
            size = loopback_bytes() - before
        else:
            rounds = talk.comm_rounds
            counted = 2 * talk.comm_bytes
    got = result.get_plain_text().numpy()
    if rank == 0:
        own = os.environ.get("BENCHMARK_OWN_LOOPBACK") == "1"
        report = {"seconds": seconds, "bytes": size if own else counted, "rounds": rounds,
                  "error": error_of(got, directory, program["label"])}  # fmt: skip
        print(json.dumps(report), flush=True)


def load() -> tuple[Any, Any]:
    """Import CrypTen. Its ONNX reader, not used here, imports internals that newer PyTorch no longer has."""
    torch = importlib.import_module("torch")
    importlib.import_module("torch.onnx")
    inner = "torch.onnx._internal.registration"
    try:
        importlib.import_module(inner)
    except ImportError:
        absent: Any = types.ModuleType(inner)
        absent.registry = None
        sys.modules[inner] = absent
    return importlib.import_module("crypten"), torch


def evaluate(crypten: Any, program: dict[str, Any], weights: dict[str, Any], image: Any) -> Any:
    """Run the nodes one after another."""
    values = {program["input"]: image}
    for node in program["nodes"]:
        values[node["name"]] = apply(crypten, node, [values[name] for name in node["inputs"]], weights)
    result = values[program["output"]]
    return result.argmax(one_hot=False) if program["label"] else result


def apply(crypten: Any, node: dict[str, Any], inputs: list[Any], weights: dict[str, Any]) -> Any:
    """Run one node; shapes have the image in front."""
    kind, x = node["kind"], inputs[0]
    if kind == "Conv":
        top, left, _, _ = node["pads"]
        x = x.conv2d(weights[node["weight"]], stride=tuple(node["strides"]), padding=(top, left), groups=node["groups"])
        return x + weights[node["bias"]].reshape(1, -1, 1, 1) if "bias" in node else x
    if kind == "Dense":
        x = x.matmul(weights[node["weight"]].t())
        return x + weights[node["bias"]] if "bias" in node else x
    if kind == "Affine":
        return x * weights[node["scale"]] + weights[node["shift"]]
    if kind == "Relu":
        return x.relu()
    if kind == "MaxPool":
        return x.max_pool2d(tuple(node["kernel"]), stride=tuple(node["strides"]), padding=tuple(node["pads"][:2]))
    if kind == "Add":
        return x + inputs[1]
    if kind == "Multiply":
        return x * inputs[1]
    if kind == "Concat":
        return crypten.cat(inputs, dim=node["axis"] + 1)
    if kind == "Mean":
        return x.mean([axis + 1 for axis in node["axes"]], keepdim=node["keepdims"])
    if kind == "Reshape":
        return x.reshape(1, *node["shape"])
    if kind == "Slice":
        return x[(slice(None), *(slice(s, s + n) for s, n in zip(node["starts"], node["counts"], strict=True)))]
    raise NotImplementedError(kind)


def error_of(got: Any, directory: Path, label: bool) -> float:
    """Largest error over the largest output; for a label, 0 or 1."""
    want = np.load(directory / "want.npy")
    if label:
        return float(int(np.ravel(got)[0]) != int(want.argmax()))
    return float(np.abs(got - want).max() / np.abs(want).max())


def loopback_bytes() -> int:
    """Bytes that have gone over this namespace's loopback so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0


if __name__ == "__main__":
    main()
