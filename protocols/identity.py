"""Who is who: a small certificate authority of the server's own, its certificate, and one for each owner.

The server's directory (0700) holds `ca.pem`, `ca.key`, `server.pem`, `server.key` (keys 0600) and `owner.pem`: a bundle
of an owner's private key, its certificate and the authority's certificate, one file to hand to that owner over a safe
channel. The authority's key signs further owners; it never leaves the directory.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secureimg.errors import KeyMaterialError

__all__ = [
    "OWNER_BUNDLE",
    "PARTY_ROLES",
    "SERVER_NAME",
    "create_identities",
    "create_party_identities",
    "enrol_owner",
    "ensure_identities",
    "write_private",
]

SERVER_NAME = "server.secureimg.internal"
"""The name in the server's certificate. Owners check it and the authority, not the host name that they dial."""

PARTY_ROLES = {name: f"{name}.secureimg.internal" for name in ("party-0", "party-1", "dealer")}
"""The machines of a two-party deployment, with the name that the certificate of each one carries."""

OWNER_BUNDLE = "owner.pem"
_SERVER_FILES = ("ca.pem", "ca.key", "server.pem", "server.key")
_DAYS = 825


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_private(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file that only its user may read, never through another's link or over another file.

    Raises
    ------
    KeyMaterialError
        If the file exists and `overwrite` is not given, or its directory cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyMaterialError(
            f"{path} exists already and is not overwritten: name another file or remove it"
        ) from None
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)


def ensure_identities(directory: Path, days: int = _DAYS) -> bool:
    """Create a server's identities if the directory holds none yet; return whether it did.

    Raises
    ------
    KeyMaterialError
        If the directory holds some of the files and not the others, or lets other users read its keys.
    """
    present = [name for name in _SERVER_FILES if (directory / name).exists()]
    if not present:
        create_identities(directory, days=days)
        return True
    missing = sorted(set(_SERVER_FILES) - set(present))
    if missing:
        raise KeyMaterialError(f"{directory} lacks {', '.join(missing)}: restore the files, or name an empty directory")
    for name in ("ca.key", "server.key"):
        mode = (directory / name).stat().st_mode & 0o777
        if mode & 0o077:
            raise KeyMaterialError(f"{directory / name} is readable by others (mode {mode:o}): run chmod 600 on it")
    return False


def create_identities(directory: Path, owners: Sequence[str] = ("owner",), days: int = _DAYS) -> None:
    """Make an authority, a server certificate and a bundle for each owner in a directory that only its user may read.

    Parameters
    ----------
    directory : Path
        Created with mode 0700 if missing.
    owners : sequence of str
        Names of owners; owner `n` gets the bundle `n.pem`.
    days : int
        How long the certificates are valid.
    """
    authority = _create_authority(directory, days)
    server_key, server = _issue(authority, SERVER_NAME, [ExtendedKeyUsageOID.SERVER_AUTH], days, SERVER_NAME)
    write_private(directory / "server.key", _key_pem(server_key))
    write_private(directory / "server.pem", _pem(server))
    for owner in owners:
        _write_bundle(authority, owner, directory / f"{owner}.pem", days)


def create_party_identities(directory: Path, days: int = _DAYS) -> dict[str, Path]:
    """Make an authority and a bundle for each machine of a two-party deployment, and one for an owner.

    A bundle holds a private key, its certificate and the authority's: one file to take to that machine over a safe channel.
    `enrol_owner` makes bundles for more owners.

    Returns
    -------
    dict of str to Path
        Bundles of "party-0", "party-1", "dealer" and "owner".
    """
    authority = _create_authority(directory, days)
    bundles = {name: directory / f"{name}.pem" for name in (*PARTY_ROLES, "owner")}
    for name, path in bundles.items():
        if name not in PARTY_ROLES:
            _write_bundle(authority, name, path, days)
            continue
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        key, certificate = _issue(authority, name, usages, days, PARTY_ROLES[name])
        write_private(path, _key_pem(key) + _pem(certificate) + _pem(authority.certificate))
    return bundles


def _create_authority(directory: Path, days: int) -> _Authority:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyMaterialError(f"{directory} cannot be made: {error.strerror}: name another directory") from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secureimg authority")])
    certificate = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(directory / "ca.key", _key_pem(key))
    write_private(directory / "ca.pem", _pem(certificate))
    return _Authority(certificate, key)


def enrol_owner(directory: Path, name: str, bundle: Path, days: int = _DAYS) -> None:
    """Sign a certificate for one more owner with the authority of `directory` and write its bundle.

    Raises
    ------
    KeyMaterialError
        If the authority cannot be read, or the bundle exists already.
    """
    try:
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    except (OSError, ValueError, TypeError):
        raise KeyMaterialError(
            f"{directory} holds no readable authority (ca.pem, ca.key): start `secureimg serve --tls {directory}` once"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyMaterialError(f"{directory / 'ca.key'} is not an elliptic-curve key: it was not made by secureimg")
    _write_bundle(_Authority(certificate, key), name, bundle, days)


def _write_bundle(authority: _Authority, name: str, path: Path, days: int) -> None:
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise KeyMaterialError("an owner's name must have 1 to 64 printable characters")
    key, certificate = _issue(authority, name, [ExtendedKeyUsageOID.CLIENT_AUTH], days)
    write_private(path, _key_pem(key) + _pem(certificate) + _pem(authority.certificate))


def _issue(
    authority: _Authority, name: str, usages: list[x509.ObjectIdentifier], days: int, server: str | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if server is not None:
        names = [x509.DNSName(server), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


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


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
