"""Variance of the error that each CKKS operation adds to the real part of a slot.

All formulas are for SEAL's algorithms with ternary secrets and errors of standard deviation 3.2, for a polynomial whose
coefficients have variance V: a slot is a sum of N coefficients times roots of unity, so its real part has variance
N V / 2. Source: Costache, Curtis, Hales, Murphy, Ogilvie and Player, On the precision loss in approximate homomorphic
encryption (2022), section 4; the key-switching term is derived for SEAL's digits, which are uniform in [0, q_i).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["NoiseModel"]

_ERROR_VARIANCE = 3.2**2


@dataclass(frozen=True)
class NoiseModel:
    """Noise at ring degree N; `primes` are the actual primes (special prime last), empty while planning."""

    ring_degree: int
    primes: tuple[int, ...] = ()

    @property
    def _half(self) -> float:
        return self.ring_degree / 2

    @property
    def _rounding(self) -> float:
        """Coefficient variance of rounding both polynomials of a ciphertext, the second times a ternary secret."""
        return (1 + 2 * self.ring_degree / 3) / 12

    def fresh(self, scale: float) -> float:
        """A symmetric encryption, encoding included."""
        return self._half * (_ERROR_VARIANCE + 1 / 12) / scale**2

    def encoding(self, scale: float) -> float:
        """Rounding of an encoded plaintext."""
        return self._half / 12 / scale**2

    def rescale(self, scale: float) -> float:
        """A rescale whose result has this scale."""
        return self._half * self._rounding / scale**2

    def rotation(self, primes: int, scale: float) -> float:
        """One key switching (rotation or relinearisation) of a ciphertext of this scale with `primes` data primes."""
        if not self.primes:
            return 0.0
        special = float(self.primes[-1])
        digits = sum((prime / special) ** 2 for prime in self.primes[:primes]) / 3
        return self._half * (digits * self.ring_degree * _ERROR_VARIANCE + self._rounding) / scale**2

    def plain_scale(self, matrix: sparse.csr_array, squares: NDArray[np.float64], exponent: int, width: int) -> float:
        """Plaintext scale at which the encoding of weights errs as much as the rescale behind the map."""
        pattern = sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
        energy = float(np.max(pattern @ squares)) if matrix.nnz else 1.0
        return max(2.0 ** (width - exponent) * math.sqrt(max(energy, 1e-12) / (1 + 2 * self.ring_degree / 3)), 2.0**10)
