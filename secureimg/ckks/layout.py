"""Where the elements of a tensor sit in the slots of its ciphertexts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layout"]

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of the n elements of a flattened tensor.

    Parameters
    ----------
    slots : int
        Slots of one ciphertext that one image may use.
    ciphertexts : int
        Number of ciphertexts.
    ciphertext, slot : int64 arrays of shape (n,)
        Place of each element: `0 <= slot < period`.
    period : int
        The content of every ciphertext repeats with this period, so that rotations are cyclic in it. Equal to `slots`
        where there are no copies. Slots that hold no element (nor a copy) hold anything.
    pitch : (int, int)
        Distance in slots of vertical and horizontal neighbours, where the tensor has rows and columns.
    """

    slots: int
    ciphertexts: int
    ciphertext: Indices
    slot: Indices
    period: int
    pitch: tuple[int, int] = (1, 1)

    def key(self) -> tuple[int, int, bytes]:
        """What makes two layouts interchangeable."""
        return (self.period, self.ciphertexts, self.slot.tobytes() + self.ciphertext.tobytes())

    def pack(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slot vectors, shape (ciphertexts, slots), of a flattened tensor of shape (n,); empty slots are zero."""
        out = np.zeros((self.ciphertexts, self.period))
        out[self.ciphertext, self.slot] = values
        return np.tile(out, (1, self.slots // self.period))

    def unpack(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The flattened tensor, shape (n,), of slot vectors of shape (ciphertexts, slots)."""
        return vectors[self.ciphertext, self.slot]

    def occupied(self) -> NDArray[np.bool_]:
        """True where a slot holds an element or a copy of one; shape (ciphertexts, slots)."""
        out = np.zeros((self.ciphertexts, self.period), dtype=bool)
        out[self.ciphertext, self.slot] = True
        return np.tile(out, (1, self.slots // self.period))
