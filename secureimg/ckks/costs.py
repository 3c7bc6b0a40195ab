"""What CKKS operations cost.

The planner compares plans with a fixed table, so that the same model compiles to the same program everywhere; reports
scale it with one measurement of the machine at hand.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import tenseal.sealapi as seal

from secureimg.ckks.parameters import Parameters, PrimeBits

__all__ = ["CostModel", "measure_machine"]


@dataclass(frozen=True)
class CostModel:
    """Milliseconds of an operation at ring degree N with k data primes left.

    The shapes are those of SEAL's algorithms: key switching takes k (k + 1) number-theoretic transforms down and
    2 (k + 1) up, the others are linear in k. The constants were fitted to TenSEAL 0.3.18 at N = 8192 and 16384.

    Parameters
    ----------
    ring_degree : int
        N.
    speed : float
        Measured time of this machine over the table's.
    """

    ring_degree: int
    speed: float = 1.0

    @property
    def _size(self) -> float:
        return self.speed * math.pow(self.ring_degree / 8192, 1.08)

    def rotation(self, primes: int) -> float:
        """One rotation, or one relinearisation."""
        return 0.093 * (primes + 1) * (primes + 2) * self._size

    def product(self, primes: int) -> float:
        """Product with an encoded plaintext, and its addition to a sum."""
        return 0.065 * primes * self._size

    def square(self, primes: int) -> float:
        """Product of two ciphertexts with relinearisation."""
        return self.rotation(primes) + 0.08 * primes * self._size

    def rescale(self, primes: int) -> float:
        """Rescaling by one prime."""
        return 0.18 * primes * self._size

    def addition(self, primes: int) -> float:
        """Sum of two ciphertexts."""
        return 0.018 * primes * self._size

    def ciphertext(self, primes: int) -> float:
        """Price of sending and loading one more ciphertext."""
        return 2.0 * primes * self._size


def measure_machine(repeats: int = 5) -> float:
    """Time of a rotation on this machine over the table's (about 0.1 s)."""
    parameters = Parameters(8192, PrimeBits((40, 40, 40), 50))
    context = parameters.context
    generator = seal.KeyGenerator(context)
    keys, source, target, plain = seal.GaloisKeys(), seal.Ciphertext(), seal.Ciphertext(), seal.Plaintext()
    generator.create_galois_keys([3], keys)
    seal.CKKSEncoder(context).encode([0.5] * 8, parameters.parms_id(3), 2.0**30, plain)
    seal.Encryptor(context, generator.secret_key()).encrypt_symmetric(plain, source)
    evaluator = seal.Evaluator(context)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        evaluator.apply_galois(source, 3, keys, target)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3 / CostModel(8192).rotation(3)
