"""Real processes, killed and frozen in the middle of runs: errors in time, never a wrong answer, and then service."""

from __future__ import annotations

import random
import signal
import threading
import time
from typing import Any

import pytest

from protocols import Code, RefusedError
from protocols.sharing import DEALINGS, SharesClient
from protocols.tls import cut
from secureimg.errors import RemoteProtocolError

PATIENCE = 1.0
SPARE = 5.0


def client(
    commands: Any, bundles: Any, dealing: Any = "client-aided", timeout: float = 10.0, retry: float = 0.0
) -> SharesClient:
    parties = commands["party-0"].address, commands["party-1"].address
    return SharesClient(*parties, bundles["owner"], dealing=dealing, timeout=timeout, retry=retry)


def serves(commands: Any, bundles: Any, net: Any, dealing: Any = "client-aided") -> None:
    images = net.images(2, 8)
    with client(commands, bundles, dealing) as owner:
        net.check(owner.run(images).values, images)


def until_it_fails(
    commands: Any, bundles: Any, net: Any, dealing: Any, struck: threading.Event, timeout: float = 10.0
) -> float:
    """Run and check answers until an error; return the moment of the error."""
    images = net.images(4, 3)
    try:
        with client(commands, bundles, dealing, timeout) as owner:
            for _ in range(100_000):
                net.check(owner.run(images).values, images)
    except (RefusedError, RemoteProtocolError) as error:
        failed, reason = time.monotonic(), str(error)
    else:
        pytest.fail("the run ended without an error")
    assert struck.wait(5), f"failed before anything happened: {reason}"
    return failed


def strike(
    child: Any, number: signal.Signals, after: float, struck: threading.Event, times: list[float]
) -> threading.Thread:
    def blow() -> None:
        time.sleep(after)
        child.signal(number)
        times.append(time.monotonic())
        struck.set()

    thread = threading.Thread(target=blow, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("dealing", DEALINGS)
def test_processes_answer_like_the_plain_model(commands: Any, bundles: Any, net: Any, dealing: Any) -> None:
    """Party 0, party 1 and a dealer as an operator starts them."""
    serves(commands, bundles, net, dealing)


@pytest.mark.parametrize(
    ("name", "seed"), [("party-0", 1), ("party-0", 2), ("party-1", 3), ("party-1", 4), ("dealer", 5)]
)
def test_a_process_that_is_killed_ends_its_sessions_and_no_more(
    commands: Any, bundles: Any, net: Any, name: str, seed: int
) -> None:
    """SIGKILL at a random moment of a run: an error within the time limit; after a restart all is well again."""
    dealing = "dealer" if name == "dealer" else random.Random(seed).choice(DEALINGS)
    struck, times = threading.Event(), []
    thread = strike(commands[name], signal.SIGKILL, random.Random(seed).uniform(0.1, 0.5), struck, times)
    failed = until_it_fails(commands, bundles, net, dealing, struck)
    thread.join(5)
    assert failed - times[0] < 2 * PATIENCE + SPARE
    with pytest.raises((RefusedError, RemoteProtocolError)):
        serves(commands, bundles, net, dealing)
    commands[name].restart()
    serves(commands, bundles, net, dealing)


@pytest.mark.parametrize(("name", "seed"), [("party-0", 1), ("party-1", 3)])
def test_a_process_that_freezes_ends_its_sessions_and_no_more(
    commands: Any, bundles: Any, net: Any, name: str, seed: int
) -> None:
    """SIGSTOP at a random moment: an error within the time limit of whoever waits; whoever thaws serves again."""
    struck, times = threading.Event(), []
    after = random.Random(seed).uniform(0.1, 0.5)
    thread = strike(commands[name], signal.SIGSTOP, after, struck, times)
    try:
        failed = until_it_fails(commands, bundles, net, random.Random(seed).choice(DEALINGS), struck, timeout=2.5)
    finally:
        thread.join(5)
        commands[name].signal(signal.SIGCONT)
    assert failed - times[0] < 2.5 + SPARE
    serves(commands, bundles, net)


@pytest.mark.parametrize("name", ["party-0", "party-1"])
def test_an_owner_hears_of_a_frozen_party_from_the_other_one(commands: Any, bundles: Any, net: Any, name: str) -> None:
    """A party waits for the other one no longer than its patience; the owner need not sit out its own time limit."""
    with client(commands, bundles, timeout=60.0) as owner:
        owner.prepare(1)
        commands[name].signal(signal.SIGSTOP)
        start = time.monotonic()
        try:
            with pytest.raises(RefusedError, match="the other party was silent"):
                owner.run(net.images(1))
        finally:
            commands[name].signal(signal.SIGCONT)
        assert time.monotonic() - start < 2 * PATIENCE + SPARE
    serves(commands, bundles, net)


def test_a_short_freeze_is_survived(commands: Any, bundles: Any, net: Any) -> None:
    """A pause below the patience changes nothing: the session goes on with right answers."""
    images = net.images(4, 3)
    with client(commands, bundles) as owner:
        for name in ("party-0", "party-1"):
            owner.prepare(4)
            commands[name].signal(signal.SIGSTOP)
            timer = threading.Timer(0.2, commands[name].signal, (signal.SIGCONT,))
            timer.start()
            net.check(owner.run(images).values, images)
            timer.join(5)


def test_sessions_of_others_go_on_while_connections_break(commands: Any, bundles: Any, net: Any) -> None:
    """Owners whose connections break at random moments get right answers or are told, and disturb nobody who stays."""
    images, rng = net.images(3, 2), random.Random(7)
    with client(commands, bundles, "dealer") as owner:
        for _ in range(6):
            with client(commands, bundles, retry=5.0) as other:
                wires = [talk.wire.sock for talk in other._talks]
                timers = [threading.Timer(rng.uniform(0.0, 0.05), cut, (wire,)) for wire in wires]
                for timer in timers:
                    timer.start()
                for _ in range(15):
                    try:
                        net.check(other.run(images).values, images)
                    except RefusedError as refused:
                        assert refused.code is Code.GONE  # noqa: PT017
                for timer in timers:
                    timer.join(5)
            net.check(owner.run(images).values, images)
