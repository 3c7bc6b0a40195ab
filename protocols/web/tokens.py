"""Owner tokens: what an owner without a certificate shows to each party, and the files in which parties know them.

An owner gets one secret, 256 random bits as text. It never sends it. To each process it sends another value,

    SHA-256("secureimg token" ROLE SECRET)        with single spaces, ROLE being party0, party1 or server

so that no process learns what the owner shows to another one. A process's file holds only the SHA-256 of that value, and
the owner's id, SHA-256("secureimg owner" SECRET), by which both parties know it as the same one.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import threading
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from protocols.private_files import replace_private, write_private
from secureimg.errors import KeyMaterialError, SecureImgError

__all__ = [
    "DAYS",
    "MOST_DAYS",
    "ROLES",
    "Entry",
    "TokenError",
    "TokenFile",
    "TokenRole",
    "add_entry",
    "file_name",
    "make_entry",
    "new_secret",
    "owner_id",
    "read_entries",
    "remove_entries",
    "shown_to",
]

_log = logging.getLogger(__name__)

TokenRole = Literal["party0", "party1", "server"]
ROLES: Final[tuple[TokenRole, ...]] = get_args(TokenRole)

DAYS: Final = 90
MOST_DAYS: Final = 825
_MOST_BYTES: Final = 4 << 20
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}"
_SHOWN: Final = re.compile(r"[0-9a-f]{64}")

Name = Annotated[str, Meta(pattern=rf"\A{_NAME}\Z", max_length=64)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]


class TokenError(SecureImgError):
    """Whoever asks has not shown a token that is valid here."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process knows of one owner's token.

    Attributes
    ----------
    name : str
        Who it was handed to.
    id : str
        The owner, as both parties know it.
    digest : str
        SHA-256 of what the owner shows to this process.
    expires : datetime
        With time zone.
    """

    name: Name
    id: Digest
    digest: Digest
    expires: datetime.datetime

    def __post_init__(self) -> None:
        """Refuse a time that means another moment on another machine."""
        if self.expires.tzinfo is None:
            raise ValueError("expires must say its time zone: write it like 2027-01-31T00:00:00Z")
        if not 2000 <= self.expires.year < 9999:  # further out, another time zone is another era
            raise ValueError(f"expires is in the year {self.expires.year}: write it like 2027-01-31T00:00:00Z")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    owner: tuple[Entry, ...] = ()


# -------------------------------------------------------------------------------------------------------------- secrets


def new_secret() -> str:
    """Make an owner's secret: 256 bits of the operating system's, as 43 letters, digits, - and _."""
    return secrets.token_urlsafe(32)


def shown_to(role: TokenRole, secret: str) -> str:
    """Return what the owner of `secret` shows to a process (`Authorization: Bearer ...`), 64 hexadecimal digits."""
    return _sha256(f"secureimg token {role} {secret}")


def owner_id(secret: str) -> str:
    """Return the name, equal at both parties, of whoever has `secret`."""
    return _sha256(f"secureimg owner {secret}")


def make_entry(role: TokenRole, name: str, secret: str, expires: datetime.datetime) -> Entry:
    """Return what a process is to know of a token.

    Raises
    ------
    KeyMaterialError
        If the name is not one.
    """
    if not re.fullmatch(_NAME, name):
        raise KeyMaterialError(
            f"{name[:80]!r} is not an owner's name: use up to 64 letters, digits, spaces and . _ @ + -, a letter or digit "
            "first"
        )
    return Entry(name, owner_id(secret), _sha256(shown_to(role, secret)), expires)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------- files


def file_name(role: TokenRole) -> str:
    """Return the name that a process's token file has until it is taken there."""
    return f"tokens-{role}.toml"


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Read a token file.

    Raises
    ------
    KeyMaterialError
        If it is missing, readable by others, too large, or anything else than a token file.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(
            f"{path} cannot be read: {error.strerror}: `secureimg token new` makes token files"
        ) from None
    if mode & 0o077:
        raise KeyMaterialError(f"{path} is readable by others (mode {mode:o}): run chmod 600 on it")
    if len(data) > _MOST_BYTES:
        raise KeyMaterialError(f"{path} is larger than {_MOST_BYTES} bytes: is it the right file?")
    try:
        entries = msgspec.convert(tomllib.loads(data.decode()), _File).owner
    except (ValueError, RecursionError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise KeyMaterialError(f"{path} is not a token file: {error}: make a new one with `secureimg token`") from None
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise KeyMaterialError(f"{path} names an owner twice: remove one of the two entries")
    return entries


def add_entry(path: Path, entry: Entry) -> None:
    """Add an owner to a token file, which is made if missing (0600).

    Raises
    ------
    KeyMaterialError
        If the name is taken, or the file cannot be read or written.
    """
    if not path.exists():
        write_private(path, _text((entry,)))
        return
    entries = read_entries(path)
    if any(other.name == entry.name for other in entries):
        raise KeyMaterialError(
            f"{path} has an owner {entry.name!r} already: revoke that token first, or use another name"
        )
    replace_private(path, _text((*entries, entry)))


def remove_entries(path: Path, names: Iterable[str]) -> tuple[Entry, ...]:
    """Remove owners from a token file and return their entries. Names that it does not have are passed over."""
    entries, wanted = read_entries(path), set(names)
    removed = tuple(entry for entry in entries if entry.name in wanted)
    if removed:
        replace_private(path, _text(entry for entry in entries if entry.name not in wanted))
    return removed


def _text(entries: Iterable[Entry]) -> bytes:
    parts = ["# Owners' tokens of one process. Made by `secureimg token`; holds no secret that could be shown.\n"]
    for entry in entries:  # none of the values can hold a quote
        moment = entry.expires.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        parts.append(
            f'\n[[owner]]\nname = "{entry.name}"\nid = "{entry.id}"\ndigest = "{entry.digest}"\nexpires = {moment}\n'
        )
    return "".join(parts).encode()


class _Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    modified: int
    changed: int
    size: int


class TokenFile:
    """The tokens that a running process accepts. Safe to use from several threads.

    The file is read again whenever it has changed. A file that cannot be read then lets nobody in until it is mended.

    Parameters
    ----------
    path : Path
        From `secureimg token new`, taken to this process's machine.

    Raises
    ------
    KeyMaterialError
        If it cannot be read now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp, self._entries = _stamp(path), read_entries(path)

    def check(self, shown: str) -> Entry:
        """Return whose token it is.

        Parameters
        ----------
        shown : str
            What `shown_to` gives for this process's role.

        Raises
        ------
        TokenError
            If it is nobody's, or has expired.
        KeyMaterialError
            If the file has changed and cannot be read.
        """
        if not _SHOWN.fullmatch(shown):
            raise TokenError("what was shown as a token is not 64 hexadecimal digits")
        digest, found = _sha256(shown), None
        for entry in self._current():  # all of them: how long it takes says nothing
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None:
            raise TokenError("the token is not known here")
        if datetime.datetime.now(datetime.UTC) >= found.expires:
            raise TokenError(f"the token expired on {found.expires:%Y-%m-%d}")
        return found

    def _current(self) -> tuple[Entry, ...]:
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._entries = read_entries(
                    self._path
                )  # if that fails, the stamp stays and the next request tries again
                self._stamp = stamp
                _log.info("%s is read anew: %d owner(s)", self._path, len(self._entries))
            return self._entries


def _stamp(path: Path) -> _Stamp:
    try:
        facts: Any = path.stat()
    except OSError as error:
        raise KeyMaterialError(
            f"{path} cannot be read: {error.strerror}: `secureimg token new` makes token files"
        ) from None
    return _Stamp(facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
