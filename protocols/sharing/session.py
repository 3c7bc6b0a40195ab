"""A session of an owner at one party."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from protocols.sharing.dealer import Supply
from protocols.sharing.link import Link
from protocols.sharing.messages import Dealing
from secureimg import sharing

__all__ = ["Session", "until"]

_LONGEST: Final = 86_400.0


@dataclass
class Session:
    """What a session of an owner has gathered at one party.

    Attributes
    ----------
    token, owner : str
        The owner's name for it; SHA-256 of its certificate, or the id of its token.
    peer : str
        SHA-256 of the other party's certificate.
    ready : (int, str, Prepared) or None
        Request, correlation and what was prepared for it.
    """

    token: str
    owner: str
    dealing: Dealing
    peer: str
    link: Link
    runner: sharing.PartyZero | sharing.PartyOne
    public: sharing.PublicProgram
    epoch: str
    weight_seed: bytes = field(default=b"", repr=False)
    supply: Supply | None = None
    weights: int = 0
    ready: tuple[int, str, sharing.Prepared] | None = None

    def close(self) -> None:
        """Close everything but the owner's connection."""
        self.link.close()
        if self.supply is not None:
            self.supply.close()


def until(seconds: float) -> float:
    """Return when a wait of `seconds`, which an owner asked for, is over; on the clock of `time.monotonic`."""
    return time.monotonic() + min(seconds, _LONGEST)
