"""SPU (SEMI2K) on one row, two parties as processes, its trusted first party: ``python spu_peer.py DIRECTORY REPEAT``.

Runs in an interpreter that has SPU and nothing of ours. Prints one line of JSON.
"""

import importlib
import json
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

_LAST_RESULT = "result"


def main() -> None:
    """Compile, share, start the two parties, put the result together and report."""
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    executable, shares, label = deal(directory)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [one.getsockname()[1], two.getsockname()[1]]
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    parties = [
        context.Process(target=be_party, args=(rank, ports, repeat, executable, shares[rank], pipes[rank][1]))
        for rank in (0, 1)
    ]
    for party, (_, theirs) in zip(parties, pipes, strict=True):
        party.start()
        theirs.close()
    ends = [mine for mine, _ in pipes]
    heard: dict[int, Any] = {}
    try:
        while len(heard) < len(ends):  # whichever speaks first, for one that dies says EOFError
            ready = wait([end for rank, end in enumerate(ends) if rank not in heard])
            heard |= {rank: end.recv() for rank, end in enumerate(ends) if end in ready}
    finally:
        for party in parties:
            party.kill()
            party.join()
    own = os.environ.get("BENCHMARK_OWN_LOOPBACK") == "1"
    result = importlib.import_module("spu").Io(2, configuration()).reconstruct([heard[0][2], heard[1][2]])
    report = {
        "seconds": [max(pair) for pair in zip(heard[0][0], heard[1][0], strict=True)],
        "bytes": heard[0][1] if own else None,
        "rounds": None,
        "error": error_of(result, directory, label),
    }
    print(json.dumps(report), flush=True)


def configuration() -> Any:
    """SEMI2K over 64 bits; its correlations come from the trusted first party, which is the default."""
    libspu = importlib.import_module("spu.libspu")
    return libspu.RuntimeConfig(protocol=libspu.ProtocolKind.SEMI2K, field=libspu.FieldType.FM64)


def deal(directory: Path) -> tuple[bytes, list[Any], bool]:
    """Compile the row; share image and weights."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax, jnp, spu, frontend = map(importlib.import_module, ("jax", "jax.numpy", "spu", "spu.utils.frontend"))
    secret = spu.libspu.Visibility.VIS_SECRET
    program = json.loads((directory / "program.json").read_text())
    stored = np.load(directory / "weights.npz")
    names = list(stored.files)
    arrays = [channels_last(np.load(directory / "input.npy"))]
    arrays += [stored[name].transpose(2, 3, 1, 0) if stored[name].ndim == 4 else stored[name] for name in names]
    arrays = [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]

    def function(image: Any, *weights: Any) -> Any:
        return evaluate(jax, jnp, program, dict(zip(names, weights, strict=True)), image)

    inputs = [f"in{place}" for place in range(len(arrays))]
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function, tuple(arrays), {}, inputs, [secret] * len(arrays),
        lambda flat: [_LAST_RESULT for _ in flat],
    )  # fmt: skip
    io = spu.Io(2, configuration())
    pairs = [io.make_shares(array, secret) for array in arrays]
    return executable.SerializeToString(), list(zip(*pairs, strict=True)), program["label"]


def be_party(rank: int, ports: list[int], repeat: int, executable: bytes, shares: Any, pipe: Any) -> None:
    """Compute as one party: one run that does not count, then `repeat` that do."""
    spu: Any = importlib.import_module("spu")
    libspu = spu.libspu
    described = libspu.link.Desc()
    described.recv_timeout_ms = 900_000
    for number, port in enumerate(ports):
        described.add_party(f"party{number}", f"127.0.0.1:{port}")
    link = libspu.link.create_brpc(described, rank)
    program = libspu.Executable()
    program.ParseFromString(executable)
    runtime = spu.Runtime(link, configuration())
    for name, share in zip(program.input_names, shares, strict=True):
        runtime.set_var(name, share)
    seconds: list[float] = []
    size = 0
    for turn in range(repeat + 1):
        link.barrier()
        before, start = loopback_bytes(), time.perf_counter()
        runtime.run(program)
        link.barrier()
        if turn:
            seconds.append(time.perf_counter() - start)
            size = loopback_bytes() - before
    pipe.send((seconds, size, runtime.get_var(program.output_names[0])))
    link.barrier()
    time.sleep(60)  # until it is ended: a link that closes first makes the other one retry


def evaluate(jax: Any, jnp: Any, program: dict[str, Any], weights: dict[str, Any], image: Any) -> Any:
    """Run the nodes one after another, channels last."""
    values = {program["input"]: image}
    for node in program["nodes"]:
        values[node["name"]] = apply(jax, jnp, node, [values[name] for name in node["inputs"]], weights)
    result = values[program["output"]]
    return jnp.argmax(jnp.ravel(result)) if program["label"] else channels_first(result)


def apply(jax: Any, jnp: Any, node: dict[str, Any], inputs: list[Any], weights: dict[str, Any]) -> Any:
    """Run one node; values have the image in front and, of pictures, the channels last."""
    kind, x = node["kind"], inputs[0]
    if kind == "Conv":
        top, left, bottom, right = node["pads"]
        x = jax.lax.conv_general_dilated(
            x, weights[node["weight"]], tuple(node["strides"]), ((top, bottom), (left, right)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=node["groups"],
        )  # fmt: skip
        return x + weights[node["bias"]] if "bias" in node else x
    if kind == "Dense":
        x = jnp.matmul(x, weights[node["weight"]].T)
        return x + weights[node["bias"]] if "bias" in node else x
    if kind == "Affine":
        return x * moved(weights[node["scale"]]) + moved(weights[node["shift"]])
    if kind == "Relu":
        return jnp.maximum(x, 0)
    if kind == "MaxPool":
        top, left, bottom, right = node["pads"]
        return jax.lax.reduce_window(
            x, -1e4, jax.lax.max, (1, *node["kernel"], 1), (1, *node["strides"], 1),
            ((0, 0), (top, bottom), (left, right), (0, 0)),
        )  # fmt: skip
    if kind == "Add":
        return x + inputs[1]
    if kind == "Multiply":
        return x * inputs[1]
    if kind == "Concat":
        return jnp.concatenate(inputs, axis=place(node["axis"], x.ndim))
    if kind == "Mean":
        return jnp.mean(x, axis=tuple(place(axis, x.ndim) for axis in node["axes"]), keepdims=node["keepdims"])
    if kind == "Reshape":
        return channels_last(jnp.reshape(channels_first(x), (1, *node["shape"])))
    if kind == "Slice":
        x = channels_first(x)
        cuts = (slice(start, start + count) for start, count in zip(node["starts"], node["counts"], strict=True))
        return channels_last(x[(slice(None), *cuts)])
    raise NotImplementedError(kind)


def place(axis: int, rank: int) -> int:
    """Where an axis of one image is once channels are last."""
    if rank < 4:
        return axis + 1
    return {0: 3, 1: 1, 2: 2}[axis % 3]


def channels_last(x: Any) -> Any:
    """Move the channels of a picture to the end."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Any) -> Any:
    """Undo `channels_last`."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def moved(x: Any) -> Any:
    """Arrange a constant for one image."""
    return x.transpose(1, 2, 0) if x.ndim == 3 else x


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
