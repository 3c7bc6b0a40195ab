"""What a party needs of its link to the other one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Channel"]


class Channel(Protocol):
    """An ordered, authenticated and encrypted link between party 0 and party 1.

    Both sides know the size of every message before it comes, so a message is only its bytes.
    """

    def send(self, message: NDArray[np.uint8]) -> None:
        """Hand over a message. It may leave later: its memory must not change before `flush` returns."""

    def flush(self) -> None:
        """Wait until every message that was handed over has left."""

    def receive(self, message: NDArray[np.uint8]) -> None:
        """Fill the buffer with the other party's next message, which must have exactly this size.

        Raises
        ------
        RemoteProtocolError
            If the other party is gone, late, or sends anything else.
        """
