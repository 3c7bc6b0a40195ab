"""The server of each role, built from its configuration, behind one interface."""

from __future__ import annotations

import abc
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from starlette.applications import Starlette

from protocols.deployment.models import Compiled, cores
from protocols.deployment.settings import Config, Role, Web
from protocols.desk import ServerDesk
from protocols.engine import CkksEngine
from protocols.federated import AggregatorOne, AggregatorZero
from protocols.limits import Limits
from protocols.listener import Listener
from protocols.operations import Observer
from protocols.owner_limits import OwnerLimits
from protocols.pki import Bundle
from protocols.service import Service
from protocols.sharing import DealerServer, PartyLimits, PartyOneServer, PartyZeroServer
from protocols.sharing.desk import PartyDesk
from protocols.tls import bundle_context, dial
from protocols.web import TokenFile, party_application, server_application
from secureimg import ckks, sharing
from secureimg.errors import KeyMaterialError, LocalProtocolError, SecureImgError
from secureimg.federated import Terms

__all__ = ["Server", "build", "own_bundle", "pins_of", "reachable"]

Check = Callable[[], str | None]

_DIAL: Final = 5.0

_IDENTITY_ROLES: Final[dict[Role, str]] = {
    "server": "server", "party0": "party-0", "party1": "party-1", "dealer": "dealer",
}  # fmt: skip
"""What the certificate of a process must say it is."""


def own_bundle(config: Config) -> Bundle:
    """Return the certificate of a process.

    Raises
    ------
    KeyMaterialError
        If it cannot be used, or is for another role.
    """
    bundle, wanted = Bundle.load(config.identity), _IDENTITY_ROLES[config.role]
    if bundle.role != wanted:
        raise KeyMaterialError(
            f"{bundle} does not make a process the {config.role}: name the bundle of role {wanted} in identity, from "
            "`secureimg pki issue`"
        )
    return bundle


def pins_of(config: Config) -> dict[str, frozenset[str]]:
    """Return the certificates that are accepted, by the role in them."""
    pins = config.pins
    named = {
        "party-0": pins.party0, "party-1": pins.party1, "dealer": pins.dealer, "owner": pins.owners,
        "coordinator": pins.coordinators,
    }  # fmt: skip
    return {role: frozenset(map(str, accepted)) for role, accepted in named.items() if accepted}


def reachable(config: Config, role: str) -> str | None:
    """Return why another process cannot be reached, or proves to be someone else; None if all is well."""
    address = config.peers.party1 if role == "party-1" else config.peers.dealer
    assert address is not None
    try:
        context = bundle_context(config.identity, ssl.PROTOCOL_TLS_CLIENT)
        dial(*address.pair, context, _DIAL, role, pins_of(config).get(role, frozenset())).close()
    except (SecureImgError, OSError) as error:
        return str(error)
    return None


class Server(abc.ABC):
    """A server of any role.

    Attributes
    ----------
    facts : dict
        What its operator is told when it is ready.
    checks : dict of str to callable
        By name, why it cannot serve now.
    """

    def __init__(self, config: Config, model: Compiled | None, observer: Observer) -> None:
        self.config = config
        self.facts: dict[str, Any] = {} if model is None else model.facts()
        self.checks: dict[str, Check] = {"audit": observer.trouble}

    @property
    @abc.abstractmethod
    def address(self) -> tuple[str, int]:
        """Host and port."""

    @abc.abstractmethod
    def run(self) -> None:
        """Serve until `stop` is called."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Take no new work; callable from any thread."""

    @abc.abstractmethod
    def close(self) -> None:
        """See work under way off, then close everything."""

    @abc.abstractmethod
    def renew(self) -> None:
        """Read the certificate anew."""

    def swap(self, model: Compiled) -> None:
        """Serve another model from now on."""
        raise LocalProtocolError(f"the {self.config.role} has no model")

    def application(self, web: Web) -> Starlette:
        """Return the web application of this role."""
        raise LocalProtocolError(f"the {self.config.role} has no web interface")

    def _owner_limits(self) -> OwnerLimits:
        owners = self.config.owners
        return OwnerLimits(owners.requests_per_minute, owners.images_per_request, owners.sessions, owners.releases)


def build(config: Config, model: Compiled | None, observer: Observer) -> Server:
    """Return the server that a configuration describes, listening but not yet serving."""
    if config.role == "server":
        assert model is not None
        return _Ckks(config, model, observer)
    sharing.warm_up()
    return _Dealer(config, observer) if config.role == "dealer" else _Party(config, model, observer)


