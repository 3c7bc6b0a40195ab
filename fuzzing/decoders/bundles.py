"""Identity bundles: a private key and certificates in one file."""

from __future__ import annotations

import base64
import binascii
import random
import re
import ssl
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fuzzing.decoders.scratch import written
from fuzzing.mutation import blind
from fuzzing.targets import Target
from protocols.pki.bundles import load_authorities
from protocols.pki.certificates import certificate_pem, key_pem, make_authority, make_certificate, new_key
from protocols.tls import bundle_context

__all__ = ["make_targets"]

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_SHA256_ECDSA: Final = bytes.fromhex("300a06082a8648ce3d040302")
_DAYS: Final = 90


@cache
def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = new_key("p256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key, make_authority(key, _DAYS)


def _seeds() -> list[bytes]:
    signer, authority = _authority()
    found = []
    for role, hosts, kind in (
        ("party-0", ["party0.example", "192.0.2.7", "2001:db8::1"], "p256"),
        ("owner", [], "ed25519"),
    ):
        key = new_key(kind)
        certificate = make_certificate(authority, signer, key, role, f"the {role}", hosts, _DAYS)
        found.append(key_pem(key) + certificate_pem(certificate) + certificate_pem(authority))
    return found


def _decode(data: bytes) -> object:
    return bundle_context(written(data, ".pem"), ssl.PROTOCOL_TLS_CLIENT)


# -------------------------------------------------------------------------------------------------------- signing again


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _inside(der: bytes) -> bytes:
    """The first element of the sequence that a DER text is, as its length fields say."""
    start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    if len(der) < start + 2:
        return b""
    many = der[start + 1] & 0x7F if der[start + 1] & 0x80 else 0
    size = int.from_bytes(der[start + 2 : start + 2 + many], "big") if many else der[start + 1]
    return der[start : start + 2 + many + size]


def _sign(content: bytes) -> bytes:
    """A certificate with this content under our authority's signature."""
    signature = _authority()[0].sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return _der(0x30, content + _SHA256_ECDSA + _der(0x03, b"\0" + signature))


def _pem(label: bytes, der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = b"\n".join(text[place : place + 64] for place in range(0, len(text), 64))
    return b"-----BEGIN " + label + b"-----\n" + lines + b"\n-----END " + label + b"-----\n"


def _resealed(data: bytes) -> bytes:
    """Every certificate signed again."""

    def again(match: re.Match[bytes]) -> bytes:
        try:
            der = base64.b64decode(match[2])
        except binascii.Error:
            return match[0]
        content = _inside(der) if match[1] == b"CERTIFICATE" and len(der) > 2 else b""
        return _pem(match[1], _sign(content)).strip() if content else match[0]

    return _BLOCK.sub(again, data)


def _change(data: bytes, rng: random.Random) -> bytes:
    """Damage inside one block, under a sound encoding; a certificate's content is signed again."""
    blocks = [(match[1], base64.b64decode(match[2])) for match in _BLOCK.finditer(data)]
    place = int(rng.random() * len(blocks))
    label, der = blocks[place]
    content = label == b"CERTIFICATE"
    changed = _sign(blind(_inside(der), [der], rng)) if content else blind(der, [der], rng)
    return b"".join(_pem(name, changed if number == place else old) for number, (name, old) in enumerate(blocks))


def make_targets() -> list[Target]:
    """Bundles and authorities' certificates."""
    return [
        Target(
            "authority-certificates",
            "a file of authorities' certificates",
            lambda data: [str(found.subject) for found in load_authorities(written(data, ".ca"))],
            lambda: [certificate_pem(_authority()[1]), 2 * certificate_pem(_authority()[1])],
            _resealed,
            _change,
        ),
        Target(
            "identity-bundle",
            "a private key, its certificate and its authority's, up to a TLS context",
            _decode, _seeds,
            _resealed, _change,
        )
    ]  # fmt: skip
