"""A federation on this machine: dealer, two aggregating parties and owners as processes, with certificates made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocols.cli.server_process import LocalProcesses, address_of, spell
from protocols.federated import Coordinator, Uploader
from protocols.pki import Authority, Bundle, create_bundles
from secureimg.federated import Terms

__all__ = ["Federation"]

Address = tuple[str, int]


class Federation(LocalProcesses):
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
        super().__init__()
        self.terms, self._owners = terms, owners
        self.identities: dict[str, Path] = {}
        self.parties: tuple[Address, Address] = (("", 0), ("", 0))
        self._coordinator = Path()

    def _start(self, home: Path) -> None:
        bundles = create_bundles(home / "tls", ("party-0", "party-1", "dealer", "coordinator"), days=1)
        self._coordinator = bundles["coordinator"]
        authority = Authority.open(home / "tls")
        self.identities = {
            name: authority.issue("owner", name, home / "tls" / f"owner-{number}.pem", days=1)
            for number, name in enumerate(self._owners)
        }
        dealer = address_of(self._launch("dealer", "dealer", {"identity": bundles["dealer"]}, home))
        given = {f"aggregation.{name}": getattr(self.terms, name) for name in type(self.terms).__struct_fields__}
        given["peers.dealer"] = spell(dealer)
        one = address_of(self._launch("party1", "party1", {"identity": bundles["party-1"], **given}, home))
        given |= {"identity": bundles["party-0"], "peers.party1": spell(one)}
        self.parties = (address_of(self._launch("party0", "party0", given, home)), one)

    def coordinator(self, **options: Any) -> Coordinator:
        """The coordinator's side."""
        return Coordinator(self.parties, self._coordinator, **options)

    def uploader(self, owner: str, **options: Any) -> Uploader:
        """An owner's side."""
        return Uploader(self.parties, self.identities[owner], **options)

    def fingerprint(self, owner: str) -> str:
        """How the parties name an owner: SHA-256 of its certificate."""
        return Bundle.load(self.identities[owner]).fingerprint
