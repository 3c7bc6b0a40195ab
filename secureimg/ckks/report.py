"""What a program will cost, before any key exists."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from secureimg.ckks.costs import CostModel
from secureimg.ckks.parameters import Parameters
from secureimg.ckks.sealio import packed_bytes
from secureimg.ckks.text import Instruction, Opcode, Text

__all__ = ["CostReport", "LayerCost", "milliseconds_of", "report"]


_BULK = 0.4
"""A product within a matrix of whole ciphertexts, over a single one through SEAL."""


class LayerCost(msgspec.Struct, frozen=True):
    """One layer: data primes left at its start, operations, predicted milliseconds on one core, and its layout."""

    name: str
    primes: int
    rotations: int
    products: int
    multiplications: int
    milliseconds: float
    scale_bits: float
    plan: str


class CostReport(msgspec.Struct, frozen=True):
    """Layers in order and totals; bytes are those of the framed blobs without their headers."""

    layers: tuple[LayerCost, ...]
    rotations: int
    products: int
    multiplications: int
    levels: int
    milliseconds: float
    evaluation_key_bytes: int
    galois_keys: int
    input_bytes: int
    output_bytes: int
    plaintext_bytes: int
    largest_value_bits: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def switch_key_bytes(parameters: Parameters, primes: int) -> int:
    """Bytes of one rotation key that is used with at most `primes` data primes: seeds and first polynomials."""
    used = (*parameters.primes[:primes], parameters.primes[-1])
    return primes * (packed_bytes(used, parameters.ring_degree) + 64)


def milliseconds_of(item: Instruction, text: Text, costs: CostModel) -> float:
    """Predicted milliseconds of one instruction; nothing for those that only relabel or add a plaintext."""
    if item.op is Opcode.ROTATE:
        return costs.rotation(item.primes)
    if item.op is Opcode.PRODUCTS:
        return len(item.sources) * costs.product(item.primes)
    if item.op is Opcode.MATRIX:
        entries = int(text.matrices[item.step].values.nnz)
        return entries * costs.product(item.primes) * _BULK + len(item.sources) * costs.rescale(item.primes)
    if item.op in (Opcode.SQUARE, Opcode.MULTIPLY):
        return costs.square(item.primes)
    if item.op is Opcode.RESCALE:
        return costs.rescale(item.primes)
    return (len(item.sources) - 1) * costs.addition(item.primes) if item.op is Opcode.ADD else 0.0


def report(
    text: Text, parameters: Parameters, costs: CostModel, plans: dict[str, str], exponents: dict[str, int]
) -> CostReport:
    """Count a program."""
    layers: dict[str, list[float]] = {}
    for item in text.instructions:
        row = layers.setdefault(item.layer, [item.primes, 0, 0, 0, 0.0, item.scale])
        row[4] += milliseconds_of(item, text, costs)
        if item.op is Opcode.ROTATE:
            row[1] += 1
        elif item.op is Opcode.PRODUCTS:
            row[2] += len(item.sources)
        elif item.op is Opcode.MATRIX:
            row[2] += text.matrices[item.step].values.nnz
        elif item.op in (Opcode.SQUARE, Opcode.MULTIPLY):
            row[3] += 1
        row[5] = item.scale
    rows = tuple(
        LayerCost(name, int(r[0]), int(r[1]), int(r[2]), int(r[3]), r[4], _bits(r[5]), plans.get(name, ""))
        for name, r in layers.items()
    )
    steps = text.rotations()
    keys = sum(switch_key_bytes(parameters, primes) for primes in steps.values())
    if text.relinearisation():
        keys += switch_key_bytes(parameters, text.relinearisation())
    full = packed_bytes(parameters.primes[:-1], parameters.ring_degree)
    last = text.instructions[-1]
    left = last.primes - (last.op is Opcode.RESCALE)
    small = packed_bytes(parameters.primes[:left], parameters.ring_degree)
    plaintexts = sum(8 * parameters.ring_degree * plain.primes for plain in text.plains)
    return CostReport(
        layers=rows,
        rotations=sum(row.rotations for row in rows),
        products=sum(row.products for row in rows),
        multiplications=sum(row.multiplications for row in rows),
        levels=len(parameters.bits.data) - left,
        milliseconds=sum(row.milliseconds for row in rows),
        evaluation_key_bytes=keys,
        galois_keys=len(steps),
        input_bytes=len(text.inputs) * (full + 64),
        output_bytes=len(text.outputs) * 2 * small,
        plaintext_bytes=plaintexts,
        largest_value_bits=exponents,
    )


def _bits(scale: float) -> float:
    return math.log2(scale)
