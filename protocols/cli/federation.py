"""A federation on this machine: dealer, two aggregating parties and owners as processes, with certificates made for it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from protocols.cli.server_process import start_process
from protocols.deployment.settings import Role
from protocols.federated import Coordinator, Uploader
from protocols.pki import Authority, Bundle, create_bundles
from secureimg.federated import Terms

__all__ = ["Federation"]

Address = tuple[str, int]


class Federation:
    """Dealer, party 0 and party 1 as processes, and identities of owners and the coordinator, for as long as it is open.

    Parameters
    ----------
    terms : Terms
    owners : tuple of str
        Names in the owners' certificates.

    Attributes
    ----------
    parties : ((str, int), (str, int))
        Where party 0 and party 1 listen.
    identities : dict of str to Path
        Each owner's bundle.
    pids : dict of str to int
    """

    def __init__(self, terms: Terms, owners: tuple[str, ...]) -> None:
        self.terms, self._owners = terms, owners
        self.identities: dict[str, Path] = {}
        self.pids: dict[str, int] = {}
        self.parties: tuple[Address, Address] = (("", 0), ("", 0))
        self._coordinator = Path()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-")))
        bundles = create_bundles(home / "tls", ("party-0", "party-1", "dealer", "coordinator"), days=1)
        self._coordinator = bundles["coordinator"]
        authority = Authority.open(home / "tls")
        self.identities = {
            name: authority.issue("owner", name, home / "tls" / f"owner-{number}.pem", days=1)
            for number, name in enumerate(self._owners)
        }
        dealer = self._launch("dealer", {"identity": bundles["dealer"]}, home)
        given = {f"aggregation.{name}": getattr(self.terms, name) for name in type(self.terms).__struct_fields__}
        given["peers.dealer"] = _text(dealer)
        one = self._launch("party1", {"identity": bundles["party-1"], **given}, home)
        zero = self._launch("party0", {"identity": bundles["party-0"], "peers.party1": _text(one), **given}, home)
        self.parties = (zero, one)

    def _launch(self, role: Role, given: dict[str, Any], home: Path) -> Address:
        ready = start_process(self._stack, role, given, home)
        self.pids[role] = int(ready["pid"])
        return str(ready["host"]), int(ready["port"])

    def coordinator(self, **options: Any) -> Coordinator:
        """The coordinator's side."""
        return Coordinator(self.parties, self._coordinator, **options)

    def uploader(self, owner: str, **options: Any) -> Uploader:
        """An owner's side."""
        return Uploader(self.parties, self.identities[owner], **options)

    def fingerprint(self, owner: str) -> str:
        """How the parties name an owner: SHA-256 of its certificate."""
        return Bundle.load(self.identities[owner]).fingerprint


def _text(address: Address) -> str:
    return "{}:{}".format(*address)
