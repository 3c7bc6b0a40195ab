"""Making certificates: an authority's own, and those that it signs."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.pki.roles import DIALLING, SERVING, is_role_name, role_name
from secureimg.errors import KeyMaterialError

__all__ = [
    "ALGORITHMS",
    "PrivateKey",
    "algorithm_of",
    "certificate_pem",
    "key_pem",
    "make_authority",
    "make_certificate",
    "new_key",
]

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHMS = ("p256", "ed25519")
"""Signature algorithms of an authority and all that it signs. Browsers do not take Ed25519 certificates so far."""

_EARLIER = datetime.timedelta(hours=1)  # the other side's clock may be behind
_LOCAL = ("localhost", "127.0.0.1")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


def new_key(algorithm: str) -> PrivateKey:
    """Make a private key.

    Raises
    ------
    KeyMaterialError
        If the algorithm is not one of `ALGORITHMS`.
    """
    if algorithm == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    raise KeyMaterialError(f"{algorithm[:20]!r} is not an algorithm: choose from {', '.join(ALGORITHMS)}")


def algorithm_of(key: object) -> str:
    """Return the algorithm of a private key.

    Raises
    ------
    ValueError
        If it is none of ours.
    """
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "p256"
    raise ValueError(f"its key is neither of {' nor of '.join(ALGORITHMS)}")


def make_authority(key: PrivateKey, days: int) -> x509.Certificate:
    """Make the certificate of an authority, signed by itself: it may sign others, and these sign none."""
    serial = x509.random_serial_number()
    # a name of its own: while two authorities overlap, a certificate's issuer is found without trying both
    name = _name(f"secureimg authority {serial & 0xFFFFFFFF:08x}")
    builder = _builder(name, name, key, days, serial)
    return _sign(
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
            _key_usage(authority=True), critical=True
        ),
        key,
        key,
    )


def make_certificate(
    issuer: x509.Certificate, signer: PrivateKey, key: PrivateKey, role: str, name: str, hosts: Iterable[str], days: int
) -> x509.Certificate:
    """Make the certificate of one role, signed by an authority.

    Raises
    ------
    KeyMaterialError
        If the role, the name or a host is malformed.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable() or not name.strip():
        raise KeyMaterialError(f"a name must have 1 to 64 printable characters, {name[:70]!r} has not")
    names: list[x509.GeneralName] = [x509.DNSName(role_name(role))]
    wanted = [*hosts, *(_LOCAL if role in SERVING else ())]
    names += [_host(host) for host in dict.fromkeys(wanted)]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] * (role in SERVING) + [ExtendedKeyUsageOID.CLIENT_AUTH] * (
        role in DIALLING
    )
    builder = _builder(_name(name), issuer.subject, key, days, x509.random_serial_number(), issuer.not_valid_after_utc)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _sign(builder, key, signer)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    """Return a private key as PEM, in the clear: for a file that only its user may read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey, signer: PrivateKey) -> x509.Certificate:
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    days: int,
    serial: int,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _EARLIER)
        .not_valid_after(end if latest is None else min(end, latest))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    name = host.lower().rstrip(".")
    if is_role_name(name):
        raise KeyMaterialError(f"{host[:70]!r} is kept for roles: name the machine's own host name or address")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise KeyMaterialError(
            f"{host[:70]!r} is neither an IP address nor a host name: give e.g. party1.example.org, without a port"
        )
    return x509.DNSName(name)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
