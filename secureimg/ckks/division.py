"""Dividing one evaluation between workers.

Every worker runs the whole text, but inside a section (the products of one linear map) only its share; then all add up each
other's partial sums. Squares, folds and rescales are repeated by all: that costs no time, and saves sending ciphertexts.
A section is divided either by baby steps (each worker rotates its part of the inputs) or by giant steps (each its part of
the sums), whichever is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from secureimg.ckks.costs import CostModel
from secureimg.ckks.text import Instruction, Opcode, Section, Text

__all__ = ["Exchange", "Share", "divide"]

Owner = Callable[[int, int], bool]


@dataclass(frozen=True)
class Exchange:
    """Add up the partial sums of `registers`; `senders[i]` are the workers that have one of `registers[i]`."""

    registers: tuple[int, ...]
    senders: tuple[tuple[int, ...], ...]


Share = list["Instruction | Exchange"]


def _cost(item: Instruction, costs: CostModel) -> float:
    if item.op is Opcode.ROTATE:
        return costs.rotation(item.primes)
    if item.op is Opcode.PRODUCTS:
        return len(item.sources) * costs.product(item.primes)
    return costs.addition(item.primes) if item.op is Opcode.ADD else 0.0


def _part(items: list[Instruction], totals: tuple[int, ...], mine: Owner) -> tuple[list[Instruction], set[int]]:
    """The instructions of one worker's share, and the totals it has a part of.

    `mine(giant, source)` says whether the product of register `source` in the PRODUCTS instruction that makes
    register `giant` is this worker's.
    """
    alias: dict[int, int | None] = {}
    kept: list[Instruction] = []
    for item in items:
        if item.op is Opcode.PRODUCTS:
            pairs = [
                (source, plain)
                for source, plain in zip(item.sources, item.plains, strict=True)
                if mine(item.target, source)
            ]
            if pairs:
                kept.append(replace(item, sources=tuple(s for s, _ in pairs), plains=tuple(p for _, p in pairs)))
            else:
                alias[item.target] = None
            continue
        sources = [alias.get(source, source) for source in item.sources]
        present = tuple(source for source in sources if source is not None)
        if not present:
            alias[item.target] = None
        elif item.op is Opcode.ADD and len(present) == 1:
            alias[item.target] = present[0]
        else:
            kept.append(replace(item, sources=present))
    last = {alias.get(total, total): total for total in totals}
    needed = {register for register in last if register is not None}
    out: list[Instruction] = []
    for item in reversed(kept):
        if item.target in needed:
            needed.update(item.sources)
            renamed = last.get(item.target, item.target)
            out.append(replace(item, target=renamed) if renamed != item.target else item)
    return out[::-1], {total for register, total in last.items() if register is not None}


def _divisions(items: list[Instruction], workers: int) -> Iterator[list[Owner]]:
    """Ways to give every product to one worker."""
    products = [item for item in items if item.op is Opcode.PRODUCTS]
    babies = _depth_first(items, {source for item in products for source in item.sources})
    giants = [item.target for item in products]
    for names, by_giant in ((babies, False), (giants, True)):
        for shift in range(-2, 3):
            cut = [
                len(names) * worker // workers + (shift if 0 < worker < workers else 0) for worker in range(workers + 1)
            ]
            share = {name: sum(place >= c for c in cut[1:-1]) for place, name in enumerate(names)}
            yield [_owner(share, worker, by_giant) for worker in range(workers)]


def _depth_first(items: list[Instruction], wanted: set[int]) -> list[int]:
    """The wanted registers in depth-first order of the tree of rotations, so that neighbours share most of their way."""
    children: dict[int, list[int]] = {}
    made = {item.target for item in items if item.op is Opcode.ROTATE}
    roots = sorted(wanted - made)
    for item in items:
        if item.op is Opcode.ROTATE:
            children.setdefault(item.sources[0], []).append(item.target)
            if item.sources[0] not in made and item.sources[0] not in roots:
                roots.append(item.sources[0])
    order: list[int] = []
    stack = roots[::-1]
    while stack:
        register = stack.pop()
        order.append(register)
        stack.extend(reversed(children.get(register, [])))
    return [register for register in order if register in wanted]


def _owner(share: dict[int, int], worker: int, by_giant: bool) -> Owner:
    return lambda giant, source: share[giant if by_giant else source] == worker


def divide(text: Text, workers: int, costs: CostModel) -> list[Share]:
    """What each worker runs."""
    shares: list[Share] = [[] for _ in range(workers)]
    place = 0
    for section in text.sections:
        for share in shares:
            share.extend(text.instructions[place : section.first])
        _divide_section(text, section, shares, costs)
        place = section.last
    for share in shares:
        share.extend(text.instructions[place:])
    return shares


def _divide_section(text: Text, section: Section, shares: list[Share], costs: CostModel) -> None:
    items = text.instructions[section.first : section.last]
    whole = sum(_cost(item, costs) for item in items)
    send = len(section.totals) * _EXCHANGE * costs.rotation(items[0].primes)
    best: tuple[float, list[tuple[list[Instruction], set[int]]]] | None = None
    for owners in _divisions(items, len(shares)):
        parts = [_part(items, section.totals, owner) for owner in owners]
        slowest = max(sum(_cost(item, costs) for item in part) for part, _ in parts) + send
        if best is None or slowest < best[0]:
            best = (slowest, parts)
    if best is None or best[0] >= whole:
        for share in shares:
            share.extend(items)
        return
    senders = tuple(
        tuple(worker for worker, (_, made) in enumerate(best[1]) if total in made) for total in section.totals
    )
    for share, (part, _) in zip(shares, best[1], strict=True):
        share.extend(part)
        share.append(Exchange(section.totals, senders))


_EXCHANGE = 0.7
"""Price of sending one ciphertext to another process, in rotations."""
