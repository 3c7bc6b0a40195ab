"""A whole session of an owner in one call, for owners who come another way than by the native protocol (HTTPS)."""

from __future__ import annotations

import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.results import Kept
from protocols.sharing.session import until
from secureimg import sharing

if TYPE_CHECKING:
    from protocols.sharing.party import PartyServer, SharedAnswer

__all__ = ["PartyDesk"]

_REQUEST: Final = "0"


class PartyDesk:
    """Where owners hand in a share and get a share of the answer. Thread-safe; each call blocks until it is done.

    The dealer process deals. An owner names its session by the same token at both parties, at about the same time; asked
    again under that token, a party gives the answer that it has, and runs nothing twice.

    Parameters
    ----------
    party : PartyServer
    """

    def __init__(self, party: PartyServer) -> None:
        self._party = party
        self.number = party.number

    def public(self) -> sharing.PublicProgram:
        """Return the program that would run now. Raises `SecureImgError` if the other party cannot be reached."""
        return self._party.public()

    def kept(self, owner: str, session: str) -> SharedAnswer | None:
        """Return the answer of a session that is done and was not picked up for long enough to be dropped."""
        kept = self._party.results.find((owner, session, _REQUEST))
        if kept is None or not kept.future.done() or kept.future.exception() is not None:
            return None
        return kept.future.result()

    def answer(
        self,
        owner: str,
        session: str,
        share: NDArray[np.uint8],
        *,
        images: int,
        seconds: float,
        model: str | None = None,
    ) -> SharedAnswer:
        """Run the program on a share, with the other party.

        Parameters
        ----------
        owner : str
            Who asks, as both parties know it: 64 hexadecimal digits.
        session : str
            The owner's token: 32 hexadecimal digits.
        share : ndarray of uint8
            `public().share_bytes(images)` bytes.
        images : int
        seconds : float
            How long the owner waits.
        model : str, optional
            Name or fingerprint of the program that the share was made for.

        Raises
        ------
        RefusedError
            If the request is not granted or fails; it says why and what to do.
        """
        results = self._party.results
        name = (owner, session, _REQUEST)
        deadline = until(seconds)
        kept = results.find(name)
        mine = results.begin(name) if kept is None else None
        if mine is None:
            return self._await(results.find(name), deadline)
        try:
            answer = self._run(owner, session, share, images, deadline, model)
        except BaseException as error:
            if isinstance(error, RefusedError):
                self._party.observer.refused(owner, code=error.code.value, message=error.message)
            mine.future.set_exception(error)
            raise
        mine.future.set_result(answer)
        return answer

    @staticmethod
    def _await(kept: Kept[SharedAnswer] | None, deadline: float) -> SharedAnswer:
        if kept is None:
            raise RefusedError(Code.GONE, "the answer to that session is no longer kept", "ask anew")
        try:
            return kept.future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            raise RefusedError(Code.TIMEOUT, "that session is still under way", "ask again later") from None

    def _run(
        self, owner: str, token: str, share: NDArray[np.uint8], images: int, deadline: float, model: str | None
    ) -> SharedAnswer:
        party = self._party
        if party.stopping.is_set():
            raise RefusedError(Code.SHUTTING_DOWN, "the party is shutting down", "ask again later", 30.0)
        with party.gate.session(owner):
            party.gate.admit(owner, images)
            session = party.open(token, owner, "dealer", model, deadline)
            public = session.public
            party.observer.opened(owner, model=public.model, program=public.fingerprint, dealer=session.dealing)
            try:
                wanted = public.share_bytes(images)
                if share.size != wanted:
                    raise RefusedError(
                        Code.BAD_SHARE, f"a share of {share.size} bytes, expected {wanted}", "ask for the model again"
                    )
                start = time.perf_counter()
                correlation, prepared = party.prepare(session, images, token, np.empty(0, dtype=np.uint8), deadline)
                offline = time.perf_counter() - start
                given = sharing.Handed(share) if party.number == 0 else share
                answer = party.compute(session, prepared, given, f"{_REQUEST} {correlation}", deadline, offline)
                party.record(session, _REQUEST, correlation, images, answer)
                return answer
            finally:
                session.close()
                party.observer.closed(owner)
