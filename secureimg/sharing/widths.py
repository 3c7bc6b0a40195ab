"""How many low bits of every register count, found from the end of a program to its start.

A linear map, a sum or a selection modulo 2^64 is also right modulo ``2^w`` for every smaller w. So each register needs
only what its readers need: a gate reads `drop + bits`, the owner the bits of the result. Fewer bits mean fewer limbs in
products and fewer bytes on the wire.
"""

from __future__ import annotations

from typing import Any

import msgspec

from secureimg.sharing import text

__all__ = ["assign_widths"]


def assign_widths(
    registers: list[text.Register], steps: list[text.Step], output: int, output_bits: int
) -> tuple[tuple[text.Register, ...], tuple[text.Step, ...]]:
    """Give every register and step its width."""
    need = [0] * len(registers)
    need[output] = output_bits
    kept: list[text.Step] = []

    def ask(number: int, bits: int) -> None:
        need[number] = max(need[number], bits)

    for step in reversed(steps):
        wanted = max(1, need[step.out])
        whole = getattr(step, "whole", None)
        if whole is not None:
            wanted = need[whole] = max(wanted, need[whole])
            need[step.out] = wanted
        changes: dict[str, Any] = {}
        if isinstance(step, text.Relu | text.Truncate | text.Decide):
            changes["width"] = wanted if isinstance(step, text.Decide) else max(wanted, step.bits)
            ask(step.source, step.drop + step.bits)
        elif isinstance(step, text.MaxPool):
            ask(step.source, step.drop + step.bits)
        elif isinstance(step, text.Best):
            ask(step.source, min(64, step.drop + step.bits - step.code))
        elif isinstance(step, text.Combine):
            for source, factor in zip(step.sources, step.factors, strict=True):
                ask(source, max(1, wanted - _twos(factor)))
        else:
            if isinstance(step, text.Linear | text.SharedLinear | text.Multiply | text.Blind):
                changes["width"] = wanted
            for source in text.sources_of(step):
                ask(source, wanted)
        kept.append(msgspec.structs.replace(step, **changes))
    kept.reverse()
    widths = [max(1, bits) for bits in need]
    return (
        tuple(msgspec.structs.replace(register, width=bits) for register, bits in zip(registers, widths, strict=True)),
        tuple(kept),
    )


def _twos(factor: int) -> int:
    """How often 2 divides a factor."""
    return (factor & -factor).bit_length() - 1 if factor else 0
