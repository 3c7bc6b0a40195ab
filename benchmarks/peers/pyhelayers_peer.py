"""pyhelayers on one network, owner and server in one process: ``python pyhelayers_peer.py DIRECTORY REPEAT``.

Its own optimiser picks packing and parameters for one picture on SEAL, 128 bits. Runs in an interpreter that has pyhelayers
and nothing of ours. Prints one line of JSON.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Compile, encrypt, evaluate, decrypt, report."""
    helayers: Any = importlib.import_module("pyhelayers")
    directory, repeat = Path(sys.argv[1]), int(sys.argv[2])
    if not (directory / "model.onnx").is_file():
        sys.exit("the network has layers that are not written as ONNX")
    image, want = np.load(directory / "input.npy"), np.load(directory / "want.npy").reshape(-1)
    plain = helayers.PlainModel.create(helayers.PlainModelHyperParams(), [str(directory / "model.onnx")])
    wanted = helayers.HeRunRequirements()
    wanted.set_he_context_options([helayers.SealCkksContext()])
    wanted.optimize_for_batch_size(1)
    wanted.set_model_encrypted(False)  # as ours: the server knows the weights
    profile = helayers.HeModel.compile(plain, wanted)
    context = helayers.HeModel.create_context(profile)
    model = plain.get_empty_he_model(context)
    model.encode(plain, profile)
    encoder = model.create_model_io_encoder()
    given, answer = helayers.EncryptedData(context), helayers.EncryptedData(context)
    encoder.encode_encrypt(given, [image])
    model.predict(answer, given)
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        model.predict(answer, given)
        seconds.append(time.perf_counter() - started)
    got = np.asarray(encoder.decrypt_decode_output(answer)).reshape(-1)[: len(want)]
    size = len(given.save_to_buffer()) + len(answer.save_to_buffer())
    error = float(np.abs(got - want).max() / np.abs(want).max())
    print(json.dumps({"seconds": seconds, "bytes": size, "rounds": None, "error": error}), flush=True)


if __name__ == "__main__":
    main()
