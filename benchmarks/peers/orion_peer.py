"""Orion (Lattigo) on one network, owner and server in one process: ``python orion_peer.py DIRECTORY REPEAT``.

Convolutions, squares, dense layers one after another, with the parameters of the project's example for such networks
(ring degree 8192, conjugate-invariant). Runs in an interpreter that has orion-fhe and nothing of ours. Prints one line of
JSON.
"""

import importlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = {
    "comment": "secureimg's benchmark",
    "ckks_params": {
        "LogN": 13, "LogQ": [29, 26, 26, 26, 26, 26], "LogP": [29, 29], "LogScale": 26, "H": 8192,
        "RingType": "ConjugateInvariant",
    },
    "boot_params": {"LogP": [29, 29]},
    "orion": {
        "margin": 2, "embedding_method": "hybrid", "backend": "lattigo", "fuse_modules": True, "debug": False,
        "diags_path": "", "keys_path": "", "io_mode": "none",
    },
}  # fmt: skip


def main() -> None:
    """Compile, encrypt, evaluate, decrypt, report."""
    torch, orion = importlib.import_module("torch"), importlib.import_module("orion")
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    image = torch.tensor(np.load(directory / "input.npy"), dtype=torch.float32)
    want = np.load(directory / "want.npy").reshape(-1)
    orion.init_scheme(CONFIG)
    net = network(torch, directory)
    net.eval()
    with torch.no_grad():
        net(image)
        orion.fit(net, image)
        level = orion.compile(net)
        given = orion.encrypt(orion.encode(image, level))
        net.he()
        answer = net(given)
        seconds = []
        for _ in range(repeat):
            started = time.perf_counter()
            answer = net(given)
            seconds.append(time.perf_counter() - started)
    got = np.asarray(answer.decrypt().decode()).reshape(-1)[: len(want)]
    error = float(np.abs(got - want).max() / np.abs(want).max())
    print(json.dumps({"seconds": seconds, "bytes": None, "rounds": None, "error": error}), flush=True)


def network(torch: Any, directory: Path) -> Any:
    """The nodes as modules, one after another."""
    on: Any = importlib.import_module("orion.nn")
    nodes = json.loads((directory / "program.json").read_text())["nodes"]
    stored = np.load(directory / "weights.npz")

    class Net(on.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.names = []
            for place, node in enumerate(nodes):
                self.names.append(f"layer{place}")
                setattr(self, self.names[-1], module(on, node, stored))

        def forward(self, x: Any) -> Any:
            for name in self.names:
                x = getattr(self, name)(x)
            return x

    found = Net()
    with torch.no_grad():
        for name, node in zip(found.names, nodes, strict=True):
            layer = getattr(found, name)
            if "weight" in node:
                layer.weight.copy_(torch.tensor(stored[node["weight"]], dtype=torch.float32))
                if "bias" in node:
                    layer.bias.copy_(torch.tensor(stored[node["bias"]], dtype=torch.float32))
    return found


def module(on: Any, node: dict[str, Any], stored: Any) -> Any:
    """One node as a module without its weights."""
    kind = node["kind"]
    if kind == "Conv":
        outputs, inputs, height, _ = stored[node["weight"]].shape
        top, left, bottom, right = node["pads"]
        if len({top, left, bottom, right}) > 1:
            sys.exit(f"node {node['name']!r}: Orion pads all sides alike")
        return on.Conv2d(inputs * node["groups"], outputs, height, node["strides"][0], top, groups=node["groups"],
                         bias="bias" in node)  # fmt: skip
    if kind == "Dense":
        outputs, inputs = stored[node["weight"]].shape
        return on.Linear(inputs, outputs, bias="bias" in node)
    if kind == "Multiply" and len(set(node["inputs"])) == 1:
        return on.Quad()
    if kind == "Reshape" and len(node["shape"]) == 1 and math.prod(node["shape"]) > 0:
        return on.Flatten()
    sys.exit(f"node {node['name']!r}: {kind} has no module here")


if __name__ == "__main__":
    main()
