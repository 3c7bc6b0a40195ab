"""Encryption parameters: ring degree, primes and scale, checked against the 128-bit standard.

Parameters are computed by the compiler, not asked for. They are checked twice: against the table of the Homomorphic
Encryption Standard below, and by SEAL when it builds its context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
import tenseal.sealapi as seal

from secureimg.errors import ParameterError

__all__ = ["MAX_MODULUS_BITS", "Parameters", "PrimeBits"]

MAX_MODULUS_BITS = {4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""log2 of the largest modulus, special prime included, that keeps 128-bit security with ternary secrets, per ring degree.

Source: Albrecht et al., Homomorphic Encryption Standard (2018), table 1, classical security.
"""

_LARGEST_PRIME = 60
_CONTEXTS = 4


class PrimeBits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bit sizes of a modulus chain: `data[0]` is dropped last, `special` is used in key switching only."""

    data: tuple[int, ...]
    special: int

    @property
    def total(self) -> int:
        """Sum of all bit sizes, the quantity that security limits."""
        return sum(self.data) + self.special


@lru_cache(maxsize=_CONTEXTS)
def _context(ring_degree: int, bits: PrimeBits) -> seal.SEALContext:
    """A context for parameters that were checked. It is never changed, so programs of equal parameters share it."""
    raw = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    raw.set_poly_modulus_degree(ring_degree)
    try:
        raw.set_coeff_modulus(seal.CoeffModulus.Create(ring_degree, [*bits.data, bits.special]))
    except RuntimeError as error:
        raise ParameterError(f"no primes of {bits} for ring degree {ring_degree}: {error}") from None
    context = seal.SEALContext(raw, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ParameterError(f"SEAL refuses these parameters: {context.parameters_error_message()}")
    return context


@dataclass(frozen=True)
class Parameters:
    """A checked parameter set.

    Parameters
    ----------
    ring_degree : int
        N; a ciphertext has N / 2 slots.
    bits : PrimeBits
        Bit sizes of the primes.

    Raises
    ------
    ParameterError
        If the ring degree is not in the standard's table, the modulus is too large for 128-bit security, or a prime
        size is outside what SEAL supports.
    """

    ring_degree: int
    bits: PrimeBits

    def __post_init__(self) -> None:
        limit = MAX_MODULUS_BITS.get(self.ring_degree)
        if limit is None:
            raise ParameterError(
                f"ring degree {self.ring_degree} is not supported: use one of {sorted(MAX_MODULUS_BITS)}"
            )
        if not self.bits.data:
            raise ParameterError("a parameter set needs at least one data prime")
        if self.bits.total > limit:
            raise ParameterError(
                f"a modulus of {self.bits.total} bits is above the 128-bit security limit of {limit} bits for ring degree "
                f"{self.ring_degree}: use fewer or smaller primes, or a larger ring degree"
            )
        low = math.ceil(math.log2(2 * self.ring_degree)) + 2
        for size in (*self.bits.data, self.bits.special):
            if not low <= size <= _LARGEST_PRIME:
                raise ParameterError(
                    f"prime size {size} bits is outside [{low}, {_LARGEST_PRIME}] for ring degree {self.ring_degree}"
                )
        if self.bits.special < max(self.bits.data):
            raise ParameterError(
                f"the special prime ({self.bits.special} bits) must be at least as large as every data prime "
                f"({max(self.bits.data)} bits), or key switching drowns the values in noise"
            )

    @property
    def slots(self) -> int:
        """Number of values a ciphertext holds, N / 2."""
        return self.ring_degree // 2

    @cached_property
    def context(self) -> seal.SEALContext:
        """The SEAL context of this parameter set (20 ms for ring degree 4096, 0.7 s for 32768; the last few are kept).

        Raises
        ------
        ParameterError
            If SEAL's own check refuses the parameters.
        """
        return _context(self.ring_degree, self.bits)

    @cached_property
    def primes(self) -> tuple[int, ...]:
        """All primes in SEAL's order: data primes, then the special prime."""
        raw = self.context.key_context_data().parms()
        return tuple(int(modulus.value()) for modulus in raw.coeff_modulus())

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """SEAL's parms_id for each number of remaining data primes; index 0 stands for one prime."""
        found = []
        data = self.context.first_context_data()
        while data is not None:
            found.append(tuple(data.parms_id()))
            data = data.next_context_data()
        return tuple(reversed(found))

    def parms_id(self, primes_left: int) -> tuple[int, ...]:
        """SEAL's identifier of the level with `primes_left` data primes."""
        return self.levels[primes_left - 1]

    def modulus_bits(self, primes_left: int) -> float:
        """log2 of the product of the first `primes_left` data primes."""
        return sum(math.log2(prime) for prime in self.primes[:primes_left])
