"""A bundle: private key, certificate and authorities' certificates of one identity, in one file for its user only."""

from __future__ import annotations

import datetime
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from protocols.pki.certificates import certificate_pem
from protocols.pki.roles import is_role_name, role_in
from protocols.private_files import replace_private
from secureimg.errors import KeyMaterialError

__all__ = [
    "OWNER_BUNDLE",
    "Bundle",
    "fingerprint_of",
    "load_authorities",
    "owner_bundle",
    "read_capped",
    "replace_authorities",
    "subject_of",
]

OWNER_BUNDLE = "owner.pem"
"""An owner's bundle in a directory that is named instead of the file."""

_LARGEST = 1 << 20
_MOST = 32
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n[A-Za-z0-9+/=\s]*?-----END \1-----")
_MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    InternalError,  # an Ed25519 key of 31 bytes
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of its holder. The private key stays in the file.

    Attributes
    ----------
    path : Path
    role : str
        One of `ROLES`.
    subject : str
        The name in the certificate.
    fingerprint : str
        SHA-256 of the certificate, in hexadecimal: what others pin.
    not_before, not_after : datetime
        When it is valid, in UTC.
    hosts : tuple of str
        Host names and addresses, beside the role's name.
    certificate : Certificate
    authorities : tuple of Certificate
        Whom the holder trusts; one of them signed the certificate.
    """

    path: Path
    role: str
    subject: str
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    hosts: tuple[str, ...]
    certificate: x509.Certificate = field(repr=False)
    authorities: tuple[x509.Certificate, ...] = field(repr=False)

    @classmethod
    def load(cls, path: Path | str, *, any_time: bool = False) -> Self:
        """Read and check a bundle.

        Parameters
        ----------
        path : path
            The file.
        any_time : bool
            Whether to return one that is not valid now, too: to look at it or to replace it, not to use it.

        Raises
        ------
        KeyMaterialError
            If it cannot be read, others may read it, a part is missing or malformed, the key is another certificate's, the
            certificate does not name exactly one role, none of the authorities signed it, or it is not valid now.
        """
        path = Path(path)
        data = read_capped(path, private=True)
        try:
            bundle = cls._parse(path, data)
        except _MALFORMED as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise KeyMaterialError(
                f"{path} is not an identity ({reason}): use the .pem file that `secureimg pki issue` wrote"
            ) from None
        if not any_time:
            bundle.check_time()
        return bundle

    @classmethod
    def _parse(cls, path: Path, data: bytes) -> Self:
        key, certificate, *authorities = _blocks(data)
        try:
            public = load_pem_private_key(key, None).public_key()
        except _MALFORMED:  # what the parser says of a private key is not repeated
            raise ValueError("its private key is damaged or under a passphrase") from None
        own, *others = (x509.load_pem_x509_certificate(block) for block in (certificate, *authorities))
        subject = subject_of(own)
        who = f"subject {subject}, valid until {_minute(own.not_valid_after_utc)}"
        encoding = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if public.public_bytes(*encoding) != own.public_key().public_bytes(*encoding):
            raise ValueError(f"its private key does not belong to its certificate, {who}")
        if _is_authority(own):
            raise ValueError(f"its first certificate is an authority's, {who}")
        for authority in others:
            if not _is_authority(authority):
                raise ValueError(f"the certificate of {subject_of(authority)} in it is not an authority's")
        try:
            names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            dns = names.get_values_for_type(x509.DNSName)
            role = role_in(dns)
        except x509.ExtensionNotFound:
            raise ValueError(f"its certificate names no role, {who}") from None
        except ValueError as error:
            raise ValueError(f"its certificate: {error}, {who}") from None
        if not any(_signed(own, authority) for authority in others):
            told = ", ".join(subject_of(authority) for authority in others[:4])
            raise ValueError(f"its certificate is signed by another authority than those in it ({told}), {who}")
        hosts = [name for name in dns if not is_role_name(name)]
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        return cls(
            path=path,
            role=role,
            subject=subject,
            fingerprint=fingerprint_of(own),
            not_before=own.not_valid_before_utc,
            not_after=own.not_valid_after_utc,
            hosts=tuple(hosts),
            certificate=own,
            authorities=tuple(others),
        )

    def __str__(self) -> str:
        """Say file, role, subject and expiry, as error texts do."""
        return f"{self.path} ({self.role}, subject {self.subject}, valid until {_minute(self.not_after)})"

    @property
    def issuer(self) -> x509.Certificate:
        """The authority that signed the certificate."""
        return next(authority for authority in self.authorities if _signed(self.certificate, authority))

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires; negative once it has."""
        return (self.not_after - datetime.datetime.now(datetime.UTC)).days

    def check_time(self, now: datetime.datetime | None = None) -> None:
        """Check that the certificate and its authority's are valid now.

        Raises
        ------
        KeyMaterialError
            If one of them is not.
        """
        now = now or datetime.datetime.now(datetime.UTC)
        if now < self.not_before:
            raise KeyMaterialError(f"{self} is not valid before {_minute(self.not_before)}: check this machine's clock")
        if now > self.not_after:
            raise KeyMaterialError(
                f"{self} has expired: ask who runs the authority for a new one (`secureimg pki rotate`)"
            )
        issuer = self.issuer
        if now > issuer.not_valid_after_utc:
            raise KeyMaterialError(
                f"{self}: its authority, {subject_of(issuer)}, has expired on {_minute(issuer.not_valid_after_utc)}: a new "
                "authority is needed (`secureimg pki rotate --authority`)"
            )


