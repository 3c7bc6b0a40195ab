"""Other systems on the same rows: each runs in an interpreter of its own, which has it installed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.graph import AveragePool, Graph, Node, Shape, Square, simplify

from .results import Spread
from .share_network import Network, has_namespaces, inside
from .share_onnx import save_onnx
from .share_results import PeerFigure

__all__ = ["CKKS_PEERS", "PEERS", "PeerProgram", "parse_peer", "run_peer", "write_program"]

Array = NDArray[np.float64]
_SCRIPTS = Path(__file__).parent / "peers"
PEERS: Final = ("crypten", "spu")
CKKS_PEERS: Final = ("concrete", "orion", "pyhelayers", "tenseal")
"""On ciphertexts: `secureimg bench` runs them beside CKKS."""

_MAX_LINE: Final = 160
_ATTRIBUTES: Final = {
    "Conv": ("strides", "pads", "groups"),
    "MaxPool": ("kernel", "strides", "pads"),
    "Mean": ("axes", "keepdims"),
    "Concat": ("axis",),
    "Reshape": ("shape",),
    "Slice": ("starts", "counts"),
}
_ARRAYS: Final = {"Conv": ("weight", "bias"), "Dense": ("weight", "bias"), "Affine": ("scale", "shift")}
_PLAIN: Final = {"Relu", "Add", "Multiply"}


@dataclass(frozen=True)
class PeerProgram:
    """A row as the peers' scripts read it: a directory with `program.json`, `weights.npz`, `input.npy`,
    `want.npy` and, where it can be written, `model.onnx`.
    """

    directory: Path


def parse_peer(text: str, known: tuple[str, ...] = PEERS) -> tuple[str, Path]:
    """Read NAME=PYTHON; `ValueError` if the name is unknown or the interpreter is not there."""
    name, _, path = text.partition("=")
    if name not in known:
        raise ValueError(f"{name!r} is not one of {', '.join(known)}: write it like {known[0]}=/path/to/python")
    if not Path(path).is_file():
        raise ValueError(f"{path!r} is no interpreter: give the path of a python that has {name} installed")
    return name, Path(path)


def write_program(graph: Graph, image: Array, want: Array, label: bool, directory: Path) -> PeerProgram:
    """Write a row for the peers.

    Parameters
    ----------
    graph : Graph
        Normalisations are folded into convolutions first.
    image : float64, shape graph.input_shape
    want : float64
        The plain answer.
    label : bool
        Reveal the place of the largest output only.
    directory : Path
        Must exist.
    """
    graph = simplify(graph)
    arrays: dict[str, Array] = {}
    nodes = [_node(node, graph.shapes, arrays) for node in graph.nodes]
    program = {"input": graph.input, "output": graph.output, "label": label, "nodes": nodes}
    (directory / "program.json").write_text(json.dumps(program), encoding="utf-8")
    np.savez(directory / "weights.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub takes the flag for a name
    np.save(directory / "input.npy", image[None])
    np.save(directory / "want.npy", want[None])
    with contextlib.suppress(NotImplementedError):  # for those that read it; they say if it is not there
        save_onnx(graph, directory / "model.onnx")
    return PeerProgram(directory)


def _averaging(op: AveragePool, node: Node, channels: int, arrays: dict[str, Array]) -> dict[str, Any]:
    """An average pool as the convolution that it is, a channel by itself."""
    if any(op.pads) or op.ceil_mode:
        raise NotImplementedError(f"node {node.name!r}: the peers' scripts do not know average pools with padding")
    arrays[f"{node.name}.weight"] = np.full((channels, 1, *op.kernel), 1 / math.prod(op.kernel))
    found = {"name": node.name, "kind": "Conv", "inputs": list(node.inputs), "weight": f"{node.name}.weight"}
    return found | {"strides": op.strides, "pads": op.pads, "groups": channels}


def _node(node: Node, shapes: Mapping[str, Shape], arrays: dict[str, Array]) -> dict[str, Any]:
    kind = type(node.op).__name__
    if isinstance(node.op, Square):
        return {"name": node.name, "kind": "Multiply", "inputs": [*node.inputs, *node.inputs]}
    if isinstance(node.op, AveragePool):
        return _averaging(node.op, node, shapes[node.inputs[0]][0], arrays)
    if kind not in {*_ATTRIBUTES, *_ARRAYS, *_PLAIN}:
        raise NotImplementedError(f"node {node.name!r}: the peers' scripts do not know {kind}")
    found: dict[str, Any] = {"name": node.name, "kind": kind, "inputs": list(node.inputs)}
    found |= {name: getattr(node.op, name) for name in _ATTRIBUTES.get(kind, ())}
    for name in _ARRAYS.get(kind, ()):
        array = getattr(node.op, name)
        if array is not None:
            found[name] = f"{node.name}.{name}"
            arrays[found[name]] = array
    return found


def run_peer(
    name: str, python: Path, program: PeerProgram, repeat: int, threads: int, network: Network, timeout: float = 1800.0
) -> PeerFigure:
    """Run a row on a peer: one run that does not count, then `repeat` that do. Never raises for what the peer does.

    Where a network namespace can be made the peer gets one, so that all bytes on its loopback are its own.
    """
    command = [str(python), str(_SCRIPTS / f"{name}_peer.py"), str(program.directory), str(repeat)]
    own = has_namespaces()
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        "BENCHMARK_OWN_LOOPBACK": str(int(own)),
    }
    process = subprocess.Popen(
        inside(network, command) if own else command, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    try:
        said, complaint = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return _failed(f"not done within {timeout:g} s")
    finally:  # also when we are interrupted: it may have left processes behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    lines = said.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if process.returncode == 0 and lines else None
        if found is not None:
            return PeerFigure(Spread.of(found["seconds"]), found["bytes"], found["rounds"], found["error"])
    except (ValueError, KeyError) as error:
        return _failed(f"said nothing of use ({type(error).__name__})")
    last = complaint.strip().splitlines()[-1:] or ["no message"]
    return _failed(f"status {process.returncode}: {last[0]}")


def _failed(reason: str) -> PeerFigure:
    return PeerFigure(None, None, None, None, reason[:_MAX_LINE])
