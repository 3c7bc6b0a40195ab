"""The cleartext twin: a program's text on plain slot vectors.

It runs the same instructions as the encrypted runtime, so layouts, rotations and scales are tested without keys, and it
shows how large the content of every register gets, unused slots included.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.program import Program, PublicProgram
from secureimg.ckks.text import Instruction, Opcode, Text

__all__ = ["pack_input", "run_clear", "unpack_output"]

Array = NDArray[np.float64]


def pack_input(public: PublicProgram, image: Array) -> Array:
    """Slot vectors, shape (ciphertexts, slots of one image), of one input of shape `input_shape`."""
    places = public.body.packing
    gather = np.frombuffer(public.body.gather, dtype="<i4")
    ciphertext, slot = places.indices()
    flat = np.append(image.reshape(-1), 0.0)
    out = np.zeros((places.ciphertexts, places.period))
    out[ciphertext, slot] = flat[gather]
    return np.tile(out, (1, places.slots // places.period))


def unpack_output(public: PublicProgram, vectors: Array) -> Array:
    """The result, shape `output_shape`, of slot vectors of shape (ciphertexts, slots of one image)."""
    ciphertext, slot = public.body.output.indices()
    return vectors[ciphertext, slot].reshape(public.output_shape)


def run_clear(program: Program, image: Array) -> tuple[Array, float]:
    """Run a program on one image in the clear.

    Returns
    -------
    result : array of shape `output_shape`
    headroom : float
        Fewest bits left, over all instructions, between a register's largest scaled value and half its modulus.
        Negative means that the encrypted program would overflow.
    """
    text, parameters = program.text, program.public.parameters
    registers: dict[int, Array] = dict(zip(text.inputs, pack_input(program.public, image), strict=True))
    headroom = math.inf
    for item in text.instructions:
        if item.op is Opcode.MATRIX:
            value = text.matrices[item.step].values @ np.stack([registers[number] for number in item.sources])
            registers.update(enumerate(value, item.target))
        else:
            registers[item.target] = value = _step(item, registers, text)
        left = item.step if item.op is Opcode.SWITCH else item.primes - (item.op is Opcode.RESCALE)
        largest = max(float(np.abs(value).max()), 1e-300)
        headroom = min(headroom, parameters.modulus_bits(left) - 1 - math.log2(item.scale) - math.log2(largest))
    outputs = np.stack([registers[number] for number in text.outputs])
    return unpack_output(program.public, outputs), headroom


def _step(item: Instruction, registers: dict[int, Array], text: Text) -> Array:
    sources = [registers[number] for number in item.sources]
    if item.op is Opcode.ROTATE:
        return np.asarray(np.roll(sources[0], -item.step))
    if item.op is Opcode.PRODUCTS:
        plains = (text.plains[number].values for number in item.plains)
        return np.asarray(np.sum([source * plain for source, plain in zip(sources, plains, strict=True)], axis=0))
    if item.op is Opcode.ADD:
        return np.asarray(np.sum(sources, axis=0))
    if item.op is Opcode.ADD_PLAIN:
        return sources[0] + text.plains[item.plains[0]].values
    if item.op is Opcode.SQUARE:
        return sources[0] ** 2
    if item.op is Opcode.MULTIPLY:
        return sources[0] * sources[1]
    return sources[0]
