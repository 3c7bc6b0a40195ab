"""The authority: a directory whose key signs the certificates of a deployment, and its own rotation.

The directory (0700) holds `ca.key` (private key, certificate, certificates of authorities that are still trusted; one file,
so that a crash leaves either the old state or the new one) and `ca.pem`, the certificates alone, to hand out.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from protocols.pki.bundles import Bundle, load_authorities, read_capped, replace_authorities, subject_of
from protocols.pki.certificates import (
    PrivateKey,
    algorithm_of,
    certificate_pem,
    key_pem,
    make_authority,
    make_certificate,
    new_key,
)
from protocols.private_files import replace_private, write_private
from secureimg.errors import KeyMaterialError

__all__ = ["AUTHORITY_DAYS", "LEAF_DAYS", "PUBLIC_FILE", "Authority", "create_bundles"]

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
PUBLIC_FILE = "ca.pem"
_KEY_FILE = "ca.key"
_LONGEST_LEAF = 825
_LONGEST_AUTHORITY = 7300


@dataclass(frozen=True)
class Authority:
    """Signs the certificates of a deployment. Its directory belongs on a machine that serves nobody.

    Attributes
    ----------
    directory : Path
    certificate : Certificate
        Its own.
    trusted : tuple of Certificate
        What new bundles trust: its own certificate first, then those of earlier authorities during an overlap.
    """

    directory: Path
    certificate: x509.Certificate = field(repr=False)
    trusted: tuple[x509.Certificate, ...] = field(repr=False)
    _key: PrivateKey = field(repr=False)

    @classmethod
    def create(cls, directory: Path | str, *, algorithm: str = "p256", days: int = AUTHORITY_DAYS) -> Self:
        """Make an authority in a directory that holds none yet; it is made with mode 0700 if missing.

        Raises
        ------
        KeyMaterialError
            If it holds one or cannot be made, or there is no such algorithm, or the days are too many.
        """
        directory = Path(directory)
        _check_days(days, _LONGEST_AUTHORITY, "an authority")
        key = new_key(algorithm)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyMaterialError(f"{directory} cannot be made: {error.strerror}: name another directory") from None
        certificate = make_authority(key, days)
        made = cls(directory, certificate, (certificate,), key)
        write_private(directory / _KEY_FILE, made._private())
        replace_private(directory / PUBLIC_FILE, made._public())
        return made

    @classmethod
    def open(cls, directory: Path | str) -> Self:
        """Open an authority.

        Raises
        ------
        KeyMaterialError
            If the directory holds none, or its key is damaged or readable by others.
        """
        directory = Path(directory)
        path = directory / _KEY_FILE
        if not path.exists():
            raise KeyMaterialError(
                f"{directory} holds no authority (no {_KEY_FILE}): make one with `secureimg pki init`"
            )
        data = read_capped(path, private=True)
        try:
            key = load_pem_private_key(data, None)
            algorithm_of(key)
        except (ValueError, TypeError, InternalError, UnsupportedAlgorithm):
            raise KeyMaterialError(f"{path} is damaged: restore it from a copy that you keep offline") from None
        assert isinstance(key, PrivateKey)
        trusted = load_authorities(path)
        encoding = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*encoding) != trusted[0].public_key().public_bytes(*encoding):
            raise KeyMaterialError(
                f"{path}: its key does not belong to its certificate ({subject_of(trusted[0])}): restore it from a copy"
            )
        return cls(directory, trusted[0], trusted, key)

    @property
    def algorithm(self) -> str:
        """What it signs with, and what keys it gives out."""
        return algorithm_of(self._key)

    def issue(
        self, role: str, name: str, path: Path | str, *, hosts: Iterable[str] = (), days: int = LEAF_DAYS
    ) -> Path:
        """Make a private key and a certificate for one role and write them as a bundle that does not exist yet.

        Parameters
        ----------
        role : str
            One of `ROLES`.
        name : str
            What the certificate calls its holder.
        path : path
            The bundle.
        hosts : iterable of str
            Host names and addresses under which browsers reach it. Roles that serve have those of this machine anyway.
        days : int
            How long it is valid: at most 825, and not longer than the authority.

        Returns
        -------
        Path
            The bundle.

        Raises
        ------
        KeyMaterialError
            If a value is malformed, the file exists or cannot be written, or the authority has expired.
        """
        path = Path(path)
        write_private(path, self._bundle(role, name, hosts, days))
        return path

    def rotate(self, path: Path | str, *, days: int = LEAF_DAYS) -> Path:
        """Give a bundle a new key and certificate, with the role, name and hosts that it has.

        Returns
        -------
        Path
            Where the bundle that it had is kept.

        Raises
        ------
        KeyMaterialError
            If it is no bundle of this authority, or cannot be written.
        """
        path = Path(path)
        bundle = Bundle.load(path, any_time=True)
        if bundle.issuer not in self.trusted:
            raise KeyMaterialError(
                f"{bundle} is signed by {subject_of(bundle.issuer)}, not by the authority in {self.directory} "
                f"({subject_of(self.certificate)}): name the directory of its authority"
            )
        fresh = self._bundle(bundle.role, bundle.subject, bundle.hosts, days)
        kept = _keep(path)
        replace_private(path, fresh)
        return kept

    def update(self, path: Path | str) -> Bundle:
        """Make a bundle trust whom this authority's new bundles trust. Its key and certificate stay.

        Raises
        ------
        KeyMaterialError
            If it is no bundle of this authority, or cannot be written.
        """
        return replace_authorities(Path(path), self.trusted)

    def rotate_authority(self, *, algorithm: str | None = None, days: int = AUTHORITY_DAYS) -> Authority:
        """Make a new authority in the same directory, which trusts the one before as well; so do bundles from now on.

        Existing bundles are `update`d first, everywhere: then old and new certificates are accepted by all, and bundles
        can be `rotate`d one after the other. Last, `drop_old` ends the overlap.

        Raises
        ------
        KeyMaterialError
            If an overlap is under way already, or a file cannot be written.
        """
        if len(self.trusted) > 1:
            raise KeyMaterialError(
                f"{self.directory} is in an overlap of {len(self.trusted)} authorities already: end that one first "
                "(`secureimg pki rotate --drop-old`)"
            )
        _check_days(days, _LONGEST_AUTHORITY, "an authority")
        key = new_key(algorithm or self.algorithm)
        certificate = make_authority(key, days)
        fresh = Authority(self.directory, certificate, (certificate, *self.trusted), key)
        _keep(self.directory / _KEY_FILE)
        fresh._replace()
        return fresh

    def drop_old(self) -> Authority:
        """End an overlap: bundles trust this authority alone from now on, existing ones after `update`.

        Raises
        ------
        KeyMaterialError
            If a bundle in the directory is still signed by another one, or a file cannot be written.
        """
        for bundle in self.bundles():
            if bundle.issuer != self.certificate:
                raise KeyMaterialError(
                    f"{bundle} is still signed by {subject_of(bundle.issuer)}: rotate it first (`secureimg pki rotate`), "
                    "and take it to its machine"
                )
        alone = replace(self, trusted=(self.certificate,))
        alone._replace()
        return alone

    def bundles(self) -> list[Bundle]:
        """Return the bundles in the directory, expired ones too.

        Raises
        ------
        KeyMaterialError
            If one of its .pem files is no bundle.
        """
        paths = sorted(path for path in self.directory.glob("*.pem") if path.name != PUBLIC_FILE)
        return [Bundle.load(path, any_time=True) for path in paths]

    def _bundle(self, role: str, name: str, hosts: Iterable[str], days: int) -> bytes:
        _check_days(days, _LONGEST_LEAF, f"a certificate of role {role[:40]}")
        end = self.certificate.not_valid_after_utc
        if end <= datetime.datetime.now(datetime.UTC):
            raise KeyMaterialError(
                f"the authority in {self.directory} ({subject_of(self.certificate)}) expired on {end:%Y-%m-%d}: make a new "
                "one (`secureimg pki rotate --authority`)"
            )
        key = new_key(self.algorithm)
        certificate = make_certificate(self.certificate, self._key, key, role, name, hosts, days)
        return key_pem(key) + certificate_pem(certificate) + self._public()

    def _public(self) -> bytes:
        return b"".join(certificate_pem(certificate) for certificate in self.trusted)

    def _private(self) -> bytes:
        return key_pem(self._key) + self._public()

    def _replace(self) -> None:
        replace_private(self.directory / _KEY_FILE, self._private())
        replace_private(self.directory / PUBLIC_FILE, self._public())


def create_bundles(
    directory: Path | str,
    roles: Sequence[str] = ("party-0", "party-1", "dealer", "owner"),
    *,
    algorithm: str = "p256",
    days: int = LEAF_DAYS,
) -> dict[str, Path]:
    """Make an authority and a bundle `<role>.pem` for each role, all in one directory: for deployments on one machine.

    Returns
    -------
    dict of str to Path
        The bundle of each role.

    Raises
    ------
    KeyMaterialError
        If the directory holds some already, or cannot be written.
    """
    authority = Authority.create(directory, algorithm=algorithm)
    return {role: authority.issue(role, role, authority.directory / f"{role}.pem", days=days) for role in roles}


def _check_days(days: int, longest: int, what: str) -> None:
    if not 1 <= days <= longest:
        raise KeyMaterialError(f"{what} is valid for 1 to {longest} days, not {days}")


def _keep(path: Path) -> Path:
    """Copy a file to a name that says when it was replaced."""
    now = datetime.datetime.now(datetime.UTC)
    data = read_capped(path, private=True)
    kept = path.with_name(f"{path.name}.old-{now:%Y-%m-%d}")
    if kept.exists():
        kept = path.with_name(f"{path.name}.old-{now:%Y-%m-%dT%H%M%S.%f}")
    write_private(kept, data)
    return kept
