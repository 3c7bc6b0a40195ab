"""The owner's side under Flower: a mod that takes the update out of the reply and gives it to the two parties."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Protocol

from flwr.app import ArrayRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from protocols.federated.flower.records import RoundConfig, difference, layout, parameters_of, read_config
from secureimg.errors import LocalProtocolError, ParameterError, RemoteProtocolError, SecureImgError
from secureimg.federated import Terms

__all__ = ["ShareUpdate", "Uploads"]

_log = logging.getLogger(__name__)


class Uploads(Protocol):
    """What the mod needs of an uploader."""

    def send(self, round: str, terms: Terms, update: NDArray[Any], weight: float = 1.0) -> object:  # noqa: A002
        """Give both parties their shares."""


class ShareUpdate:
    """A Flower mod around an owner's training: its update goes as two shares to the two parties, not to Flower.

    The training function is an ordinary one: it takes the global model and replies with the trained one and
    ``num-examples``. The reply that Flower carries then has no arrays, no configuration, and no metrics but those named.

    Parameters
    ----------
    uploader : callable
        Takes Flower's Context and returns the owner's `protocols.federated.Uploader`. Called once for each training message.
    tell : collection of str
        Metrics of the reply that the Flower server may see. None by default: an owner's loss and number of examples say
        something about its pictures.
    least : int
        Fewest owners of whom a sum may be opened, by this owner's own wish.
    noise : float
        Least noise multiplier.
    weighted_by : str
        The metric that holds the number of examples.

    Notes
    -----
    The Flower server chooses the round's terms; an owner that is offered less than it wants takes no part. The two parties
    hold terms of their own and refuse others.
    """

    def __init__(
        self,
        uploader: Callable[[Context], Uploads],
        *,
        tell: Collection[str] = (),
        least: int = 2,
        noise: float = 0.0,
        weighted_by: str = "num-examples",
    ) -> None:
        self._uploader = uploader
        self._tell = frozenset(tell)
        self._least, self._noise = least, noise
        self._weighted_by = weighted_by

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Handle a message; anything but training passes."""
        if message.metadata.message_type.split(".")[0] != MessageType.TRAIN:
            return call_next(message, context)
        try:
            return self._train(message, context, call_next)
        except SecureImgError as error:
            _log.warning("this owner takes no part in the round: %s", error)
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)

    def _train(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        config = read_config(message.content)
        self._check(config.terms)
        before = _only_model(message.content, "the global model")
        if (size := parameters_of(before)) != config.terms.parameters:
            raise RemoteProtocolError(
                f"the model has {size} parameters, the round is for {config.terms.parameters}: the ServerApp and the "
                "parties disagree"
            )
        reply = call_next(message, context)
        if reply.has_error():
            return Message(reply.error, reply_to=message)
        after = _only_model(reply.content, "the trained model")
        if layout(after) != layout(before):
            raise LocalProtocolError(
                "the trained model's arrays have other names, shapes or types than the global model's: reply with the same"
            )
        update = difference(after, before, "the trained model")
        weight = self._weight(config, reply.content)
        self._uploader(context).send(config.round, config.terms, update, weight)
        told: dict[str, Any] = {}
        for record in reply.content.metric_records.values():
            told |= {name: value for name, value in record.items() if name in self._tell}
        return Message(RecordDict({"metrics": MetricRecord(told)}), reply_to=message)

    def _check(self, terms: Terms) -> None:
        if terms.least < self._least or terms.noise < self._noise:
            raise LocalProtocolError(
                f"the round is opened for {terms.least} owners with noise {terms.noise:g}; this owner wants at least "
                f"{self._least} owners and noise {self._noise:g}"
            )

    def _weight(self, config: RoundConfig, content: RecordDict) -> float:
        if not config.terms.weighted:
            return 1.0
        for record in content.metric_records.values():
            count = record.get(self._weighted_by)
            if isinstance(count, int | float) and count > 0:
                return float(min(1.0, count / config.examples))
        raise ParameterError(
            f"the round is weighted and the training's reply has no metric {self._weighted_by!r} above 0: add it"
        )


def _only_model(content: RecordDict, what: str) -> ArrayRecord:
    records = list(content.array_records.values())
    if len(records) != 1:
        raise ParameterError(f"{what}: {len(records)} ArrayRecords, exactly one is aggregated")
    return records[0]
