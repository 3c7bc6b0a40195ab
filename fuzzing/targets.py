"""What is fuzzed: every decoder of bytes that come from a file or a wire, by name.

The rule for each: a valid object, or exactly one error of `secureimg.errors.SecureImgError`, in bounded time and memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from fuzzing.mutation import Reseal, TreeCodec, mutant
from secureimg.errors import SecureImgError

__all__ = ["REFUSALS", "Target", "find_target", "target_names", "targets"]

REFUSALS: Final = (SecureImgError,)


@dataclass(frozen=True)
class Target:
    """A decoder under test.

    Attributes
    ----------
    name : str
    description : str
        What the bytes are and who sends them.
    decode : callable
        Takes any bytes. Uses what it decoded as far as is cheap: an object that cannot be used was not valid.
    seeds : callable
        Returns valid encodings; called once, may take seconds.
    reseal : callable, optional
        See `fuzzing.mutation`.
    tree : callable, optional
        See `fuzzing.mutation`.
    seconds : float
        Processor time that one input may take.
    growth : int
        Bytes by which one input may raise the process's peak memory.
    """

    name: str
    description: str
    decode: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    reseal: Reseal | None = None
    tree: TreeCodec | None = None
    seconds: float = 2.0
    growth: int = 128 << 20

    def input(self, seeds: list[bytes], seed: int, number: int) -> bytes:
        """Return input `number` of a campaign; number 0 and the next few are the valid encodings themselves."""
        if number < len(seeds):
            return seeds[number]
        return mutant(seeds, seed, number, self.reseal, self.tree)


@cache
def targets() -> MappingProxyType[str, Target]:
    """All targets by name. Optional decoders (DICOM) are there if what they need is installed."""
    from fuzzing.decoders import all_targets

    found: dict[str, Target] = {}
    for target in all_targets():
        if target.name in found:
            raise ValueError(f"two targets are named {target.name!r}")
        found[target.name] = target
    return MappingProxyType(found)


def target_names() -> list[str]:
    """Names of all targets, sorted."""
    return sorted(targets())


def find_target(name: str) -> Target:
    """Return a target.

    Raises
    ------
    KeyError
        With the names that there are.
    """
    try:
        return targets()[name]
    except KeyError:
        raise KeyError(f"no target {name!r}: there are {', '.join(target_names())}") from None
