"""Workers of a Ray cluster: an existing one, or one of this machine's processes.

Program and keys go into the object store once; a worker process loads them at its first task and keeps them. Ray sends
values between the members of its cluster with pickle and trusts them all: they are processes of one operator, who started
the cluster, on a network that nobody else reaches. Every member can learn the ciphertexts, the evaluation keys and the
program with its weights. Pixels, results and secret keys never leave the owner's process. Each machine of the cluster has
the same release of secureimg installed.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from protocols.batch.engines import BatchError, Bench, Evaluated, Work

__all__ = ["RayEngine"]

_RETRIES = 5
_KNOCK_SECONDS = 5.0
_loaded: dict[str, Bench] = {}
"""A worker process's own; the latest program and keys."""


class RayEngine:
    """Tasks on Ray.

    Parameters
    ----------
    work : Work
        What is evaluated.
    name : str
        Different for different work: program and key id.
    workers : int, optional
        Cores to use. Default: all that the cluster has.
    address : str, optional
        Of a cluster that runs ("auto", "192.0.2.7:6379", "ray://..."). None starts one on this machine, which ends with this
        engine.

    Raises
    ------
    BatchError
        If Ray is not installed, or the cluster does not answer.
    """

    restarts = None

    def __init__(self, work: Work, name: str, workers: int | None = None, address: str | None = None) -> None:
        self._ray = _import_ray()
        self._work, self._name, self._address = work, name, address
        self._asked = workers
        self.workers = workers or len(os.sched_getaffinity(0))
        self._seen: set[int] = set()
        self._evaluate: Callable[..., Any] | None = None
        self._refs: list[Any] = []

    def __enter__(self) -> Self:
        ray = self._ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self._address is None:
                ray.init(num_cpus=self.workers, include_dashboard=False, **quiet)
            else:
                _knock(self._address)
                ray.init(address=self._address, **quiet)
                self.workers = self._asked or max(1, int(ray.cluster_resources().get("CPU", 1)))
        except Exception as error:  # noqa: BLE001 - Ray raises many kinds; each means that there is no cluster
            where = "on this machine" if self._address is None else f"at {self._address}"
            reason = " ".join(str(error).split())[:300]
            raise BatchError(
                f"no Ray cluster {where}: {reason}: start one with `ray start --head`, or leave --address out"
            ) from None
        self._refs = [ray.put(self._work)]
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)
        warm = remote(_load).remote
        ray.get([warm(self._refs, self._name) for _ in range(self.workers)])
        self._evaluate = remote(_evaluate).remote
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refs = []
        self._ray.shutdown()

    @property
    def processes(self) -> frozenset[int]:
        """Ids of the processes that have answered so far, as their machines number them."""
        return frozenset(self._seen)

    def submit(self, blob: bytes) -> _Pending:
        """Hand a task to the cluster. Ray begins it anew if its worker or machine goes."""
        assert self._evaluate is not None
        return _Pending(self._ray, self._evaluate(self._refs, self._name, blob), self._seen)


class _Pending:
    """A task's answer to be."""

    def __init__(self, ray: Any, reference: Any, seen: set[int]) -> None:
        self._ray, self._reference, self._seen = ray, reference, seen

    def result(self) -> Evaluated:
        try:
            blob, seconds, process = self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            raise BatchError(f"an evaluation failed on the cluster: {error.cause}") from None
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise BatchError(
                f"an evaluation was lost {_RETRIES + 1} times: {reason}: run again to go on where it stopped"
            ) from None
        finally:
            self._reference = None
        self._seen.add(process)
        return Evaluated(blob, seconds)


def _evaluate(refs: list[Any], name: str, blob: bytes) -> tuple[bytes, float, int]:
    """A task, in a worker process of the cluster."""
    done = _bench(refs, name).evaluate(blob)
    return done.blob, done.seconds, os.getpid()


def _load(refs: list[Any], name: str) -> None:
    """Make a worker process ready, so that the first of many evaluations does not wait for it."""
    _bench(refs, name)


def _bench(refs: list[Any], name: str) -> Bench:
    bench = _loaded.get(name)
    if bench is None:
        _loaded.clear()
        bench = _loaded[name] = Bench(_import_ray().get(refs[0]))
    return bench


def _knock(address: str) -> None:
    """See whether anybody listens there: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isascii() and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home otherwise
    with contextlib.suppress(ImportError):
        return importlib.import_module("ray")
    raise BatchError("the engine ray needs the extra of that name: pip install 'secureimg[ray]'")
