"""Around the content of a sealed image: the header, which recipients open, and the manifest, which is sealed."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, Literal, get_args

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta

from secureimg.errors import BlobError, KeyMaterialError, PublishingError
from secureimg.publishing.recipients import CONTENT_KEY_BYTES, KEMS, Recipient, RecipientKey, unwrap, wrap

__all__ = [
    "MAX_RECIPIENTS",
    "Header",
    "Manifest",
    "SealedKind",
    "decode_manifest",
    "encode_manifest",
    "header_size",
    "is_sealed",
    "new_header",
    "open_header",
]

SealedKind = Literal["photo", "split", "thumbnail"]
"""What is sealed: a whole file, the secret part of a split photograph, or the ticket of a cipher image."""

MAX_RECIPIENTS: Final = 1024
"""Most recipients of one sealed file."""

_MAGIC: Final = b"SSEA\x01"
_SALT: Final = 16
_PREFIX: Final = len(_MAGIC) + 2 + _SALT
_MAC: Final = 32
_CONTEXT: Final = b"secureimg sealed image 1\0"
_MANIFEST_STEP: Final = 64
_LARGEST: Final = 1 << 47
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\\u2028-\u202e\u2066-\u2069\ud800-\udfff]{0,255}\Z")
_MEDIA: Final = re.compile(r"([a-z]+/[a-z0-9.+-]{1,64})?\Z")
_BY_NUMBER: Final = {kem.number: kem for kem in KEMS.values()}


@dataclass(frozen=True)
class Header:
    """A header that its content key has authenticated.

    Attributes
    ----------
    encoded : bytes
    content : bytes
        The key of the content. Not in the repr.
    recipients : int
    """

    encoded: bytes
    content: bytes
    recipients: int

    @property
    def digest(self) -> bytes:
        """What every chunk is bound to."""
        return hashlib.sha256(self.encoded).digest()

    def __repr__(self) -> str:
        return f"Header(recipients={self.recipients})"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What a sealed image says of its payload. Authentic, but its sender may be anybody."""

    kind: SealedKind
    name: Annotated[str, Meta(max_length=255)]
    media_type: Annotated[str, Meta(max_length=80)]
    size: Annotated[int, Meta(ge=0, le=_LARGEST)]


# ------------------------------------------------------------------------------------------------------------ manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Return length, manifest and zeros: a multiple of 64 bytes, so that the name's length hardly shows.

    Raises
    ------
    PublishingError
        If a field is outside its range.
    """
    kinds = get_args(SealedKind)
    if manifest.kind not in kinds:
        raise PublishingError(f"no kind of sealed image {str(manifest.kind)[:40]!r}: there are {', '.join(kinds)}")
    if not _NAME.match(manifest.name):
        raise PublishingError("the name has more than 255 characters, a folder or a control character: give another")
    if not _MEDIA.match(manifest.media_type):
        raise PublishingError(f"{manifest.media_type[:40]!r} is no media type: write it like image/jpeg")
    if not 0 <= manifest.size <= _LARGEST:
        raise PublishingError(f"a payload of {manifest.size} bytes: a sealed image holds 0 to {_LARGEST}")
    body = msgspec.msgpack.encode(manifest)
    return (len(body).to_bytes(2, "big") + body).ljust(_stepped(len(body)), b"\0")


def decode_manifest(first: bytes) -> tuple[Manifest, int]:
    """Return the manifest at the start of the first chunk, and where the payload begins.

    Raises
    ------
    BlobError
        If it is malformed.
    """
    length = int.from_bytes(first[:2], "big")
    end = _stepped(length)
    try:
        manifest = msgspec.msgpack.decode(first[2 : 2 + length], type=Manifest)
        if len(first) >= end and encode_manifest(manifest) == first[:end]:
            return manifest, end
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PublishingError):
        pass
    raise BlobError(
        "the sealed image's manifest is malformed: it was made by another program than this, or damaged there"
    )


def _stepped(length: int) -> int:
    return -(-(2 + length) // _MANIFEST_STEP) * _MANIFEST_STEP


# -------------------------------------------------------------------------------------------------------------- header


def new_header(recipients: tuple[Recipient, ...]) -> Header:
    """Return a header with a fresh content key, wrapped for each recipient.

    Raises
    ------
    KeyMaterialError
        If there is no recipient, too many, one twice, or one whose key is not valid.
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise KeyMaterialError(f"sealed for {len(recipients)} recipients: the limits are 1 and {MAX_RECIPIENTS}")
    if len({recipient.public for recipient in recipients}) < len(recipients):
        raise KeyMaterialError("a recipient's key is given twice: give each once")
    salt, content_key = secrets.token_bytes(_SALT), secrets.token_bytes(CONTENT_KEY_BYTES)
    prefix = _MAGIC + len(recipients).to_bytes(2, "big") + salt
    slots = [
        recipient.kem.number.to_bytes(2, "big") + wrap(content_key, recipient, _CONTEXT + prefix)
        for recipient in recipients
    ]
    body = prefix + b"".join(sorted(slots))  # in the order of their random bytes: not that of the recipients
    mac = _mac(content_key, salt, body)
    return Header(body + mac, _derive(content_key, salt, b"content"), len(recipients))


