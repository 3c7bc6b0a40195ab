"""Linear maps with weights that nobody knows: shared between the parties, multiplied by Beaver's way (CRYPTO 1991).

Once per model the parties open ``F = W - B``. Offline each one works out ``F a_i + c_i`` from its seed, where the dealer
made ``c = B a``. Online they open ``e = x - a`` and add ``(B_i + [i = 0] F) e``: together ``W x``. Each party multiplies
twice with full-size factors, so this costs several times what weights known to party 1 cost.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import CompileError
from secureimg.sharing import text
from secureimg.sharing.channel import Channel
from secureimg.sharing.products import Factor, apply_linear, ring_factor
from secureimg.sharing.program import Program
from secureimg.sharing.ring import Words, byte_width, pack, unpack
from secureimg.sharing.seat import Seat
from secureimg.sharing.streams import SEED_BYTES, Stream, fresh_seed

__all__ = [
    "SharedFactor",
    "dealt_product",
    "multiply_shared",
    "open_weights",
    "prepared_part",
    "share_weights",
    "weight_share_seed",
]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SharedFactor:
    """What a party holds of one map's weights: the opened difference, its own factor, its share of what is added."""

    opened: Factor = field(repr=False)
    own: Factor = field(repr=False)
    added: Words | None = field(repr=False)


def share_weights(program: Program) -> tuple[Program, Program]:
    """Split a model into two, one for each party; either alone is uniformly random.

    Raises
    ------
    CompileError
        If the program was not compiled with ``weights="shared"``.
    """
    if program.public.weights != "shared":
        raise CompileError(
            f"weights of a program compiled for {program.public.weights!r} are not shared: compile it anew"
        )
    stream = Stream(fresh_seed(), "weight shares")
    parts: tuple[dict[int, tuple[Words, Words | None]], dict[int, tuple[Words, Words | None]]] = ({}, {})
    for number, arrays in program.weights.items():
        zero = [None if array is None else stream.words(array.size).reshape(array.shape) for array in arrays]
        one = [None if a is None or z is None else np.asarray(a - z) for a, z in zip(arrays, zero, strict=True)]
        assert zero[0] is not None
        assert one[0] is not None
        parts[0][number], parts[1][number] = (zero[0], zero[1]), (one[0], one[1])
    return Program(program.public, parts[0]), Program(program.public, parts[1])


def weight_share_seed(weight_seed: bytes, party: int) -> bytes:
    """The seed of one party's share of the weights' mask; the dealer knows the seed of both."""
    person = b"secureimg-wmask1"
    return hashlib.blake2b(bytes([party]), key=weight_seed, digest_size=SEED_BYTES, person=person).digest()


def _mask(seed: bytes, number: int, step: text.SharedLinear) -> Words:
    return Stream(seed, "shared weights", number).words(step.geometry.weights)


def _values(seed: bytes, number: int, step: text.SharedLinear, images: int) -> Words:
    shape = (images, *step.geometry.in_shape)
    return Stream(seed, "shared linear", number, "a").words(int(np.prod(shape))).reshape(shape)


def open_weights(share: Program, party: int, seed: bytes, channel: Channel) -> dict[int, SharedFactor]:
    """Open the masked weights, once for a model and dealer.

    Parameters
    ----------
    share : Program
        This party's, from `share_weights`.
    party : int
    seed : bytes
        From `weight_share_seed`.
    channel : Channel

    Cost: one round, ``width / 8`` bytes a weight in each direction.
    """
    factors = {}
    for number, step in enumerate(share.public.steps):
        if not isinstance(step, text.SharedLinear):
            continue
        size, keep = byte_width(step.width), np.uint64((1 << step.width) - 1)
        words, added = share.weights[number]
        mask = _mask(seed, number, step)
        opened = (words.reshape(-1) - mask) & keep
        message, answer = np.empty(opened.size * size, dtype=np.uint8), np.empty(opened.size * size, dtype=np.uint8)
        pack(opened, size, message)
        channel.send(message)
        channel.receive(answer)
        channel.flush()
        theirs = np.empty(opened.size, dtype=np.uint64)
        unpack(answer, size, theirs)
        opened += theirs
        own = mask + opened if party == 0 else mask
        factors[number] = SharedFactor(
            ring_factor(step.geometry, opened & keep, step.width),
            ring_factor(step.geometry, own & keep, step.width),
            added,
        )
    return factors


def dealt_product(
    weight_seed: bytes, number: int, step: text.SharedLinear, images: int, seeds: tuple[bytes, bytes]
) -> Words:
    """The dealer's ``B a``, of which party 0 takes its share from a stream."""
    masks = [_mask(weight_share_seed(weight_seed, party), number, step) for party in (0, 1)]
    factor = ring_factor(step.geometry, (masks[0] + masks[1]) & np.uint64((1 << step.width) - 1), step.width)
    values = _values(seeds[0], number, step, images) + _values(seeds[1], number, step, images)
    return apply_linear(step.geometry, factor, values, step.width)


def prepared_part(factor: SharedFactor, number: int, step: text.SharedLinear, images: int, seed: bytes) -> Words:
    """Offline: ``F a_i``."""
    return apply_linear(step.geometry, factor.opened, _values(seed, number, step, images), step.width)


def multiply_shared(
    seat: Seat, factor: SharedFactor, number: int, step: text.SharedLinear, value: Words, seed: bytes
) -> Words:
    """Online: open ``x - a``, multiply with this party's factor, add its share of the bias. Cost: one round."""
    size = byte_width(step.width)
    seat.settle()
    opening = seat.round("factors", value.size, size)
    opened = value - _values(seed, number, step, value.shape[0])
    pack(opened.reshape(-1), size, opening.out)
    opening.wrote(opening.out.size)
    opening.need(opening.back.size)
    theirs = np.empty(value.shape, dtype=np.uint64)
    unpack(opening.back, size, theirs.reshape(-1))
    opened += theirs
    out = apply_linear(step.geometry, factor.own, opened, step.width)
    if factor.added is not None:
        out += factor.added
    return out
