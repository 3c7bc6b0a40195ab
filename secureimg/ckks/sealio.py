"""SEAL objects to and from bytes, and the compact forms that secureimg sends instead.

SEAL's binding only reads and writes files: an anonymous in-memory file serves. SEAL stores 64-bit words; the compact
forms keep the bytes that a prime needs, leave out what a program never touches, and keep seeds in place of uniform
polynomials.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import tenseal.sealapi as seal
import zstandard
from numpy.typing import NDArray

from secureimg.ckks.parameters import Parameters
from secureimg.errors import BlobError

__all__ = [
    "SEED_BYTES",
    "Part",
    "Words",
    "ciphertext_from_words",
    "galois_index",
    "join_limbs",
    "load_raw",
    "pack_limbs",
    "packed_bytes",
    "parse_seeded",
    "save_raw",
    "seal_header",
    "switch_key",
    "unpack_limbs",
]

Words = NDArray[np.uint64]
Part = bytes | memoryview

_SEAL_HEADER = struct.Struct("<HBBBBHQ")
_MAGIC = 0xA15E
_BODY = struct.Struct("<BQQQdQ")
SEED_BYTES = 81
"""A serialized SEAL generator: header 16, type 1, seed 64."""


def _version() -> tuple[int, int]:
    probe = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    handle = os.memfd_create("secureimg", os.MFD_CLOEXEC)
    try:
        probe.save(f"/proc/self/fd/{handle}")
        raw = os.pread(handle, _SEAL_HEADER.size, 0)
    finally:
        os.close(handle)
    return raw[3], raw[4]


_VERSION = _version()


def seal_header(size: int) -> bytes:
    """SEAL's header of an uncompressed object of `size` bytes, header included."""
    return _SEAL_HEADER.pack(_MAGIC, _SEAL_HEADER.size, *_VERSION, 0, 0, size)


def save_raw(thing: Any) -> bytes:
    """SEAL's uncompressed serialization of an object, without its header."""
    handle = os.memfd_create("secureimg", os.MFD_CLOEXEC)
    try:
        thing.save(f"/proc/self/fd/{handle}")
        raw = os.pread(handle, os.fstat(handle).st_size, 0)
    finally:
        os.close(handle)
    if raw[5] == 0:
        return raw[_SEAL_HEADER.size :]
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw[_SEAL_HEADER.size :])


def load_raw(thing: Any, parameters: Parameters, parts: list[Part]) -> None:
    """Load an object from the parts of its uncompressed serialization.

    Raises
    ------
    BlobError
        If SEAL finds the object invalid for these parameters.
    """
    sizes = [memoryview(part).nbytes for part in parts]
    header = seal_header(_SEAL_HEADER.size + sum(sizes))
    handle = os.memfd_create("secureimg", os.MFD_CLOEXEC)
    try:
        for part in (header, *parts):
            view = memoryview(part).cast("B")
            while len(view):
                view = view[os.write(handle, view) :]
        try:
            thing.load(parameters.context, f"/proc/self/fd/{handle}")
        except (RuntimeError, ValueError) as error:
            raise BlobError(f"SEAL refuses this object for the program's parameters: {error}") from None
    finally:
        os.close(handle)


# -- limbs: one polynomial modulo one prime --------------------------------------------------------------------------


def _width(prime: int) -> int:
    return (prime.bit_length() + 7) // 8


def packed_bytes(primes: tuple[int, ...], degree: int) -> int:
    """Length of packed limbs."""
    return sum(_width(prime) for prime in primes) * degree


def pack_limbs(limbs: Words, primes: tuple[int, ...]) -> bytes:
    """Limbs of shape (len(primes), N), each coefficient in as few whole bytes as its prime needs."""
    out = bytearray()
    for limb, prime in zip(limbs, primes, strict=True):
        out += np.ascontiguousarray(limb.view(np.uint8).reshape(-1, 8)[:, : _width(prime)]).tobytes()
    return bytes(out)


