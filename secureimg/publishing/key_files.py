"""Files of recipients' keys: private ones for their owner only (0600, sealed with a passphrase if wanted), public lines."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secureimg.errors import KeyMaterialError
from secureimg.publishing.recipients import Recipient, RecipientKey

__all__ = ["decode_key", "encode_key", "load_key", "load_recipient", "save_key", "save_recipient"]

_MAGIC: Final = b"SRKY\x01"
_PLAIN: Final = b"\x00"
_SEALED: Final = b"\x01"
_SALT: Final = 16
_NONCE: Final = 12
_MAX_BYTES: Final = 4096


def _derive(passphrase: str, salt: bytes) -> bytes:
    """Scrypt with N = 2^16, r = 8, p = 1: 64 MB and about 0.2 s a guess."""
    return Scrypt(salt=salt, length=32, n=1 << 16, r=8, p=1).derive(passphrase.encode())


def encode_key(key: RecipientKey, passphrase: str | None) -> bytes:
    """Return the content of a key file, sealed if there is a passphrase."""
    if passphrase is None:
        return _MAGIC + _PLAIN + key.to_bytes()
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    head = _MAGIC + _SEALED
    return head + salt + nonce + ChaCha20Poly1305(_derive(passphrase, salt)).encrypt(nonce, key.to_bytes(), head)


def decode_key(data: bytes, passphrase: str | None, where: str = "the key file") -> RecipientKey:
    """Read the content of a key file.

    Raises
    ------
    KeyMaterialError
        If it is not one, is sealed and the passphrase is missing or wrong, or was changed.
    """
    head, body = data[: len(_MAGIC) + 1], data[len(_MAGIC) + 1 :]
    if len(data) > _MAX_BYTES or head[:-1] != _MAGIC or head[-1:] not in (_PLAIN, _SEALED):
        raise KeyMaterialError(f"{where} is no private key of a recipient: take the .key file that keypair wrote")
    if head[-1:] == _SEALED:
        if passphrase is None:
            raise KeyMaterialError(f"{where} is sealed: give its passphrase")
        salt, nonce, rest = body[:_SALT], body[_SALT : _SALT + _NONCE], body[_SALT + _NONCE :]
        try:
            if len(nonce) < _NONCE:
                raise InvalidTag
            body = ChaCha20Poly1305(_derive(passphrase, salt)).decrypt(nonce, rest, head)
        except InvalidTag:
            raise KeyMaterialError(f"the passphrase does not open {where}, or the file is damaged") from None
    try:
        return RecipientKey.from_bytes(body)
    except KeyMaterialError as error:
        raise KeyMaterialError(f"{where}: {error}") from None


def save_key(path: Path, key: RecipientKey, passphrase: str | None = None) -> None:
    """Write a private key to a new file that only its user may read.

    Raises
    ------
    KeyMaterialError
        If the file exists or cannot be written.
    """
    _write(path, encode_key(key, passphrase), 0o600)


def load_key(path: Path, passphrase: str | None = None) -> RecipientKey:
    """Read a private key.

    Raises
    ------
    KeyMaterialError
        If the file is not one, is open to others, or its passphrase is missing or wrong.
    """
    return decode_key(_read(path, private=True), passphrase, str(path))


def save_recipient(path: Path, recipient: Recipient) -> None:
    """Write a public key to a new file; others may read it.

    Raises
    ------
    KeyMaterialError
        If the file exists or cannot be written.
    """
    _write(path, (recipient.to_text() + "\n").encode(), 0o644)


def load_recipient(path: Path) -> Recipient:
    """Read a public key.

    Raises
    ------
    KeyMaterialError
        If the file is not one.
    """
    data = _read(path, private=False)
    if data.startswith(_MAGIC):
        raise KeyMaterialError(f"{path} is a private key: seal for the .pub file, and give the .key file to nobody")
    try:
        return Recipient.from_text(data.decode("ascii"), str(path))
    except UnicodeDecodeError:
        raise KeyMaterialError(f"{path} is no public key of secureimg: it is not a line of text") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise KeyMaterialError(f"{path} exists already and is not overwritten: choose another name") from None
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise KeyMaterialError(f"{path} cannot be written: {error.strerror}") from None


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & 0o077:
                raise KeyMaterialError(f"{path} is open to others (mode {mode:o}): run chmod 600 {path}")
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be read: {error.strerror}: check the path") from None
    if len(data) > _MAX_BYTES:
        raise KeyMaterialError(f"{path} is larger than {_MAX_BYTES} bytes: it is no key")
    return data
