"""Kernels timed between an owner and two parties: processes of this machine that talk over TLS, as they do in a run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from protocols.advice.fitting import Prices, Work, fit, price
from protocols.advice.kernels import COLD, KERNELS, compile_kernel
from protocols.advice.steps import map_work, offline_work, online_work
from protocols.pki import create_bundles
from protocols.sharing import SharesClient
from secureimg.errors import ProtocolError
from secureimg.sharing import Program, warm_up

__all__ = ["Timed", "cold_factor", "link_prices", "time_kernels"]

_REPEATS: Final = 6
_QUARTILE: Final = 25
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Timed:
    """What a kernel took: typically, and in the session's first run."""

    name: str
    program: Program
    online: float
    offline: float
    first: float


class _Partner:
    """A process of `protocols.advice.partner`."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "protocols.advice.partner", *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise ProtocolError(
                f"a process that kernels are timed with ended (status {self._process.wait()}): try --calibrate again"
            )
        return line

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self.hear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def _partners() -> Iterator[tuple[_Partner, tuple[tuple[str, int], tuple[str, int]], Path]]:
    """Start both parties; yield party 1, their addresses and the owner's bundle."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="secureimg-")))
        warming = threading.Thread(target=warm_up, daemon=True)
        bundles = create_bundles(home / "tls", ("party-0", "party-1", "owner"), days=1)
        one = _Partner("1", str(bundles["party-1"]))
        stack.callback(one.close)
        port = one.hear()
        zero = _Partner("0", str(bundles["party-0"]), port)
        stack.callback(zero.close)
        warming.start()
        addresses = ("127.0.0.1", int(zero.hear())), ("127.0.0.1", int(port))
        warming.join()
        yield one, addresses, bundles["owner"]


def time_kernels(names: tuple[str, ...] = tuple(KERNELS), repeats: int = _REPEATS) -> list[Timed]:
    """Time kernels, one session each.

    Raises
    ------
    ProtocolError
        If a process that takes part ends.
    """
    found = []
    with _partners() as (one, addresses, identity):
        for name in names:
            one.tell(name)
            program = compile_kernel(name)
            images = np.full((1, *program.public.input_shape), 0.6)
            with SharesClient(*addresses, identity, dealing="client-aided", timeout=60.0) as client:
                client.prepare(1)
                first = client.run(images).seconds
                online, offline = [], []
                for _ in range(repeats):
                    offline.append(client.prepare(1).seconds)
                    online.append(client.run(images).seconds)
            found.append(
                Timed(
                    name,
                    program,
                    float(np.percentile(online, _QUARTILE)),
                    float(np.percentile(offline, _QUARTILE)),
                    first,
                )
            )
    return found


def cold_factor(timed: list[Timed]) -> float:
    """Return the time of a first run after the processes' start over that of later ones, between 1 and 3."""
    first = next((kernel for kernel in timed if kernel.name == COLD), None)
    return 1.0 if first is None else float(np.clip(first.first / first.online, 1.0, 3.0))


def link_prices(timed: list[Timed], maps: Prices) -> tuple[Prices, Prices]:
    """Return the prices of what parties do online and of what is done before, linear maps aside.

    Parameters
    ----------
    timed : list of Timed
    maps : dict
        Prices of linear maps, from `map_prices`: what they take is subtracted first.
    """
    online: list[tuple[Work, float]] = []
    offline: list[tuple[Work, float]] = []
    for kernel in timed:
        during, before = map_work(kernel.program)
        public = kernel.program.public
        online.append((online_work(public), max(kernel.online - price(during, maps), 0.3 * kernel.online)))
        offline.append((offline_work(public), max(kernel.offline - 2 * price(before, maps), 0.3 * kernel.offline)))
    return fit(online), fit(offline)
