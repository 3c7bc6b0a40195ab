"""What a way to publish pictures is: its parameters with units and limits, what it makes, how it is attacked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.privacy import Charge
from secureimg.publishing import Guarantee, MethodOfSet, Recipient

__all__ = ["Method", "Parameter", "Part", "Release", "Settings", "Source", "parse_settings", "sides_below"]

Array = NDArray[np.float64]
Settings = Mapping[str, Any]
"""A value for each parameter of a method; None where one is left to the method."""

_CELLS: Final = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes
    ----------
    name : str
    kind : {"whole", "number", "pair", "box", "pixels"}
        A pair is written 8x8; a box TOP,LEFT,HEIGHTxWIDTH; pixels are a number of them or `all`.
    words : str
        What it is, with its unit.
    default : object
        None if there is none.
    required : bool
        Whether it must be given.
    low, high : float
        Limits of numbers, both allowed.
    """

    name: str
    kind: Literal["whole", "number", "pair", "box", "pixels"]
    words: str
    default: Any = None
    required: bool = False
    low: float = -math.inf
    high: float = math.inf

    def parse(self, text: str) -> Any:
        """Return the value that a text says.

        Raises
        ------
        PublishingError
        """
        value = _READERS[self.kind](text)
        if value is None:
            raise PublishingError(f"{self.name} {text!r} is not {_FORMS[self.kind]}: it is {self.words}")
        if self.kind in ("whole", "number") and not self.low <= value <= self.high:
            raise PublishingError(f"{self.name} {text} is not from {self.low:g} to {self.high:g}: it is {self.words}")
        return value


@dataclass(frozen=True, eq=False)
class Source:
    """A picture to publish.

    Attributes
    ----------
    name : str
        Its file's name.
    data : bytes
        The file.
    image : (H, W) or (H, W, 3) float64
        In [0, 1], upright.
    """

    name: str
    data: bytes
    image: Array


@dataclass(frozen=True, eq=False)
class Part:
    """A file of a release, apart from its picture: what it is, its suffix, and whether it is for its owner only."""

    suffix: str
    data: bytes
    words: str
    private: bool = False


@dataclass(frozen=True, eq=False)
class Release:
    """What a method made of one picture.

    Attributes
    ----------
    guarantee : Guarantee
    image : ndarray or None
        What is to be seen; None if values are published.
    parts : tuple of Part
        Files whose bytes the method made; then the picture is not written by itself.
    values, exact : ndarray or None
        Published values, and what they are without noise: that is for the owner's report only.
    charge : Charge or None
        For a ledger.
    facts : dict
        More to tell.
    """

    guarantee: Guarantee
    image: Array | None
    parts: tuple[Part, ...] = ()
    values: NDArray[Any] | None = None
    exact: NDArray[Any] | None = None
    charge: Charge | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Method:
    """One way to publish.

    Attributes
    ----------
    name, summary : str
    parameters : tuple of Parameter
    publish : callable
        From sources, settings and recipients to a release for each source.
    attacked : callable
        From settings to what an attacker sees of a set of pictures.
    strength : str
        The parameter that is varied in curves.
    strengths : callable
        From the settings and a picture's height and width to values of it, the weakest obfuscation first.
    sealed : bool
        Whether it needs recipients.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    publish: Callable[[Sequence[Source], Settings, Sequence[Recipient]], list[Release]]
    attacked: Callable[[Settings], MethodOfSet]
    strength: str
    strengths: Callable[[Settings, int, int], tuple[float, ...]]
    sealed: bool = False

    @property
    def unit(self) -> str:
        """Unit of the strength, in words."""
        return next(each.words for each in self.parameters if each.name == self.strength)

    def at(self, settings: Settings, strength: float) -> MethodOfSet:
        """What an attacker sees at another strength."""
        whole = next(each.kind == "whole" for each in self.parameters if each.name == self.strength)
        return self.attacked({**settings, self.strength: int(strength) if whole else float(strength)})


def parse_settings(method: Method, given: Mapping[str, str]) -> dict[str, Any]:
    """Return a value for each of a method's parameters, from texts.

    Raises
    ------
    PublishingError
        One is unknown, missing or out of range.
    """
    known = {parameter.name: parameter for parameter in method.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "none"
            raise PublishingError(f"method {method.name} has no parameter {name!r}: it takes {takes}")
    settings = {}
    for name, parameter in known.items():
        if name in given:
            settings[name] = parameter.parse(given[name])
        elif parameter.required:
            raise PublishingError(f"method {method.name} needs {name}: add --{name} VALUE, {parameter.words}")
        else:
            settings[name] = parameter.default
    return settings


def sides_below(height: int, width: int) -> tuple[float, ...]:
    """Cells to try on pictures of a size, up to half their longer side and beyond it once."""
    longest = max(height, width)
    cells = [cell for cell in _CELLS if cell <= longest]
    return tuple(float(cell) for cell in cells[:9]) or (1.0,)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?\d{1,12}", text) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _pair(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    return (int(found[1]), int(found[2])) if found else None


def _box(text: str) -> tuple[int, int, int, int] | None:
    found = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6})x(\d{1,6})", text)
    return (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None


def _pixels(text: str) -> int | str | None:
    return "whole image" if text in ("all", "whole image") else _whole(text)


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "whole": _whole, "number": _number, "pair": _pair, "box": _box, "pixels": _pixels,
}  # fmt: skip
_FORMS: Final = {
    "whole": "a whole number",
    "number": "a number",
    "pair": "a pair like 8x8",
    "box": "a box like 40,60,120x90",
    "pixels": "a number of pixels, or `all`",
}
