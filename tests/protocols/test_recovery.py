"""Real processes killed, stopped and cut off in mid-load: owners get right answers again, and nothing is spent twice."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.soak_books import StoreWatch, audits_of, check_logs, compare
from benchmarks.soak_deployment import Deployment, Server
from benchmarks.soak_models import Pool
from benchmarks.soak_owners import Gate, Owner
from benchmarks.soak_tally import Tally
from protocols.client import OwnerClient
from protocols.sharing import SharesClient
from secureimg.ckks import OwnerKeys

from .relays import Relay

OWNERS = 3
WAIT = 20.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Dealer, two parties and a CKKS server, with a relay on every link."""
    directory = tmp_path_factory.mktemp("recovery")
    with Deployment(directory, ("shares", "ckks"), OWNERS, random.Random(directory.name)) as running:
        yield running
        assert set(running.stop().values()) == {0}
    assert not check_logs(running.servers.values())


@pytest.fixture(scope="module")
def pools(deployment: Deployment) -> dict[str, Pool]:
    return {service: Pool.of(graph, 1) for service, graph in deployment.graphs.items()}


def answers(deployment: Deployment, name: str) -> list[str]:
    """Names of the requests that a process wrote down as answered."""
    audits, broken = audits_of({name: deployment.servers[name]})
    assert not broken
    return [str(record.facts["session"]) for record in audits[name]]


def until(true: object, what: str) -> None:
    deadline = time.monotonic() + WAIT
    assert callable(true)
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def load(deployment: Deployment, pools: dict[str, Pool], service: str) -> Iterator[Tally]:
    """Owners who keep asking a service; what they get is judged, and held against the books, in the end."""
    tally, stop = Tally(), threading.Event()
    states = {name: server.state for name, server in deployment.servers.items() if name.startswith("party")}
    watch = StoreWatch(states)
    owners = [
        Owner(number, deployment, pools, tally, Gate(), stop, random.Random(number), (service,))
        for number in range(OWNERS)
    ]
    threads = [threading.Thread(target=owner.run, daemon=True) for owner in owners]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT)
        watch.close()
    assert not any(thread.is_alive() for thread in threads)
    assert not tally.failures, (tally.wrong, tally.unclear, tally.hung)
    audits, broken = audits_of(deployment.servers)
    books = compare(tally, audits, watch.spent)
    assert not books.problems + broken + watch.problems


@pytest.mark.parametrize("name", ["dealer", "party1", "party0", "server"])
def test_right_answers_again_after_a_process_was_killed(
    deployment: Deployment, pools: dict[str, Pool], name: str
) -> None:
    """SIGKILL in mid-load, and a restart on the same state: each answer right, each error clear, nothing spent twice."""
    server = deployment.servers[name]
    with load(deployment, pools, server.service) as tally:
        until(lambda: tally.right[server.service] >= 2 * OWNERS, "no answers before the blow")
        server.kill()
        server.start()
        before = tally.right[server.service]
        until(lambda: tally.right[server.service] >= before + 2 * OWNERS, "no answers after the restart")


def test_a_run_under_way_is_finished_on_sigterm(deployment: Deployment, pools: dict[str, Pool]) -> None:
    """Parties that are told to stop in the middle of a run finish it, and end well; its owner gets the answer."""
    pool, servers = pools["shares"], [deployment.servers[name] for name in ("party0", "party1")]
    parties = deployment.address("owner-party0"), deployment.address("owner-party1")
    with SharesClient(*parties, deployment.owner(0), dealing="client-aided", timeout=WAIT) as client:
        client.prepare(2)
        with deployment.links["party0-party1"].lagging(0.1), ThreadPoolExecutor() as threads:
            run = threads.submit(client.run, pool.images[:2])
            time.sleep(0.3)
            assert not run.done()
            for server in servers:
                server.signal(signal.SIGTERM)
            assert pool.wrong([0, 1], run.result(WAIT).values, "scores", 1e-2) is None
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(Server.wait, servers)) == [0, 0]
        list(threads.map(Server.start, servers))


def test_an_answer_is_fetched_after_the_connections_broke(deployment: Deployment, pools: dict[str, Pool]) -> None:
    """Connections that break when the input is sent before the answer is here: it is fetched, and run but once."""
    pool = pools["shares"]
    before = {name: answers(deployment, name) for name in ("party0", "party1")}
    with contextlib.ExitStack() as stack:
        zero, one = (stack.enter_context(Relay(deployment.address(f"owner-party{number}"))) for number in (0, 1))
        owner = SharesClient(zero.address, one.address, deployment.owner(1), dealing="dealer", timeout=WAIT)
        with owner as client, ThreadPoolExecutor() as threads:
            client.prepare(1)
            zero.muted.set()
            one.muted.set()
            run = threads.submit(client.run, pool.images[:1])
            for name, known in before.items():
                until(
                    lambda name=name, known=known: len(answers(deployment, name)) > len(known), f"{name} did not answer"
                )
            zero.cut()
            one.cut()
            assert pool.wrong([0], run.result(WAIT).values, "scores", 1e-2) is None
    names = [set(answers(deployment, name)) - set(known) for name, known in before.items()]
    assert len(names[0]) == 1
    assert names[0] == names[1]
    assert all(len(answers(deployment, name)) == len(known) + 1 for name, known in before.items())


def test_an_encrypted_answer_is_fetched_after_the_connection_broke(
    deployment: Deployment, pools: dict[str, Pool]
) -> None:
    """The same on ciphertexts: evaluated once."""
    pool, before = pools["ckks"], answers(deployment, "server")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay(deployment.address("owner-server")))
        client = stack.enter_context(OwnerClient(*relay.address, deployment.owner(1), timeout=WAIT))
        with ThreadPoolExecutor() as threads:
            client.register(OwnerKeys.generate(client.program))
            relay.muted.set()
            run = threads.submit(client.infer, pool.images[:1])
            until(lambda: len(answers(deployment, "server")) > len(before), "the server did not answer")
            relay.cut()
            assert pool.wrong([0], run.result(WAIT), "scores", client.program.error_bound) is None
    assert len(answers(deployment, "server")) == len(before) + 1


def test_damaged_bytes_are_noticed(deployment: Deployment, pools: dict[str, Pool]) -> None:
    """Bits flipped on every link in mid-load: TLS notices each, owners get right answers or a clear error."""
    links = deployment.links_of("shares")
    with load(deployment, pools, "shares") as tally:
        until(lambda: tally.right["shares"] >= OWNERS, "no answers before")
        for link in links:
            link.corrupt([random.Random(1).getrandbits(30)])
            until(lambda link=link: link.corrupted or link.name.endswith("dealer"), f"nothing passed {link.name}")
            link.calm()
        before = tally.right["shares"]
        until(lambda: tally.right["shares"] >= before + OWNERS, "no answers after")


def test_a_lost_tombstone_or_a_second_use_would_be_noticed(tmp_path: Path) -> None:
    """The watch itself: a correlation that comes back, and a mark that goes, are told."""
    store = tmp_path / "state" / "correlations"
    store.mkdir(parents=True)
    (store / f"{1:032x}.spent").touch()
    (store / f"{2:032x}.spent").touch()
    watch = StoreWatch({"party0": tmp_path / "state"})
    until(lambda: len(watch.spent["party0"]) == 2, "not seen")
    (store / f"{1:032x}.spent").rename(store / f"{1:032x}.ready")
    (store / f"{2:032x}.spent").unlink()
    watch.close()
    assert any("is ready again" in text for text in watch.problems)
    assert any("is gone" in text for text in watch.problems)
