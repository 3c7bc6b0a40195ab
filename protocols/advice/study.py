"""A model looked at for both executors: what each would cost, or why it cannot run there."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from protocols.advice.calibration import Calibration
from protocols.advice.ckks_forecast import CkksForecast, forecast_ckks
from protocols.advice.network import Network
from protocols.advice.shares_forecast import SharesForecast, forecast_shares
from protocols.deployment.models import LoadedModel, ModelOptions, ShareOptions
from secureimg.ckks import Program as CkksProgram
from secureimg.errors import CompileError

__all__ = ["Cost", "Study", "study"]


@dataclass(frozen=True)
class Cost:
    """What an executor costs over a network, from a forecast.

    Attributes
    ----------
    executor : str
        "ckks" or "shares".
    once_seconds : float
        Before the first image, at most once for an owner and model: keys made and sent, or masked weights sent.
    offline_seconds : float
        Of each run, before its image is there.
    answer_seconds : float
        From an image's first step to its answer, network included.
    total_seconds : float
        Everything for all images.
    once_bytes, image_bytes : int
        Over the network.
    """

    executor: Literal["ckks", "shares"]
    once_seconds: float
    offline_seconds: float
    answer_seconds: float
    total_seconds: float
    once_bytes: int
    image_bytes: int


@dataclass(frozen=True, eq=False)
class Study:
    """What was found out about a model.

    Attributes
    ----------
    model : LoadedModel
    images : int
    network : Network
    refused : dict of str to str
        By executor: why it cannot run the model.
    costs : dict of str to Cost
        By executor.
    ckks : CkksForecast or None
    shares : SharesForecast or None
        On this machine, over loopback.
    levels, ring_degree : int
        Of the CKKS program, else 0.
    """

    model: LoadedModel
    images: int
    network: Network
    refused: dict[str, str]
    costs: dict[str, Cost]
    ckks: CkksForecast | None
    shares: SharesForecast | None
    levels: int = 0
    ring_degree: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values; every number's name says its unit."""
        out: dict[str, Any] = {}
        for name, forecast in (("ckks", self.ckks), ("shares", self.shares)):
            row: dict[str, Any] = {"possible": name in self.costs, "refused": self.refused.get(name)}
            if forecast is not None:
                row["over_network"] = dataclasses.asdict(self.costs[name])
                row["on_this_machine"] = dataclasses.asdict(forecast)
            out[name] = row
        if self.ckks is not None:
            out["ckks"] |= {"levels": self.levels, "ring_degree": self.ring_degree}
        return out


def study(
    options: ModelOptions,
    share_options: ShareOptions,
    calibration: Calibration,
    network: Network,
    images: int,
    cores: int,
) -> Study:
    """Compile a model for both executors and predict what it costs.

    Parameters
    ----------
    options, share_options
        The model, and how it is compiled.
    calibration : Calibration
        What it lacks is measured and added to it.
    network : Network
    images : int
    cores : int
        Processes that a CKKS server evaluates with.

    Raises
    ------
    SecureImgError
        If the model cannot be loaded.
    """
    model = options.load()
    refused: dict[str, str] = {}
    costs: dict[str, Cost] = {}
    program: CkksProgram | None = None
    encrypted: CkksForecast | None = None
    shared: SharesForecast | None = None
    runs = math.ceil(images / options.batch)
    try:
        program, _ = options.compile(model.graph)
        times, _ = calibration.for_ckks(program.public.parameters, cores)
        encrypted = forecast_ckks(program, times, cores)
        costs["ckks"] = _ckks_cost(encrypted, network, math.ceil(images / program.public.batch), program.public.batch)
    except CompileError as error:
        refused["ckks"] = str(error)
    try:
        compiled = share_options.compile_graph(model.graph, options)
        calibration.for_shares()
        shared = forecast_shares(compiled, calibration, min(options.batch, images))
        costs["shares"] = _shares_cost(shared, network, runs, options.batch)
    except CompileError as error:
        refused["shares"] = str(error)
    levels, degree = (0, 0) if program is None else (program.public.levels, program.public.parameters.ring_degree)
    return Study(model, images, network, refused, costs, encrypted, shared, levels, degree)


def _ckks_cost(found: CkksForecast, network: Network, runs: int, batch: int) -> Cost:
    expanding = found.first_seconds - found.evaluate_seconds
    once = found.keygen_seconds + network.carry(found.key_bytes) + network.round_trip_seconds + expanding
    answer = (
        found.encrypt_seconds + network.carry(found.up_bytes) + network.round_trip_seconds + found.evaluate_seconds
        + network.carry(found.down_bytes) + found.decrypt_seconds
    )  # fmt: skip
    size = (found.up_bytes + found.down_bytes) // batch
    return Cost("ckks", once, 0.0, answer, once + runs * answer, found.key_bytes, size)


def _shares_cost(found: SharesForecast, network: Network, runs: int, batch: int) -> Cost:
    """A round is half a round trip: both parties send at once. One more names the run, and the owner asks and hears."""
    once = network.carry(found.masked_weight_bytes) + network.round_trip_seconds
    offline = found.offline_seconds + network.carry(found.dealt_bytes) + 2 * network.round_trip_seconds
    answer = (
        found.online_seconds + (found.rounds + 1) / 2 * network.round_trip_seconds + network.round_trip_seconds
        + network.carry(found.up_bytes + found.widest_bytes + found.down_bytes / 2)
    )  # fmt: skip
    size = found.link_bytes + found.dealt_bytes + found.up_bytes + found.down_bytes
    total = once + runs * (offline + answer) + found.first_seconds - found.online_seconds
    return Cost("shares", once, offline, answer, total, found.masked_weight_bytes, size // batch)
