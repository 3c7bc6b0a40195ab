"""The owner's side of a batch: load, encrypt ahead, keep a bounded number under way, decrypt in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.batch.engines import BatchEngine, BatchError, Pending
from protocols.batch.journal import Journal, Line
from protocols.messages import InputPreparation
from protocols.pictures import prepare_picture
from secureimg.ckks import OwnerKeys
from secureimg.errors import ImageError
from secureimg.images import load_image

__all__ = ["Totals", "pictures_in", "run_batch"]

_AHEAD = 2
"""Inputs under way for each worker: one that it evaluates and one that waits for it."""


@dataclass
class Totals:
    """What a batch took: seconds of the owner's encrypting and decrypting, and of all workers' evaluating."""

    images: int = 0
    unreadable: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "encrypt", "evaluate", "decrypt"), 0.0)
    )


@dataclass(frozen=True, eq=False)
class _Flight:
    """Pictures whose evaluation is under way; an error for each that is not among them."""

    files: Sequence[Path]
    errors: dict[Path, str]
    pending: Pending | None


def pictures_in(folder: Path, without: Path) -> list[Path]:
    """Return the files of a folder by name, but hidden ones and the results themselves.

    Raises
    ------
    BatchError
        If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise BatchError(f"{folder} is not a folder: name one that holds pictures")
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    found = sorted((path for path in files if path.absolute() != without.absolute()), key=lambda path: path.name)
    if not found:
        raise BatchError(f"{folder} holds no files: name a folder that holds pictures")
    return found


def run_batch(
    files: Sequence[Path],
    keys: OwnerKeys,
    preparation: InputPreparation | None,
    engine: BatchEngine,
    journal: Journal,
    read: Callable[[str, NDArray[np.float64]], Line],
    told: Callable[[int], None] = lambda done: None,
) -> Totals:
    """Evaluate what the journal lacks.

    Parameters
    ----------
    files : sequence of Path
        All pictures, in order.
    keys : OwnerKeys
        They stay here.
    preparation : InputPreparation or None
        How a picture becomes an input.
    engine : BatchEngine
    journal : Journal
        Gets a line for each picture, in order, as soon as it and all before it are done.
    read : callable
        Makes a picture's line from its name and its decrypted values.
    told : callable
        Is told how many lines the journal has.
    """
    totals, flights = Totals(), deque[_Flight]()
    todo = iter(files[journal.done :])
    most = _AHEAD * engine.workers + 1
    while True:
        chunk = [*islice(todo, keys.public.batch)]
        while flights and (len(flights) >= most or not chunk):
            _land(flights.popleft(), keys, journal, read, totals)
            told(journal.done)
        if not chunk:
            return totals
        flights.append(_start(chunk, keys, preparation, engine, totals))


def _start(
    files: Sequence[Path], keys: OwnerKeys, preparation: InputPreparation | None, engine: BatchEngine, totals: Totals
) -> _Flight:
    values, errors = list[NDArray[np.float64]](), dict[Path, str]()
    with _timed(totals, "load"):
        for path in files:
            try:
                values.append(prepare_picture(load_image(path), keys.public.input_shape, preparation, path.name))
            except (ImageError, OSError) as error:
                errors[path] = str(error)
    if not values:
        return _Flight(files, errors, None)
    with _timed(totals, "encrypt"):
        blob = keys.encrypt(np.stack(values))
    totals.bytes_up += len(blob)
    return _Flight(files, errors, engine.submit(blob))


def _land(
    flight: _Flight, keys: OwnerKeys, journal: Journal, read: Callable[[str, NDArray[np.float64]], Line], totals: Totals
) -> None:
    rows: Iterator[NDArray[np.float64]] = iter(())
    if flight.pending is not None:
        done = flight.pending.result()
        totals.seconds["evaluate"] += done.seconds
        totals.bytes_down += len(done.blob)
        with _timed(totals, "decrypt"):
            rows = iter(keys.decrypt(done.blob, len(flight.files) - len(flight.errors)))
    for path in flight.files:
        if path in flight.errors:
            totals.unreadable += 1
            journal.append(Line(path.name, error=flight.errors[path]))
        else:
            totals.images += 1
            journal.append(read(path.name, next(rows)))


class _timed:
    """Adds the seconds that a block takes."""

    def __init__(self, totals: Totals, what: str) -> None:
        self._totals, self._what = totals, what

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._totals.seconds[self._what] += time.perf_counter() - self._start
