"""The recipe for Flower's SecAgg+ (Bell et al., CCS 2020): its workflow, its mod, as Flower's own example sets them up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["secagg_client", "secagg_server", "shares_of"]

_CLIPPING = 8.0
_THRESHOLD = 0.6  # of the shares


def shares_of(owners: int) -> int:
    """Neighbours of an owner: all of few, an odd number near 4 log2 of many."""
    return owners if owners <= 10 else 2 * round(2 * math.log2(owners)) + 1


def secagg_client(update: Callable[[int], NDArray[np.float32]], counting: Any) -> Any:
    """Owners that add a ready update, behind Flower's `secaggplus_mod`."""
    from flwr.client import NumPyClient
    from flwr.client.mod import secaggplus_mod
    from flwr.clientapp import ClientApp

    class Owner(NumPyClient):
        def __init__(self, number: int) -> None:
            self._number = number

        def fit(self, parameters: Any, config: Any) -> Any:
            return [parameters[0] + update(self._number)], 1, {}

    def client_fn(context: Any) -> Any:
        return Owner(int(context.node_config["partition-id"])).to_client()

    return ClientApp(client_fn=client_fn, mods=[counting, secaggplus_mod])


def secagg_server(grid: Any, clock: Any, parameters: int, owners: int, rounds: int) -> NDArray[np.float64]:
    """Run rounds, each timed by the clock; return what was added in all."""
    from flwr.app import Context, RecordDict
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common import recorddict_compat as compat
    from flwr.server import LegacyContext, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
    from flwr.server.workflow.constant import MAIN_PARAMS_RECORD

    strategy = FedAvg(
        fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=owners, min_available_clients=owners,
        initial_parameters=ndarrays_to_parameters([np.zeros(parameters, np.float32)]),
    )  # fmt: skip
    inner = SecAggPlusWorkflow(
        num_shares=shares_of(owners), reconstruction_threshold=max(2, math.ceil(_THRESHOLD * shares_of(owners))),
        clipping_range=_CLIPPING, max_weight=1.0,
    )  # fmt: skip

    def timed(*args: Any) -> None:
        clock.time(lambda: inner(*args))

    context = LegacyContext(
        context=Context(0, 0, {}, RecordDict(), {}), config=ServerConfig(num_rounds=rounds), strategy=strategy
    )
    DefaultWorkflow(fit_workflow=timed)(grid, context)
    record = context.state.array_records[MAIN_PARAMS_RECORD]
    added = parameters_to_ndarrays(compat.arrayrecord_to_parameters(record, keep_input=True))[0]
    return np.asarray(added, dtype=np.float64)
