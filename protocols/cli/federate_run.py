"""The example's training: over owners with secure aggregation, over owners in the clear, and on all pictures at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.federation import Federation
from protocols.cli.hospitals import Hospital, Post, Task, training_stream
from secureimg.errors import SecureImgError
from secureimg.federated import (
    Examples,
    Network,
    Schedule,
    Terms,
    accuracy,
    average_plain,
    epsilon_after,
    local_update,
    partition,
    train,
)
from secureimg.federated.networks import Array, uniform
from secureimg.sharing.streams import Stream

__all__ = ["Plan", "Round", "Trained", "train_centrally", "train_in_the_clear", "train_securely"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained, on what, and how: the same for all three ways.

    Attributes
    ----------
    network : Network
    start : (parameters,) float32
    parts : tuple of Examples
        Of each owner.
    held_out : Examples
    schedule : Schedule
        Its rate falls over the rounds to a tenth.
    rounds : int
    momentum : float
        Of the global model, see `SecureAverage`.
    drop_out : float
        Chance that an owner does not answer in a round.
    least : int
        A round with fewer changes nothing.
    full : int
        Number of examples at which an owner's weight is 1.
    weighted : bool
    seed : bytes
    """

    network: Network
    start: Array
    parts: tuple[Examples, ...]
    held_out: Examples
    schedule: Schedule
    rounds: int
    momentum: float
    drop_out: float
    least: int
    full: int
    weighted: bool
    seed: bytes

    @classmethod
    def of(
        cls, network: Network, examples: Examples, held_out: Examples, owners: int, skew: float | None, seed: bytes,
        **given: Any,
    ) -> Plan:  # fmt: skip
        """Deal examples out, and start from fresh weights."""
        places = partition(examples.labels, owners, Stream(seed, "federate", "partition"), skew=skew)
        largest = max(len(part) for part in places)
        return cls(
            network, network.initial(Stream(seed, "federate", "weights")), tuple(examples.take(part) for part in places),
            held_out, seed=seed, full=1 << (largest - 1).bit_length(), **given,
        )  # fmt: skip

    def rate(self, number: int) -> float:
        """Step size of a round."""
        return self.schedule.rate * (1 - 0.9 * number / self.rounds)

    def present(self, number: int) -> list[int]:
        """Owners that answer in a round."""
        draws = uniform(Stream(self.seed, "federate", "drop-outs", number), len(self.parts))
        return [owner for owner, draw in enumerate(draws) if draw >= self.drop_out]

    def weight(self, owner: int) -> float:
        """An owner's weight in the mean."""
        return min(1.0, len(self.parts[owner]) / self.full) if self.weighted else 1.0


@dataclass(frozen=True)
class Round:
    """One round of secure aggregation. Bytes and seconds are of all owners together, closing is the coordinator's wait."""

    number: int
    accuracy: float
    owners: int
    left_out: dict[str, str]
    epsilon: float | None
    up: int
    between: int
    seconds: float
    training: float
    sending: float
    closing: float
    dropped: str = ""


@dataclass(eq=False)
class Trained:
    """Weights in the end and after one round, accuracy on the held-out pictures after each round, and what rounds took."""

    weights: Array
    first: Array | None = None
    accuracies: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    seconds: float = 0.0


class _Average:
    """The global model: each round adds a mean, and a part of what the round before added."""

    def __init__(self, plan: Plan) -> None:
        self.weights, self._momentum = plan.start.copy(), plan.momentum
        self._speed = np.zeros(plan.start.shape)

    def add(self, mean: NDArray[np.float64]) -> None:
        self._speed = self._momentum * self._speed + mean
        self.weights = (self.weights + self._speed).astype(np.float32)


