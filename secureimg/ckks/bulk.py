"""Matrices times many ciphertexts at once, on raw coefficients: the engine of the throughput layout.

In that layout a weight multiplies a whole ciphertext by one number, so a linear map is a matrix product modulo each prime.
Weights are integers of about 28 bits and coefficients have up to 60, so a coefficient is cut into limbs that are small
enough for sums of products to stay below 2^63; one reduction a limb and output follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.sealio import Words
from secureimg.ckks.text import Weights
from secureimg.errors import CompileError

__all__ = ["matrix_times_ciphertexts"]

_CHUNK = 2048


@numba.njit(cache=True)
def _rows_times(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.int64],
    limbs: NDArray[np.int64],
    limb_bits: int,
    step: int,
    prime: int,
    out: NDArray[np.uint64],
) -> None:
    """out[j, c] = sum_i W[j, i] x[i, c] mod prime, with x in limbs of shape (limb, i, c); 2^step prime is below 2^63."""
    count, _, width = limbs.shape
    for row in range(starts.size - 1):
        total = np.zeros(width, dtype=np.int64)
        for limb in range(count - 1, -1, -1):
            if limb < count - 1:
                left = limb_bits
                while left > 0:
                    shift = min(step, left)
                    for c in range(width):
                        total[c] = (total[c] << shift) % prime
                    left -= shift
            sums = np.zeros(width, dtype=np.int64)
            for place in range(starts[row], starts[row + 1]):
                weight = weights[place]
                source = limbs[limb, columns[place]]
                for c in range(width):
                    sums[c] += weight * source[c]
            for c in range(width):
                total[c] = (total[c] + sums[c] % prime) % prime
        for c in range(width):
            out[row, c] = total[c]


def matrix_times_ciphertexts(weights: Weights, words: list[Words], primes: tuple[int, ...]) -> Iterator[Words]:
    """Rows of the product, each a ciphertext's coefficients of shape (2, len(primes), N).

    Cost: entries x 2 N x primes x limbs (2 or 3) multiplications of 64-bit integers; one core does about 10^9 a second.

    Raises
    ------
    CompileError
        If weights are so large that not even 8-bit limbs avoid overflow.
    """
    matrix = weights.values
    scaled = np.rint(matrix.data * weights.scale).astype(np.int64)
    longest = int(np.diff(matrix.indptr).max(initial=1))
    bits = int(np.abs(scaled).max(initial=1)).bit_length() + math.ceil(math.log2(max(longest, 2)))
    limb_bits = 62 - bits
    if limb_bits < 8:
        raise CompileError(f"weights of {bits} bits do not fit the throughput layout: ask for less precision")
    degree = words[0].shape[-1]
    out = np.empty((matrix.shape[0], 2, len(primes), degree), dtype=np.uint64)
    starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    for index, prime in enumerate(primes):
        count = -(-prime.bit_length() // limb_bits)
        limbs = np.empty((count, len(words), _CHUNK), dtype=np.int64)
        result = np.empty((matrix.shape[0], _CHUNK), dtype=np.uint64)
        for half in range(2):
            for start in range(0, degree, _CHUNK):
                for place, ciphertext in enumerate(words):
                    part = ciphertext[half, index, start : start + _CHUNK]
                    for limb in range(count):
                        np.right_shift(part, np.uint64(limb * limb_bits), out=limbs[limb, place].view(np.uint64))
                if count > 1:
                    limbs[:-1] &= (1 << limb_bits) - 1
                _rows_times(starts, columns, scaled, limbs, limb_bits, 63 - prime.bit_length(), prime, result)
                out[:, half, index, start : start + _CHUNK] = result
    yield from out
