"""Flower's records as what a round works on: a vector for a model, and the round's token and terms."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from secureimg.errors import ParameterError, RemoteProtocolError
from secureimg.federated import Terms

__all__ = [
    "RECORD",
    "RoundConfig",
    "difference",
    "flatten",
    "layout",
    "parameters_of",
    "read_config",
    "rebuild",
    "write_config",
]

RECORD: Final = "secureimg"
"""Name of the ConfigRecord that carries a round's token and terms from strategy to mod."""

_MAX_CONFIG: Final = 4096


class RoundConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an owner is told about a round.

    Attributes
    ----------
    round : str
        The round's token at the parties.
    terms : Terms
    examples : int
        Number of examples at which an owner's weight is 1; more count no more.
    """

    round: str
    terms: Terms
    examples: int


def write_config(config: RoundConfig) -> ConfigRecord:
    """Put it into the record that travels."""
    return ConfigRecord({"round": msgspec.json.encode(config).decode()})


def read_config(content: RecordDict) -> RoundConfig:
    """Read what `write_config` wrote.

    Raises
    ------
    RemoteProtocolError
        If the message carries none, or one that is malformed.
    """
    text = content.config_records[RECORD].get("round") if RECORD in content.config_records else None
    if not isinstance(text, str) or len(text) > _MAX_CONFIG:
        raise RemoteProtocolError(
            f"the training message carries no round of secure aggregation (record {RECORD!r}): the ServerApp must use "
            "SecureAverage, or this ClientApp do without ShareUpdate"
        )
    try:
        config = msgspec.json.decode(text, type=RoundConfig)
    except (msgspec.MsgspecError, ParameterError, UnicodeError) as error:
        raise RemoteProtocolError(f"the round that the training message carries is malformed: {error}") from None
    if config.examples < 1:
        raise RemoteProtocolError(f"{config.examples} examples for a weight of 1: at least 1 is needed")
    return config


def flatten(record: ArrayRecord, what: str) -> NDArray[Any]:
    """All arrays of a record one after another, as float32 if all are, else float64.

    Raises
    ------
    ParameterError
        If there is an array that does not hold real numbers: what is not averaged does not belong in the record.
    """
    out = _empty(record, what)
    for array, slot in zip(record.values(), _slots(record, out), strict=True):
        slot[:] = _values(array, slot.size, what)
    return out


def difference(after: ArrayRecord, before: ArrayRecord, what: str) -> NDArray[Any]:
    """`flatten` of one record minus that of another of the same layout, with one array in memory at a time."""
    out = _empty(after, what)
    for new, old, slot in zip(after.values(), before.values(), _slots(after, out), strict=True):
        np.subtract(_values(new, slot.size, what), _values(old, slot.size, what), out=slot)
    return out


def parameters_of(record: ArrayRecord) -> int:
    """Elements of all arrays, as the record states them."""
    return sum(math.prod(array.shape) for array in record.values())


def _values(array: Array, size: int, what: str) -> NDArray[Any]:
    try:
        values = array.numpy().reshape(-1)
    except (ValueError, TypeError, EOFError, OSError):
        values = np.empty(0)
    if values.size != size or values.dtype != np.dtype(array.dtype):
        raise ParameterError(f"{what}: an array does not hold what it states, {size} values of type {array.dtype}")
    return values


def _empty(record: ArrayRecord, what: str) -> NDArray[Any]:
    try:
        kinds = [np.dtype(array.dtype) for array in record.values()]
    except TypeError:
        raise ParameterError(f"{what}: an array has a type that numpy does not know") from None
    for name, kind in zip(record, kinds, strict=True):
        if kind.kind != "f":
            raise ParameterError(
                f"{what}: array {name[:60]!r} has type {kind}, only real numbers are aggregated: leave it out"
            )
    if not kinds:
        raise ParameterError(f"{what}: there are no arrays in it")
    return np.empty(
        parameters_of(record), dtype=np.float32 if all(kind == np.float32 for kind in kinds) else np.float64
    )


def _slots(record: ArrayRecord, vector: NDArray[Any]) -> list[NDArray[Any]]:
    sizes = [math.prod(array.shape) for array in record.values()]
    return np.split(vector, np.cumsum(sizes)[:-1])


def layout(record: ArrayRecord) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of each array, in order."""
    return [(name, tuple(array.shape), array.dtype) for name, array in record.items()]


def rebuild(like: ArrayRecord, vector: NDArray[Any]) -> ArrayRecord:
    """A record with the names, shapes and types of another, and a vector's values."""
    made: dict[str, Array] = {}
    place = 0
    for name, shape, dtype in layout(like):
        size = math.prod(shape)
        made[name] = Array(vector[place : place + size].reshape(shape).astype(dtype))
        place += size
    return ArrayRecord(made)