def header_size(recipients: tuple[Recipient, ...]) -> int:
    """Return the length of a header."""
    return _PREFIX + sum(2 + each.kem.wrapped_bytes for each in recipients) + _MAC


def _derive(content_key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, _CONTEXT + purpose).derive(content_key)


def _mac(content_key: bytes, salt: bytes, body: bytes) -> bytes:
    return hmac.digest(_derive(content_key, salt, b"header"), body, "sha256")


def is_sealed(start: bytes) -> bool:
    """Whether a file that begins with these bytes (5 are enough) is a sealed image."""
    return start[: len(_MAGIC)] == _MAGIC


def open_header(source: BinaryIO, key: RecipientKey) -> Header:
    """Read a header and open it.

    Raises
    ------
    BlobError
        If it is not one, was changed, or was cut.
    KeyMaterialError
        If none of its wrapped keys opens.
    """
    prefix = source.read(_PREFIX)
    if not is_sealed(prefix):
        raise BlobError(_foreign(prefix))
    count = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + 2], "big")
    if len(prefix) < _PREFIX or not 1 <= count <= MAX_RECIPIENTS:
        raise BlobError(
            f"the sealed image's header is damaged ({count} recipients, 1 to {MAX_RECIPIENTS}): get it again"
        )
    salt, body, found = prefix[-_SALT:], bytearray(prefix), None
    for _ in range(count):
        number = source.read(2)
        kem = _BY_NUMBER.get(int.from_bytes(number, "big"))
        if kem is None:
            raise BlobError("the sealed image's header is damaged, or cut: get it again")
        wrapped = source.read(kem.wrapped_bytes)
        body += number + wrapped
        if found is None and kem is key.recipient.kem:
            found = unwrap(wrapped, key, _CONTEXT + prefix)
    mac = source.read(_MAC)
    if len(mac) < _MAC:
        raise BlobError("the sealed image ends within its header: it was cut, get it again")
    if found is None:
        raise KeyMaterialError(
            f"the image is not sealed for {key.recipient.name} ({key.recipient.fingerprint}): use the key of one of its "
            f"{count} recipient{'s' if count > 1 else ''}, and get it again if it should be that one"
        )
    if not hmac.compare_digest(mac, _mac(found, salt, bytes(body))):
        raise BlobError("the sealed image's header was changed: get it again")
    return Header(bytes(body) + mac, _derive(found, salt, b"content"), count)


def _foreign(prefix: bytes) -> str:
    if prefix[:4] == _MAGIC[:4] and len(prefix) > 4:
        return f"the sealed image is of version {prefix[4]}, this program reads {_MAGIC[4]}: update it"
    return "this is not a sealed image: give a file that `secureimg seal` wrote"
