"""What a CKKS program will take on this machine, from its text and measured operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secureimg.ckks import CostModel, EvaluationKeys, MeasuredCosts, OperationTimes, Program
from secureimg.ckks.division import Exchange, divide
from secureimg.ckks.evaluator import loaded_bytes
from secureimg.ckks.report import milliseconds_of

__all__ = ["DIVIDED_FROM", "CkksForecast", "forecast_ckks"]

DIVIDED_FROM: Final = 0.25
"""Seconds by the fixed table from which the server divides an evaluation among its cores."""

_FIRST_USE: Final = 4.5
"""Bringing a digit of a key into SEAL's form, in a helper that uses it first, over reading a ciphertext."""
_FRAME: Final = 96
"""Bytes of a blob's header."""
_PROCESS: Final = 245e6
"""Bytes of a server process before it has a program: interpreter and libraries."""
_COMPILING: Final = 1.6
"""Bytes that compiling leaves behind, over those of the program's plaintexts."""


@dataclass(frozen=True)
class CkksForecast:
    """Predicted cost of one evaluation, of the keys, and of the owner's part.

    Attributes
    ----------
    evaluate_seconds : float
        One evaluation (of up to the program's batch), from the ciphertexts' arrival to the answer's departure.
    first_seconds : float
        The same for the first evaluation under new keys, which are brought into SEAL's form first.
    one_core_seconds : float
        The same on one core.
    keygen_seconds, encrypt_seconds, decrypt_seconds : float
        At the owner; keys once, the others for each evaluation.
    key_bytes, up_bytes, down_bytes : int
        Evaluation keys, once; each evaluation's blobs.
    server_peak_bytes : int
        Memory of the server, all its processes together.
    """

    evaluate_seconds: float
    first_seconds: float
    one_core_seconds: float
    keygen_seconds: float
    encrypt_seconds: float
    decrypt_seconds: float
    key_bytes: int
    up_bytes: int
    down_bytes: int
    server_peak_bytes: int


def forecast_ckks(program: Program, times: OperationTimes, cores: int) -> CkksForecast:
    """Predict what a program takes.

    Parameters
    ----------
    program : Program
    times : OperationTimes
        Measured at the program's parameters.
    cores : int
        Processes that the server evaluates with.
    """
    public, cost = program.public, program.cost
    costs = MeasuredCosts(times.ring_degree, times=times)
    inputs, outputs = public.body.packing.ciphertexts, public.body.output.ciphertexts
    ends = inputs * times.read + outputs * times.write * public.body.output_primes
    whole = sum(milliseconds_of(item, program.text, costs) for item in program.text.instructions)
    divided = cores > 1 and cost.milliseconds >= 1e3 * DIVIDED_FROM
    running = _divided(program, costs, times, min(cores, 8)) if divided else whole
    digits = sum(primes for _, primes in public.body.rotations) + public.body.relinearisation
    expanding = _FIRST_USE * digits * times.read
    keys = cost.galois_keys + (1 if public.body.relinearisation else 0)
    used = cores if divided else 1
    memory = (
        _PROCESS
        + cost.plaintext_bytes * (1 + _COMPILING)
        + used * (loaded_bytes(program) + _live_bytes(program))
        + cost.evaluation_key_bytes
    )
    return CkksForecast(
        evaluate_seconds=(running + ends) / 1e3,
        first_seconds=(running + ends + expanding) / 1e3,
        one_core_seconds=(whole + ends) / 1e3,
        keygen_seconds=(keys * times.key + cost.evaluation_key_bytes * times.key_byte) / 1e3,
        encrypt_seconds=inputs * times.encrypt / 1e3,
        decrypt_seconds=outputs * times.decrypt / 1e3,
        key_bytes=EvaluationKeys.expected_bytes(public) + _FRAME,
        up_bytes=cost.input_bytes + _FRAME,
        down_bytes=cost.output_bytes + _FRAME,
        server_peak_bytes=int(memory),
    )


def _divided(program: Program, costs: MeasuredCosts, times: OperationTimes, workers: int) -> float:
    """Milliseconds on several cores: each stretch lasts as long as its longest share, then sums are exchanged."""
    shares = divide(program.text, workers, CostModel(times.ring_degree))
    stretches: list[list[float]] = []
    exchanges: list[float] = []
    for share in shares:
        own, stretch = [0.0], 0
        for item in share:
            if not isinstance(item, Exchange):
                own[-1] += milliseconds_of(item, program.text, costs)
                continue
            if len(exchanges) == stretch:
                primes = _primes_of(program, item.registers[0])
                sent = sum(len(senders) for senders in item.senders)
                exchanges.append(sent * times.send.at(primes))
            stretch += 1
            own.append(0.0)
        stretches.append(own)
    longest: list[float] = [max(stretch) for stretch in zip(*stretches, strict=True)]
    return times.crowded * sum(longest) + sum(exchanges)


def _live_bytes(program: Program) -> int:
    """Most bytes of ciphertexts that are needed at one time; the engine keeps what it once took."""
    items = program.text.instructions
    last = {source: place for place, item in enumerate(items) for source in item.sources}
    sizes: dict[int, int] = {}
    live = most = 0
    for place, item in enumerate(items):
        sizes[item.target] = 2 * item.primes * 8 * program.public.parameters.ring_degree
        live += sizes[item.target]
        most = max(most, live)
        live -= sum(sizes.pop(source, 0) for source in set(item.sources) if last[source] == place)
    return most


def _primes_of(program: Program, register: int) -> int:
    return next(item.primes for item in program.text.instructions if item.target == register)
