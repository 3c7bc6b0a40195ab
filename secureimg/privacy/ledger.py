"""A budget of privacy loss, and the releases that were charged to it. No files here: `protocols.ledger_file` keeps them."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secureimg.errors import BlobError, BudgetError, PublishingError
from secureimg.privacy.accounting import rho_to_epsilon

__all__ = ["MAX_CHARGES", "MAX_LEDGER_BYTES", "WHOLE_IMAGE", "Charge", "Ledger", "Unit", "picture_name"]

WHOLE_IMAGE: Final = "whole image"
"""Neighbours are any two images of one shape."""

MAX_CHARGES: Final = 10_000
MAX_LEDGER_BYTES: Final = 4 << 20

_Pixels = Annotated[int, Meta(ge=1, le=1 << 40)]
_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_Loss = Annotated[float, Meta(ge=0, le=1e6)]
_Delta = Annotated[float, Meta(ge=0, lt=1)]

Unit = int | str
"""What neighbours differ by: a number of pixels, `WHOLE_IMAGE`, or the unit of a distance in words."""


class Charge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one release costs.

    Attributes
    ----------
    method : str
        Who asks, for messages.
    unit : int or str
        What the loss is for; see `Unit`.
    epsilon, delta : float
        Of a release with Laplace noise (delta 0), or of one that is only known to be (epsilon, delta)-private.
    rho : float
        Of a release with Gaussian noise; then `epsilon` and `delta` are 0, for it is composed in zCDP.
    """

    method: _Text
    unit: _Pixels | _Text
    epsilon: _Loss = 0.0
    delta: _Delta = 0.0
    rho: _Loss = 0.0


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget for one image or album, and what was charged to it. Immutable: `spend` returns the next one.

    The loss of all releases is the sum of their epsilons and, for those with Gaussian noise, the conversion of the sum of
    their rhos at what is left of delta. Later releases may depend on what earlier ones showed. If also their epsilons are
    chosen so, this is proved for ledgers whose charges have neither rho nor delta (Rogers et al., NIPS 2016); with Gaussian
    noise fix the numbers beforehand.

    It does not know about releases that were not charged, nor that two names are one image.

    Attributes
    ----------
    name : str
        Of the album, or `picture_name` of an image.
    epsilon, delta : float
        The budget.
    unit : int or str
        What it protects. Charges for another number of pixels are converted (group privacy: m' pixels cost
        ``ceil(m' / m)`` times epsilon, or that squared times rho); one for a whole image covers any number of pixels.
    charges : tuple of Charge
    """

    name: _Text
    epsilon: Annotated[float, Meta(gt=0, le=1e6)]
    delta: _Delta = 0.0
    unit: _Pixels | _Text = WHOLE_IMAGE
    charges: Annotated[tuple[Charge, ...], Meta(max_length=MAX_CHARGES)] = ()
    format: Literal["secureimg ledger"] = "secureimg ledger"
    version: Literal[1] = 1

    def spent(self) -> tuple[float, float]:
        """Return epsilon and delta of all charges; epsilon is infinite if Gaussian noise has no delta left to convert at."""
        epsilon, delta = self._composed(self.charges)
        return float(epsilon), delta

    def left(self) -> float:
        """Return the epsilon that a release with Laplace noise may still take."""
        epsilon, _ = self._composed(self.charges)
        return max(0.0, float(_exactly(self.epsilon) - epsilon)) if epsilon != math.inf else 0.0

    def spend(self, charge: Charge) -> Ledger:
        """Return the ledger with one more charge.

        Store it before the release leaves: a crash in between wastes budget, the other way round it would forget a release.

        Raises
        ------
        BudgetError
            If that is past the budget; this ledger stays as it is.
        PublishingError
            If the charge is for neighbours that this ledger's cannot be derived from, or holds a number out of range.
        """
        _check(charge, Charge, "the charge")
        self._converted(charge)
        if len(self.charges) >= MAX_CHARGES:
            raise BudgetError(
                f"ledger {self.name!r} holds {MAX_CHARGES} releases, as many as it may: start another album"
            )
        after = (*self.charges, charge)
        epsilon, delta = self._composed(after)
        if epsilon > _exactly(self.epsilon) or delta > self.delta:
            raise BudgetError(self._refusal(charge))
        return msgspec.structs.replace(self, charges=after)

    def to_bytes(self) -> bytes:
        """Return the ledger as JSON.

        Raises
        ------
        PublishingError
            If it holds a number or a text out of range.
        """
        _check(self, Ledger, "the ledger")
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "the ledger") -> Ledger:
        """Read what `to_bytes` wrote.

        Raises
        ------
        BlobError
            If it is too large, damaged, or of another version.
        """
        if len(data) > MAX_LEDGER_BYTES:
            raise BlobError(f"{where} has {len(data)} bytes, a ledger at most {MAX_LEDGER_BYTES}: this is another file")
        try:
            ledger = msgspec.json.decode(data, type=cls)
            for charge in ledger.charges:
                ledger._converted(charge)
        except (msgspec.MsgspecError, PublishingError, UnicodeDecodeError, RecursionError) as error:
            raise BlobError(
                f"{where} is no ledger of version 1 ({error}): restore a copy that knows every release, or publish no more"
            ) from None
        return ledger

    # ---------------------------------------------------------------------------------------------------- composition

    def _factor(self, charge: Charge) -> int:
        """How many of the charge's steps lead from one of this ledger's neighbours to the other."""
        if charge.unit == self.unit or (charge.unit == WHOLE_IMAGE and isinstance(self.unit, int)):
            return 1
        if isinstance(charge.unit, int) and isinstance(self.unit, int):
            return -(-self.unit // charge.unit)
        raise PublishingError(
            f"ledger {self.name!r} counts the loss for {_words(self.unit)}, {charge.method} gives one for "
            f"{_words(charge.unit)}: keep another ledger for it, or publish with the ledger's"
        )

    def _converted(self, charge: Charge) -> tuple[Fraction, Fraction, Fraction]:
        """Epsilon, delta and rho of a charge in this ledger's unit."""
        factor = self._factor(charge)
        if charge.delta > 0.0 and factor > 1:
            raise PublishingError(
                f"ledger {self.name!r} counts {_words(self.unit)}, {charge.method} has a delta for {_words(charge.unit)}: "
                "charge its rho, or publish with the ledger's"
            )
        return _exactly(charge.epsilon) * factor, _exactly(charge.delta), _exactly(charge.rho) * factor**2

    def _composed(self, charges: tuple[Charge, ...]) -> tuple[Fraction | float, float]:
        epsilon = delta = rho = Fraction(0)
        for charge in charges:
            more = self._converted(charge)
            epsilon, delta, rho = epsilon + more[0], delta + more[1], rho + more[2]
        if rho == 0:
            return epsilon, float(delta)
        rest = _exactly(self.delta) - delta
        if rest <= 0 or rho > 1e6:
            return math.inf, float(delta)
        # what is left of delta is all given to the conversion: it is spent as soon as there is Gaussian noise
        return epsilon + Fraction(rho_to_epsilon(math.nextafter(float(rho), math.inf), float(rest))), self.delta

    def _refusal(self, charge: Charge) -> str:
        asked = f"rho {charge.rho:g}" if charge.rho else f"epsilon {charge.epsilon:g}"
        if charge.delta:
            asked += f" and delta {charge.delta:g}"
        factor = self._factor(charge)
        if factor > 1:
            asked += f" for {_words(charge.unit)}, {factor} times that for {_words(self.unit)}"
        spent, left = self.spent()[0], self.left()
        text = (
            f"ledger {self.name!r}: epsilon {spent:g} of {self.epsilon:g} is spent, {charge.method} asks for {asked} and "
            f"{left:g} is left"
        )
        if (charge.rho or charge.delta) and not self.delta:
            return f"{text}; its budget has no delta: use Laplace noise, or a ledger with one"
        return f"{text}: ask for less, or publish nothing more of it"


def picture_name(image: NDArray[Any]) -> str:
    """Return a name for a picture's ledger: a digest of its shape and values.

    Another encoding of the picture has other values and so another name: an album's ledger does not depend on that. Whoever
    has a picture can compute its name, so a ledger tells that something of it was published.
    """
    array = np.ascontiguousarray(image)
    digest = hashlib.blake2b(digest_size=16, person=b"secureimg-pict-1")
    digest.update(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.data.cast("B") if array.size else b"")
    return f"picture {digest.hexdigest()}"


def _exactly(value: float) -> Fraction:
    """The decimal that a float is written as: ten times 0.1 are 1."""
    return Fraction(repr(float(value)))


def _words(unit: Unit) -> str:
    if isinstance(unit, str):
        return unit
    return f"{unit:,} pixel{'s' if unit > 1 else ''}"


def _check(value: object, kind: type, what: str) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(value), kind)
    except msgspec.ValidationError as error:
        raise PublishingError(f"{what} cannot be kept: {error}") from None
