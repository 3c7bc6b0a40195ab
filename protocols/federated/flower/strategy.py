"""The coordinator's side under Flower: a strategy that opens a round, and adds the mean that the two parties open."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from protocols.federated.flower.accounts import RoundReport
from protocols.federated.flower.records import RECORD, RoundConfig, flatten, rebuild, write_config
from secureimg.errors import ParameterError, SecureImgError
from secureimg.federated import RoundSum, Terms, epsilon_after

__all__ = ["Rounds", "SecureAverage"]

_log = logging.getLogger(__name__)


class Rounds(Protocol):
    """What the strategy needs of a coordinator."""

    def open(self, terms: Terms) -> str:
        """Open a round at both parties; return its token."""

    def close(self, round: str) -> RoundSum:  # noqa: A002
        """Have the parties open the sum."""


class SecureAverage(FedAvg):
    """Federated averaging of which nobody sees a single update. For ``strategy.start`` of a Flower ServerApp.

    Owners' ClientApps carry the mod `ShareUpdate`. A round for which too few owners' shares arrive is dropped with a
    warning, and the model stays.

    Parameters
    ----------
    coordinator : protocols.federated.Coordinator
    terms : Terms
        Those that the parties were given.
    examples : int
        Number of examples at which an owner's weight is 1; more count no more. Public.
    momentum : float
        Of the global model: each round adds the mean, and this part of what the round before added. 0 is plain averaging.
    delta : float
        For the epsilon that is reported, if there is noise.
    **sampling
        What `FedAvg` takes: `fraction_train`, `min_available_nodes`, ...

    Attributes
    ----------
    history : list of RoundReport
        One a round.

    Notes
    -----
    Flower's server learns the global model, who was asked, and the metrics that owners tell; the sums, as everyone.
    """

    def __init__(
        self,
        coordinator: Rounds,
        terms: Terms,
        *,
        examples: int = 1000,
        momentum: float = 0.0,
        delta: float = 1e-5,
        **sampling: Any,
    ) -> None:
        super().__init__(**sampling)
        if not 0 <= momentum < 1:
            raise ParameterError(f"momentum is {momentum}: it must be at least 0 and below 1")
        self.history: list[RoundReport] = []
        self._coordinator = coordinator
        self._terms = terms
        self._examples = examples
        self._momentum = momentum
        self._delta = delta
        self._opened = 0
        self._round = ""
        self._arrays = ArrayRecord()
        self._speed: NDArray[np.float64] | None = None
        self._asked = 0
        self._started = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open a round at the parties, and tell the sampled owners its token and terms beside the model."""
        size = flatten(arrays, "the global model").size
        if size != self._terms.parameters:
            raise ParameterError(f"the model has {size} parameters, the terms are for {self._terms.parameters}")
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._arrays, self._asked, self._round = arrays, len(messages), ""
        self._started = time.perf_counter()
        if not messages:
            return messages
        try:
            self._round = self._coordinator.open(self._terms)
        except SecureImgError as error:
            self._drop(server_round, error, ())
            return []
        record = write_config(RoundConfig(round=self._round, terms=self._terms, examples=self._examples))
        for message in messages:
            message.content[RECORD] = record
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Have the parties open the sum, and add its mean to the global model."""
        told, failed = self._check_and_log_replies(replies, is_train=True, validate=False)
        if not self._round:
            return None, None
        refused = tuple(str(message.error.reason) for message in failed)
        try:
            opened = self._coordinator.close(self._round)
        except SecureImgError as error:
            self._drop(server_round, error, refused)
            return None, None
        self._opened += 1
        mean = opened.mean()
        if self._momentum:
            mean = mean if self._speed is None else mean + self._momentum * self._speed
            self._speed = mean
        epsilon = epsilon_after(self._terms, self._opened, self._delta)
        report = RoundReport(
            server_round, self._asked, opened.owners, dict(opened.left_out), refused, opened.weight, epsilon,
            time.perf_counter() - self._started,
        )  # fmt: skip
        self.history.append(report)
        _log.info(
            "round %d: %d owners in the sum, %d left out%s", server_round, len(report.owners), len(report.left_out),
            "" if epsilon is None else f", epsilon {epsilon:.3g} at delta {self._delta:g} so far",
        )  # fmt: skip
        for owner, reason in report.left_out.items():
            _log.warning("round %d: %s is left out: %s", server_round, owner, reason)
        metrics: dict[str, Any] = {"owners": len(report.owners), "left-out": len(report.left_out), **_means(told)}
        if epsilon is not None:
            metrics["epsilon"] = epsilon
        return rebuild(self._arrays, flatten(self._arrays, "the global model") + mean), MetricRecord(metrics)

    def _drop(self, server_round: int, error: SecureImgError, refused: tuple[str, ...]) -> None:
        _log.warning("round %d is dropped and the model stays: %s", server_round, error)
        epsilon = epsilon_after(self._terms, self._opened, self._delta) if self._opened else None
        self.history.append(
            RoundReport(
                server_round, self._asked, refused=refused, epsilon=epsilon, dropped=str(error),
                seconds=time.perf_counter() - self._started,
            )
        )  # fmt: skip


def _means(replies: Iterable[Message]) -> dict[str, float]:
    """Plain means of the numbers that owners tell: without weights, which nobody tells."""
    found: dict[str, list[float]] = {}
    for message in replies:
        for record in message.content.metric_records.values():
            for name, value in record.items():
                if isinstance(value, int | float):
                    found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}
