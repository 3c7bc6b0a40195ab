"""TenSEAL on a network of its tutorial's form, all in one process: ``python tenseal_peer.py DIRECTORY REPEAT``.

One convolution of one channel, square, dense, square, dense, as in tutorial 4, with its parameters; it cannot do a second
convolution. Runs in an interpreter that has TenSEAL and nothing of ours. Prints one line of JSON.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RING_DEGREE = 8192
PRIME_BITS = [31, 26, 26, 26, 26, 26, 26, 31]
FORM = ["Conv", "Multiply", "Dense", "Multiply", "Dense"]


def main() -> None:
    """Make keys, encrypt, evaluate, decrypt, report."""
    ts: Any = importlib.import_module("tenseal")
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    conv, dense = read(directory)
    context = ts.context(ts.SCHEME_TYPE.CKKS, RING_DEGREE, coeff_mod_bit_sizes=PRIME_BITS, n_threads=1)
    context.global_scale = 2.0**26
    context.generate_galois_keys()
    image = np.load(directory / "input.npy")[0, 0]
    side, stride = conv["side"], conv["stride"]
    vector, windows = ts.im2col_encoding(context, image.tolist(), side, side, stride)
    answer = evaluate(ts, conv, dense, vector, windows)
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        answer = evaluate(ts, conv, dense, vector, windows)
        seconds.append(time.perf_counter() - started)
    want = np.load(directory / "want.npy").reshape(-1)
    got = np.asarray(answer.decrypt())
    size = len(vector.serialize()) + len(answer.serialize())
    error = float(np.abs(got - want).max() / np.abs(want).max())
    print(json.dumps({"seconds": seconds, "bytes": size, "rounds": None, "error": error}), flush=True)


def read(directory: Path) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """Take the constants as nested lists; say what does not fit."""
    nodes = [
        node for node in json.loads((directory / "program.json").read_text())["nodes"] if node["kind"] != "Reshape"
    ]
    stored = np.load(directory / "weights.npz")
    kinds = [node["kind"] for node in nodes]
    if kinds != FORM or any(nodes[0]["pads"]) or stored[nodes[0]["weight"]].shape[1] != 1:
        form = "conv of one channel, square, dense, square, dense"
        sys.exit(f"TenSEAL's tutorial path does {form}; this is {', '.join(kinds)}")
    weight = stored[nodes[0]["weight"]]
    biases = [stored[node["bias"]].tolist() if "bias" in node else None for node in nodes]
    conv = {
        "kernels": weight[:, 0].tolist(),
        "bias": biases[0] or [0.0] * len(weight),
        "side": weight.shape[2],
        "stride": nodes[0]["strides"][0],
    }
    places = [place for place, kind in enumerate(kinds) if kind == "Dense"]
    return conv, [(stored[nodes[place]["weight"]].T.tolist(), biases[place]) for place in places]


def evaluate(ts: Any, conv: dict[str, Any], dense: list[tuple[Any, Any]], vector: Any, windows: int) -> Any:
    """Run the network on the ciphertext, statement by statement as in the tutorial."""
    pairs = zip(conv["kernels"], conv["bias"], strict=True)
    x = ts.CKKSVector.pack_vectors([vector.conv2d_im2col(kernel, windows) + bias for kernel, bias in pairs])
    for weight, bias in dense:
        x.square_()
        x = x.mm(weight)
        if bias is not None:
            x = x + bias
    return x


if __name__ == "__main__":
    main()