def owner_bundle(identity: Path | str) -> Path:
    """Return the file of an owner's identity, which may be given as the directory that holds it as `owner.pem`."""
    identity = Path(identity)
    return identity / OWNER_BUNDLE if identity.is_dir() else identity


def load_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """Read authorities' certificates from a file, such as `ca.pem`.

    Raises
    ------
    KeyMaterialError
        If it cannot be read, holds none, or others' certificates.
    """
    data = read_capped(path)
    try:
        authorities = tuple(x509.load_pem_x509_certificates(data))
        for authority in authorities:
            subject_of(authority)  # names are parsed on demand: a damaged one is to fail here, not later
        if len(authorities) > _MOST or not all(_is_authority(authority) for authority in authorities):
            raise ValueError("it holds certificates that are not authorities'")
    except _MALFORMED as error:
        reason = " ".join(str(error).split())[:200]
        raise KeyMaterialError(f"{path} holds no authority's certificate ({reason}): use the ca.pem file") from None
    return authorities


def replace_authorities(path: Path, authorities: Sequence[x509.Certificate]) -> Bundle:
    """Make a bundle trust these authorities and no others. Its key and certificate stay.

    Raises
    ------
    KeyMaterialError
        If the bundle cannot be read, or none of the authorities signed its certificate.
    """
    bundle = Bundle.load(path, any_time=True)
    if not any(_signed(bundle.certificate, authority) for authority in authorities):
        raise KeyMaterialError(
            f"{bundle} is signed by {subject_of(bundle.issuer)}, which is none of "
            f"{', '.join(subject_of(authority) for authority in authorities)}: give it a new certificate first "
            "(`secureimg pki rotate`)"
        )
    key, certificate, *_ = _blocks(read_capped(path, private=True))
    own = key + b"\n" + certificate + b"\n"
    replace_private(path, own + b"".join(certificate_pem(authority) for authority in authorities))
    return Bundle.load(path, any_time=True)


def read_capped(path: Path, *, private: bool = False) -> bytes:
    """Read a small regular file; a private one only if nobody but its user may.

    Raises
    ------
    KeyMaterialError
    """
    try:
        # a pipe in the file's place must not hang us
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise KeyMaterialError(f"{path} is not a file: name a .pem file")
            if private and found.st_mode & 0o077:
                raise KeyMaterialError(
                    f"{path} is readable by others (mode {found.st_mode & 0o777:o}): run chmod 600 on it"
                )
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except ValueError:  # a NUL in the name
        raise KeyMaterialError(f"{str(path)!r} is not the name of a file: check the path") from None
    if len(data) > _LARGEST:
        raise KeyMaterialError(f"{path} is larger than the limit of {_LARGEST} bytes: is it the right file?")
    return data


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def subject_of(certificate: x509.Certificate) -> str:
    """Return the name that a certificate gives its holder, fit to print."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[0].value) if names else certificate.subject.rfc4514_string()
    return text[:64] if text.isprintable() else ascii(text[:64])


def _blocks(data: bytes) -> list[bytes]:
    """Private key, own certificate, authorities' certificates."""
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(data)]
    keys = [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]
    certificates = [block for label, block in blocks if label == b"CERTIFICATE"]
    if not blocks:
        raise ValueError("no PEM in it")
    if len(keys) != 1:
        raise ValueError(f"{len(keys)} private keys in it, 1 is needed")
    if not 2 <= len(certificates) <= _MOST or len(keys) + len(certificates) != len(blocks):
        raise ValueError(
            f"{len(certificates)} certificates in it: its own and 1 to {_MOST - 1} of authorities are needed, no more"
        )
    return keys + certificates


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InternalError):
        return False
    return True


def _minute(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")
