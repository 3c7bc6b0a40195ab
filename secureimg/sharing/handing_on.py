"""A party's share of one program's result as its share of another program's input. Nothing is sent, nothing opened."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import LocalProtocolError
from secureimg.sharing.program import PublicProgram
from secureimg.sharing.ring import byte_width, pack, unpack

__all__ = ["Handed", "hand_on"]


@dataclass(frozen=True)
class Handed:
    """A share in the form of a program's input; for the party that has it, 0 or 1."""

    data: NDArray[np.uint8] = field(repr=False)


def hand_on(first: PublicProgram, second: PublicProgram, share: NDArray[np.uint8], images: int) -> Handed:
    """What a party passes to its run of the second program.

    Parameters
    ----------
    first : PublicProgram
        Compiled with ``reveal="shares"``.
    second : PublicProgram
        Compiled with an input range that covers the results of the first: nobody sees them, so nobody can check it.
    share : ndarray of uint8
        The party's `Result.share` of the first program.
    images : int

    Returns
    -------
    Handed
        For `PartyZero.run` or `PartyOne.run` of the same party.

    Raises
    ------
    LocalProtocolError
        If the first program reveals its result, the second takes another shape or fewer fractional bits, or the share has
        the wrong size.
    """
    if first.reveal != "shares":
        raise LocalProtocolError(f"program {first.model!r} reveals {first.reveal}: compile it with reveal='shares'")
    given, taken = first.registers[first.output], second.registers[0]
    if given.shape != taken.shape:
        raise LocalProtocolError(
            f"program {first.model!r} gives {given.shape}, {second.model!r} takes {taken.shape}: they do not follow on"
        )
    if given.scale > taken.scale:
        raise LocalProtocolError(
            f"program {first.model!r} has {given.scale} fractional bits, {second.model!r} has {taken.scale}: compile both "
            "with the same fraction_bits"
        )
    if share.size != first.result_bytes(images):
        raise LocalProtocolError(
            f"a share of {share.size} bytes of {first.model!r}, {images} image(s) have {first.result_bytes(images)}"
        )
    words = np.empty((images, *given.shape), dtype=np.uint64).reshape(-1)
    unpack(share, byte_width(given.width), words)
    words <<= np.uint64(taken.scale - given.scale)  # some programs take a finer input
    words &= np.uint64((1 << taken.width) - 1)
    out = np.empty(second.share_bytes(images), dtype=np.uint8)
    pack(words, byte_width(taken.width), out)
    return Handed(out)
