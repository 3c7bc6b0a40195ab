"""Concrete-ML (TFHE) on one network, owner and server in one process: ``python concrete_peer.py DIRECTORY REPEAT``.

Quantised to BITS bits after training, on noise around the picture. Runs in an interpreter that has concrete-ml and nothing
of ours. Prints one line of JSON.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BITS = 4
SAMPLES = 32


def main() -> None:
    """Compile, make keys, encrypt, evaluate, decrypt, report."""
    torch, ml = importlib.import_module("torch"), importlib.import_module("concrete.ml.torch.compile")
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    image = np.load(directory / "input.npy").astype(np.float32)
    want = np.load(directory / "want.npy").reshape(-1)
    noise = np.random.default_rng(1).normal(scale=0.05, size=(SAMPLES, *image.shape[1:]))
    samples = np.clip(image + noise, image.min(), image.max()).astype(np.float32)
    found = ml.compile_torch_model(network(torch, directory), samples, n_bits=BITS, rounding_threshold_bits=6)
    found.fhe_circuit.keygen()
    given = found.fhe_circuit.encrypt(found.quantize_input(image))
    answer, seconds = found.fhe_circuit.run(given), []
    for _ in range(repeat):
        started = time.perf_counter()
        answer = found.fhe_circuit.run(given)
        seconds.append(time.perf_counter() - started)
    got = found.dequantize_output(found.fhe_circuit.decrypt(answer)).reshape(-1)
    size = len(given.serialize()) + len(answer.serialize())
    error = float(np.abs(got - want).max() / np.abs(want).max())
    print(json.dumps({"seconds": seconds, "bytes": size, "rounds": None, "error": error}), flush=True)


def network(torch: Any, directory: Path) -> Any:
    """The nodes as one module."""
    nodes = json.loads((directory / "program.json").read_text())
    stored = np.load(directory / "weights.npz")
    weights = {name: torch.nn.Parameter(torch.tensor(stored[name], dtype=torch.float32)) for name in stored.files}

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.held = torch.nn.ParameterList(weights.values())

        def forward(self, x: Any) -> Any:
            values = {nodes["input"]: x}
            for node in nodes["nodes"]:
                values[node["name"]] = apply(torch, node, [values[name] for name in node["inputs"]], weights)
            return values[nodes["output"]]

    return Net()


def apply(torch: Any, node: dict[str, Any], inputs: list[Any], weights: dict[str, Any]) -> Any:
    """Run one node; shapes have the image in front."""
    kind, x = node["kind"], inputs[0]
    bias = weights.get(node.get("bias", ""))
    if kind == "Conv" and node["pads"][:2] == node["pads"][2:]:
        return torch.nn.functional.conv2d(
            x, weights[node["weight"]], bias, tuple(node["strides"]), tuple(node["pads"][:2]), groups=node["groups"]
        )
    if kind == "Dense":
        return torch.nn.functional.linear(x, weights[node["weight"]], bias)
    if kind == "Relu":
        return torch.relu(x)
    if kind == "Multiply":
        return x * x if len(set(node["inputs"])) == 1 else x * inputs[1]
    if kind == "Add":
        return x + inputs[1]
    if kind == "Reshape":
        return torch.flatten(x, 1)
    sys.exit(f"node {node['name']!r}: {kind} is not done here")


if __name__ == "__main__":
    main()
