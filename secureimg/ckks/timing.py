"""Timing CKKS operations on this machine.

Keys and plaintexts take turns while they are timed, as they do in a program: from memory an operation is slower than from
the cache.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import tenseal.sealapi as seal

from secureimg.ckks.evaluation_keys import galois_element
from secureimg.ckks.measured import Line, OperationTimes
from secureimg.ckks.parameters import Parameters
from secureimg.ckks.sealio import (
    SEED_BYTES,
    ciphertext_from_words,
    join_limbs,
    pack_limbs,
    packed_bytes,
    parse_seeded,
    save_raw,
    unpack_limbs,
)

__all__ = ["measure_operations"]

_REPEATS: Final = 7
_KEYS: Final = 4
_TURNS: Final = 48 << 20
"""Bytes of plaintexts that take turns: more than a cache holds."""


def measure_operations(parameters: Parameters, cores: int = 1) -> OperationTimes:
    """Time the operations of a parameter set on this machine.

    Parameters
    ----------
    parameters : Parameters
    cores : int
        Processes that will evaluate at the same time: `crowded` is measured with as many.

    Returns
    -------
    OperationTimes

    Cost: 0.2 s at N = 8192 with 4 primes, 0.9 s at N = 16384 with 6, a few seconds at N = 32768 with 16.
    """
    return _Bench(parameters).run(cores)


class _Bench:
    """Keys and operands to time operations on."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.top = len(parameters.bits.data)
        context = parameters.context
        generator = seal.KeyGenerator(context)
        self.elements = [galois_element(step + 1, parameters.ring_degree) for step in range(_KEYS)]
        self.secret, self.keys, self.relinearisation = generator.secret_key(), [], seal.RelinKeys()
        generating = []
        for element in self.elements:
            keys, start = seal.GaloisKeys(), time.process_time()
            generator.create_galois_keys([element], keys)
            generating.append(time.process_time() - start)
            self.keys.append(keys)
        self.generating = float(np.percentile(generating, 25)) * 1e3
        generator.create_relin_keys(self.relinearisation)
        self.evaluator, self.encoder = seal.Evaluator(context), seal.CKKSEncoder(context)
        self.encryptor = seal.Encryptor(context, self.secret)
        self.values = np.linspace(-0.5, 0.5, parameters.slots).tolist()
        self.target = seal.Ciphertext()

    def run(self, cores: int) -> OperationTimes:
        levels = sorted({max(1, self.top // 2), self.top})
        found: dict[str, list[float]] = {}
        for level in levels:
            for name, milliseconds in self._level(level).items():
                found.setdefault(name, []).append(milliseconds)
        switching = [(level + 1) * (level + 2) for level in levels]
        lines = {
            name: _line(switching if name in ("rotation", "square") else levels, values)
            for name, values in found.items()
        }
        ends = self._ends()
        return OperationTimes(
            ring_degree=self.parameters.ring_degree, data_primes=self.top, rotation=lines["rotation"],
            square=lines["square"], product=lines["product"], addition=lines["addition"], rescale=lines["rescale"],
            send=lines["send"], key=ends["key"],
            key_byte=ends["key_byte"], encrypt=ends["encrypt"], read=ends["read"], write=ends["write"],
            decrypt=ends["decrypt"], crowded=self._crowded(cores),
        )  # fmt: skip

    def _cipher(self, level: int) -> seal.Ciphertext:
        plain, out = seal.Plaintext(), seal.Ciphertext()
        self.encoder.encode(self.values, self.parameters.parms_id(level), 2.0**12, plain)
        self.encryptor.encrypt_symmetric(plain, out)
        return out

    def _level(self, level: int) -> dict[str, float]:
        source, evaluator, target = self._cipher(level), self.evaluator, self.target
        plain, total = seal.Plaintext(), self._cipher(level)
        self.encoder.encode(self.values, self.parameters.parms_id(level), 2.0**10, plain)
        count = max(2, min(256, _TURNS // (8 * self.parameters.ring_degree * level)))
        plains = [seal.Plaintext(plain) for _ in range(count)]

        def rotate(turn: int) -> None:
            place = turn % _KEYS
            evaluator.apply_galois(source, self.elements[place], self.keys[place], target)

        def multiply(turn: int) -> None:
            evaluator.multiply_plain(source, plains[turn % count], target)

        def square(turn: int) -> None:
            evaluator.square(source, target)
            evaluator.relinearize_inplace(target, self.relinearisation)

        found = {"rotation": _typical(rotate), "square": _typical(square)}
        found["addition"] = _typical(lambda turn: evaluator.add(source, total, target))
        found["product"] = _typical(multiply, max(_REPEATS, 40)) + found["addition"]
        found["rescale"] = _typical(lambda turn: evaluator.rescale_to_next(source, target)) if level > 1 else 0.0
        if level == 1:  # has nothing to drop; a line through one point and zero
            found["rescale"] = found["addition"]
        found["send"] = _typical(lambda turn: self._send(source)) + found["addition"]
        return found

    def _send(self, source: seal.Ciphertext) -> None:
        handle = os.memfd_create("secureimg-timing", os.MFD_CLOEXEC)
        try:
            source.save(f"/proc/self/fd/{handle}")
            seal.Ciphertext().load(self.parameters.context, f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)

    def _ends(self) -> dict[str, float]:
        """What owner and server do once for each ciphertext or key."""
        parameters, primes = self.parameters, self.parameters.primes[:-1]
        plain, level = seal.Plaintext(), parameters.parms_id(self.top)

        def encrypt(turn: int) -> None:
            self.encoder.encode(self.values, level, 2.0**20, plain)
            words, _ = parse_seeded(save_raw(self.encryptor.encrypt_symmetric(plain)))
            pack_limbs(words, primes)

        self.encoder.encode(self.values, level, 2.0**20, plain)
        words, seed = parse_seeded(save_raw(self.encryptor.encrypt_symmetric(plain)))
        packed = memoryview(pack_limbs(words, primes))
        assert len(packed) == packed_bytes(primes, parameters.ring_degree)
        assert len(seed) == SEED_BYTES

        def read(turn: int) -> None:
            ciphertext_from_words(
                parameters, self.top, unpack_limbs(packed, primes, parameters.ring_degree), 2.0**20, seed
            )

        last = self._cipher(1)
        decryptor = seal.Decryptor(parameters.context, self.secret)

        polynomials = join_limbs(save_raw(last))

        def write(turn: int) -> None:
            for polynomial in join_limbs(save_raw(last)):
                pack_limbs(polynomial, parameters.primes[:1])

        def decrypt(turn: int) -> None:
            decryptor.decrypt(ciphertext_from_words(parameters, 1, polynomials, last.scale), plain)
            np.array(self.encoder.decode_complex(plain))

        packing = _typical(lambda turn: pack_limbs(words, primes)) / len(packed)
        saving = _typical(lambda turn: save_raw(self.keys[0]), 3)
        return {
            "key": self.generating + saving, "key_byte": packing,
            "encrypt": _typical(encrypt), "read": _typical(read), "write": _typical(write),
            "decrypt": _typical(decrypt),
        }  # fmt: skip

    def _crowded(self, cores: int) -> float:
        if cores == 1:
            return 1.0
        source = self._cipher(self.top)

        def rotate(turn: int) -> None:
            place = turn % _KEYS
            self.evaluator.apply_galois(source, self.elements[place], self.keys[place], self.target)

        alone = _typical(rotate)
        with _beside(cores - 1, rotate):
            return max(1.0, _typical(rotate) / alone)


def _typical(work: Callable[[int], object], repeats: int = _REPEATS) -> float:
    """Milliseconds of a call: the lower quartile, after one that does not count.

    Of the processor, so that others who are at work here meanwhile do not count.
    """
    work(0)
    times = []
    for turn in range(repeats):
        start = time.process_time()
        work(turn + 1)
        times.append(time.process_time() - start)
    return float(np.percentile(times, 25)) * 1e3


def _line(work: list[int], values: list[float]) -> Line:
    if len(work) == 1:
        return Line(0.0, values[0] / work[0])
    each = max(0.0, (values[1] - values[0]) / (work[1] - work[0]))
    return Line(max(0.0, values[0] - each * work[0]), each)


@contextmanager
def _beside(count: int, work: Callable[[int], object]) -> Iterator[None]:
    """Have forked processes do work over and over, until the block ends."""
    children = []
    parent = os.getpid()
    for _ in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:  # runs SEAL and nothing else, and never returns to this code
            try:
                turn = 0
                while os.getppid() == parent:
                    work(turn)
                    turn += 1
            finally:
                os._exit(0)
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
