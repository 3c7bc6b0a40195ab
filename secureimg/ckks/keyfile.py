"""Key files: 0600, framed, sealed with a passphrase if wanted."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta

from secureimg.ckks.blobs import HEADER_BYTES, Kind, frame, unframe
from secureimg.errors import BlobError, KeyMaterialError

__all__ = ["KeyFile", "read_key_file", "write_key_file"]

_MAX_BYTES = 64 << 20
_SALT = 16
_NONCE = 12


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a key file."""

    program: bytes
    key_id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z", max_length=32)]
    budget: Annotated[int, Meta(ge=0)]
    releases: Annotated[int, Meta(ge=0)]
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyFile(key_id={self.key_id})"


def _derive(passphrase: str, salt: bytes) -> bytes:
    """Scrypt with N = 2^16, r = 8, p = 1: 64 MB and about 0.2 s a guess."""
    return Scrypt(salt=salt, length=32, n=1 << 16, r=8, p=1).derive(passphrase.encode())


def write_key_file(path: Path, body: KeyFile, passphrase: str | None, overwrite: bool) -> None:
    """Write to a new file beside it, then rename: a crash leaves the old or the new file, never half of one."""
    if path.exists() and not overwrite:
        raise KeyMaterialError(f"{path} exists: choose another name, or remove it if its key is no longer needed")
    content = msgspec.msgpack.encode(body)
    if passphrase is None:
        blob = frame(Kind.OWNER_KEYS, content, body.program, bytes.fromhex(body.key_id))
    else:
        salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
        sealed = ChaCha20Poly1305(_derive(passphrase, salt)).encrypt(nonce, content, b"secureimg owner keys")
        blob = frame(Kind.SEALED_OWNER_KEYS, salt + nonce + sealed, body.program, bytes.fromhex(body.key_id))
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(blob)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise KeyMaterialError(f"cannot write {path}: {error.strerror}") from None


def read_key_file(path: Path, passphrase: str | None) -> KeyFile:
    """Read and check a key file; `KeyMaterialError` names what is wrong with it."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise KeyMaterialError(
                    f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o}): run chmod 600 {path}"
                )
            if status.st_size > _MAX_BYTES:
                raise KeyMaterialError(f"{path} has {status.st_size:,} bytes, a key file at most {_MAX_BYTES:,}")
            blob = stream.read()
    except OSError as error:
        raise KeyMaterialError(f"cannot read {path}: {error.strerror}") from None
    sealed = len(blob) >= HEADER_BYTES and int.from_bytes(blob[6:8], "little") == Kind.SEALED_OWNER_KEYS
    try:
        found = unframe(blob, Kind.SEALED_OWNER_KEYS if sealed else Kind.OWNER_KEYS, max_bytes=_MAX_BYTES)
        content = bytes(found.payload)
        if sealed:
            if passphrase is None:
                raise KeyMaterialError(f"{path} is sealed: give its passphrase")
            if len(content) < _SALT + _NONCE:
                raise BlobError(f"its {len(content)} bytes are fewer than a salt and a nonce take")
            salt, nonce, rest = content[:_SALT], content[_SALT : _SALT + _NONCE], content[_SALT + _NONCE :]
            content = ChaCha20Poly1305(_derive(passphrase, salt)).decrypt(nonce, rest, b"secureimg owner keys")
        return msgspec.msgpack.decode(content, type=KeyFile)
    except InvalidTag:
        raise KeyMaterialError(f"the passphrase does not open {path}, or the file is damaged") from None
    except (BlobError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyMaterialError(f"{path} is not a usable key file: {error}") from None
