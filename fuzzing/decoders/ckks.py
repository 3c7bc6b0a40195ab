"""Blobs of the CKKS side: evaluation keys, inputs, results, key files."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fuzzing.decoders.scratch import written
from fuzzing.decoders.worlds import KEY_ID, ckks_world
from fuzzing.mutation import Reseal
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from secureimg.ckks import EvaluationKeys, OwnerKeys, keyfile
from secureimg.ckks.blobs import HEADER_BYTES, Kind, frame
from secureimg.ckks.runtime import read_input

__all__ = ["make_targets"]

_KEY: Final = bytes.fromhex(KEY_ID)
_PASSPHRASE: Final = "correct horse"
_SALT_AND_NONCE: Final = 28


def _resealer(kind: Kind) -> Reseal:
    def reseal(data: bytes) -> bytes:
        return frame(kind, data[HEADER_BYTES:], ckks_world().public.fingerprint_bytes, _KEY)

    return reseal


def _decode_keys(data: bytes) -> object:
    return EvaluationKeys.from_bytes(data, ckks_world().public).load()


def _decode_input(data: bytes) -> object:
    return read_input(ckks_world().public, data, KEY_ID)


def _decode_output(data: bytes) -> object:
    return ckks_world().keys.decrypt(data)


# ----------------------------------------------------------------------------------------------------------- key files


def _decode_key_file(data: bytes) -> object:
    world = ckks_world()
    keys = OwnerKeys.load(written(data, ".key"), world.public)
    bytes.fromhex(keys.key_id)  # every blob is bound to it
    return keys


def _cheap(passphrase: str, salt: bytes) -> bytes:
    """In place of scrypt, which takes 0.2 s and 64 MB a guess."""
    return hashlib.blake2b(salt, key=passphrase.encode(), digest_size=32).digest()


def _decode_sealed(data: bytes) -> object:
    dear, keyfile._derive = keyfile._derive, _cheap
    try:
        return OwnerKeys.load(written(data, ".key"), ckks_world().public, _PASSPHRASE)
    finally:
        keyfile._derive = dear


def _saved(passphrase: str | None) -> bytes:
    path, dear = written(b"", ".new"), keyfile._derive
    keyfile._derive = _cheap
    try:
        ckks_world().keys.save(path, passphrase, overwrite=True)
    finally:
        keyfile._derive = dear
    return path.read_bytes()


def _seal(content: bytes) -> bytes:
    """A sealed key file with this content in it."""
    salt, nonce = bytes(16), bytes(12)
    sealed = ChaCha20Poly1305(_cheap(_PASSPHRASE, salt)).encrypt(nonce, content, b"secureimg owner keys")
    return frame(Kind.SEALED_OWNER_KEYS, salt + nonce + sealed, ckks_world().public.fingerprint_bytes, _KEY)


def _open(data: bytes) -> bytes:
    payload = data[HEADER_BYTES:]
    cipher = ChaCha20Poly1305(_cheap(_PASSPHRASE, payload[:16]))
    return cipher.decrypt(payload[16:_SALT_AND_NONCE], payload[_SALT_AND_NONCE:], b"secureimg owner keys")


def make_targets() -> list[Target]:
    """Blobs and key files."""

    def plain_file(_: bytes, content: bytes) -> bytes:
        return frame(Kind.OWNER_KEYS, content, ckks_world().public.fingerprint_bytes, _KEY)

    return [
        Target(
            "ckks-keys", "evaluation keys from an owner, down to SEAL's objects", _decode_keys,
            lambda: [ckks_world().evaluation_keys], _resealer(Kind.EVALUATION_KEYS),
        ),
        Target(
            "ckks-input", "an encrypted input from an owner", _decode_input, lambda: [ckks_world().input],
            _resealer(Kind.INPUT),
        ),
        Target(
            "ckks-output", "an encrypted answer from the server, decrypted", _decode_output, lambda: [ckks_world().output],
            _resealer(Kind.OUTPUT),
        ),
        Target(
            "ckks-key-file", "an owner's key file", _decode_key_file, lambda: [_saved(None)], _resealer(Kind.OWNER_KEYS),
            msgpack_codec(lambda data: data[HEADER_BYTES:], plain_file),
        ),
        Target(
            "ckks-sealed-key-file", "an owner's key file under a passphrase (the derivation of its key made cheap)",
            _decode_sealed, lambda: [_saved(_PASSPHRASE)], _resealer(Kind.SEALED_OWNER_KEYS),
            msgpack_codec(_open, lambda _, content: _seal(content)),
        ),
    ]  # fmt: skip
