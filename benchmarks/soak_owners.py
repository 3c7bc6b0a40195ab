"""The owners of a soak: each asks all the time, compares what it gets with the plain model, and comes back after errors."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from protocols.client import OwnerClient
from protocols.pki import Bundle
from protocols.sharing import Dealing, SharesClient
from secureimg.ckks import OwnerKeys

from .soak_deployment import Deployment
from .soak_models import Pool
from .soak_tally import Tally

__all__ = ["GRACE", "RETRY", "TIMEOUT", "Gate", "Owner"]

_log = logging.getLogger(__name__)

TIMEOUT: Final = 15.0
"""Seconds for an answer, of every owner."""

RETRY: Final = 15.0
"""Seconds to go on trying when a connection broke."""

GRACE: Final = 5.0
"""Seconds that a request may take beyond the two."""

_LIMIT: Final = TIMEOUT + RETRY + TIMEOUT + GRACE  # asked, connected again, the kept answer fetched
_TOLERANCE: Final = 1e-2
_RUNS: Final = 12
_PAUSE: Final = 0.3


class Gate:
    """Lets all owners rest at once, to see what the processes hold when nobody asks."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._closed = False
        self._resting = 0

    @property
    def closed(self) -> bool:
        """Whether owners are to rest."""
        return self._closed

    def wait(self, stop: threading.Event) -> None:
        """Rest while it is closed."""
        with self._condition:
            self._resting += 1
            self._condition.notify_all()
            while self._closed and not stop.is_set():
                self._condition.wait(0.2)
            self._resting -= 1

    def close(self, owners: int, seconds: float) -> bool:
        """Have all owners rest; return whether they do in time."""
        with self._condition:
            self._closed = True
            return self._condition.wait_for(lambda: self._resting >= owners, seconds)

    def open(self) -> None:
        """Let them go on."""
        with self._condition:
            self._closed = False
            self._condition.notify_all()


@dataclass
class Owner:
    """One owner with a certificate of its own, who asks some services in turn at random.

    `run` is for a thread; it returns soon after `stop` is set.
    """

    number: int
    deployment: Deployment
    pools: dict[str, Pool]
    tally: Tally
    gate: Gate
    stop: threading.Event
    rng: random.Random
    services: tuple[str, ...]
    _keys: dict[str, OwnerKeys] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._bundle = self.deployment.owner(self.number)
        self._fingerprint = Bundle.load(self._bundle).fingerprint

    def run(self) -> None:
        """Ask until told to stop."""
        while not self.stop.is_set():
            if self.gate.closed:
                self.gate.wait(self.stop)
                continue
            service = self.rng.choice(self.services)
            try:
                self._shares() if service == "shares" else self._ckks()
            except Exception as error:  # noqa: BLE001 - judged: what is not a clear refusal is a failure of what is soaked
                told = self.tally.refuse(service, error)
                _log.log(logging.INFO if told.clear else logging.ERROR, "owner %d, %s: %s: %s",
                         self.number, service, told.code, told.text)  # fmt: skip
                self.stop.wait(self.rng.uniform(0, 2 * _PAUSE))

    def _going(self) -> bool:
        return not self.stop.is_set() and not self.gate.closed

    def _pick(self, most: int, pool: Pool) -> list[int]:
        return [self.rng.randrange(len(pool.images)) for _ in range(self.rng.randint(1, most))]

    def _shares(self) -> None:
        pool, tally = self.pools["shares"], self.tally
        parties = self.deployment.address("owner-party0"), self.deployment.address("owner-party1")
        dealing: Dealing = "client-aided" if self.rng.random() < 1 / 3 else "dealer"
        tally.ask("shares")
        with tally.call("shares: connect", _LIMIT):
            client = SharesClient(*parties, self._bundle, dealing=dealing, timeout=TIMEOUT, retry=RETRY)
        with contextlib.closing(client):
            for turn in range(self.rng.randint(1, _RUNS)):
                if not self._going():
                    return
                if turn:
                    tally.ask("shares")
                picked = self._pick(2, pool)
                began = time.monotonic()
                with tally.call("shares: prepare", _LIMIT):
                    offline = client.prepare(len(picked))
                if dealing == "dealer" and not offline.dealt:
                    tally.took_from_stock()
                if self.rng.random() < 0.2:
                    self.stop.wait(self.rng.uniform(0, 1))
                assert client._ready is not None
                name = f"{client._session} {client._ready[0]}"  # as both parties' audit logs have it
                reveal = client.program.reveal
                with tally.call("shares: run", _LIMIT):
                    answer = client.run(pool.images[picked])
                fault = pool.wrong(picked, answer.values, reveal, _TOLERANCE)
                tally.answer("shares", self._fingerprint, began, fault, name=name)

    def _ckks(self) -> None:
        pool, tally = self.pools["ckks"], self.tally
        tally.ask("ckks")
        with tally.call("ckks: connect", _LIMIT):
            client = OwnerClient(
                *self.deployment.address("owner-server"), self._bundle, timeout=TIMEOUT, patience=RETRY
            )
        with contextlib.closing(client):
            name = client.program.fingerprint
            if name not in self._keys:
                self._keys[name] = OwnerKeys.generate(client.program)
            with tally.call("ckks: register", _LIMIT):
                client.register(self._keys[name])
            for turn in range(self.rng.randint(1, _RUNS)):
                if not self._going():
                    return
                if turn:
                    tally.ask("ckks")
                picked = self._pick(1, pool)
                began = time.monotonic()
                with tally.call("ckks: infer", _LIMIT):
                    values = client.infer(pool.images[picked])
                fault = pool.wrong(picked, values, "scores", client.program.error_bound)
                tally.answer("ckks", self._fingerprint, began, fault)
