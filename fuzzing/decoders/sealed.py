"""What recipients of published images read: keys, sealed images, tickets, cipher images."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from functools import cache
from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from fuzzing.decoders.pictures import _png_sums
from fuzzing.decoders.scratch import written
from fuzzing.targets import Target
from fuzzing.trees import msgpack_codec
from secureimg.errors import BlobError
from secureimg.publishing import (
    HYBRID,
    X25519,
    RecipientKey,
    ThumbnailTicket,
    decode_cipher_png,
    decrypt_thumbnail,
    encode_cipher_png,
    encrypt_thumbnail,
    key_files,
    load_recipient,
    seal,
    unseal,
)
from secureimg.publishing.recipients import unwrap
from secureimg.publishing.sealed_header import _CONTEXT, Manifest, _mac, encode_manifest, open_header
from secureimg.publishing.sealed_stream import ChunkWriter

__all__ = ["make_targets"]

_PASSPHRASE: Final = "fuzz"
_MOST_PIXELS: Final = 1 << 16
_HEAD: Final = 6  # of a key file
_PREFIX: Final = 23


@cache
def _keys() -> tuple[RecipientKey, RecipientKey]:
    return RecipientKey.generate("anna", X25519), RecipientKey.generate("otto", HYBRID)


@cache
def _image() -> bytes:
    return seal(b"payload", [_keys()[0].recipient], "photo", name="a.png", media_type="image/png")


def _images() -> list[bytes]:
    both = [key.recipient for key in _keys()]
    return [_image(), seal(bytes(70_000), both, "split", padded=True)]


def _decode_image(data: bytes) -> object:
    found = unseal(data, _keys()[0])
    if len(found.payload) > len(data):
        raise AssertionError("more came out than was in")
    return found


def _signed(data: bytes) -> bytes:
    """The header's HMAC made right again, if a wrapped key still opens."""
    place, content = _PREFIX, None
    for _ in range(min(int.from_bytes(data[5:7], "big"), 4)):
        kem = next(
            (kem for kem in (X25519, HYBRID) if kem.number == int.from_bytes(data[place : place + 2], "big")), None
        )
        if kem is None:
            return data
        if kem is X25519:
            wrapped = data[place + 2 : place + 2 + kem.wrapped_bytes]
            content = content or unwrap(wrapped, _keys()[0], _CONTEXT + data[:_PREFIX])
        place += 2 + kem.wrapped_bytes
    if content is None:
        return data
    return data[:place] + _mac(content, data[7:_PREFIX], data[:place]) + data[place + 32 :]


def _manifests() -> list[bytes]:
    return [
        encode_manifest(Manifest("photo", "a.png", "image/png", 7)) + b"payload",
        encode_manifest(Manifest("thumbnail", "ü" * 200, "", 0)),
    ]


def _decode_manifest(data: bytes) -> object:
    """As an authentic first and last chunk of a sealed image."""
    header = open_header(io.BytesIO(_image()), _keys()[0])
    sink = io.BytesIO()
    writer = ChunkWriter(sink, header.content, header.digest)
    writer.write(data)
    writer.close()
    return unseal(header.encoded + sink.getvalue(), _keys()[0])


def _manifest_body(data: bytes) -> bytes:
    return data[2 : 2 + int.from_bytes(data[:2], "big")]


def _with_manifest(_: bytes, body: bytes) -> bytes:
    length = min(len(body), 0xFFFF)
    framed = length.to_bytes(2, "big") + body[:length]
    return framed + bytes(-len(framed) % 64)


def _lines() -> list[bytes]:
    return [key.recipient.to_text().encode() + b"\n" for key in _keys()]


def _decode_line(data: bytes) -> object:
    return load_recipient(written(data, ".pub"))


def _checksummed(data: bytes) -> bytes:
    """The checksum of a line made right again, if key and name can be read."""
    words = data.split()
    if len(words) != 5:
        return data
    padded = words[3] + b"=" * (-len(words[3]) % 4)
    try:
        public = base64.b64decode(padded, altchars=b"-_")
    except ValueError:
        return data
    digest = hashlib.sha256(b"secureimg recipient 1\0" + b"\0".join((words[2], words[1], public))).hexdigest()
    return b" ".join([*words[:4], digest[:8].encode()]) + b"\n"


