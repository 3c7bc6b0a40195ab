"""Secure aggregation under Flower: what Flower carries, what the strategy adds, and which rounds are dropped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

flwr = pytest.importorskip("flwr")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

from protocols.federated.flower import SecureAverage, ShareUpdate  # noqa: E402
from protocols.federated.flower.records import RECORD, RoundConfig, flatten, read_config, rebuild, write_config  # noqa: E402
from secureimg.errors import ParameterError, RemoteProtocolError  # noqa: E402
from secureimg.federated import Terms, epsilon_after  # noqa: E402
from secureimg.privacy import gaussian_epsilon  # noqa: E402

from .conftest import OWNERS, TERMS, Group  # noqa: E402

SHAPES = {"conv.weight": (10, 1, 5, 5), "dense.weight": (50, 54), "dense.bias": (50,)}


@pytest.fixture(autouse=True)
def _flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower's runtime sets before a ServerApp makes messages."""
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


class LocalGrid(Grid):
    """Flower's grid with the ClientApps on threads of this process. Keeps every reply as Flower would carry it."""

    def __init__(self, app: ClientApp, nodes: int) -> None:
        self._app = app
        self._contexts = {
            node + 1: Context(1, node + 1, {"partition-id": node}, RecordDict(), {}) for node in range(nodes)
        }
        self.replies: list[Message] = []

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        def handle(message: Message) -> Message:
            message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            try:
                return self._app(message, self._contexts[message.metadata.dst_node_id])
            except RuntimeError as error:  # as Flower's runtime does
                return Message(Error(0, str(error)), reply_to=message)

        with ThreadPoolExecutor(4) as threads:
            replies = list(threads.map(handle, messages))
        self.replies += replies
        return replies


def start_model() -> ArrayRecord:
    rng = np.random.default_rng(4)
    return ArrayRecord({name: Array(rng.normal(size=shape).astype(np.float32)) for name, shape in SHAPES.items()})


def client_app(mods: list[Any], change: Callable[[int], np.ndarray], count: Callable[[int], int]) -> ClientApp:
    """Owners that "train" by adding something known to the model. An ordinary training function, with or without mods."""
    app = ClientApp()

    @app.train(mods=mods)
    def train(message: Message, context: Context) -> Message:
        owner = int(context.node_config["partition-id"])
        model = next(iter(message.content.array_records.values()))
        trained = rebuild(model, flatten(model, "model") + change(owner))
        metrics = MetricRecord({"num-examples": count(owner), "loss": 0.5 + owner})
        return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "ok": 1.0})}), reply_to=message)

    return app


def known_change(owner: int) -> np.ndarray:
    return np.random.default_rng(owner).normal(0, 0.01, TERMS.parameters)


def known_count(owner: int) -> int:
    return 10 * (owner + 1)


def mod_of(group: Group, **options: Any) -> ShareUpdate:
    return ShareUpdate(lambda context: group.uploader(int(context.node_config["partition-id"])), **options)


def test_the_model_moves_as_under_federated_averaging_and_flower_carries_no_update(group: Group) -> None:
    """Two rounds, weighted by numbers of examples that nobody is told; replies hold neither arrays nor metrics."""
    grid = LocalGrid(client_app([mod_of(group)], known_change, known_count), OWNERS)
    strategy = SecureAverage(group.coordinator(), group.terms, examples=100, min_available_nodes=OWNERS)
    result = strategy.start(grid, start_model(), num_rounds=2)
    plain_grid = LocalGrid(client_app([], known_change, known_count), OWNERS)
    plain = FedAvg(min_available_nodes=OWNERS).start(plain_grid, start_model(), num_rounds=2)
    for name, array in plain.arrays.items():
        assert result.arrays[name].dtype == "float32"
        np.testing.assert_allclose(result.arrays[name].numpy(), array.numpy(), atol=1e-6)
    assert [len(report.owners) for report in strategy.history] == [OWNERS, OWNERS]
    assert all(report.epsilon is None and not report.dropped for report in strategy.history)
    trained = [reply for reply in grid.replies if reply.metadata.message_type == "train"]
    assert len(trained) == 2 * OWNERS
    for reply in trained:
        assert not reply.content.array_records
        assert not reply.content.config_records
        assert [dict(record) for record in reply.content.metric_records.values()] == [{}]
        assert sum(record.count_bytes() for record in reply.content.values()) < 100
    assert any(reply.content.array_records for reply in plain_grid.replies)  # the check above can fail


def test_owners_tell_what_they_choose_to_and_evaluation_passes(group: Group) -> None:
    grid = LocalGrid(client_app([mod_of(group, tell=("loss",))], known_change, known_count), OWNERS)
    strategy = SecureAverage(group.coordinator(), group.terms, min_available_nodes=OWNERS)
    result = strategy.start(grid, start_model(), num_rounds=1)
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(0.5 + (OWNERS - 1) / 2)
    assert result.train_metrics_clientapp[1]["owners"] == OWNERS
    assert result.evaluate_metrics_clientapp[1]["ok"] == pytest.approx(1.0)


def test_owners_that_fail_are_left_out_and_the_rest_is_averaged(group: Group) -> None:
    """One owner's training breaks, one diverges; the model moves by the mean of the others."""

    def change(owner: int) -> np.ndarray:
        if owner == 0:
            raise RuntimeError("out of memory")
        return np.full(TERMS.parameters, np.nan) if owner == 1 else known_change(owner)

    grid = LocalGrid(client_app([mod_of(group)], change, lambda owner: 50), OWNERS)
    strategy = SecureAverage(group.coordinator(), group.terms, examples=100, min_available_nodes=OWNERS)
    result = strategy.start(grid, start_model(), num_rounds=1)
    moved = flatten(result.arrays, "model") - flatten(start_model(), "model")
    np.testing.assert_allclose(moved, np.mean([known_change(owner) for owner in range(2, OWNERS)], axis=0), atol=1e-6)
    report = strategy.history[0]
    assert len(report.owners) == OWNERS - 2
    assert any("out of memory" in reason for reason in report.refused)
    assert any("not finite" in reason for reason in report.refused)


