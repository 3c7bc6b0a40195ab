"""Owners that train, each a process of its own: pictures stay there, updates go to the two parties."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from protocols.federated import Uploader
from secureimg.errors import ProtocolError, SecureImgError
from secureimg.federated import Examples, Network, Schedule, Terms, local_update
from secureimg.sharing.streams import Stream

__all__ = ["Hospital", "Post", "Task", "Told", "training_stream"]

_log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 600.0


@dataclass(frozen=True, eq=False)
class Post:
    """What an owner has and knows.

    Attributes
    ----------
    number : int
    name : str
    parties, identity
        As `Uploader` takes them.
    network : Network
    examples : Examples
        Its own.
    schedule : Schedule
    seed : bytes
        Of the order of examples.
    full : int
        Number of examples at which its weight is 1.
    """

    number: int
    name: str
    parties: tuple[tuple[str, int], tuple[str, int]]
    identity: Path
    network: Network
    examples: Examples
    schedule: Schedule
    seed: bytes
    full: int


class Task(msgspec.Struct, frozen=True):
    """A round's work: the global weights, the round's token and terms, this round's step size."""

    number: int
    round: str
    terms: Terms
    rate: float
    weights: bytes


class Told(msgspec.Struct, frozen=True):
    """What an owner tells whoever leads the training: what it took. Neither loss nor update."""

    training: float = 0.0
    sending: float = 0.0
    sent: int = 0
    error: str = ""


def training_stream(seed: bytes, number: int, owner: int) -> Stream:
    """The order of an owner's examples in a round."""
    return Stream(seed, "federate", "owner", number, owner)


class Hospital:
    """An owner's process, as the coordinator's sees it; a context manager.

    Raises
    ------
    ProtocolError
        If the process died, or does not answer within ten minutes.
    """

    def __init__(self, post: Post) -> None:
        self.name = post.name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, post), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def ask(self, task: Task) -> None:
        """Hand it a round's work."""
        try:
            self._connection.send_bytes(msgspec.msgpack.encode(task))
        except OSError:
            raise ProtocolError(f"the process of {self.name} is gone: start again") from None

    def hear(self) -> Told:
        """Wait until it has done it."""
        try:
            if not self._connection.poll(_ANSWER_SECONDS):
                raise ProtocolError(
                    f"{self.name} did not answer in {_ANSWER_SECONDS:g} s: use fewer pictures or epochs"
                )
            return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Told)
        except (EOFError, OSError):
            raise ProtocolError(f"the process of {self.name} ended while it was training: start again") from None


def _work(connection: Connection, post: Post) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leading process ends it
    uploader = Uploader(post.parties, post.identity)
    with threadpool_limits(1):
        while True:
            try:
                task = msgspec.msgpack.decode(connection.recv_bytes(), type=Task)
            except (EOFError, OSError):
                return
            try:
                told = _train(post, uploader, task)
            except SecureImgError as error:
                told = Told(error=f"{type(error).__name__}: {error}")
            connection.send_bytes(msgspec.msgpack.encode(told))


def _train(post: Post, uploader: Uploader, task: Task) -> Told:
    started = time.perf_counter()
    weights = np.frombuffer(task.weights, dtype=np.float32)
    schedule = replace(post.schedule, rate=task.rate)
    stream = training_stream(post.seed, task.number, post.number)
    update, _ = local_update(post.network, weights, post.examples, schedule, stream)
    trained = time.perf_counter()
    weight = min(1.0, len(post.examples) / post.full) if task.terms.weighted else 1.0
    sent = uploader.send(task.round, task.terms, update, weight)
    return Told(trained - started, time.perf_counter() - trained, sent)
