"""The main job, step by step: a server process, keys, encryption, evaluation, decryption, comparison."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.console import Steps
from protocols.cli.options import LoadedModel, ModelOptions
from protocols.cli.server_process import ServerProcess
from protocols.client import Answer, OwnerClient
from protocols.memory_use import peak_memory
from secureimg.ckks import OwnerKeys, PublicProgram
from secureimg.graph import Op, run_op, run_plain

__all__ = ["EncryptedRun", "apply_tail", "labels_of", "parameters_of", "run_encrypted"]


@dataclass(eq=False)
class EncryptedRun:
    """What an encrypted run gave and took. Seconds are totals over all images.

    Attributes
    ----------
    values : (N, *output_shape) float64
        Decrypted, before the ops that the owner does itself (softmax, argmax).
    outputs : (N, ...) float64
        After them.
    sent, received : bytes
        The first encrypted input and the first encrypted answer, as the server saw them.
    """

    program: PublicProgram
    values: NDArray[np.float64]
    outputs: NDArray[np.float64]
    max_abs_error: float
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    peak_rss: dict[str, int] = field(default_factory=dict)
    calls: list[float] = field(default_factory=list)
    sent: bytes = b""
    received: bytes = b""


def run_encrypted(
    options: ModelOptions, model: LoadedModel, values: NDArray[np.float64], workers: int, steps: Steps
) -> EncryptedRun:
    """Run a model on encrypted images, with owner and server as two processes on this machine.

    Parameters
    ----------
    options, model
        What to run; the server process loads and compiles it by itself.
    values : (N, *input_shape) float64
    workers : int
        Processes that the server evaluates with.
    steps : Steps
        Records the steps.
    """
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        with steps.step("server", "start, load and compile the model"):
            server = stack.enter_context(ServerProcess(options, workers))
        client = stack.enter_context(OwnerClient(*server.address, server.identity))
        run = _with_client(client, model, values, steps)
    run.seconds = {"compile": server.compile_seconds, **run.seconds, "total": time.perf_counter() - start}
    run.peak_rss["owner"] = peak_memory(children=False)
    return run


def _with_client(client: OwnerClient, model: LoadedModel, values: NDArray[np.float64], steps: Steps) -> EncryptedRun:
    public = client.program
    with steps.step("owner", "make keys") as making:
        keys = OwnerKeys.generate(public)
        evaluation_keys = keys.evaluation_keys()
        making.bytes = len(evaluation_keys.to_bytes())
    del evaluation_keys
    with steps.step("owner → server", "evaluation keys, once") as registering:
        registering.bytes = client.register(keys)
    batches = [values[i : i + public.batch] for i in range(0, len(values), public.batch)]
    with steps.step("owner", f"encrypt {_images(len(values))}") as encrypting:
        blobs = [keys.encrypt(batch) for batch in batches]
        encrypting.bytes = sum(map(len, blobs))
    with steps.step("server", f"evaluate {_images(len(values))} that it cannot see") as evaluating:
        begin = time.perf_counter()
        answers = [client.evaluate(blob, len(batch)) for blob, batch in zip(blobs, batches, strict=True)]
        carried = time.perf_counter() - begin
        evaluating.seconds = sum(answer.seconds for answer in answers)
    with steps.step("owner ⇄ server", "send, queue, receive") as carrying:
        carrying.seconds = max(carried - evaluating.seconds, 1e-6)
        carrying.bytes = sum(map(len, blobs)) + sum(len(answer.blob) for answer in answers)
    with steps.step("owner", "decrypt and check") as decrypting:
        parts = [keys.decrypt(answer.blob, len(batch)) for answer, batch in zip(answers, batches, strict=True)]
        decrypted = np.concatenate(parts)
        decrypting.bytes = sum(len(answer.blob) for answer in answers)
    body, tail = model.graph.body_and_tail()
    expected = run_plain(body, values)
    return EncryptedRun(
        program=public,
        values=decrypted,
        outputs=apply_tail(decrypted, tail),
        max_abs_error=float(np.abs(decrypted - expected.reshape(decrypted.shape)).max()),
        seconds={
            "keygen": making.seconds,
            "encrypt": encrypting.seconds,
            "evaluate": evaluating.seconds,
            "decrypt": decrypting.seconds,
        },
        sizes={
            "evaluation_keys": making.bytes,
            "up": encrypting.bytes,
            "down": decrypting.bytes,
        },
        peak_rss={"server": _last_peak(answers)},
        calls=[answer.seconds for answer in answers],
        sent=blobs[0],
        received=answers[0].blob,
    )


def apply_tail(values: NDArray[np.float64], tail: tuple[Op, ...]) -> NDArray[np.float64]:
    """Do what the owner does with decrypted values: softmax, argmax."""
    for op in tail:
        values = run_op(op, values)
    return values


def labels_of(values: NDArray[np.float64]) -> list[int]:
    """Return the index of the largest output of each image; for a single output, whether it is above 0."""
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == 1:
        return [int(value > 0) for value in flat[:, 0]]
    return [int(index) for index in flat.argmax(axis=1)]


def parameters_of(public: PublicProgram) -> dict[str, Any]:
    """Return the encryption parameters as plain values."""
    bits = public.parameters.bits
    return {
        "scheme": "CKKS",
        "security_bits": 128,
        "ring_degree": public.parameters.ring_degree,
        "data_prime_bits": list(bits.data),
        "special_prime_bits": bits.special,
        "modulus_bits": bits.total,
        "layout": public.layout,
        "batch": public.batch,
        "input_range": list(public.input_range),
    }


def _images(count: int) -> str:
    return "the image" if count == 1 else f"{count} images"


def _last_peak(answers: list[Answer]) -> int:
    return max(answer.peak_rss for answer in answers)
