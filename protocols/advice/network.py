"""The network that a forecast is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from secureimg.errors import ParameterError

__all__ = ["NETWORKS", "Network", "parse_network"]


@dataclass(frozen=True)
class Network:
    """A link as seen by each pair of machines.

    Attributes
    ----------
    name : str
    round_trip_seconds : float
        Added to what loopback takes.
    bytes_per_second : float or None
        Each way; None: as fast as loopback.
    """

    name: str
    round_trip_seconds: float = 0.0
    bytes_per_second: float | None = None

    def carry(self, size: float) -> float:
        """Seconds that bytes take one way, beyond what loopback takes."""
        return 0.0 if self.bytes_per_second is None else size / self.bytes_per_second


NETWORKS: Final = {
    network.name: network
    for network in (Network("loopback"), Network("lan", 0.5e-3, 125e6), Network("wan", 40e-3, 12.5e6))
}
"""Profiles by name: a LAN of 1 Gbit/s and 0.5 ms, a WAN of 100 Mbit/s and 40 ms round trip."""

_OWN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:ms)?\s*,\s*(\d+(?:\.\d+)?)\s*(?:Mbit/s)?\Z", re.ASCII)


def parse_network(text: str) -> Network:
    """Read a profile's name, or a round trip in milliseconds and a rate in Mbit/s: `20ms,50Mbit/s` or `20,50`.

    Raises
    ------
    ParameterError
        If it is neither, or the rate is 0.
    """
    if text in NETWORKS:
        return NETWORKS[text]
    found = _OWN.match(text[:100])
    if found is None or float(found[2]) <= 0:
        raise ParameterError(
            f"--network {text[:100]!r} is neither of {', '.join(NETWORKS)} nor a round trip and a rate: write it like "
            "20ms,50Mbit/s"
        )
    return Network(f"{found[1]} ms, {found[2]} Mbit/s", float(found[1]) / 1e3, float(found[2]) * 1e6 / 8)
