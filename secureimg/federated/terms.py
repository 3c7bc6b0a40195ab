"""What a round of secure aggregation is about: public, and the same for owners, parties and coordinator."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from secureimg.errors import ParameterError

__all__ = ["LEAST_UNIT", "MAX_OWNERS", "MAX_PARAMETERS", "RING_BITS", "SLACK", "Terms"]

RING_BITS: Final = 32
"""Shares are numbers modulo 2^32."""

MAX_OWNERS: Final = 4096
MAX_PARAMETERS: Final = 1 << 26
LEAST_UNIT: Final = 1 << 16
"""Fewest units that the clip may be divided into."""

SLACK: Final = 4 / 3
"""The parties admit no update of a norm above this many times the bound (but with negligible probability)."""

_TAIL: Final = 12.0  # deviations of noise that the ring has room for: beyond with probability 2^-104
_CODER: Final = msgspec.msgpack.Encoder()


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The terms of every round of one deployment.

    An owner's update is scaled so that its L2 norm is at most `clip`, multiplied by the owner's weight, and rounded to whole
    units of ``clip / unit``. With `weighted`, the weight travels as one more coordinate, in the same units.

    Attributes
    ----------
    parameters : int
        Length of an update.
    clip : float
        Largest L2 norm of an owner's update.
    owners, least : int
        Most owners in a round, and fewest of whom a sum is opened.
    noise : float
        Noise multiplier: each of the two parties adds discrete Gaussian noise of deviation `sigma`, which is `noise` times
        the bound on what one owner can change. 0: none.
    weighted : bool
        Whether owners carry weights in (0, 1], whose sum is opened, too.
    rounds : int
        Most rounds that the parties open, ever: with noise, the privacy budget; 0 for no limit.

    Raises
    ------
    ParameterError
        If they do not fit each other or the ring.
    """

    parameters: Annotated[int, Meta(ge=1, le=MAX_PARAMETERS)]
    clip: Annotated[float, Meta(gt=0, le=1e12)]
    owners: Annotated[int, Meta(ge=1, le=MAX_OWNERS)]
    least: Annotated[int, Meta(ge=1, le=MAX_OWNERS)]
    noise: Annotated[float, Meta(ge=0, le=1e4)] = 0.0
    weighted: bool = True
    rounds: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.clip) or not math.isfinite(self.noise) or self.clip <= 0 or self.noise < 0:
            raise ParameterError(f"clip {self.clip} must be above 0 and noise {self.noise} at least 0, both finite")
        if not 1 <= self.parameters <= MAX_PARAMETERS:
            raise ParameterError(f"an update of {self.parameters} parameters: the limits are 1 and {MAX_PARAMETERS}")
        if not 2 <= self.least <= self.owners <= MAX_OWNERS:
            raise ParameterError(
                f"at least {self.least} and at most {self.owners} owners: it must be 2 <= least <= owners <= {MAX_OWNERS}: "
                "the sum of one owner is its update"
            )
        if self.unit < LEAST_UNIT:
            raise ParameterError(
                f"{self.owners} owners with noise {self.noise:g} leave {self.unit} units for the clip in a ring of "
                f"{RING_BITS} bits, at least {LEAST_UNIT} are needed: lower the noise or the number of owners"
            )

    @property
    def length(self) -> int:
        """Coordinates that travel."""
        return self.parameters + (1 if self.weighted else 0)

    @property
    def unit(self) -> int:
        """Units that the clip is divided into: as many as the sum of all owners' and both parties' noise has room for.

        And no more than let the norm check tell twice the bound from a quarter of the ring.
        """
        each = math.sqrt(2.0) if self.weighted else 1.0
        room = each * (self.owners * SLACK + _TAIL * math.sqrt(2.0) * self.noise)
        rounding = 4 * self.owners + 40 * self.noise + 64  # bound and sigma are rounded up
        return int(min((2 ** (RING_BITS - 1) - rounding) / room, (2 ** (RING_BITS - 3) - 4096) / (2 * each)))

    @property
    def bound(self) -> int:
        """Largest L2 norm, in units, of all coordinates of one owner: what one owner can change in a sum."""
        return math.isqrt(2 * self.unit**2) + 1 if self.weighted else self.unit

    @property
    def sigma(self) -> int:
        """Deviation, in units, of the noise that each party adds; 0 for none."""
        return math.ceil(self.noise * self.bound)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the terms, in hexadecimal."""
        return hashlib.sha256(b"secureimg-terms-1\0" + _CODER.encode(self)).hexdigest()