def train_centrally(plan: Plan, tell: Callable[[int], None]) -> Trained:
    """All pictures in one place: as many passes, the same steps."""
    everything = Examples(
        np.concatenate([part.images for part in plan.parts]), np.concatenate([part.labels for part in plan.parts])
    )
    result, started = Trained(plan.start), time.perf_counter()
    for number in range(plan.rounds):
        tell(number)
        schedule = replace(plan.schedule, rate=plan.rate(number))
        stream = Stream(plan.seed, "federate", "central", number)
        result.weights, _ = train(plan.network, result.weights, everything, schedule, stream)
        result.accuracies.append(accuracy(plan.network, result.weights, plan.held_out))
    result.seconds = time.perf_counter() - started
    return result


def train_in_the_clear(plan: Plan, tell: Callable[[int], None]) -> Trained:
    """Federated averaging with plain updates: what secure aggregation is to equal."""
    average, started = _Average(plan), time.perf_counter()
    result = Trained(plan.start)
    for number in range(plan.rounds):
        tell(number)
        schedule, present = replace(plan.schedule, rate=plan.rate(number)), plan.present(number)
        updates = [
            local_update(
                plan.network, average.weights, plan.parts[owner], schedule, training_stream(plan.seed, number, owner)
            )[0]
            for owner in present
        ]
        if len(updates) >= plan.least:
            average.add(average_plain(updates, [plan.weight(owner) for owner in present]))
        result.first = average.weights if number == 0 else result.first
        result.accuracies.append(accuracy(plan.network, average.weights, plan.held_out))
    result.weights, result.seconds = average.weights, time.perf_counter() - started
    return result


def train_securely(plan: Plan, terms: Terms, delta: float, tell: Callable[[int], None]) -> Trained:
    """Each owner a process, two parties and their dealer processes, all links TLS 1.3. This process is the coordinator."""
    names = tuple(f"hospital {owner + 1}" for owner in range(len(plan.parts)))
    average, opened, result = _Average(plan), 0, Trained(plan.start)
    with contextlib.ExitStack() as stack:
        federation = stack.enter_context(Federation(terms, names))
        known = {federation.fingerprint(name): name for name in names}
        hospitals = [
            stack.enter_context(
                Hospital(
                    Post(
                        owner, name, federation.parties, federation.identities[name], plan.network, plan.parts[owner],
                        plan.schedule, plan.seed, plan.full,
                    )
                )
            )
            for owner, name in enumerate(names)
        ]  # fmt: skip
        coordinator = federation.coordinator()
        begun = time.perf_counter()
        for number in range(plan.rounds):
            tell(number)
            started = time.perf_counter()
            token = coordinator.open(terms)
            task = Task(number, token, terms, plan.rate(number), average.weights.tobytes())
            asked = [hospitals[owner] for owner in plan.present(number)]
            for hospital in asked:
                hospital.ask(task)
            told = [hospital.hear() for hospital in asked]
            left_out = {hospital.name: word.error for hospital, word in zip(asked, told, strict=True) if word.error}
            left_out |= {hospital.name: "did not answer" for hospital in hospitals if hospital not in asked}
            waited, count, between, dropped = time.perf_counter(), 0, 0, ""
            try:
                total = coordinator.close(token, terms)
            except SecureImgError as error:
                dropped = str(error)
            else:
                opened += 1
                count = len(total.owners)
                left_out |= {known.get(owner, owner): reason for owner, reason in total.left_out.items()}
                between = sum(coordinator.cost.sent) if coordinator.cost is not None else 0
                average.add(total.mean())
            result.first = average.weights if number == 0 else result.first
            now = time.perf_counter()
            result.rounds.append(
                Round(
                    number, accuracy(plan.network, average.weights, plan.held_out), count, left_out,
                    epsilon_after(terms, opened, delta) if opened else None, sum(word.sent for word in told), between,
                    now - started, sum(word.training for word in told), sum(word.sending for word in told), now - waited,
                    dropped,
                )
            )  # fmt: skip
            result.accuracies.append(result.rounds[-1].accuracy)
        result.seconds = time.perf_counter() - begun
    result.weights = average.weights
    return result
