"""Recipients of sealed images: their public keys as a line of text, their private keys, and the wrapping of content keys.

A content key is wrapped with HPKE (RFC 9180) in base mode: HKDF-SHA256, AES-256-GCM, and one of two key encapsulations:
X25519 together with ML-KEM-768 (safe while either is), or X25519 alone, whose keys are short.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from secureimg.errors import KeyMaterialError

__all__ = ["HYBRID", "KEMS", "X25519", "Kem", "Recipient", "RecipientKey", "find_kem", "unwrap", "wrap"]

CONTENT_KEY_BYTES: Final = 32
_WORD: Final = "secureimg-recipient-1"
_LONGEST: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_CHECKSUM: Final = 8
_TAG: Final = 16
_X25519: Final = 32
_MLKEM_SEED: Final = 64


@dataclass(frozen=True)
class Kem:
    """A key encapsulation.

    Attributes
    ----------
    name : str
    number : int
        Its number in the registry of HPKE.
    public_bytes, secret_bytes, wrapped_bytes : int
        Lengths of a public key, a private key, and a wrapped content key.
    """

    name: str
    number: int
    public_bytes: int
    secret_bytes: int
    wrapped_bytes: int


HYBRID: Final = Kem("mlkem768-x25519", 0x647A, 1184 + _X25519, _MLKEM_SEED + _X25519, 1120 + CONTENT_KEY_BYTES + _TAG)
"""X25519 together with ML-KEM-768: safe while either is."""

X25519: Final = Kem("x25519", 0x0020, _X25519, _X25519, 32 + CONTENT_KEY_BYTES + _TAG)
"""X25519 alone: short keys, not safe against a quantum computer."""

KEMS: Final = MappingProxyType({kem.name: kem for kem in (HYBRID, X25519)})


def find_kem(name: str) -> Kem:
    """Return a key encapsulation by its name.

    Raises
    ------
    KeyMaterialError
        If there is none of this name.
    """
    try:
        return KEMS[name]
    except KeyError:
        raise KeyMaterialError(f"no key encapsulation {name[:40]!r}: there are {', '.join(KEMS)}") from None


def _suite(kem: Kem) -> Suite:
    return Suite(KEM.MLKEM768_X25519 if kem is HYBRID else KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True)
class Recipient:
    """Somebody to seal images for: a name and a public key.

    The name is what its owner chose. That the key belongs to the person of this name must be found out in another way:
    compare the fingerprint over a channel that nobody in between can change.

    Parameters
    ----------
    name : str
        1 to 64 of ``A-Z a-z 0-9 . _ @ + -``, the first a letter or a digit.
    kem : Kem
    public : bytes
        The public key.

    Raises
    ------
    KeyMaterialError
        If the name has other characters, or the key another length or no meaning.
    """

    name: str
    kem: Kem
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise KeyMaterialError(
                f"{self.name[:70]!r} is no name of a recipient: 1 to 64 of A-Z a-z 0-9 . _ @ + -, a letter or digit first"
            )
        if len(self.public) != self.kem.public_bytes:
            raise KeyMaterialError(
                f"the {self.kem.name} key of {self.name} has {len(self.public)} bytes, not {self.kem.public_bytes}: "
                "copy it again"
            )
        self._loaded()

    @property
    def identity(self) -> bytes:
        """SHA-256 over encapsulation, name and key: 32 bytes."""
        parts = (self.kem.name.encode(), self.name.encode(), self.public)
        return hashlib.sha256(b"secureimg recipient 1\0" + b"\0".join(parts)).digest()

    @property
    def fingerprint(self) -> str:
        """The first 160 bits of the identity, for people to compare: ten groups of four hexadecimal digits."""
        digits = self.identity.hex()[:40]
        return "-".join(digits[start : start + 4] for start in range(0, 40, 4))

    def to_text(self) -> str:
        """Return one line: a word, the name, the encapsulation, the key in base 64, and a checksum."""
        key = base64.urlsafe_b64encode(self.public).decode().rstrip("=")
        return f"{_WORD} {self.name} {self.kem.name} {key} {self.identity.hex()[:_CHECKSUM]}"

    @classmethod
    def from_text(cls, text: str, where: str = "the public key") -> Recipient:
        """Read such a line.

        Raises
        ------
        KeyMaterialError
            If it is not one: mistyped, cut, of another kind.
        """
        words = text[: _LONGEST + 1].split()
        if len(text) > _LONGEST or len(words) != 5 or words[0] != _WORD:
            raise KeyMaterialError(f"{where} is no public key of secureimg: it is one line that begins with {_WORD}")
        _, name, kem_name, key, checksum = words
        kem = find_kem(kem_name)
        try:
            public = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        except ValueError:  # also binascii.Error, and letters outside ASCII
            raise KeyMaterialError(f"{where} is mistyped or cut: copy the whole line again") from None
        if len(public) != kem.public_bytes:
            raise KeyMaterialError(f"{where} is cut: {len(public)} bytes of a key of {kem.public_bytes}: copy it again")
        found = cls(name, kem, public)
        if found.to_text().split()[3:] != [key, checksum]:
            raise KeyMaterialError(f"{where} does not match its checksum: it was changed, copy the whole line again")
        return found

    def _loaded(self) -> X25519PublicKey | MLKEM768X25519PublicKey:
        try:
            point = X25519PublicKey.from_public_bytes(self.public[-_X25519:])
            if self.kem is X25519:
                return point
            return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(self.public[:-_X25519]), point)
        except UnsupportedAlgorithm:
            raise KeyMaterialError(_NO_MLKEM) from None
        except ValueError:
            raise KeyMaterialError(f"the {self.kem.name} key of {self.name} is not valid: ask for it again") from None


_NO_MLKEM: Final = "this system's OpenSSL has no ML-KEM: install cryptography's own wheel, or use keys of kind x25519"


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    name: str
    kem: str
    secret: bytes
    digest: bytes

    @classmethod
    def make(cls, name: str, kem: str, secret: bytes) -> _Body:
        """A part of the private key does not show in the public one, so its damage must be found in this way."""
        parts = (kem.encode(), name.encode(), secret)
        return cls(name, kem, secret, hashlib.sha256(b"secureimg recipient key 1\0" + b"\0".join(parts)).digest())


class RecipientKey:
    """A recipient's private key: opens what was sealed for it.

    Attributes
    ----------
    recipient : Recipient
        The public half.
    """

    def __init__(self, name: str, kem: Kem, secret: bytes) -> None:
        if len(secret) != kem.secret_bytes:
            raise KeyMaterialError(f"a private {kem.name} key has {kem.secret_bytes} bytes, not {len(secret)}")
        self._secret = secret
        point = X25519PrivateKey.from_private_bytes(secret[-_X25519:])
        self._loaded: X25519PrivateKey | MLKEM768X25519PrivateKey = point
        public = point.public_key().public_bytes_raw()
        if kem is HYBRID:
            try:
                lattice = MLKEM768PrivateKey.from_seed_bytes(secret[:_MLKEM_SEED])
            except UnsupportedAlgorithm:
                raise KeyMaterialError(_NO_MLKEM) from None
            self._loaded = MLKEM768X25519PrivateKey(lattice, point)
            public = lattice.public_key().public_bytes_raw() + public
        self.recipient = Recipient(name, kem, public)

    @classmethod
    def generate(cls, name: str, kem: Kem = HYBRID) -> RecipientKey:
        """Make a fresh key pair. Cost: under a millisecond.

        Raises
        ------
        KeyMaterialError
            If the name is not one, or this system cannot do the encapsulation.
        """
        secret = X25519PrivateKey.generate().private_bytes_raw()
        if kem is HYBRID:
            try:
                secret = MLKEM768PrivateKey.generate().private_bytes_raw() + secret
            except UnsupportedAlgorithm:
                raise KeyMaterialError(_NO_MLKEM) from None
        return cls(name, kem, secret)

    def to_bytes(self) -> bytes:
        """Return the private key with its name. Whoever has these bytes opens what is sealed for it."""
        return msgspec.msgpack.encode(_Body.make(self.recipient.name, self.recipient.kem.name, self._secret))

    @classmethod
    def from_bytes(cls, data: bytes) -> RecipientKey:
        """Read them again.

        Raises
        ------
        KeyMaterialError
            If they are not such a key.
        """
        try:
            body = msgspec.msgpack.decode(data, type=_Body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise KeyMaterialError(
                "these bytes are no private key of a recipient: take the file from keypair"
            ) from None
        if not hmac.compare_digest(_Body.make(body.name, body.kem, body.secret).digest, body.digest):
            raise KeyMaterialError("the private key does not match its digest: the file is damaged, take a copy of it")
        return cls(body.name, find_kem(body.kem), body.secret)

    def __repr__(self) -> str:
        return f"RecipientKey({self.recipient.name}, {self.recipient.fingerprint})"


def wrap(content_key: bytes, recipient: Recipient, context: bytes) -> bytes:
    """Return a content key, encrypted for one recipient and bound to a context and to the recipient's name.

    Raises
    ------
    KeyMaterialError
        If the recipient's key is one that nobody can have (a point of low order).
    """
    try:
        return _suite(recipient.kem).encrypt(content_key, recipient._loaded(), context + recipient.identity)
    except ValueError:
        raise KeyMaterialError(f"the public key of {recipient.name} is not valid: ask for it again") from None


def unwrap(wrapped: bytes, key: RecipientKey, context: bytes) -> bytes | None:
    """Return a content key, or None if it was wrapped for another key or in another context, or was changed."""
    recipient = key.recipient
    try:
        content_key = _suite(recipient.kem).decrypt(wrapped, key._loaded, context + recipient.identity)
    except (InvalidTag, ValueError):
        return None
    return content_key if len(content_key) == CONTENT_KEY_BYTES else None