def _key_digest(body: bytes) -> bytes:
    """The digest at the end of a private key made right again, if the rest is as it was written."""
    try:
        name, kem, secret, _ = msgspec.msgpack.decode(body)
        digest = hashlib.sha256(
            b"secureimg recipient key 1\0" + b"\0".join((kem.encode(), name.encode(), secret))
        ).digest()
        return msgspec.msgpack.encode([name, kem, secret, digest])
    except (msgspec.DecodeError, ValueError, TypeError, AttributeError, RecursionError):
        return body


def _key_files() -> list[bytes]:
    return [key_files.encode_key(key, None) for key in _keys()]


def _decode_key(data: bytes) -> object:
    key = key_files.decode_key(data, None)
    return unseal(seal(b"", [key.recipient], "photo"), key)


def _cheap(passphrase: str, salt: bytes) -> bytes:
    """In place of scrypt, which takes 0.2 s and 64 MB a guess."""
    return hashlib.blake2b(salt, key=passphrase.encode(), digest_size=32).digest()


def _sealed_key_files() -> list[bytes]:
    dear, key_files._derive = key_files._derive, _cheap
    try:
        return [key_files.encode_key(key, _PASSPHRASE) for key in _keys()]
    finally:
        key_files._derive = dear


def _decode_sealed_key(data: bytes) -> object:
    dear, key_files._derive = key_files._derive, _cheap
    try:
        return key_files.decode_key(data, _PASSPHRASE)
    finally:
        key_files._derive = dear


def _sealed_again(data: bytes) -> bytes:
    """What the file now decrypts to, its digest made right again, as the content of an authentic seal."""
    head, salt, nonce, body = (
        data[:_HEAD],
        data[_HEAD : _HEAD + 16],
        data[_HEAD + 16 : _HEAD + 28],
        data[_HEAD + 28 : -16],
    )
    if len(nonce) < 12:
        return data
    key = _cheap(_PASSPHRASE, salt)
    stream = Cipher(ChaCha20(key, (1).to_bytes(4, "little") + nonce), None).decryptor()  # its tag is not looked at
    content = _key_digest(stream.update(body))
    return head + salt + nonce + ChaCha20Poly1305(key).encrypt(nonce, content, head)


def _tickets() -> list[bytes]:
    shapes = ((9, 13), (9, 13, 3), (1, 1))
    return [encrypt_thumbnail(np.zeros(shape, np.uint8), 4, workers=1)[1].to_bytes() for shape in shapes]


def _decode_ticket(data: bytes) -> object:
    ticket = ThumbnailTicket.from_bytes(data)
    if ThumbnailTicket.from_bytes(ticket.to_bytes()) != ticket:
        raise AssertionError("a ticket that was written again is another one")
    if np.prod(ticket.shape) <= _MOST_PIXELS:
        with contextlib.suppress(BlobError):  # it is not this image's
            decrypt_thumbnail(np.zeros(ticket.shape, np.uint8), ticket, workers=1)
    return ticket


def _cipher_images() -> list[bytes]:
    grey = np.arange(117, dtype=np.uint8).reshape(9, 13)
    return [encode_cipher_png(grey), encode_cipher_png(np.stack([grey] * 3, axis=-1))]


def _decode_cipher(data: bytes) -> object:
    return decode_cipher_png(data, max_pixels=_MOST_PIXELS)


def make_targets() -> list[Target]:
    """Public and private keys of recipients, sealed images, tickets, cipher images."""
    return [
        Target("sealed-image", "an image sealed for us, by anybody", _decode_image, _images, _signed),
        Target(
            "sealed-manifest", "the authentic content of a sealed image, by anybody", _decode_manifest, _manifests, None,
            msgpack_codec(_manifest_body, _with_manifest),
        ),
        Target("recipient-line", "a recipient's public key", _decode_line, _lines, _checksummed),
        Target(
            "recipient-key", "a recipient's private key", _decode_key, _key_files,
            lambda data: data[:_HEAD] + _key_digest(data[_HEAD:]),
            msgpack_codec(lambda data: data[_HEAD:], lambda base, body: base[:_HEAD] + body),
        ),
        Target(
            "recipient-sealed-key", "one under a passphrase (the derivation of its key made cheap)", _decode_sealed_key,
            _sealed_key_files, _sealed_again,
        ),
        Target("thumbnail-ticket", "the ticket of a cipher image", _decode_ticket, _tickets),
        Target("cipher-image", "a cipher image, as a host gives it", _decode_cipher, _cipher_images, _png_sums),
    ]  # fmt: skip