class _Ckks(Server):
    """The CKKS server."""

    def __init__(self, config: Config, model: Compiled, observer: Observer) -> None:
        super().__init__(config, model, observer)
        given = config.limits
        limits = Limits(
            connections=given.connections, queue=given.queue, keys_total=given.key_memory_mb << 20,
            keys_per_owner=given.owner_key_memory_mb << 20, idle=given.idle, drain=given.drain,
        )  # fmt: skip
        self._workers = given.workers or cores()
        self.facts["workers"] = self._workers
        self._lock = threading.Lock()
        engine, self._retire = self._start(model)
        try:
            self._service = Service(
                engine, config.identity, limits, config.listen.host, config.listen.port,
                owner_limits=self._owner_limits(), observer=observer, pins=pins_of(config), state=config.state,
            )  # fmt: skip
        except BaseException:
            self._retire()
            raise

    @property
    def address(self) -> tuple[str, int]:
        return self._service.address

    def run(self) -> None:
        self._service.run()

    def stop(self) -> None:
        self._service.stop()

    def close(self) -> None:
        self._service.close()
        with self._lock:
            self._retire()

    def renew(self) -> None:
        self._service.renew()

    def swap(self, model: Compiled) -> None:
        engine, retire = self._start(model)
        with self._lock:
            former, self._retire = self._retire, retire
            self._service.swap(engine, former)

    def application(self, web: Web) -> Starlette:
        return server_application(ServerDesk(self._service), TokenFile(web.tokens))

    def _start(self, model: Compiled) -> tuple[CkksEngine, Callable[[], None]]:
        assert isinstance(model.program, ckks.Program)
        stack = ExitStack()
        memory = self.config.limits.key_memory_mb << 20
        return stack.enter_context(CkksEngine(model.graph, model.program, self._workers, memory)), stack.close


class _OnShares(Server):
    """A party or a dealer, whose listener does the waiting."""

    _server: PartyZeroServer | PartyOneServer | DealerServer

    @property
    def _listener(self) -> Listener:
        return self._server.listener

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def run(self) -> None:
        self._listener.run()

    def stop(self) -> None:
        self._listener.stop()

    def close(self) -> None:
        self._server.close()

    def renew(self) -> None:
        self._server.renew()


class _Party(_OnShares):
    """Party 0 or party 1."""

    _server: PartyZeroServer | PartyOneServer

    def __init__(self, config: Config, model: Compiled | None, observer: Observer) -> None:
        super().__init__(config, model, observer)
        given, peers = config.limits, config.peers
        program = None if model is None else _program(model)
        common: dict[str, Any] = {
            "client_aided": config.dealing.client_aided,
            "dealer": None if peers.dealer is None else peers.dealer.pair,
            "state": config.state,
            "host": config.listen.host, "port": config.listen.port,
            "limits": PartyLimits(given.connections, given.patience, given.idle, drain=given.drain),
            "owner_limits": self._owner_limits(), "observer": observer, "pins": pins_of(config),
        }  # fmt: skip
        if peers.dealer is not None and not config.dealing.client_aided:
            self.checks["dealer"] = lambda: reachable(config, "dealer")
        if config.aggregation is not None:
            self._server = self._aggregator(config.aggregation.terms(), common)
            return
        if config.role == "party1":
            assert program is not None
            self._server = PartyOneServer(config.identity, program, **common)
            return
        peer = self._peer()
        stock = config.stock.low, config.stock.high
        self._server = PartyZeroServer(config.identity, peer, program=program, stock=stock, **common)

    def _peer(self) -> tuple[str, int]:
        """Where party 1 listens, for party 0; whether it does is a check from now on."""
        config = self.config
        assert config.peers.party1 is not None
        self.checks["peer"] = lambda: reachable(config, "party-1")
        return config.peers.party1.pair

    def _aggregator(self, terms: Terms, common: dict[str, Any]) -> AggregatorZero | AggregatorOne:
        """A party that sums owners' updates, instead of one that runs a model."""
        del common["client_aided"]
        self.facts["aggregation"] = {"terms": terms.fingerprint, "parameters": terms.parameters, "least": terms.least}
        if self.config.role == "party1":
            return AggregatorOne(self.config.identity, terms, **common)
        return AggregatorZero(self.config.identity, self._peer(), terms, **common)

    def swap(self, model: Compiled) -> None:
        self._server.swap(_program(model))

    def application(self, web: Web) -> Starlette:
        return party_application(
            PartyDesk(self._server), TokenFile(web.tokens), other=web.other, number=self._server.number,
            images=self.config.owners.images_per_request,
        )  # fmt: skip


class _Dealer(_OnShares):
    """The dealer."""

    def __init__(self, config: Config, observer: Observer) -> None:
        super().__init__(config, None, observer)
        self._server = DealerServer(
            config.identity, config.listen.host, config.listen.port, patience=config.limits.idle, observer=observer,
            pins=pins_of(config),
        )  # fmt: skip


def _program(model: Compiled) -> sharing.Program:
    assert isinstance(model.program, sharing.Program)
    return model.program
