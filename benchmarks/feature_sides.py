"""The processes that features are measured on: party 0, party 1 and a dealer, over TLS, for one program after another."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from protocols.sharing import DealerServer, PartyOneServer, PartyServer, PartyZeroServer
from secureimg.sharing import Program, one_blas_thread, warm_up

__all__ = ["DealerSide", "PartySide"]

Address = tuple[str, int]


class DealerSide:
    """A dealer.

    Parameters
    ----------
    identity : Path
        Its bundle.
    """

    def __init__(self, identity: Path) -> None:
        warm_up()
        self._server = DealerServer(identity)
        threading.Thread(target=self._server.listener.run, daemon=True).start()

    def address(self) -> Address:
        """Where it listens."""
        return self._server.listener.address

    def close(self) -> None:
        """Stop listening."""
        self._server.listener.close()


class PartySide:
    """Party 0 or party 1.

    Parameters
    ----------
    number : int
    identity : Path
        Its bundle.
    """

    def __init__(self, number: int, identity: Path) -> None:
        warm_up()
        self._stack = ExitStack()
        self._stack.enter_context(one_blas_thread())  # as `secureimg serve` does
        self._number, self._identity = number, identity
        self._server: PartyServer | None = None

    def serve(self, program: Program | None, dealer: Address, peer: Address | None = None) -> Address:
        """Serve a program instead of the last one.

        Parameters
        ----------
        program : Program or None
            None for party 0 where the weights are party 1's.
        dealer : (str, int)
            Where the dealer listens.
        peer : (str, int), optional
            For party 0: where party 1 listens.
        """
        self._leave()
        options: dict[str, Any] = {"client_aided": False, "dealer": dealer}
        if self._number == 1:
            assert program is not None
            self._server = PartyOneServer(self._identity, program, **options)
        else:
            assert peer is not None
            self._server = PartyZeroServer(self._identity, peer, program=program, **options)
        threading.Thread(target=self._server.listener.run, daemon=True).start()
        return self._server.listener.address

    def _leave(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Stop serving."""
        self._leave()
        self._stack.close()
