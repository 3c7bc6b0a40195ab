"""What both parties do as processes: sessions with owners, correlations, runs."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protocols.errors import RefusedError
from protocols.listener import Guest, Listener
from protocols.messages import Code
from protocols.operations import Observer
from protocols.owner_limits import OwnerGate, OwnerLimits
from protocols.results import Results
from protocols.sharing.dealer import Supply
from protocols.sharing.link import Link
from protocols.sharing.messages import Caps, Dealing
from protocols.sharing.reception import Reception
from protocols.sharing.session import Session
from protocols.sharing.stock import Stock, agree
from protocols.sharing.visit import Visit
from protocols.tls import bundle_context
from secureimg import sharing
from secureimg.errors import BlobError, BudgetError, RemoteProtocolError
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Address", "PartyLimits", "PartyServer", "Pins", "SharedAnswer"]

Bytes = NDArray[np.uint8]
Address = tuple[str, int]
Pins = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class PartyLimits:
    """What a party grants.

    Attributes
    ----------
    connections : int
        Open connections.
    patience : float
        Seconds that the other party, or a message under way, may be silent.
    idle : float
        Seconds between an owner's requests.
    dealer : float
        Seconds that the dealer process may be silent: it may be at work for another session.
    drain : float
        Seconds that a stopping party gives to runs under way.
    caps : Caps
        Largest bodies.
    """

    connections: int = 64
    patience: float = 30.0
    idle: float = 600.0
    dealer: float = 60.0
    drain: float = 30.0
    caps: Caps = field(default_factory=Caps)


@dataclass(frozen=True)
class SharedAnswer:
    """What a party found out for an owner: its share of the result, and what that took.

    Attributes
    ----------
    share : ndarray of uint8
        This party's share of what the program reveals.
    rounds : int
    seconds, offline_seconds : float
        In the run, and in getting ready for it.
    sent : int
        Bytes to the other party.
    """

    share: Bytes = field(repr=False)
    rounds: int
    seconds: float
    offline_seconds: float
    sent: int


class PartyServer:
    """What both parties have in common.

    Parameters
    ----------
    identity : Path
        This party's bundle.
    client_aided : bool
        Whether an owner may deal for its own images.
    dealer : (str, int) or None
        Where the dealer process listens, if one may be used.
    state : Path, optional
        Directory for what must outlive a restart: correlations made ahead, counts of releases.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    limits : PartyLimits, optional
    owner_limits : OwnerLimits, optional
        What one owner may ask for.
    observer : Observer, optional
        Is told of every session, answer and refusal. What it cannot record is not answered.
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "party-0", "party-1", "dealer", "owner"; a role that is not named: all of the authority's.
    """

    number: int
    guests: ClassVar[frozenset[str]] = frozenset({"owner"})
    """Whom both parties serve."""

    def __init__(
        self,
        identity: Path,
        *,
        client_aided: bool,
        dealer: Address | None,
        state: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: PartyLimits | None = None,
        owner_limits: OwnerLimits | None = None,
        observer: Observer | None = None,
        pins: Pins | None = None,
    ) -> None:
        self.identity = identity
        self._dialling = bundle_context(identity, ssl.PROTOCOL_TLS_CLIENT)
        self.limits = limits or PartyLimits()
        self.observer = observer or Observer()
        self.pins = dict(pins or {})
        self.gate = OwnerGate(owner_limits or OwnerLimits(), state)
        self.results: Results[SharedAnswer] = Results(lambda answer: answer.share.size)
        self.stopping = threading.Event()
        self._client_aided, self._dealer = client_aided, dealer
        self._stock = Stock(state, self.number) if state is not None else None
        self._visits: set[Reception] = set()
        self._change = threading.Condition()
        self.listener = Listener(
            identity, host, port, self._serve, connections=self.limits.connections,
            roles=self.guests | ({"party-0"} if self.number else set()), pins=self.pins,
        )  # fmt: skip
        self.observer.gauge("sessions", "Sessions with owners that are open.", lambda: len(self._visits))
        self.observer.gauge("stock", "Correlations ready for use.", self._ready)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of this party's certificate."""
        return self._dialling.identity.fingerprint

    def renew(self) -> None:
        """Read the bundle anew, for connections from now on. Raises `KeyMaterialError` if it cannot be used."""
        dialling = bundle_context(self.identity, ssl.PROTOCOL_TLS_CLIENT)
        self.listener.renew()
        self._dialling = dialling

    def close(self) -> None:
        """Take no new sessions, let runs under way end within the limit `drain`, then close everything."""
        self.stopping.set()
        self.listener.stop()
        deadline = time.monotonic() + self.limits.drain
        with self._change:
            while self._visits and (left := deadline - time.monotonic()) > 0:
                self._change.wait(left)
        self.listener.close()
        if self._stock is not None:
            self._stock.close()
        self.gate.close()

    # --------------------------------------------------------------------------------------------------- connections

    def _serve(self, guest: Guest) -> None:
        if guest.role not in self.guests:
            self._join(guest)
            return
        visit = self._receive(guest)
        with self._change:
            self._visits.add(visit)
        try:
            visit.run()
        finally:
            with self._change:
                self._visits.discard(visit)
                self._change.notify_all()

    def _receive(self, guest: Guest) -> Reception:
        return Visit(self, guest)

    def _join(self, guest: Guest) -> None:
        raise RemoteProtocolError(f"{guest.role} has nothing to ask of party {self.number}")

    # ---------------------------------------------------------------------------------------------------------- runs

    def open(self, token: str, owner: str, dealing: Dealing, model: str | None, deadline: float = math.inf) -> Session:
        """Begin a session of an owner: a link to the other party and the program, under the same token as there.

        It waits for the other party no longer than `patience`, or until the deadline on the clock of `time.monotonic`.

        Raises
        ------
        RefusedError
            If this dealing is not allowed, the model is another, or the other party cannot be reached.
        """
        raise NotImplementedError

    def public(self) -> sharing.PublicProgram:
        """Return the program that sessions of now would run.

        Raises
        ------
        SecureImgError
            If the other party, who has it, cannot be reached.
        """
        raise NotImplementedError

    def prepare(
        self, session: Session, images: int, correlation: str, given: Bytes, deadline: float
    ) -> tuple[str, sharing.Prepared]:
        """Get a correlation, from the owner (`given`), the stock or the dealer, and work it in; return its id, too.

        `correlation` is the id of a new one; one from the stock has its own.

        Raises
        ------
        RefusedError
            If there is none to be had.
        """
        needed = SEED_BYTES + sharing.cost_of(session.public, images).offline_bytes
        if needed > self.limits.caps.corrections:  # party 0 gets a seed, but its work and memory grow alike
            said = f"{images} images need {needed} bytes of corrections, the limit is {self.limits.caps.corrections}"
            raise RefusedError(Code.DEALER, said, "send fewer images at a time")
        size = needed - SEED_BYTES if self.number else 0
        session.link.allow(deadline)
        try:
            if session.dealing == "client-aided":
                seed, corrections = given[:SEED_BYTES].tobytes(), given[SEED_BYTES:]
            else:
                taken = agree(self._stock, session.link, self.number, session.public, images, session.epoch)
                if taken is not None:
                    correlation, seed, corrections = taken
                    self._taken()
                else:
                    seed, corrections = self._supply(session).fetch(correlation, images, size, deadline)
        except (RemoteProtocolError, BlobError, BudgetError) as error:
            raise RefusedError(Code.DEALER, str(error), "see to the dealer, then open a new session") from None
        runner = session.runner
        if isinstance(runner, sharing.PartyZero):
            return correlation, runner.prepare(images, seed)
        return correlation, runner.prepare(images, seed, corrections)

    def compute(
        self,
        session: Session,
        prepared: sharing.Prepared,
        share: Bytes | sharing.Handed,
        name: str,
        deadline: float,
        offline: float = 0.0,
    ) -> SharedAnswer:
        """Run the program on a share, together with the other party.

        Parameters
        ----------
        name : str
            What both parties must be about to run: request and correlation.
        deadline : float
            On the clock of `time.monotonic`.
        offline : float
            Seconds that getting ready took, to be told with the answer.

        Raises
        ------
        RefusedError
            If the other party is gone, late, or about to run something else; nothing is revealed then.
        """
        start, before = time.perf_counter(), session.link.sent
        session.link.allow(deadline)
        try:
            _agree(session.link, f"{session.token} {name} {prepared.images} {session.public.fingerprint}")
            result = session.runner.run(prepared, share, session.link)
            session.link.flush()
        except RemoteProtocolError as error:
            raise RefusedError(Code.PEER, str(error), "open a new session; nothing was revealed") from None
        return SharedAnswer(
            result.share, result.rounds, time.perf_counter() - start, offline, session.link.sent - before
        )

    def record(self, session: Session, request: str, correlation: str, images: int, answer: SharedAnswer) -> None:
        """Count an answer and write it down, before it leaves.

        Raises
        ------
        RefusedError, SecureImgError
            If the owner has had as many as it may, or it cannot be written down: the answer must not leave then.
        """
        self.gate.release(session.owner, images)
        self.observer.answered(
            session.owner, session=f"{session.token} {request}", model=session.public.model,
            program=session.public.fingerprint, images=images, reveal=session.public.reveal, seconds=answer.seconds,
            waited=0.0, correlation=correlation,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- dealing

    def allow(self, dealing: Dealing) -> None:
        """Let this way of dealing pass, or raise `RefusedError`."""
        if self._client_aided if dealing == "client-aided" else self._dealer is not None:
            return
        allowed = [
            name for name, on in (("client-aided", self._client_aided), ("dealer", self._dealer is not None)) if on
        ]
        raise RefusedError(Code.UNKNOWN_DEALER, f"this party does not accept the dealer {dealing!r}",
                       f"ask for one of: {', '.join(allowed)}")  # fmt: skip

    def _supply(self, session: Session) -> Supply:
        if session.supply is None:
            session.supply = self._engage(session.public, session.epoch, session.weight_seed)
        return session.supply

    def _engage(self, public: sharing.PublicProgram, epoch: str, weight_seed: bytes) -> Supply:
        """A connection to the dealer process for a program and weight mask."""
        assert self._dealer is not None
        return Supply(
            self._dealer, self._dialling, self.number, epoch, public, weight_seed, self.limits.dealer,
            pins=self.pins.get("dealer", frozenset()),
        )  # fmt: skip

    def _ready(self) -> int:
        return self._stock.store.counts()["available"] if self._stock is not None else 0

    def _taken(self) -> None:
        """A correlation of the stock was used."""


def _agree(link: Link, run: str) -> None:
    """Both parties name the run: an old session, another program or another correlation is found out here."""
    own = np.frombuffer(run.encode().ljust(256)[:256], dtype=np.uint8)
    theirs = np.empty(own.size, dtype=np.uint8)
    link.send(own)
    link.receive(theirs)
    if not np.array_equal(own, theirs):
        raise RemoteProtocolError("the two parties are about to run different things: another request or correlation")
