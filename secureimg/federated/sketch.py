"""A short random summary of an update that keeps its length: linear, so that parties compute it on shares, alone.

Row r of the sketch cuts the update into blocks of `BUCKETS` coordinates, gives every coordinate a random sign, rotates
each block by a random number of places, and adds the blocks up. Two coordinates of different blocks meet with probability
``1 / BUCKETS``, two of one block never. The mean over rows of the squared length estimates the update's with a relative
deviation of at most ``sqrt(2 / (ROWS * BUCKETS))`` = 2.8 %. The coins are drawn when all shares are in.

Source: count sketch (Charikar, Chen, Farach-Colton, ICALP 2002); as a norm estimate Alon, Matias, Szegedy (STOC 1996).
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from secureimg.sharing.streams import Stream

__all__ = ["BUCKETS", "ROWS", "Sketch"]

ROWS: Final = 5
BUCKETS: Final = 512

Units = NDArray[np.uint32]


class Sketch:
    """The coins of one round.

    An update no longer than the sketch is its own summary: `values` is its length then, and the check exact.

    Parameters
    ----------
    seed : bytes
        32 bytes that both parties have.
    length : int
        Coordinates of an update.
    """

    def __init__(self, seed: bytes, length: int) -> None:
        self.exact = length <= ROWS * BUCKETS
        if self.exact:
            return
        blocks = -(-length // BUCKETS)
        self._turns = Stream(seed, "federated", "turns").words(ROWS * blocks) % np.uint64(BUCKETS)
        self._turns = self._turns.astype(np.uint16).reshape(ROWS, blocks)
        self._signs = np.empty((ROWS, blocks, BUCKETS // 8), dtype=np.uint8)
        Stream(seed, "federated", "signs").fill(self._signs.reshape(-1))

    @staticmethod
    def values(length: int) -> int:
        """Numbers that a sketch of an update of this length has."""
        return min(length, ROWS * BUCKETS)

    @staticmethod
    def rows(length: int) -> int:
        """By how much the summed squares of a sketch exceed those of the update, on average."""
        return 1 if length <= ROWS * BUCKETS else ROWS

    def add(self, share: Units, start: int, out: Units) -> None:
        """Add the sketch of some coordinates to `out`.

        Parameters
        ----------
        share : ndarray of uint32
            Coordinates from `start` on: whole blocks, but for the last of an update.
        start : int
            A multiple of `BUCKETS`.
        out : ndarray of uint32, shape (values,)
        """
        if self.exact:
            out[start : start + share.size] += share
        else:
            _add(share, start // BUCKETS, self._turns, self._signs, out.reshape(ROWS, BUCKETS))


@numba.njit(cache=True, nogil=True)
def _add(share: Units, first: int, turns: NDArray[np.uint16], signs: NDArray[np.uint8], out: Units) -> None:
    rows, width = out.shape
    lines = np.zeros((rows, 2 * width), dtype=np.uint32)  # twice as long: a turned block lies in it in one piece
    masks = np.empty(width, dtype=np.uint32)
    lanes = width // 8
    for block in range((share.size + width - 1) // width):
        part = share[block * width : (block + 1) * width]
        for row in range(rows):
            bits = signs[row, first + block]
            for bit in range(8):
                some = masks[bit * lanes : (bit + 1) * lanes]
                for i in range(lanes):
                    some[i] = np.uint32(0) - ((np.uint32(bits[i]) >> np.uint32(bit)) & np.uint32(1))
            turn = np.int64(turns[row, first + block])
            line = lines[row, turn : turn + part.size]
            for i in range(part.size):
                line[i] += (part[i] ^ masks[i]) - masks[i]
    for row in range(rows):
        for i in range(width):
            out[row, i] += lines[row, i] + lines[row, width + i]
