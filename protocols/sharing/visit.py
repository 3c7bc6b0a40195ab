"""One owner's connection to a party, from its first message to its end."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols.binding import Terms
from protocols.conversation import Conversation
from protocols.listener import Guest
from protocols.memory_use import peak_memory
from protocols.messages import Bye, Code
from protocols.preparation import preparation_for
from protocols.results import Kept
from protocols.sharing.messages import VISIT, Fetch, Input, Open, Output, Prepare, Prepared, Role, Welcome
from protocols.sharing.reception import Reception
from protocols.sharing.session import Session, until
from secureimg import sharing
from secureimg.errors import RemoteProtocolError
from secureimg.sharing.streams import SEED_BYTES

if TYPE_CHECKING:
    from protocols.sharing.party import PartyServer, SharedAnswer

__all__ = ["Visit"]

Bytes = NDArray[np.uint8]


class Visit(Reception):
    """Serves one owner on the calling thread. A run goes on when its owner's connection breaks: it can fetch the result.

    Parameters
    ----------
    party : PartyServer
    guest : Guest
    """

    def __init__(self, party: PartyServer, guest: Guest) -> None:
        super().__init__(party, guest, Conversation(Role.PARTY, party.limits.caps, VISIT))
        self._answered: Kept[SharedAnswer] | None = None

    def _attend(self, held: contextlib.ExitStack) -> None:
        opened = self._hear(self._party.limits.patience).message
        assert isinstance(opened, Open)
        held.enter_context(self._party.gate.session(self._guest))
        session = self._party.open(opened.session, self._guest, opened.dealing, opened.model)
        held.callback(session.close)
        self._welcome(session, opened)
        held.callback(self._party.observer.closed, self._guest)
        self._converse(session)

    def _welcome(self, session: Session, opened: Open) -> None:
        """Tell the program, and bind what follows to who takes part and what is revealed."""
        party, public = self._party, session.public
        body = public.to_bytes()
        if party.number == 1 and session.dealing == "client-aided":
            body = session.weight_seed + body
        welcome = Welcome(
            key=self._talk.conversation.key, party=party.number, peer=session.peer, model=public.model,
            program=public.fingerprint, reveal=public.reveal, preparation=preparation_for(public.preprocessing),
        )  # fmt: skip
        self._talk.say(welcome, body)
        parties = (session.peer, self._own) if party.number else (self._own, session.peer)
        self._talk.conversation.bind(
            Terms(
                protocol="visit", session=opened.session, owner=self._guest, party_0=parties[0], party_1=parties[1],
                dealing=opened.dealing, model=public.model, program=public.fingerprint, reveal=public.reveal,
            )
        )  # fmt: skip
        party.observer.opened(self._guest, model=public.model, program=public.fingerprint, dealer=session.dealing)

    def _converse(self, session: Session) -> None:
        memory: list[Bytes] = []

        def sink(message: Any, size: int) -> memoryview | None:
            wanted = self._expected(session, message)
            if wanted is None:
                return None
            if size != wanted:
                what = "correlation" if isinstance(message, Prepare) else "input share"
                raise RemoteProtocolError(f"{size} bytes of {what}, expected {wanted}")
            memory[:] = [np.empty(size, dtype=np.uint8)]
            return memory[0].data

        while not isinstance((heard := self._hear(self._party.limits.idle, sink)).message, Bye):
            arrived = memory.pop() if memory else np.empty(0, dtype=np.uint8)
            self._forget()  # whoever asks on has the answer before
            if isinstance(heard.message, Prepare):
                self._prepare(session, heard.message, arrived)
            elif isinstance(heard.message, Input):
                self._compute(session, heard.message, arrived)
            else:
                self._fetch(session, heard.message)
        self._forget()

    def _expected(self, session: Session, message: Any) -> int | None:
        """Bytes of body that belong to a message of the owner; None if it has none to store."""
        number = self._party.number
        if isinstance(message, Prepare):
            if session.dealing != "client-aided":
                return 0
            return SEED_BYTES + (sharing.cost_of(session.public, message.images).offline_bytes if number else 0)
        if isinstance(message, Input):
            images = session.ready[2].images if session.ready else 0
            return session.public.share_bytes(images) if number else SEED_BYTES
        return None

    def _prepare(self, session: Session, message: Prepare, body: Bytes) -> None:
        start = time.perf_counter()
        self._party.gate.admit(self._guest, message.images)
        before = session.supply.received if session.supply else 0
        deadline = until(message.seconds)
        correlation, prepared = self._party.prepare(session, message.images, message.correlation, body, deadline)
        session.ready = message.request, correlation, prepared
        dealt = body.size + (session.supply.received if session.supply else 0) - before
        seconds = time.perf_counter() - start
        weights, session.weights = session.weights, 0
        self._talk.say(Prepared(request=message.request, seconds=seconds, dealt=dealt, weights=weights))

    def _compute(self, session: Session, message: Input, share: Bytes) -> None:
        assert session.ready is not None
        request, correlation, prepared = session.ready
        session.ready = None
        if message.request != request:
            raise RemoteProtocolError(f"input for request {message.request}, prepared was {request}")
        results = self._party.results
        kept = results.begin((self._guest, session.token, str(request)))
        if kept is None:
            raise RemoteProtocolError(f"request {request} of this session was run before")
        try:
            name = f"{request} {correlation}"
            answer = self._party.compute(session, prepared, share, name, until(message.seconds))
            self._party.record(session, str(request), correlation, prepared.images, answer)
        except BaseException as error:
            kept.future.set_exception(error)
            raise
        kept.future.set_result(answer)
        self._tell(request, answer)
        self._answered = kept

    def _fetch(self, session: Session, message: Fetch) -> None:
        """Give an answer of an earlier session, whose connection broke, out once more; wait for it if it is under way."""
        kept = self._party.results.find((self._guest, message.session, str(message.request)))
        if kept is None:
            self._refuse(Code.GONE, "that request was not answered, or its answer is no longer kept", "ask anew")
            return
        try:
            answer = kept.future.result(min(message.seconds, self._party.limits.idle))
        except FutureTimeoutError:
            self._refuse(Code.TIMEOUT, "that request is still under way", "fetch it again later")
        except Exception as error:  # noqa: BLE001 - whatever ended the earlier session
            self._refuse(Code.GONE, f"that request failed: {error}", "ask anew")
        else:
            self._tell(message.request, answer)
            self._answered = kept

    def _tell(self, request: int, answer: SharedAnswer) -> None:
        output = Output(
            request=request, seconds=answer.seconds, rounds=answer.rounds, sent=answer.sent, peak_rss=peak_memory()
        )
        self._talk.say(output, answer.share.data)

    def _forget(self) -> None:
        if self._answered is not None:
            self._party.results.forget(self._answered)
            self._answered = None
