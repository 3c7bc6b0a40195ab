"""What the server needs to rotate and to relinearise: keys for just the steps, levels and digits that a program uses.

A key-switching key has a digit for each data prime, and each digit a coefficient vector for each prime. A rotation that
happens when l primes are left touches l digits and l + 1 of their vectors; the rest never leaves the owner. The uniform
half of each digit travels as a 64-byte seed. Both together make these keys several times smaller than SEAL's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from secureimg.ckks.blobs import Kind, frame, unframe
from secureimg.ckks.parameters import Parameters
from secureimg.ckks.program import PublicProgram
from secureimg.ckks.report import switch_key_bytes
from secureimg.ckks.sealio import (
    SEED_BYTES,
    Words,
    galois_index,
    load_raw,
    pack_limbs,
    packed_bytes,
    parse_seeded,
    save_raw,
    seal_header,
    switch_key,
    unpack_limbs,
)
from secureimg.errors import BlobError

__all__ = ["EvaluationKeys", "LoadedKeys", "galois_element", "make_evaluation_keys"]

_SEED = 64
_SEED_HEADER = SEED_BYTES - _SEED
_SEED_PREFIX = seal_header(SEED_BYTES) + b"\x01"
"""What SEAL writes before a seed: a header, and the number of its generator, BLAKE2xb."""


def galois_element(step: int, ring_degree: int) -> int:
    """The automorphism X -> X^g that rotates slots left by `step`."""
    return pow(3, step, 2 * ring_degree)


@dataclass(frozen=True)
class LoadedKeys:
    """SEAL's own objects."""

    galois: seal.GaloisKeys
    relinearisation: seal.RelinKeys


@dataclass(frozen=True, repr=False)
class EvaluationKeys:
    """Public keys of one owner for one program. They decrypt nothing.

    Attributes
    ----------
    public : PublicProgram
    key_id : str
        Hex; ciphertexts made under the same secret key carry it.
    payload : bytes-like
        Compact form.
    """

    public: PublicProgram
    key_id: str
    payload: bytes | memoryview

    def __repr__(self) -> str:
        return f"EvaluationKeys(key_id={self.key_id}, bytes={len(self.payload)})"

    def to_bytes(self) -> bytes:
        """Framed bytes, for a wire or a file."""
        return frame(Kind.EVALUATION_KEYS, self.payload, self.public.fingerprint_bytes, bytes.fromhex(self.key_id))

    @staticmethod
    def expected_bytes(public: PublicProgram) -> int:
        """Exact length of the payload for a program."""
        total = sum(switch_key_bytes(public.parameters, primes) for _, primes in public.body.rotations)
        if public.body.relinearisation:
            total += switch_key_bytes(public.parameters, public.body.relinearisation)
        return total

    @staticmethod
    def from_bytes(blob: bytes | memoryview, public: PublicProgram) -> EvaluationKeys:
        """Check untrusted bytes.

        Raises
        ------
        BlobError
            If the blob is damaged, of another length than the program needs, or for another program.
        """
        limit = EvaluationKeys.expected_bytes(public)
        found = unframe(blob, Kind.EVALUATION_KEYS, max_bytes=limit, program=public.fingerprint_bytes)
        if len(found.payload) != limit:
            raise BlobError(f"evaluation keys have {len(found.payload):,} bytes, this program needs {limit:,}")
        return EvaluationKeys(public, found.key_id.hex(), found.payload)

    def load(self) -> LoadedKeys:
        """Expand into SEAL's objects (about 10 ms and 2 k (k + 1) N words a key).

        Raises
        ------
        BlobError
            If a coefficient is out of range.
        """
        parameters, view, start = self.public.parameters, memoryview(self.payload), 0
        rotations: dict[int, list[Any]] = {}
        for step, primes in self.public.body.rotations:
            size = switch_key_bytes(parameters, primes)
            element = galois_element(step, parameters.ring_degree)
            rotations[galois_index(element)] = _expand(view[start : start + size], primes, parameters)
            start += size
        galois = seal.GaloisKeys()
        identity = struct.pack("<4Q", *parameters.context.key_parms_id())
        if rotations:
            parts: list[Any] = [identity, struct.pack("<Q", parameters.ring_degree)]
            empty = struct.pack("<Q", 0)
            for index in range(parameters.ring_degree):
                parts.extend(rotations.get(index, (empty,)))
            load_raw(galois, parameters, _merged(parts))
        relinearisation = seal.RelinKeys()
        if self.public.body.relinearisation:
            digits = _expand(view[start:], self.public.body.relinearisation, parameters)
            load_raw(relinearisation, parameters, [identity, struct.pack("<Q", 1), *digits])
        return LoadedKeys(galois, relinearisation)


def _merged(parts: list[Any]) -> list[Any]:
    """Neighbouring short parts joined, so that they are written in few calls."""
    out: list[Any] = []
    small: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            small.append(part)
            continue
        if small:
            out.append(b"".join(small))
            small = []
        out.append(part)
    return [*out, b"".join(small)] if small else out


def _expand(view: memoryview, primes: int, parameters: Parameters) -> list[Any]:
    """One key in SEAL's form; digits and vectors that the program never touches are zero."""
    chain, degree = parameters.primes, parameters.ring_degree
    used = (*chain[:primes], chain[-1])
    size = packed_bytes(used, degree)
    digits: list[tuple[Words, bytes]] = []
    start = 0
    rows = [*range(primes), len(chain) - 1]
    for _ in range(primes):
        seed = _SEED_PREFIX + bytes(view[start : start + _SEED])
        words: Words = np.zeros((len(chain), degree), dtype=np.uint64)
        words[rows] = unpack_limbs(view[start + _SEED : start + _SEED + size], used, degree)
        digits.append((words, seed))
        start += _SEED + size
    zero: Words = np.zeros((2, len(chain), degree), dtype=np.uint64)
    digits.extend([(zero, b"")] * (len(chain) - 1 - primes))
    return switch_key(parameters, digits)


def _compact(body: bytes, offset: int, primes: int, parameters: Parameters) -> bytes:
    """The compact form of one seeded key that begins (with its digit count) at `offset` of SEAL's serialization."""
    chain = parameters.primes
    rows = [*range(primes), len(chain) - 1]
    used = (*chain[:primes], chain[-1])
    (count,) = struct.unpack_from("<Q", body, offset)
    if count != len(chain) - 1:
        raise BlobError(f"SEAL made a key of {count} digits where {len(chain) - 1} were expected: unknown SEAL version")
    start = offset + 8
    out = []
    for _ in range(primes):
        length = struct.unpack_from("<HBBBBHQ", body, start)[-1]
        words, seed = parse_seeded(body, start + 16)
        out.append(seed[_SEED_HEADER:])
        out.append(pack_limbs(np.ascontiguousarray(words[rows]), used))
        start += length
    return b"".join(out)


def make_evaluation_keys(public: PublicProgram, key_id: str, secret: seal.SecretKey) -> EvaluationKeys:
    """Make the keys a program needs from a secret key, one at a time."""
    parameters = public.parameters
    generator = seal.KeyGenerator(parameters.context, secret)
    parts = []
    for step, primes in public.body.rotations:
        element = galois_element(step, parameters.ring_degree)
        body = save_raw(generator.create_galois_keys([element]))
        parts.append(_compact(body, 40 + 8 * galois_index(element), primes, parameters))
    if public.body.relinearisation:
        body = save_raw(generator.create_relin_keys())
        parts.append(_compact(body, 40, public.body.relinearisation, parameters))
    return EvaluationKeys(public, key_id, b"".join(parts))
