"""Dealer, two aggregating parties, owners and a coordinator: on threads of this process, or as processes of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.deployment.settings import Role
from protocols.deployment.template import plain_text
from protocols.federated import AggregatorOne, AggregatorZero, Coordinator, Uploader
from protocols.pki import Authority, create_bundles
from protocols.sharing import DealerServer, PartyLimits
from secureimg import sharing
from secureimg.federated import RoundSum, Terms

from ..sharing.conftest import Child, served

OWNERS = 6
TERMS = Terms(parameters=3000, clip=1.0, owners=OWNERS, least=3)


class Bundles(dict[str, Path]):
    """Identities by role; `owners` are several of one role."""

    owners: list[Path]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    directory = tmp_path_factory.mktemp("tls") / "identities"
    made = Bundles(create_bundles(directory, ("dealer", "party-0", "party-1", "owner", "coordinator")))
    authority = Authority.open(directory)
    made.owners = [authority.issue("owner", f"o{i}", directory / f"o{i}.pem") for i in range(OWNERS + 1)]
    sharing.warm_up()
    return made


class Group:
    """A deployment, and what is asked of it."""

    def __init__(self, bundles: Bundles, terms: Terms, home: Path) -> None:
        self.bundles, self.terms, self.home = bundles, terms, home
        self.stack = contextlib.ExitStack()
        self.dealer = served(self.stack, DealerServer(bundles["dealer"]))
        self.parts: list[contextlib.ExitStack] = [contextlib.ExitStack(), contextlib.ExitStack()]
        self.parties: list[Any] = [None, None]
        self._places: list[tuple[str, int]] = [("127.0.0.1", 0), ("127.0.0.1", 0)]
        for number in (1, 0):
            self.start(number)
        self.updates = np.random.default_rng(8).normal(0, 0.012, (OWNERS + 1, terms.parameters)).astype(np.float32)

    def start(self, number: int, **changes: Any) -> Any:
        """Start a party on the port that it had before."""
        options: dict[str, Any] = {
            "terms": self.terms, "state": self.home / f"state-{number}", "dealer": self.dealer.listener.address,
            "limits": PartyLimits(patience=2.0, idle=20.0, drain=0.5), "port": self._places[number][1], **changes,
        }  # fmt: skip
        identity = self.bundles[f"party-{number}"]
        made = AggregatorOne(identity, **options) if number else AggregatorZero(identity, self._places[1], **options)
        self._places[number] = made.listener.address
        self.parties[number] = served(self.parts[number], made)
        return made

    def stop(self, number: int) -> None:
        self.parts[number].close()

    def restart(self, number: int) -> None:
        self.stop(number)
        self.start(number)

    @property
    def addresses(self) -> Any:
        return tuple(self._places)

    def coordinator(self, **options: Any) -> Coordinator:
        return Coordinator(self.addresses, self.bundles["coordinator"], **{"timeout": 20.0, "retry": 15.0, **options})

    def uploader(self, owner: int, **options: Any) -> Uploader:
        return Uploader(self.addresses, self.bundles.owners[owner], **{"timeout": 10.0, "retry": 10.0, **options})

    def send(self, name: str, *owners: int, weight: float = 0.5) -> None:
        for owner in owners:
            self.uploader(owner).send(name, self.terms, self.updates[owner], weight)

    def check(self, opened: RoundSum, *owners: int, weight: float = 0.5) -> None:
        """The sum is the plain one of these owners, to quantisation."""
        exact = weight * self.updates[list(owners)].astype(np.float64).sum(axis=0)
        assert np.abs(opened.total - exact).max() <= (len(owners) * 0.51) / self.terms.unit + 1e-7
        assert opened.weight == pytest.approx(weight * len(owners), abs=1e-5)
        assert len(opened.owners) == len(owners)

    def close(self) -> None:
        for number in (0, 1):
            self.stop(number)
        self.stack.close()


@pytest.fixture
def group(bundles: Bundles, tmp_path: Path) -> Iterator[Group]:
    running = Group(bundles, TERMS, tmp_path)
    yield running
    running.close()


@pytest.fixture
def make_group(bundles: Bundles, tmp_path: Path) -> Iterator[Callable[..., Group]]:
    """Deployments with other terms."""
    with contextlib.ExitStack() as stack:

        def make(**changes: Any) -> Group:
            terms = Terms(**{name: getattr(TERMS, name) for name in TERMS.__struct_fields__} | changes)
            made = Group(bundles, terms, tmp_path)
            stack.callback(made.close)
            return made

        yield make


class Processes:
    """The same as processes, which can be killed."""

    def __init__(self, bundles: Bundles, home: Path, stack: contextlib.ExitStack) -> None:
        self.bundles, self.home = bundles, home
        self.children: dict[str, Child] = {}
        section = {f"aggregation.{name}": getattr(TERMS, name) for name in TERMS.__struct_fields__}

        def start(name: str, role: Role, given: dict[str, Any]) -> str:
            file = home / f"{name}.toml"
            file.write_text(plain_text(role, {"identity": bundles[name], "state": home / f"{name}-state", **given}))
            self.children[name] = Child(file, home / f"{name}.log")
            stack.callback(self.children[name].stop)
            return "{}:{}".format(*self.children[name].wait().address)

        dealer = start("dealer", "dealer", {})
        common = {"peers.dealer": dealer, "limits.patience": 2.0, **section}
        one = start("party-1", "party1", common)
        start("party-0", "party0", {"peers.party1": one, **common})

    @property
    def addresses(self) -> Any:
        return tuple(self.children[name].address for name in ("party-0", "party-1"))

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()


@pytest.fixture(scope="session")
def processes(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with contextlib.ExitStack() as stack:
        yield Processes(bundles, tmp_path_factory.mktemp("processes"), stack)