def unpack_limbs(data: memoryview, primes: tuple[int, ...], degree: int) -> Words:
    """The inverse of `pack_limbs`.

    Raises
    ------
    BlobError
        If the length is wrong or a coefficient is not below its prime.
    """
    if len(data) != packed_bytes(primes, degree):
        raise BlobError(f"expected {packed_bytes(primes, degree):,} bytes of coefficients, got {len(data):,}")
    out = np.zeros((len(primes), degree), dtype=np.uint64)
    start = 0
    for limb, prime in zip(out, primes, strict=True):
        width = _width(prime)
        part = np.frombuffer(data, dtype=np.uint8, count=width * degree, offset=start)
        limb.view(np.uint8).reshape(-1, 8)[:, :width] = part.reshape(-1, width)
        start += width * degree
        if int(limb.max()) >= prime:
            raise BlobError("a coefficient is not below its prime: the blob is damaged or for other parameters")
    return out


# -- ciphertexts -----------------------------------------------------------------------------------------------------


def parse_seeded(body: bytes | memoryview, offset: int = 0) -> tuple[Words, bytes]:
    """First polynomial (limbs, N) and serialized generator of a seeded ciphertext that begins at `offset`."""
    _, _, degree, limbs, _, _ = _BODY.unpack_from(body, offset + 32)
    start = offset + 32 + _BODY.size + _SEAL_HEADER.size + 8
    words = np.frombuffer(body, dtype=np.uint64, count=degree * limbs, offset=start).reshape(limbs, degree)
    tail = start + words.nbytes
    return words, bytes(body[tail : tail + SEED_BYTES])


def join_limbs(body: bytes) -> Words:
    """All polynomials of an unseeded ciphertext, shape (size, limbs, N)."""
    _, size, degree, limbs, _, _ = _BODY.unpack_from(body, 32)
    start = 32 + _BODY.size + _SEAL_HEADER.size + 8
    return np.frombuffer(body, dtype=np.uint64, count=size * degree * limbs, offset=start).reshape(size, limbs, degree)


def _ciphertext_parts(parms_id: tuple[int, ...], words: Words, scale: float, seed: bytes | None) -> list[Part]:
    """Uncompressed serialization of a ciphertext: words are (limbs, N) with a seed, else (2, limbs, N)."""
    limbs, degree = words.shape[-2:]
    identity = struct.pack("<4Q", *parms_id)
    array = _SEAL_HEADER.size + 8 + words.nbytes
    header = seal_header(array)
    head = identity + _BODY.pack(1, 2, degree, limbs, scale, 1) + header + struct.pack("<Q", words.size)
    return [head, np.ascontiguousarray(words).data.cast("B"), *([seed] if seed else [])]


def ciphertext_from_words(
    parameters: Parameters, primes_left: int, words: Words, scale: float, seed: bytes | None = None
) -> seal.Ciphertext:
    """A SEAL ciphertext from its coefficients; with a seed the second polynomial is expanded from it."""
    out = seal.Ciphertext()
    load_raw(out, parameters, _ciphertext_parts(parameters.parms_id(primes_left), words, scale, seed))
    return out


# -- key switching keys ----------------------------------------------------------------------------------------------


def galois_index(element: int) -> int:
    """Where SEAL keeps the key of a Galois element."""
    return (element - 1) // 2


def switch_key(parameters: Parameters, digits: list[tuple[Words, bytes]]) -> list[Part]:
    """Uncompressed serialization of one key: a public key for each digit, from (first polynomial, generator)."""
    key_id = tuple(parameters.context.key_parms_id())
    out: list[Part] = [struct.pack("<Q", len(digits))]
    for words, seed in digits:
        parts = _ciphertext_parts(key_id, words, 1.0, seed)
        size = sum(memoryview(part).nbytes for part in parts)
        out.append(seal_header(_SEAL_HEADER.size + size))
        out.extend(parts)
    return out
