"""What a party keeps of its rounds on disk: shares before they are acknowledged, the verdict, its share of the sum.

A directory a round, files for this account alone. A file is written aside, synced, and renamed, and its directory synced,
before anybody is told of it: after a crash a party knows what it knew. A round is open, then frozen (who may still be in
the sum is fixed), then decided (both parties know who is in it), then finished (the answer is there, the shares are gone).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from protocols.errors import RefusedError
from protocols.federated.messages import MAX_ROSTER, Roster, share_bytes
from protocols.messages import Code, Fingerprint
from protocols.private_files import replace_private, sync_directory, write_private
from secureimg.errors import BlobError, KeyMaterialError, RemoteProtocolError
from secureimg.federated import Reader, Terms
from secureimg.sharing import fresh_seed
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["RoundStore"]

_KEPT: Final = 8
"""Finished rounds whose answers are kept."""

_OPEN: Final = 8
"""Rounds that may be open at once."""

_FACTS: Final = 1 << 12
_SHARE: Final = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{32})\.share")

State = Literal["open", "frozen", "decided", "finished", "dropped"]


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file that says what a round is."""

    number: Annotated[int, Meta(ge=0)]
    terms: Fingerprint
    peer: Fingerprint
    state: State
    why: str = ""


@dataclass(frozen=True)
class _Kept:
    owner: str
    contribution: str
    path: Path


