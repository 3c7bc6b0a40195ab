"""The owner's secret: making keys, encrypting pictures, decrypting and releasing results."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from secureimg.ckks.blobs import Kind, frame, unframe
from secureimg.ckks.clear import pack_input, unpack_output
from secureimg.ckks.evaluation_keys import EvaluationKeys, make_evaluation_keys
from secureimg.ckks.keyfile import KeyFile, read_key_file, write_key_file
from secureimg.ckks.program import PublicProgram
from secureimg.ckks.sealio import (
    ciphertext_from_words,
    load_raw,
    pack_limbs,
    packed_bytes,
    parse_seeded,
    save_raw,
    unpack_limbs,
)
from secureimg.errors import BlobError, BudgetError, DecryptionError, ImageError, KeyMaterialError

__all__ = ["OwnerKeys"]

Array = NDArray[np.float64]

_SLACK = 8.0
_STATISTICAL_BITS = 30
_RELEASES = 100


@dataclass(repr=False)
class OwnerKeys:
    """A secret key for one program. Whoever holds it can read every picture and result made with it.

    Make one with `OwnerKeys.generate(public)`.

    Attributes
    ----------
    public : PublicProgram
    key_id : str
        Hex; random, not derived from the key.
    release_budget, releases : int
        How many results may be released under this key, and how many were.
    """

    public: PublicProgram
    key_id: str
    release_budget: int
    releases: int
    _secret: seal.SecretKey
    _path: Path | None = field(default=None)
    _passphrase: str | None = field(default=None)

    def __repr__(self) -> str:
        return f"OwnerKeys(key_id={self.key_id}, program={self.public.fingerprint[:16]})"

    @staticmethod
    def generate(public: PublicProgram, *, release_budget: int = _RELEASES) -> OwnerKeys:
        """A fresh secret key (SEAL's ternary secret, seeded by the operating system)."""
        secret = seal.KeyGenerator(public.parameters.context).secret_key()
        return OwnerKeys(public, secrets.token_hex(16), release_budget, 0, secret)

    def evaluation_keys(self) -> EvaluationKeys:
        """The keys the server needs (about 15 ms each); fresh randomness at every call."""
        return make_evaluation_keys(self.public, self.key_id, self._secret)

    # -- pictures in ---------------------------------------------------------------------------------------------

    def encrypt(self, images: Array) -> bytes:
        """Encrypt up to `batch` inputs.

        Parameters
        ----------
        images : array of shape (n, *input_shape) or input_shape
            Values within the program's `input_range`.

        Returns
        -------
        bytes
            A framed blob; seeded symmetric encryptions, half the size of ordinary ones.

        Raises
        ------
        ImageError
            If the shape, number or range does not fit the program.
        """
        vectors = self._vectors(np.asarray(images, dtype=np.float64))
        parameters, scale = self.public.parameters, self.public.body.input_scale
        encoder, encryptor = seal.CKKSEncoder(parameters.context), seal.Encryptor(parameters.context, self._secret)
        top = parameters.parms_id(len(parameters.bits.data))
        data_primes = parameters.primes[:-1]
        parts = []
        plain = seal.Plaintext()
        for vector in vectors:
            encoder.encode(vector.tolist(), top, scale, plain)
            words, seed = parse_seeded(save_raw(encryptor.encrypt_symmetric(plain)))
            parts.append(seed[-64:])
            parts.append(pack_limbs(words, data_primes))
        return frame(Kind.INPUT, b"".join(parts), self.public.fingerprint_bytes, bytes.fromhex(self.key_id))

    def _vectors(self, images: Array) -> Array:
        public = self.public
        if images.shape == public.input_shape:
            images = images[None]
        if images.shape[1:] != public.input_shape or not 1 <= len(images) <= public.batch:
            raise ImageError(
                f"inputs have shape {images.shape}; this program takes 1 to {public.batch} of shape {public.input_shape}"
            )
        low, high = public.input_range
        if not np.isfinite(images).all() or images.min() < low - 1e-9 or images.max() > high + 1e-9:
            raise ImageError(
                f"input values must be finite and within [{low:g}, {high:g}], the range the program was compiled for: "
                "scale the picture as the model asks, or compile with another input_range"
            )
        packed = np.zeros((public.batch, public.body.packing.ciphertexts, public.body.packing.slots))
        for index, image in enumerate(images):
            packed[index] = pack_input(public, image)
        return np.ascontiguousarray(packed.transpose(1, 2, 0)).reshape(packed.shape[1], -1)

    # -- results out ---------------------------------------------------------------------------------------------

    def decrypt(self, blob: bytes | memoryview, count: int | None = None) -> Array:
        """Decrypt a result. For the owner's eyes only: see `release` before handing it to anyone.

        Parameters
        ----------
        blob : bytes-like
            The server's answer; untrusted.
        count : int, optional
            Images that were encrypted. Default: the program's batch.

        Returns
        -------
        array of shape (count, *output_shape)

        Raises
        ------
        BlobError
            If the blob is damaged or belongs to another program or key.
        DecryptionError
            If the values cannot be an answer: too large, or noise where zeros or copies must be.
        """
        public = self.public
        count = public.batch if count is None else count
        vectors = self._open(blob)
        places = public.body.output
        split = vectors.reshape(places.ciphertexts, places.slots, public.batch)
        self._check(split)
        return np.stack(
            [unpack_output(public, np.ascontiguousarray(split[:, :, index].real)) for index in range(count)]
        )

    def _open(self, blob: bytes | memoryview) -> NDArray[np.complex128]:
        public, parameters = self.public, self.public.parameters
        left, degree = public.body.output_primes, parameters.ring_degree
        primes = parameters.primes[:left]
        size = packed_bytes(primes, degree)
        ciphertexts = public.body.output.ciphertexts
        found = unframe(
            blob,
            Kind.OUTPUT,
            max_bytes=2 * size * ciphertexts,
            program=public.fingerprint_bytes,
            key_id=bytes.fromhex(self.key_id),
        )
        if len(found.payload) != 2 * size * ciphertexts:
            raise BlobError(f"result has {len(found.payload):,} bytes, this program's has {2 * size * ciphertexts:,}")
        decryptor = seal.Decryptor(parameters.context, self._secret)
        encoder, plain = seal.CKKSEncoder(parameters.context), seal.Plaintext()
        rows = []
        for index in range(ciphertexts):
            start = 2 * size * index
            words = np.stack(
                [unpack_limbs(found.payload[start + k * size : start + (k + 1) * size], primes, degree) for k in (0, 1)]
            )
            ciphertext = ciphertext_from_words(parameters, left, words, public.body.output_scale)
            decryptor.decrypt(ciphertext, plain)
            rows.append(np.array(encoder.decode_complex(plain)))
        return np.stack(rows)

    def _check(self, vectors: NDArray[np.complex128]) -> None:
        """Refuse what no evaluation of the program can give. Shape (ciphertexts, slots of an image, batch)."""
        public, places = self.public, self.public.body.output
        remedy = (
            "the result was not computed with these keys and this program, an input was out of range, or the answer was "
            "tampered with: ask again, and check the server if it happens twice"
        )
        if not np.isfinite(vectors).all():
            raise DecryptionError(f"decrypted values are not finite; {remedy}")
        tolerance = _SLACK * public.error_bound
        stray = float(np.abs(vectors.imag).max())
        turns = vectors.reshape(places.ciphertexts, -1, places.period, public.batch)
        stray = max(stray, float(np.abs(turns - turns[:, :1]).max()))
        ciphertext, slot = places.indices()
        unused = np.ones((places.ciphertexts, places.period), dtype=bool)
        unused[ciphertext, slot] = False
        if unused.any():
            stray = max(stray, float(np.abs(turns[:, 0][unused]).max()))
        if stray > tolerance:
            raise DecryptionError(
                f"decrypted slots that must be empty or equal differ by {stray:.3g}, the limit is {tolerance:.3g}; {remedy}"
            )
        largest = float(np.abs(turns[:, 0][~unused]).max())
        if largest > public.output_bound:
            raise DecryptionError(
                f"decrypted values reach {largest:.3g}, the program's bound is {public.output_bound:.3g}; {remedy}"
            )

    def release(self, blob: bytes | memoryview, count: int | None = None, *, bits: int) -> Array:
        """Decrypt a result for others to see.

        A CKKS result carries noise that depends on the secret key, so decrypted values given away can reveal it (Li and
        Micciancio, 2021). This adds Gaussian noise of deviation `sqrt(12 t) 2^(s/2) noise_bound` (s = 30 statistical bits,
        t the key's release budget), rounds to multiples of `2^-bits`, and counts the release.

        `noise_bound` is `error_bound`, which is an average over slots, times `sqrt(3 N) / pi`: the digits of a switched key
        are not centred, and their mean adds up in a few slots to that many times the deviation of the others.

        Parameters
        ----------
        blob, count
            As for `decrypt`.
        bits : int
            Fractional bits to keep.

        Raises
        ------
        BudgetError
            If the key's budget is used up, or the noise would be larger than the asked precision.
        """
        if self.releases >= self.release_budget:
            raise BudgetError(
                f"key {self.key_id[:8]} was budgeted for {self.release_budget} releases and has made them: make new keys"
            )
        noise_bound = self.public.error_bound * math.sqrt(3 * self.public.parameters.ring_degree) / math.pi
        deviation = math.sqrt(12 * self.release_budget) * 2.0 ** (_STATISTICAL_BITS / 2) * noise_bound
        if 4 * deviation > 2.0**-bits:
            possible = math.floor(-math.log2(4 * deviation))
            raise BudgetError(
                f"releasing {bits} fractional bits needs noise below {2.0**-bits / 4:.2g}, but hiding this program's error "
                f"takes {deviation:.2g}: ask for at most {possible} bits, or compile with a precision about "
                f"{4 * deviation * 2.0**bits:.0f} times finer"
            )
        values = self.decrypt(blob, count)
        self.releases += 1
        if self._path is not None:
            self.save(self._path, self._passphrase, overwrite=True)
        noisy = values + deviation * _gaussian(values.size).reshape(values.shape)
        return np.asarray(np.round(noisy * 2.0**bits) / 2.0**bits)

    # -- disk ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, passphrase: str | None = None, *, overwrite: bool = False) -> None:
        """Write a key file, readable by its owner only (0600), sealed with a passphrase if one is given.

        Later releases are counted in that file before a value is handed out.

        Raises
        ------
        KeyMaterialError
            If the file exists (unless `overwrite`) or cannot be written.
        """
        secret = save_raw(self._secret)
        body = KeyFile(self.public.fingerprint_bytes, self.key_id, self.release_budget, self.releases, secret)
        write_key_file(Path(path), body, passphrase, overwrite)
        self._path, self._passphrase = Path(path), passphrase

    @staticmethod
    def load(path: str | Path, public: PublicProgram, passphrase: str | None = None) -> OwnerKeys:
        """Read a key file.

        Raises
        ------
        KeyMaterialError
            If it is missing, readable by others, sealed and the passphrase is wrong or missing, damaged, or for another
            program.
        """
        body = read_key_file(Path(path), passphrase)
        if body.program != public.fingerprint_bytes:
            raise KeyMaterialError(
                f"{path} holds keys for program {body.program.hex()[:16]}, not {public.fingerprint[:16]}: make new keys"
            )
        secret = seal.SecretKey()
        try:
            load_raw(secret, public.parameters, [body.secret])
        except BlobError as error:
            raise KeyMaterialError(f"{path} does not hold a usable key: {error}") from None
        return OwnerKeys(public, body.key_id, body.budget, body.releases, secret, Path(path), passphrase)


def _gaussian(count: int) -> Array:
    """Standard normal values from the operating system's generator (Box and Muller, 53-bit uniforms)."""
    raw = np.frombuffer(secrets.token_bytes(16 * count), dtype=np.uint64).reshape(2, count) >> np.uint64(11)
    uniform = (raw.astype(np.float64) + 0.5) / 2.0**53
    gaussian: Array = np.sqrt(-2 * np.log(uniform[0])) * np.cos(2 * math.pi * uniform[1])
    return gaussian
