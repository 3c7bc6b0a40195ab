"""The dealer: makes correlated randomness for a program. It never sees a share, a weight or a result.

Party 0's part is a seed. Party 1's is a seed and a stream of corrections, made chunk by chunk in the order of the
program's steps, so that the dealer's memory does not grow with the model or the number of images.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secureimg.sharing import text
from secureimg.sharing.gate_dealer import deal_gate
from secureimg.sharing.plan import gates_of
from secureimg.sharing.products import Factor, apply_linear, ring_factor
from secureimg.sharing.program import PublicProgram
from secureimg.sharing.ring import Words, byte_width, pack
from secureimg.sharing.seat import CHUNK, Seat, dealing_seat
from secureimg.sharing.shared_weights import dealt_product
from secureimg.sharing.streams import Stream

__all__ = ["Dealer", "blind_mask", "weight_mask"]

Bytes = NDArray[np.uint8]


def weight_mask(seed: bytes, number: int, step: text.Linear) -> Words:
    """The mask of a linear map's weights, known to dealer and party 1: uniform modulo ``2^width``."""
    words = Stream(seed, "weights", number).words(step.geometry.weights)
    words &= np.uint64((1 << step.width) - 1)
    return words


def blind_mask(seed: bytes, number: int, step: text.Blind, shape: tuple[int, ...]) -> Words:
    """The mask under which party 1 gets a value, known to party 0 and the dealer; shape (N, *shape)."""
    words = Stream(seed, "blind", number).words(int(np.prod(shape)))
    words &= np.uint64((1 << step.width) - 1)
    return words.reshape(shape)


class Dealer:
    """Deals correlations for one program.

    Parameters
    ----------
    public : PublicProgram
    weight_seed : bytes
        32 bytes that the dealer shares with party 1 for the life of a model. Whoever knows them and what party 0 holds
        knows the weights.
    """

    def __init__(self, public: PublicProgram, weight_seed: bytes) -> None:
        self.public = public
        self._memory = threading.local()
        self._weight_seed = weight_seed
        self._factors: dict[int, Factor] = {}

    @property
    def _seat(self) -> Seat:
        """Scratch memory of this thread: a dealer process deals for several sessions at once."""
        if not hasattr(self._memory, "seat"):
            self._memory.seat = dealing_seat()
        seat: Seat = self._memory.seat
        return seat

    def deal(self, images: int, seeds: tuple[bytes, bytes]) -> Iterator[Bytes]:
        """Yield party 1's corrections, each buffer valid until the next.

        Parameters
        ----------
        images : int
        seeds : (bytes, bytes)
            Party 0's and party 1's, fresh for every call.

        Cost: two products of every linear map with full-size factors (three float64 products each for rings of up to 42
        bits), and about 20 ns for each comparison.
        """
        blinds: dict[int, tuple[int, text.Blind]] = {}
        for number, step in enumerate(self.public.steps):
            if isinstance(step, text.Blind):
                blinds[step.out] = (number, step)
            elif isinstance(step, text.Linear) and step.hidden:
                yield from self._linear(number, step, blinds[step.source], images, seeds[0])
            elif isinstance(step, text.SharedLinear):
                product = dealt_product(self._weight_seed, number, step, images, seeds).reshape(-1)
                yield from self._packed(product, step.width, Stream(seeds[0], "linear", number))
            elif isinstance(step, text.Multiply):
                yield from self._products(number, step, images, seeds)
            elif isinstance(step, text.Truncate):
                yield from self._truncations(number, step, images, seeds)
            else:
                for level, gate in enumerate(gates_of(self.public, step, images)):
                    yield from deal_gate(gate, f"{number}.{level}", seeds, self._seat)

    def factor(self, number: int, step: text.Linear) -> Factor:
        """The weights' mask, ready to multiply."""
        if number not in self._factors:
            self._factors[number] = ring_factor(step.geometry, weight_mask(self._weight_seed, number, step), step.width)
        return self._factors[number]

    def _linear(
        self, number: int, step: text.Linear, blind: tuple[int, text.Blind], images: int, seed: bytes
    ) -> Iterator[Bytes]:
        mask = blind_mask(seed, *blind, (images, *step.geometry.in_shape))
        product = apply_linear(step.geometry, self.factor(number, step), mask, step.width).reshape(-1)
        own = Stream(seed, "linear", number)
        yield from self._packed(product, step.width, own)

    def _packed(self, values: Words, width: int, own: Stream) -> Iterator[Bytes]:
        """Values minus party 0's stream, packed."""
        size = byte_width(width)
        for start in range(0, values.size, CHUNK):
            part = values[start : start + CHUNK]
            words = self._seat.scratch("own", part.size)
            own.fill(words)
            np.subtract(part, words, out=part)
            data = self._seat.scratch("packed", part.size * size, np.uint8)
            pack(part, size, data)
            yield data

    def _products(self, number: int, step: text.Multiply, images: int, seeds: tuple[bytes, bytes]) -> Iterator[Bytes]:
        count = images * int(np.prod(self.public.registers[step.out].shape))
        names = ("a",) if step.left == step.right else ("a", "b")
        streams = [[Stream(seed, "multiply", number, name) for name in names] for seed in seeds]
        own = Stream(seeds[0], "multiply", number, "c")
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            factors = [streams[0][k].words(size) + streams[1][k].words(size) for k in range(len(names))]
            yield from self._packed(np.multiply(factors[0], factors[-1], dtype=np.uint64), step.width, own)

    def _truncations(
        self, number: int, step: text.Truncate, images: int, seeds: tuple[bytes, bytes]
    ) -> Iterator[Bytes]:
        count = images * int(np.prod(self.public.registers[step.out].shape))
        size = byte_width(step.width - step.bits)
        keep = np.uint64((1 << step.bits) - 1)
        masks = [Stream(seed, "truncate", number, "masks") for seed in seeds]
        own = Stream(seeds[0], "truncate", number, "tops")
        for start in range(0, count if size else 0, CHUNK):
            part = min(CHUNK, count - start)
            zero, one = masks[0].words(part), masks[1].words(part)
            r = (zero + one) & keep
            top = r >> np.uint64(step.bits - 1)
            upper = (r - (top << np.uint64(step.bits)) - zero - (one & keep)) >> np.uint64(step.bits)
            data = self._seat.scratch("packed", 2 * part * size, np.uint8)
            pack(np.asarray(upper, dtype=np.uint64), size, data[: part * size])
            pack(np.subtract(top, own.words(part), dtype=np.uint64), size, data[part * size :])
            yield data
