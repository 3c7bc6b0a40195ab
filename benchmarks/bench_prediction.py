"""What a picture takes over a network, predicted from what it takes on loopback, bytes and rounds."""

from __future__ import annotations

from .bench_results import Row
from .share_network import Network

__all__ = ["FORMULA", "predicted_total"]

_OFFLINE_TRIPS = 3.0  # owner and parties, parties and dealer, party and party, one after another
_ONLINE_ROUNDS = 1  # by which the parties agree on the run, before the program's own

FORMULA = (
    "Predicted = the loopback run + bytes / rate + waiting. CKKS waits one round trip for an answer. On shares each round "
    "and the agreement before the first wait half a round trip, the owner's shares and the result one, preparing three; "
    "links work side by side, so the busiest direction between the parties counts."
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
    waits = ((loopback.rounds or 0) + _ONLINE_ROUNDS) * trip / 2 + trip + _OFFLINE_TRIPS * trip
    return seconds + waits + (max(parties, default=0) + owner + _bytes(loopback, "offline")) / rate


def _bytes(row: Row, when: str) -> int:
    return sum(link.bytes for link in row.links if link.when == when)
