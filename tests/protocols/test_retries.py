"""A CKKS server's owner whose connection breaks gets its answer; nothing is evaluated, counted or recorded twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols import CkksEngine, Code, Limits, OwnerClient, RefusedError, Service
from protocols.asynchronous import AsyncOwnerClient
from protocols.desk import ServerDesk
from protocols.operations import Observer
from protocols.owner_limits import OwnerLimits
from protocols.pki import Bundle, create_bundles
from secureimg import ckks
from secureimg.graph import load_onnx, run_plain

from .relays import Relay


class Notes(Observer):
    """Remembers what was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []

    def answered(self, owner: str, *, session: str, **facts: Any) -> None:
        self.answers.append(session)


class Place:
    """A service on a thread, reached through a relay."""

    def __init__(self, model: Path, home: Path, owner_limits: OwnerLimits | None = None) -> None:
        self.graph = load_onnx(model)
        self.program = ckks.compile(self.graph)
        self.bundles = create_bundles(home / "pki", ("server", "owner"))
        self.notes = Notes()
        self.engine = CkksEngine(self.graph, self.program).__enter__()
        self.service = Service(
            self.engine, self.bundles["server"], Limits(), owner_limits=owner_limits, observer=self.notes, state=home
        )
        self.thread = threading.Thread(target=self.service.run, daemon=True)
        self.thread.start()
        self.relay = Relay(self.service.address)

    def client(self, **options: Any) -> OwnerClient:
        return OwnerClient(*self.relay.address, self.bundles["owner"], timeout=30, **options)

    def close(self) -> None:
        self.relay.__exit__(None, None, None)
        self.service.stop()
        self.thread.join(20)
        self.engine.__exit__(None, None, None)


@pytest.fixture
def place(tiny_model: Path, tmp_path: Path) -> Iterator[Place]:
    made = Place(tiny_model, tmp_path)
    yield made
    made.close()


def right(place: Place, client: OwnerClient, pictures: np.ndarray) -> bool:
    gap = np.abs(client.infer(pictures) - run_plain(place.graph, pictures)).max()
    return bool(gap <= client.program.error_bound)


def test_an_answer_that_was_lost_on_the_way_is_given_again(place: Place, pictures: np.ndarray) -> None:
    """The evaluation runs once, is recorded once, and its owner gets it over a new connection."""
    with place.client() as client:
        client.register(ckks.OwnerKeys.generate(client.program))
        place.relay.muted.set()

        def cut_when_answered() -> None:
            deadline = time.monotonic() + 20
            while not place.notes.answers and time.monotonic() < deadline:
                time.sleep(0.01)
            place.relay.cut()

        cutting = threading.Thread(target=cut_when_answered)
        cutting.start()
        assert right(place, client, pictures[:1])
        cutting.join()
        assert len(place.notes.answers) == 1
        assert right(place, client, pictures[:1])
        assert len(place.notes.answers) == 2


def test_a_connection_that_breaks_before_anything_was_asked_is_opened_anew(place: Place, pictures: np.ndarray) -> None:
    with place.client() as client:
        client.register(ckks.OwnerKeys.generate(client.program))
        place.relay.cut()
        assert right(place, client, pictures[:1])


def test_limits_of_answers_hold_over_all_ways_in(tiny_model: Path, tmp_path: Path, pictures: np.ndarray) -> None:
    """What an owner had through the native protocol counts at the desk, and the other way round."""
    place = Place(tiny_model, tmp_path, OwnerLimits(releases=2))
    try:
        with place.client() as client:
            keys = ckks.OwnerKeys.generate(client.program)
            client.register(keys)
            assert right(place, client, pictures[:1])
            owner = Bundle.load(place.bundles["owner"]).fingerprint
            desk, blob = ServerDesk(place.service), keys.encrypt(pictures[:1])
            outcome = desk.evaluate(owner, keys.key_id, "ab" * 16, blob, 30.0)
            again = desk.evaluate(owner, keys.key_id, "ab" * 16, blob, 30.0)
            assert again is outcome
            gap = np.abs(keys.decrypt(outcome.blob, 1) - run_plain(place.graph, pictures[:1])).max()
            assert gap <= client.program.error_bound
            with pytest.raises(RefusedError) as refused:
                client.infer(pictures[:1])
            assert refused.value.code is Code.LIMIT
            with pytest.raises(RefusedError, match="no evaluation keys"):
                desk.evaluate("ab" * 32, keys.key_id, "cd" * 16, blob, 30.0)
        assert len(place.notes.answers) == 2
    finally:
        place.close()


def test_a_swapped_model_serves_new_sessions_and_old_ones_keep_theirs(
    place: Place, pictures: np.ndarray, tmp_path: Path, command: Any
) -> None:
    """The former engine is closed when its last session has ended, and not before."""
    retired = threading.Event()
    other = load_onnx(command.write_model(tmp_path / "other.onnx"))
    engine = CkksEngine(other, ckks.compile(other, batch=2)).__enter__()
    with place.client() as before:
        before.register(ckks.OwnerKeys.generate(before.program))
        place.service.swap(engine, retired.set)
        with place.client() as after:
            assert after.program.batch == 2
            after.register(ckks.OwnerKeys.generate(after.program))
            assert right(place, before, pictures[:1])
            assert right(place, after, pictures[:2])
            assert not retired.is_set()
    assert retired.wait(10)
    place.engine.__exit__(None, None, None)
    place.engine = engine


async def _ask(place: Place, pictures: np.ndarray) -> np.ndarray:
    async with AsyncOwnerClient(*place.relay.address, place.bundles["owner"], timeout=30) as client:
        await client.register(ckks.OwnerKeys.generate(client.program))
        return await client.infer(pictures)


def test_the_awaited_client_gives_the_same(place: Place, pictures: np.ndarray) -> None:
    gap = np.abs(asyncio.run(_ask(place, pictures)) - run_plain(place.graph, pictures)).max()
    assert gap <= place.program.public.error_bound
