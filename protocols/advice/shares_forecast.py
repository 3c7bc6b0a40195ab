"""What a program on shares will take on this machine and over a network, from its public text and measured prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.advice.calibration import Calibration
from protocols.advice.fitting import price
from protocols.advice.steps import map_work, offline_work, online_work
from secureimg.sharing import Program, cost_of

__all__ = ["SharesForecast", "forecast_shares"]

_PROCESS: Final = 272e6
"""Bytes of a party's process before it has a program."""
_WEIGHT: Final = 36
"""Bytes of a weight: as a word, as limbs, and what compiling leaves behind."""


@dataclass(frozen=True)
class SharesForecast:
    """Predicted cost of one run over loopback, and what of it a network slows down.

    Attributes
    ----------
    online_seconds : float
        From sending the shares to having the answer, in a session that has run before.
    first_seconds : float
        The same for the first run after the processes' start.
    map_seconds : float
        Of that, linear maps at party 1.
    offline_seconds : float
        Dealing and preparing.
    rounds : int
        Messages between the parties that wait for each other.
    link_bytes : int
        Between the parties, both directions.
    widest_bytes : int
        Between the parties, in the direction that carries more.
    up_bytes, down_bytes : int
        From and to the owner.
    dealt_bytes : int
        From whoever deals to party 1.
    masked_weight_bytes : int
        From party 1 to party 0, once for a model and dealer.
    comparisons, products : int
        Signs taken; multiplications of linear maps.
    party_peak_bytes : int
        Memory of the larger party.
    """

    online_seconds: float
    first_seconds: float
    map_seconds: float
    offline_seconds: float
    rounds: int
    link_bytes: int
    widest_bytes: int
    up_bytes: int
    down_bytes: int
    dealt_bytes: int
    masked_weight_bytes: int
    comparisons: int
    products: int
    party_peak_bytes: int


def forecast_shares(program: Program, calibration: Calibration, images: int = 1) -> SharesForecast:
    """Predict what one run of a program on so many images takes.

    Parameters
    ----------
    program : Program
    calibration : Calibration
        With what shares need, see `Calibration.for_shares`.
    images : int
    """
    public, cost = program.public, cost_of(program.public, images)
    during, before = map_work(program, images)
    maps = price(during, calibration.maps)
    online = price(online_work(public, images), calibration.online) + maps
    # dealer and party 0 both multiply masked weights, and share the cores
    offline = price(offline_work(public, images), calibration.offline) + 2 * price(before, calibration.maps)
    weights = sum(values.size for values, _ in program.weights.values())
    return SharesForecast(
        online_seconds=online, first_seconds=calibration.cold * online, map_seconds=maps, offline_seconds=offline,
        rounds=cost.rounds, link_bytes=cost.online_bytes,
        widest_bytes=max(sum(layer.online_0 for layer in cost.layers), sum(layer.online_1 for layer in cost.layers)),
        up_bytes=public.share_bytes(images) + 32, down_bytes=2 * public.result_bytes(images),
        dealt_bytes=cost.offline_bytes, masked_weight_bytes=cost.masked_weight_bytes,
        comparisons=sum(layer.comparisons for layer in cost.layers),
        products=sum(layer.products for layer in cost.layers),
        party_peak_bytes=int(_PROCESS + _WEIGHT * weights + 3 * cost.offline_bytes),
    )  # fmt: skip
