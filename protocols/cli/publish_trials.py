"""Attacks on what is published: a parrot on an album, the same over strengths, and restoration of blur."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.cli.console import err
from protocols.cli.publish_kinds import Method, Settings, parse_settings
from secureimg.errors import PublishingError
from secureimg.publishing import (
    Album,
    ParrotResult,
    Restoration,
    Similarity,
    StrengthPoint,
    Sweep,
    compare_pictures,
    digits_album,
    load_album,
    parrot_attack,
    restoration_attack,
    strength_sweep,
)

__all__ = ["DIGITS", "Step", "Trial", "attack_album", "own_steps", "read_attacked", "restore", "swept_settings"]

Array = NDArray[np.float64]

DIGITS: Final = "digits"
"""The album that comes with the program."""

_DIGITS_EACH: Final = 50  # a few seconds for an attack
_RESTORED: Final = 384  # pixels a side that are restored
_SMALLEST: Final = 16
_LARGEST_SIGMA: Final = 50
_SHOWN: Final = 512  # longest side of a picture whose strengths are tried without an album


@dataclass(frozen=True, eq=False)
class Step:
    """One strength of a method: what it makes of a picture, and how alike that is or how well it is attacked.

    Attributes
    ----------
    method, parameter, unit : str
    strength : float
    picture : ndarray or None
        None if values are published.
    similarity : Similarity or None
    attack : ParrotResult or None
    """

    method: str
    parameter: str
    unit: str
    strength: float
    picture: Array | None
    similarity: Similarity | None
    attack: ParrotResult | None


@dataclass(frozen=True, eq=False)
class Trial:
    """What attacks on an album found.

    Attributes
    ----------
    album : Album
    result : ParrotResult
        At the setting that was published with.
    clear : ParrotResult
        On the album's pictures as they are.
    steps : tuple of Step
        Over strengths, the method first; empty without a report.
    original : ndarray
        The album's picture that the steps show.
    """

    album: Album
    result: ParrotResult
    clear: ParrotResult
    steps: tuple[Step, ...]
    original: Array


def read_attacked(name: str) -> Album:
    """Return the album to attack: a folder of folders, or the digits that come with the program."""
    if name == DIGITS and not Path(name).exists():
        return digits_album(_DIGITS_EACH)
    with _progress("reading the album") as tell:
        return load_album(name, progress=tell)


def swept_settings(method: Method, given: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a method for a sweep: of what is given, what it knows; the strength itself need not be there."""
    known = {parameter.name for parameter in method.parameters}
    texts = {name: text for name, text in given.items() if name in known}
    texts.setdefault(method.strength, "1" if method.strength != "k" else "2")
    return parse_settings(method, texts)


def attack_album(
    album: Album, method: Method, settings: Settings, compared: Sequence[tuple[Method, Settings]], *, sweep: bool
) -> Trial:
    """Attack a method at its setting; with `sweep` also over strengths, and others beside it."""
    try:
        with err.status("training the attack") if err.is_terminal else _nothing():
            clear = parrot_attack(album, lambda image: image, copies=3)
            result = parrot_attack(album, method_of_set=method.attacked(settings))
        steps: tuple[Step, ...] = ()
        original = album.picture(0)
        if sweep:
            pairs = [(method, settings), *compared]
            height, width = album.pixels.shape[1:3]
            sweeps = [
                Sweep(each.name, each.strength, each.unit, each.strengths(chosen, height, width), _at(each, chosen))
                for each, chosen in pairs
            ]
            with _progress("attacking each strength") as tell:
                points = strength_sweep(album, sweeps, progress=tell)
            steps = tuple(
                _step(point, dict(zip([m.name for m, _ in pairs], pairs, strict=True)), album) for point in points
            )
    except PublishingError as error:
        raise PublishingError(f"the attack on {album.title}: {error}") from None
    return Trial(album, result, clear, steps, original)


def own_steps(method: Method, settings: Settings, image: Array) -> tuple[Step, ...]:
    """What each strength makes of the owner's picture, without an attack."""
    image = _middle(image, _SHOWN)
    steps = []
    for strength in method.strengths(settings, *image.shape[:2]):
        values = method.at(settings, strength)(image[None])[0]
        alike = values.shape == image.shape
        picture = np.clip(values, 0.0, 1.0) if alike else None
        found = compare_pictures(image, picture) if picture is not None else None
        steps.append(Step(method.name, method.strength, method.unit, strength, picture, found, None))
    return tuple(steps)


def restore(original: Array, published: Array, sigma: float) -> tuple[Restoration, Array, float] | None:
    """Undo a blur in the picture's middle: what came of it, the blurred piece, and seconds; None for tiny pictures.

    The attacker finds the strength itself, and also tries the true one, as if it were told.
    """
    if min(original.shape[:2]) < _SMALLEST:
        return None
    start = time.perf_counter()
    before, after = _middle(original, _RESTORED), _middle(published, _RESTORED)
    with err.status("undoing the blur") if err.is_terminal else _nothing():
        found = [restoration_attack(before, after)]
        if sigma <= _LARGEST_SIGMA:
            found.append(restoration_attack(before, after, sigma, filters=("wiener",)))
    return max(found, key=lambda each: each.gain), after, time.perf_counter() - start


def _middle(image: Array, side: int) -> Array:
    height, width = image.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return image[top : top + side, left : left + side]


def _at(method: Method, settings: Settings) -> Callable[[float], Any]:
    return lambda strength: method.at(settings, strength)


def _step(point: StrengthPoint, methods: Mapping[str, tuple[Method, Settings]], album: Album) -> Step:
    method, settings = methods[point.method]
    few = np.stack([album.picture(place) for place in range(min(len(album.labels), 60))])  # k-same needs a set
    values = method.at(settings, point.strength)(few)
    picture = np.clip(values[0], 0.0, 1.0) if values.shape == few.shape else None
    return Step(
        point.method, point.parameter, point.unit, point.strength, picture, point.result.similarity, point.result
    )


@contextmanager
def _progress(words: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