def test_a_round_of_too_few_owners_is_dropped_and_the_model_stays(group: Group) -> None:
    """Then the next round opens, with all."""
    working = [0, 1]

    def change(owner: int) -> np.ndarray:
        if owner not in working:
            raise RuntimeError("away")
        return known_change(owner)

    grid = LocalGrid(client_app([mod_of(group)], change, lambda owner: 50), OWNERS)
    strategy = SecureAverage(group.coordinator(retry=1.0), group.terms, min_available_nodes=OWNERS)
    strategy.start(grid, start_model(), num_rounds=1)
    report = strategy.history[0]
    assert (report.owners, report.epsilon) == ((), None)
    assert "2" in report.dropped
    assert "3" in report.dropped  # how many there were, how many are needed
    working[:] = range(OWNERS)
    strategy.start(grid, start_model(), num_rounds=1)
    assert len(strategy.history[1].owners) == OWNERS


def test_momentum_adds_a_part_of_the_round_before(group: Group) -> None:
    grid = LocalGrid(client_app([mod_of(group)], known_change, lambda owner: 50), OWNERS)
    strategy = SecureAverage(group.coordinator(), group.terms, examples=50, momentum=0.5, min_available_nodes=OWNERS)
    result = strategy.start(grid, start_model(), num_rounds=2)
    mean = np.mean([known_change(owner) for owner in range(OWNERS)], axis=0)
    moved = flatten(result.arrays, "model") - flatten(start_model(), "model")
    np.testing.assert_allclose(moved, 2.5 * mean, atol=1e-6)


def test_epsilon_is_reported_each_round(make_group: Callable[..., Group]) -> None:
    group = make_group(noise=2.0, rounds=2)
    grid = LocalGrid(client_app([mod_of(group, noise=2.0)], known_change, lambda owner: 50), OWNERS)
    strategy = SecureAverage(group.coordinator(), group.terms, delta=1e-6, min_available_nodes=OWNERS)
    strategy.start(grid, start_model(), num_rounds=2)
    for rounds, report in enumerate(strategy.history, 1):
        assert report.epsilon == pytest.approx(gaussian_epsilon(2.0, 1.0, rounds, 1e-6), rel=1e-3)
    assert epsilon_after(TERMS, 5, 1e-6) is None


class Sent:
    """An uploader that must not be used."""

    def send(self, *args: Any, **options: Any) -> None:
        raise AssertionError("an update left its owner")


def one_message(content: RecordDict) -> Message:
    message = Message(content, dst_node_id=1, message_type="train")
    message.metadata.__dict__["_message_id"] = "1"
    return message


def offered(**changes: Any) -> RecordDict:
    terms = Terms(**{name: getattr(TERMS, name) for name in TERMS.__struct_fields__} | changes)
    return RecordDict(
        {"arrays": start_model(), RECORD: write_config(RoundConfig(round="ab" * 16, terms=terms, examples=10))}
    )


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        (RecordDict({"arrays": start_model()}), {}, "carries no round"),
        (RecordDict({"arrays": start_model(), RECORD: ConfigRecord({"round": "{]"})}), {}, "malformed"),
        (offered(least=2), {"least": 3}, "this owner wants at least 3 owners"),
        (offered(), {"noise": 1.0}, "noise 1"),
        (offered(parameters=7), {}, "the round is for 7"),
        (offered(), {"weighted_by": "examples"}, "has no metric 'examples'"),
    ],
)
def test_an_owner_takes_no_part_in_what_it_does_not_want(content: RecordDict, options: Any, why: str) -> None:
    """Nothing leaves it, and Flower is told why."""
    app = client_app([ShareUpdate(lambda context: Sent(), **options)], known_change, known_count)
    reply = app(one_message(content), Context(1, 1, {"partition-id": 0}, RecordDict(), {}))
    assert reply.has_error()
    assert why in str(reply.error.reason)


def test_a_reply_that_is_not_the_model_is_not_shared() -> None:
    app = ClientApp(mods=[])

    @app.train(mods=[ShareUpdate(lambda context: Sent())])
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": ArrayRecord({"other": Array(np.zeros(3, np.float32))})}), reply_to=message)

    reply = app(one_message(offered()), Context(1, 1, {}, RecordDict(), {}))
    assert "other names, shapes or types" in str(reply.error.reason)


def test_records_that_cannot_be_averaged_are_refused() -> None:
    with pytest.raises(ParameterError, match="only real numbers"):
        flatten(ArrayRecord({"steps": Array(np.arange(3))}), "model")
    with pytest.raises(ParameterError, match="no arrays"):
        flatten(ArrayRecord(), "model")
    lying = Array(np.zeros(4, np.float32))
    lying.__dict__["shape"] = (3000,)
    with pytest.raises(ParameterError, match="does not hold what it states"):
        flatten(ArrayRecord({"w": lying}), "model")
    text = str(write_config(RoundConfig(round="a", terms=TERMS, examples=1))["round"])
    text = text.replace('"owners":6', '"owners":1')
    with pytest.raises(RemoteProtocolError, match="malformed"):
        read_config(RecordDict({RECORD: ConfigRecord({"round": text})}))
    strategy = SecureAverage(None, TERMS)  # type: ignore[arg-type]
    small = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    with pytest.raises(ParameterError, match="the terms are for"):
        strategy.configure_train(1, small, ConfigRecord(), None)  # type: ignore[arg-type]
