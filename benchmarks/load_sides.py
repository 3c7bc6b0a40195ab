"""Both systems under load, and the same work inside processes: each side answers a number of requests and counts seconds."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import DealerKind, ModelOptions, ShareOptions
from protocols.cli.server_process import start_process
from protocols.cli.shares import ShareProcesses
from protocols.client import OwnerClient
from protocols.pki import Authority
from protocols.sharing import SharesClient
from secureimg import ckks, sharing
from secureimg.graph import run_plain

from .processes import Child

__all__ = ["Answering", "CkksInside", "CkksPool", "Processes", "ServerLoad", "SharesInside", "SharesLoad"]

Array = NDArray[np.float64]


class CkksInside:
    """One owner's evaluations, one after another, in this process."""

    def __init__(self, model: str, picture: Array) -> None:
        options = ModelOptions(model)
        program, _ = options.compile(options.load().graph)
        owner = ckks.OwnerKeys.generate(program.public)
        self._evaluator, self._keys = ckks.Evaluator(program), owner.evaluation_keys()
        self._blob = owner.encrypt(picture)
        self.run(1)

    def run(self, count: int) -> float:
        """Return the seconds that so many evaluations take."""
        start = time.perf_counter()
        for _ in range(count):
            self._evaluator.evaluate(self._keys, self._blob)
        return time.perf_counter() - start


class CkksPool:
    """Several owners' evaluations on an evaluator with a worker for each core, in this process."""

    def __init__(self, model: str, picture: Array, owners: int) -> None:
        options = ModelOptions(model)
        program, _ = options.compile(options.load().graph)
        self._evaluator = ckks.Evaluator(program, workers=len(os.sched_getaffinity(0)))
        self._owners = [ckks.OwnerKeys.generate(program.public) for _ in range(owners)]
        self._keys = [owner.evaluation_keys() for owner in self._owners]
        self._blobs = [owner.encrypt(picture) for owner in self._owners]
        self._threads = ThreadPoolExecutor(owners)
        self.run(4 * owners)

    def run(self, count: int) -> float:
        """Return the seconds that so many evaluations take."""
        places = [number % len(self._keys) for number in range(count)]
        start = time.perf_counter()
        list(self._threads.map(lambda i: self._evaluator.evaluate(self._keys[i], self._blobs[i]), places))
        return time.perf_counter() - start

    def close(self) -> None:
        """End the workers."""
        self._threads.shutdown()
        self._evaluator.close()


class SharesInside:
    """All roles of the two parties in this process, one picture after another, correlations made for each."""

    def __init__(self, model: str, picture: Array) -> None:
        sharing.warm_up()
        self._program = ShareOptions().compile(ModelOptions(model))
        self._picture = picture[None]
        self.run(1)

    def run(self, count: int) -> float:
        """Return the seconds that so many answers take."""
        start = time.perf_counter()
        for _ in range(count):
            sharing.run_together(self._program, self._picture)
        return time.perf_counter() - start


class Processes:
    """The same in several processes at once, a core for each."""

    def __init__(self, make: Callable[[str, Array], Any], model: str, picture: Array, count: int) -> None:
        self._stack = ExitStack()
        self._children = [self._stack.enter_context(Child(make, model, picture)) for _ in range(count)]
        self._threads = ThreadPoolExecutor(count)

    def run(self, count: int) -> float:
        """Return the seconds until all of them have done their part of the work."""
        parts = [len(range(place, count, len(self._children))) for place in range(len(self._children))]
        start = time.perf_counter()
        list(self._threads.map(lambda child, part: child.call("run", part), self._children, parts))
        return time.perf_counter() - start

    def close(self) -> None:
        """End them."""
        self._threads.shutdown()
        self._stack.close()


class Answering:
    """Owners with certificates and connections of their own, all asking at once, each one question after another."""

    def __init__(self, owners: int) -> None:
        self.stack = ExitStack()
        self.owners = owners
        self.wrong = 0
        self._threads = ThreadPoolExecutor(owners)

    def ask(self, owner: int) -> bool:
        """Ask once; return whether the answer is right."""
        raise NotImplementedError

    def run(self, count: int) -> float:
        """Return the seconds until all of `count` requests are answered."""
        parts = [len(range(place, count, self.owners)) for place in range(self.owners)]

        def go_on(owner: int) -> int:
            return sum(not self.ask(owner) for _ in range(parts[owner]))

        start = time.perf_counter()
        wrong = list(self._threads.map(go_on, range(self.owners)))
        seconds = time.perf_counter() - start
        self.wrong += sum(wrong)
        return seconds

    def close(self) -> None:
        """Close connections and end the processes."""
        self._threads.shutdown()
        self.stack.close()

    def identities(self, authority: Authority) -> list[Path]:
        """Return a bundle for each owner."""
        folder = authority.directory
        return [authority.issue("owner", f"owner {i}", folder / f"owner-{i}.pem", days=1) for i in range(self.owners)]

    def home(self) -> Path:
        """Return a directory that lives as long as this."""
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-load-")))


class ServerLoad(Answering):
    """Owners of a CKKS server process, each with keys of its own and one encrypted picture."""

    def __init__(self, model: str, picture: Array, owners: int) -> None:
        super().__init__(owners)
        home = self.home()
        authority = Authority.create(home / "tls")
        server = authority.issue("server", "server", home / "tls" / "server.pem", days=1)
        given = {
            "identity": server,
            "limits.queue": owners,
            "limits.idle": 3600.0,
            **ModelOptions(model).ckks_settings(),
        }
        ready = start_process(self.stack, "server", given, home)
        self._clients = [
            self.stack.enter_context(OwnerClient(ready["host"], ready["port"], identity))
            for identity in self.identities(authority)
        ]
        self._keys = [ckks.OwnerKeys.generate(client.program) for client in self._clients]
        for client, keys in zip(self._clients, self._keys, strict=True):
            client.register(keys)
        self._blobs = [keys.encrypt(picture) for keys in self._keys]
        graph, _ = ModelOptions(model).load().graph.body_and_tail()
        self._expected = run_plain(graph, picture[None])[0]
        self.run(4 * owners)

    def ask(self, owner: int) -> bool:
        """Have the picture evaluated; decrypt and compare."""
        answer = self._clients[owner].evaluate(self._blobs[owner])
        values = self._keys[owner].decrypt(answer.blob, 1)[0]
        return bool(np.abs(values - self._expected).max() < 0.05 * max(1.0, np.abs(self._expected).max()))


class SharesLoad(Answering):
    """Owners of a pair of parties, who make the correlations for their own pictures."""

    def __init__(self, model: str, picture: Array, owners: int) -> None:
        super().__init__(owners)
        sharing.warm_up()
        options = ModelOptions(model)
        processes = self.stack.enter_context(ShareProcesses(options, ShareOptions(), DealerKind.CLIENT_AIDED))
        parties = processes.addresses["party 0"], processes.addresses["party 1"]
        self._clients = [
            self.stack.enter_context(SharesClient(*parties, identity, dealing="client-aided"))
            for identity in self.identities(Authority.open(processes.identity.parent))
        ]
        self._picture = picture[None]
        graph, _ = options.load().graph.body_and_tail()
        self._expected = run_plain(graph, self._picture)[0]
        self.run(owners)

    def ask(self, owner: int) -> bool:
        """Make correlations, share the picture, add the answers and compare."""
        self._clients[owner].prepare(1)
        values = self._clients[owner].run(self._picture).values[0]
        return bool(np.abs(values - self._expected).max() < 0.05 * max(1.0, np.abs(self._expected).max()))
