"""Networks that the parties talk over: bare loopback, or a LAN or WAN made of it.

A queue discipline of the kernel in a network namespace shapes best. Where the kernel or the account does not allow one, a
relay process on each link does.
"""

from __future__ import annotations

import functools
import shlex
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from .relay import Relay

__all__ = ["NETWORKS", "Network", "has_namespaces", "has_netem", "inside", "router"]

Address = tuple[str, int]
_PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class Network:
    """A network profile.

    Attributes
    ----------
    name : str
    rate : float or None
        Bytes a second in each direction of a link; None: as fast as loopback is.
    round_trip : float
        Seconds.
    """

    name: str
    rate: float | None = None
    round_trip: float = 0.0

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.rate is None:
            return "loopback, unshaped"
        return f"{self.name}: {self.rate * 8e-6:g} Mbit/s, {self.round_trip * 1e3:g} ms round trip"


NETWORKS = {
    network.name: network
    for network in (Network("loopback"), Network("lan", 125e6, 0.5e-3), Network("wan", 12.5e6, 40e-3))
}


def inside(network: Network, command: list[str]) -> list[str]:
    """Return a command that runs `command` in a network namespace of its own, whose loopback is `network`.

    All links share one queue there, and both directions.
    """
    shape = "ip link set lo up"
    if network.rate is not None:
        bits, one_way = round(network.rate * 8), network.round_trip / 2 * 1e6
        shape += f" && tc qdisc add dev lo root netem limit 1000000 delay {one_way:g}us rate {bits}bit"
    return ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f"{shape} && exec {shlex.join(command)}"]


@functools.cache
def has_namespaces() -> bool:
    """Whether an unprivileged network namespace can be made here."""
    return _works(Network("loopback"))


@functools.cache
def has_netem() -> bool:
    """Whether its loopback can be shaped too."""
    return _works(NETWORKS["lan"])


def _works(network: Network) -> bool:
    try:
        done = subprocess.run(inside(network, ["true"]), capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def router(network: Network, stack: ExitStack) -> Callable[[Address], Address] | None:
    """Return what starts a relay for each link and gives its address; None if the network is not shaped.

    Parameters
    ----------
    network : Network
    stack : ExitStack
        Ends the relays when it closes.
    """
    if network.rate is None:
        return None
    rate, delay = network.rate, network.round_trip / 2
    return lambda address: stack.enter_context(Relay(address, rate, delay)).address