class RoundStore:
    """The rounds of one party.

    Parameters
    ----------
    directory : Path
        Made if it is not there.
    terms : Terms
    party : int

    Raises
    ------
    KeyMaterialError
        If the directory cannot be used.
    """

    def __init__(self, directory: Path, terms: Terms, party: int) -> None:
        self._directory, self._terms, self._party = directory, terms, party
        self._lock = threading.RLock()
        self._facts: dict[str, _Facts] = {}
        self._shares: dict[str, dict[str, _Kept]] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(directory.iterdir()):
                self._load(path)
        except OSError as error:
            raise KeyMaterialError(f"{directory} cannot be used: {error.strerror}: make it writable") from None

    def _load(self, path: Path) -> None:
        try:
            with (path / "round").open("rb") as file:
                facts = msgspec.msgpack.decode(file.read(_FACTS), type=_Facts)
        except FileNotFoundError:  # a crash while it was opened: nobody was told
            shutil.rmtree(path, ignore_errors=True)
            return
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyMaterialError(f"{path / 'round'} is damaged ({error}): remove the directory") from None
        self._facts[path.name] = facts
        found: dict[str, _Kept] = {}
        for file_ in path.iterdir():
            match = _SHARE.fullmatch(file_.name)
            if match and file_.stat().st_size == share_bytes(self._terms, self._party):
                found[match[1]] = _Kept(match[1], match[2], file_)
            elif file_.name.startswith("."):
                file_.unlink()
        self._shares[path.name] = found

    # ---------------------------------------------------------------------------------------------------------- rounds

    @property
    def opened(self) -> int:
        """Rounds opened so far, ever."""
        return len(self._facts)

    @property
    def taking(self) -> int:
        """Rounds that take shares now."""
        return sum(facts.state == "open" for facts in self._facts.values())

    def begin(self, name: str, peer: str) -> None:
        """Open a round, or do nothing if it is open.

        Raises
        ------
        RefusedError
            If it was closed, or is one too many.
        """
        with self._lock:
            facts = self._facts.get(name)
            if facts is not None and facts.state == "open" and facts.peer == peer:
                return
            if facts is not None:
                raise RefusedError(Code.GONE, f"round {name[:8]} is {facts.state}", "open another one")
            if self._terms.rounds and len(self._facts) >= self._terms.rounds:
                said = f"{len(self._facts)} rounds were opened, as many as the terms allow"
                raise RefusedError(Code.LIMIT, said, "agree on new terms: each round costs the owners privacy")
            if self.taking >= _OPEN:
                raise RefusedError(
                    Code.LIMIT, f"{self.taking} rounds are open, the limit is {_OPEN}", "close some first"
                )
            place = self._directory / name
            place.mkdir(mode=0o700)
            self._shares[name] = {}
            self._say(name, _Facts(number=len(self._facts), terms=self._terms.fingerprint, peer=peer, state="open"))
            self._forget_answers()

    def state(self, name: str) -> State:
        """How far a round is.

        Raises
        ------
        RefusedError
            If there is no such round, or it was opened under other terms.
        """
        return self._known(name).state

    def peer(self, name: str) -> str:
        """The other party's certificate when the round was opened."""
        return self._known(name).peer

    def _known(self, name: str) -> _Facts:
        facts = self._facts.get(name)
        if facts is None:
            raise RefusedError(Code.GONE, f"there is no round {name[:8]} here", "open it first")
        if facts.terms != self._terms.fingerprint:
            raise RefusedError(Code.GONE, f"round {name[:8]} has other terms", "open a new round")
        return facts

    def _say(self, name: str, facts: _Facts) -> None:
        self._write(self._directory / name / "round", msgspec.msgpack.encode(facts))
        sync_directory(self._directory)
        self._facts[name] = facts

    def _move(self, name: str, state: State, why: str = "") -> None:
        self._say(name, msgspec.structs.replace(self._facts[name], state=state, why=why))

    # ---------------------------------------------------------------------------------------------------------- shares

    def count(self, name: str) -> int:
        """Owners whose shares are here."""
        self._known(name)
        return len(self._shares[name])

    def check_open(self, name: str, owner: str) -> None:
        """Let an owner bring a share.

        Raises
        ------
        RefusedError
            If the round takes none any more, or has as many owners as it may.
        """
        if self.state(name) != "open":
            raise RefusedError(Code.GONE, f"round {name[:8]} takes no shares any more", "wait for the next one")
        if owner not in self._shares[name] and len(self._shares[name]) >= self._terms.owners:
            raise RefusedError(
                Code.LIMIT,
                f"round {name[:8]} has {self._terms.owners} owners, as many as it may",
                "wait for the next one",
            )

    def put(self, name: str, owner: str, contribution: str, share: NDArray[np.uint8]) -> None:
        """Keep a share, durably; an earlier one of this owner goes."""
        place = self._directory / name
        aside = place / f".{secrets.token_hex(8)}"
        try:
            write_private(aside, share.data, durable=True)
            with self._lock:
                self.check_open(name, owner)
                kept = _Kept(owner, contribution, place / f"{owner}.{contribution}.share")
                aside.replace(kept.path)
                before = self._shares[name].get(owner)
                self._shares[name][owner] = kept
                if before is not None and before.path != kept.path:
                    before.path.unlink(missing_ok=True)
        finally:
            aside.unlink(missing_ok=True)
        sync_directory(place)

    @contextlib.contextmanager
    def reading(self, name: str, owner: str) -> Iterator[Reader]:
        """Read a share of party 1's from its start."""
        with self._shares[name][owner].path.open("rb", buffering=0) as file:

            def read(buffer: NDArray[Any]) -> None:
                view = buffer.data.cast("B")
                while len(view):
                    count = file.readinto(view)
                    if not count:
                        raise BlobError(f"{file.name} is shorter than a share: remove it")
                    view = view[count:]

            yield read

    def seed(self, name: str, owner: str) -> bytes:
        """A share of party 0's, which is a seed."""
        return self._shares[name][owner].path.read_bytes()

    # --------------------------------------------------------------------------------------------------------- closing

    def freeze(self, name: str) -> list[tuple[str, str]]:
        """Take no more shares, durably; return owners and contributions."""
        with self._lock:
            if self._known(name).state == "open":
                self._write(self._directory / name / "noise", fresh_seed())
                self._move(name, "frozen")
            return sorted((kept.owner, kept.contribution) for kept in self._shares[name].values())

    def noise_seed(self, name: str) -> bytes:
        """Seed of this party's noise for the round: the same however often it is closed."""
        seed = (self._directory / name / "noise").read_bytes()
        if len(seed) != SEED_BYTES:
            raise BlobError(f"{self._directory / name / 'noise'} has {len(seed)} bytes, expected {SEED_BYTES}")
        return seed

    def decide(self, name: str, roster: Roster) -> None:
        """Write down who is in the sum, before anything of it leaves."""
        with self._lock:
            if self._known(name).state == "frozen":
                self._write(self._directory / name / "roster", roster.to_bytes())
                self._move(name, "decided")

    def drop(self, name: str, why: str) -> None:
        """End a round without a sum; its shares go."""
        with self._lock:
            self._move(name, "dropped", why)
            self._remove_shares(name)

    def why(self, name: str) -> str:
        """Why a round was dropped."""
        return self._known(name).why

    def roster(self, name: str) -> Roster | None:
        """Who is in the sum, if that is decided."""
        if self._known(name).state not in ("decided", "finished"):
            return None
        with (self._directory / name / "roster").open("rb") as file:
            try:
                return Roster.from_bytes(file.read(MAX_ROSTER + 1))
            except RemoteProtocolError as error:
                raise BlobError(f"{self._directory / name / 'roster'}: {error}") from None

    def finish(self, name: str, share: NDArray[np.uint32]) -> None:
        """Keep this party's share of the sum; the owners' shares and the noise's seed go."""
        with self._lock:
            self._write(self._directory / name / "sum", share.view(np.uint8).data)
            self._move(name, "finished")
            self._remove_shares(name)
            (self._directory / name / "noise").unlink(missing_ok=True)

    def answer(self, name: str) -> NDArray[np.uint32]:
        """Return this party's share of the sum of a finished round.

        Raises
        ------
        RefusedError
            If it is no longer kept.
        """
        try:
            data = np.fromfile(self._directory / name / "sum", dtype=np.uint32)
        except FileNotFoundError:
            raise RefusedError(
                Code.GONE, f"the sum of round {name[:8]} is no longer kept", "ask within the next rounds"
            ) from None
        if data.size != self._terms.length:
            raise BlobError(f"the sum of round {name[:8]} has {data.size} coordinates, expected {self._terms.length}")
        return data

    def _remove_shares(self, name: str) -> None:
        for kept in self._shares[name].values():
            kept.path.unlink(missing_ok=True)
        self._shares[name] = {}

    def _forget_answers(self) -> None:
        done = sorted((f.number, name) for name, f in self._facts.items() if f.state == "finished")
        for _, name in done[:-_KEPT]:
            (self._directory / name / "sum").unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------------------------------- files

    @staticmethod
    def _write(path: Path, data: bytes | memoryview) -> None:
        replace_private(path, data)
        sync_directory(path.parent)
