"""A measured process answers calls, passes on what goes wrong, and leaves when it is told to."""

from __future__ import annotations

import os

import numpy as np
import pytest

from benchmarks import processes


class Served:
    """What the tests below run in a child."""

    def __init__(self, held: int = 0) -> None:
        self._held = np.ones(held, dtype=np.uint8)

    def pid(self) -> int:
        return os.getpid()

    def threads(self) -> str | None:
        return os.environ.get("OPENBLAS_NUM_THREADS")

    def fail(self) -> None:
        raise ValueError("on purpose")

    def die(self) -> None:
        os._exit(7)

    def peak_rss(self) -> int:
        return processes.peak_rss()


def test_a_child_is_another_process_with_one_thread_and_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    with processes.Child(Served) as child:
        assert child.call("pid") != os.getpid()
        assert child.call("threads") == "1"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "5"


def test_an_error_in_the_child_is_an_error_here_and_the_child_goes_on():
    with processes.Child(Served) as child:
        with pytest.raises(processes.ChildError, match="on purpose"):
            child.call("fail")
        assert child.call("pid") != os.getpid()


def test_a_child_that_cannot_be_built_says_why():
    with pytest.raises(processes.ChildError, match="Served"), processes.Child(Served, "not", "arguments"):
        pytest.fail("the block must not run")


def test_a_child_that_dies_is_reported_with_its_status():
    with processes.Child(Served) as child, pytest.raises(processes.ChildError, match="status 7"):
        child.call("die")


def test_peak_memory_counts_what_the_child_holds_and_not_what_this_process_holds():
    size = 200 << 20
    mine = np.ones(size, dtype=np.uint8)
    with processes.Child(Served) as small, processes.Child(Served, size) as large:
        least, most = small.call("peak_rss"), large.call("peak_rss")
    assert mine[-1] == 1
    assert least < size
    assert size * 0.9 < most - least < size * 1.3
