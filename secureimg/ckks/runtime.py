"""Running a program's text on ciphertexts with SEAL."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tenseal.sealapi as seal

from secureimg.ckks.blobs import Kind, frame, unframe
from secureimg.ckks.bulk import matrix_times_ciphertexts
from secureimg.ckks.evaluation_keys import LoadedKeys, galois_element
from secureimg.ckks.program import Program, PublicProgram
from secureimg.ckks.sealio import (
    SEED_BYTES,
    ciphertext_from_words,
    join_limbs,
    pack_limbs,
    packed_bytes,
    save_raw,
    seal_header,
    unpack_limbs,
)
from secureimg.ckks.text import Instruction, Opcode, Plain
from secureimg.errors import BlobError

__all__ = ["Machine", "read_input", "write_output"]

_SEED_PREFIX = seal_header(SEED_BYTES) + b"\x01"


def read_input(public: PublicProgram, blob: bytes | memoryview, key_id: str) -> list[seal.Ciphertext]:
    """The ciphertexts of an input blob.

    Raises
    ------
    BlobError
        If it is damaged, of the wrong size, or belongs to another program or key.
    """
    parameters = public.parameters
    primes = parameters.primes[:-1]
    size = 64 + packed_bytes(primes, parameters.ring_degree)
    total = size * public.body.packing.ciphertexts
    found = unframe(blob, Kind.INPUT, max_bytes=total, program=public.fingerprint_bytes, key_id=bytes.fromhex(key_id))
    if len(found.payload) != total:
        raise BlobError(f"input has {len(found.payload):,} bytes, this program's has {total:,}")
    out = []
    for start in range(0, total, size):
        part = found.payload[start : start + size]
        words = unpack_limbs(part[64:], primes, parameters.ring_degree)
        seed = _SEED_PREFIX + bytes(part[:64])
        out.append(ciphertext_from_words(parameters, len(primes), words, public.body.input_scale, seed))
    return out


def write_output(public: PublicProgram, ciphertexts: Iterable[seal.Ciphertext], key_id: str) -> bytes:
    """The blob of a result."""
    primes = public.parameters.primes[: public.body.output_primes]
    parts: list[bytes] = []
    for ciphertext in ciphertexts:
        parts.extend(pack_limbs(polynomial, primes) for polynomial in join_limbs(save_raw(ciphertext)))
    return frame(Kind.OUTPUT, b"".join(parts), public.fingerprint_bytes, bytes.fromhex(key_id))


class Machine:
    """A program made ready: plaintexts encoded once, registers freed after their last use.

    Cost: encoding takes about 1 ms and 8 N k bytes for each plaintext.
    """

    def __init__(self, program: Program, only: frozenset[int] | None = None) -> None:
        self.program = program
        self.parameters = program.public.parameters
        self.evaluator = seal.Evaluator(self.parameters.context)
        text = program.text
        self.mine = [(number, item) for number, item in enumerate(text.instructions) if only is None or number in only]
        self._elements = {
            item.step: galois_element(item.step * program.public.batch, self.parameters.ring_degree)
            for _, item in self.mine
            if item.op is Opcode.ROTATE
        }
        encoder = seal.CKKSEncoder(self.parameters.context)
        wanted = {plain for _, item in self.mine for plain in item.plains}
        self.plains = {number: self._encode(encoder, text.plains[number]) for number in sorted(wanted)}
        self._scratch = seal.Ciphertext()

    def _encode(self, encoder: seal.CKKSEncoder, plain: Plain) -> seal.Plaintext:
        out = seal.Plaintext()
        level = self.parameters.parms_id(plain.primes)
        if isinstance(plain.values, float):
            encoder.encode(plain.values, level, plain.scale, out)
        else:
            values = np.repeat(plain.values, self.program.public.batch)
            encoder.encode(values.tolist(), level, plain.scale, out)
        if out.is_zero():
            # Weights below the encoding's resolution. SEAL refuses products with zero: two last places stand in.
            encoder.encode(2 / plain.scale, level, plain.scale, out)
        return out

    def execute(self, item: Instruction, registers: dict[int, seal.Ciphertext], keys: LoadedKeys) -> None:
        """Run one instruction."""
        if item.op is Opcode.MATRIX:
            self._matrix(item, registers)
            return
        evaluator, sources = self.evaluator, [registers[number] for number in item.sources]
        out = seal.Ciphertext()
        match item.op:
            case Opcode.ROTATE:
                evaluator.apply_galois(sources[0], self._elements[item.step], keys.galois, out)
            case Opcode.PRODUCTS:
                self._products(sources, item.plains, out)
            case Opcode.ADD:
                evaluator.add(sources[0], sources[1], out)
                for source in sources[2:]:
                    evaluator.add_inplace(out, source)
            case Opcode.ADD_PLAIN:
                evaluator.add_plain(sources[0], self.plains[item.plains[0]], out)
            case Opcode.RESCALE:
                evaluator.rescale_to_next(sources[0], out)
            case Opcode.SWITCH:
                evaluator.mod_switch_to(sources[0], self.parameters.parms_id(item.step), out)
            case Opcode.SQUARE:
                evaluator.square(sources[0], out)
                evaluator.relinearize_inplace(out, keys.relinearisation)
            case Opcode.MULTIPLY:
                evaluator.multiply(sources[0], sources[1], out)
                evaluator.relinearize_inplace(out, keys.relinearisation)
        out.scale = item.scale
        registers[item.target] = out

    def _matrix(self, item: Instruction, registers: dict[int, seal.Ciphertext]) -> None:
        weights = self.program.text.matrices[item.step]
        primes = self.parameters.primes[: item.primes]
        words = [join_limbs(save_raw(registers[number])) for number in item.sources]
        for offset, row in enumerate(matrix_times_ciphertexts(weights, words, primes)):
            registers[item.target + offset] = ciphertext_from_words(self.parameters, item.primes, row, item.scale)

    def _products(self, sources: list[seal.Ciphertext], plains: tuple[int, ...], out: seal.Ciphertext) -> None:
        evaluator, scratch, table = self.evaluator, self._scratch, self.plains
        evaluator.multiply_plain(sources[0], table[plains[0]], out)
        for source, number in zip(sources[1:], plains[1:], strict=True):
            evaluator.multiply_plain(source, table[number], scratch)
            evaluator.add_inplace(out, scratch)
