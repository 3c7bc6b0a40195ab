"""Measured times of CKKS operations, and a cost model made of them.

Each operation is timed at two levels, and its time between them follows SEAL's algorithms: ``fixed + each * work(k)`` with k
data primes left, where work is (k + 1)(k + 2) for key switching and k for everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from secureimg.ckks.costs import CostModel

__all__ = ["Line", "MeasuredCosts", "OperationTimes"]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds of an operation: ``fixed + each * work``."""

    fixed: float
    each: float

    def at(self, work: float) -> float:
        """Milliseconds for this much work."""
        return self.fixed + self.each * work


class OperationTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Milliseconds of the operations at one ring degree, measured on one core of this machine.

    Attributes
    ----------
    ring_degree, data_primes : int
        What they were measured at.
    rotation, square : Line
        By (k + 1)(k + 2), k data primes left.
    product, addition, rescale, send : Line
        By k. `send` hands a ciphertext to another process and adds it there.
    key, key_byte : float
        Making one evaluation key; one byte of its compact form.
    encrypt, read, write, decrypt : float
        One ciphertext: by the owner; into and out of SEAL's form by the server; by the owner. At all primes.
    crowded : float
        Time of a rotation while every core does rotations, over its time alone.
    """

    ring_degree: int
    data_primes: int
    rotation: Line
    square: Line
    product: Line
    addition: Line
    rescale: Line
    send: Line
    key: float
    key_byte: float
    encrypt: float
    read: float
    write: float
    decrypt: float
    crowded: float


@dataclass(frozen=True)
class MeasuredCosts(CostModel):
    """A cost model with measured times in the place of the table.

    Parameters
    ----------
    ring_degree, speed
        As for `CostModel`; `speed` multiplies what was measured.
    times : OperationTimes
    """

    times: OperationTimes | None = None

    def _line(self, name: str, work: float) -> float:
        line: Line = getattr(self.times, name)
        return self.speed * line.at(work)

    def rotation(self, primes: int) -> float:
        """One rotation, or one relinearisation."""
        return self._line("rotation", (primes + 1) * (primes + 2))

    def product(self, primes: int) -> float:
        """Product with an encoded plaintext, and its addition to a sum."""
        return self._line("product", primes)

    def square(self, primes: int) -> float:
        """Product of two ciphertexts with relinearisation."""
        return self._line("square", (primes + 1) * (primes + 2))

    def rescale(self, primes: int) -> float:
        """Rescaling by one prime."""
        return self._line("rescale", primes)

    def addition(self, primes: int) -> float:
        """Sum of two ciphertexts."""
        return self._line("addition", primes)
