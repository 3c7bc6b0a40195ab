"""What a picture takes over a network, predicted from what it takes on loopback, bytes and rounds."""

from __future__ import annotations

from .bench_results import Row
from .share_network import Network

__all__ = ["FORMULA", "predicted_total"]

_OFFLINE_TRIPS = 2.0  # the owner asks, the parties ask for correlations, get them, and say that they are ready

FORMULA = (
    "Predicted = the loopback run + bytes / rate + waiting. CKKS waits one round trip for an answer. On shares each round "
    "waits half a round trip, the owner's shares and the result one more, preparing two; links work side by side, so the "
    "busiest direction between the parties counts."
)


def predicted_total(loopback: Row, network: Network) -> float | None:
    """Return the seconds of one picture, offline included.

    Parameters
    ----------
    loopback : Row
        The same subject and executor, measured without a shaped network.
    network : Network

    Returns
    -------
    float or None
        None for what needs no network.
    """
    if network.rate is None or not loopback.links:
        return None
    trip, rate = network.round_trip, network.rate
    seconds = loopback.total.median
    if loopback.executor == "ckks":
        return seconds + trip + _bytes(loopback, "online") / rate
    parties = [
        link.bytes
        for link in loopback.links
        if link.when == "online" and {link.source, link.sink} == {"party 0", "party 1"}
    ]
    owner = _bytes(loopback, "online") - sum(parties)
    waits = (loopback.rounds or 0) * trip / 2 + trip + _OFFLINE_TRIPS * trip
    return seconds + waits + (max(parties, default=0) + owner + _bytes(loopback, "offline")) / rate


def _bytes(row: Row, when: str) -> int:
    return sum(link.bytes for link in row.links if link.when == when)
