"""One owner's connection to a party, from its first message to its end."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols.binding import Terms
from protocols.conversation import Conversation, Received
from protocols.errors import RefusedError
from protocols.listener import Guest
from protocols.memory_use import peak_memory
from protocols.messages import Bye, Code, Hangup, Refusal
from protocols.preparation import preparation_for
from protocols.results import Kept
from protocols.sharing.messages import VISIT, Fetch, Input, Open, Output, Prepare, Prepared, Role, Stage, Welcome
from protocols.sharing.session import Session, until
from protocols.sharing.talk import Sink, Talk
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import RemoteProtocolError, SecureImgError
from secureimg.sharing.streams import SEED_BYTES

if TYPE_CHECKING:
    from protocols.sharing.party import PartyServer, SharedAnswer

__all__ = ["Visit"]

_log = logging.getLogger(__name__)
_TEXT = 2000
_TURN = 0.25

Bytes = NDArray[np.uint8]


class Visit:
    """Serves one owner on the calling thread. A run goes on when its owner's connection breaks: it can fetch the result.

    Parameters
    ----------
    party : PartyServer
    guest : Guest
    """

    def __init__(self, party: PartyServer, guest: Guest) -> None:
        self._party = party
        self._owner, self._own = guest.fingerprint, guest.own
        conversation = Conversation(Role.PARTY, party.limits.caps, VISIT)
        self._talk = Talk(conversation, Wire(guest.sock), party.limits.patience)
        self._answered: Kept[SharedAnswer] | None = None

    def run(self) -> None:
        """Serve until either side is done. Raises nothing that the other side can cause."""
        linger = True
        session: Session | None = None
        try:
            with contextlib.ExitStack() as held:
                opened = self._hear(self._party.limits.patience).message
                assert isinstance(opened, Open)
                held.enter_context(self._party.gate.session(self._owner))
                session = self._party.open(opened.session, self._owner, opened.dealing, opened.model)
                held.callback(session.close)
                self._welcome(session, opened)
                held.callback(self._party.observer.closed, self._owner)
                self._converse(session)
        except RefusedError as refusal:
            self._hang_up(refusal.code, refusal.message, refusal.remedy, refusal.retry_after)
        except RemoteProtocolError as error:
            _log.warning("owner %s: %s", self._owner[:12], error)
            self._hang_up(Code.MALFORMED, str(error), "use equal releases of secureimg")
        except TimeoutError:
            self._hang_up(Code.TIMEOUT, "no message within the time allowed", "connect again")
        except OSError as error:
            linger = False
            _log.info("owner %s: connection lost (%s)", self._owner[:12], type(error).__name__)
        except Exception:  # noqa: BLE001 - our own fault: this session ends, the others go on
            _log.exception("owner %s: internal error", self._owner[:12])
            self._hang_up(Code.INTERNAL, "internal error of the party", "tell its operator, who finds it in the log")
        finally:
            self._talk.wire.close(linger=linger)

    def _hear(self, patience: float, sink: Sink | None = None) -> Received:
        """Wait for the owner's next message, unless the party stops meanwhile."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._talk.hear(min(_TURN, max(0.0, deadline - time.monotonic())), sink)
            except TimeoutError:
                if self._talk.conversation.mid_frame:
                    return self._talk.hear(self._party.limits.patience, sink)
                if self._party.stopping.is_set():
                    said = "the party is shutting down"
                    raise RefusedError(Code.SHUTTING_DOWN, said, "connect again later", 30.0) from None
                if time.monotonic() >= deadline:
                    raise

    def _hang_up(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> None:
        self._party.observer.refused(self._owner, code=code.value, message=message)
        if self._talk.conversation.state is Stage.CLOSED:
            return
        with contextlib.suppress(OSError, SecureImgError):
            self._talk.say(Hangup(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT], retry_after=retry_after))

    def _refuse(self, code: Code, message: str, remedy: str) -> None:
        self._party.observer.refused(self._owner, code=code.value, message=message)
        self._talk.say(Refusal(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT]))

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
                protocol="visit", session=opened.session, owner=self._owner, party_0=parties[0], party_1=parties[1],
                dealing=opened.dealing, model=public.model, program=public.fingerprint, reveal=public.reveal,
            )
        )  # fmt: skip
        party.observer.opened(self._owner, model=public.model, program=public.fingerprint, dealer=session.dealing)

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
        self._party.gate.admit(self._owner, message.images)
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
        kept = results.begin((self._owner, session.token, str(request)))
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
        kept = self._party.results.find((self._owner, message.session, str(message.request)))
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
