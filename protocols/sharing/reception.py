"""How a party receives whoever connects to it: one guest on one thread, and errors told to the right side."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from protocols.conversation import Conversation, Received
from protocols.errors import RefusedError
from protocols.listener import Guest
from protocols.messages import Code, Hangup, Refusal
from protocols.sharing.talk import Sink, Talk
from protocols.wire import Wire
from secureimg.errors import RemoteProtocolError, SecureImgError

if TYPE_CHECKING:
    from protocols.sharing.party import PartyServer

__all__ = ["Reception"]

_log = logging.getLogger(__name__)
_TEXT = 2000
_TURN = 0.25


class Reception:
    """Serves one guest on the calling thread.

    Parameters
    ----------
    party : PartyServer
    guest : Guest
    conversation : Conversation
        The party's side of what is spoken.
    """

    def __init__(self, party: PartyServer, guest: Guest, conversation: Conversation) -> None:
        self._party = party
        self._guest, self._own, self._role = guest.fingerprint, guest.own, guest.role
        self._talk = Talk(conversation, Wire(guest.sock), party.limits.patience)

    def run(self) -> None:
        """Serve until either side is done. Raises nothing that the other side can cause."""
        linger = True
        who = f"{self._role} {self._guest[:12]}"
        try:
            with contextlib.ExitStack() as held:
                self._attend(held)
        except RefusedError as refusal:
            self._hang_up(refusal.code, refusal.message, refusal.remedy, refusal.retry_after)
        except RemoteProtocolError as error:
            _log.warning("%s: %s", who, error)
            self._hang_up(Code.MALFORMED, str(error), "use equal releases of secureimg")
        except TimeoutError:
            self._hang_up(Code.TIMEOUT, "no message within the time allowed", "connect again")
        except OSError as error:
            linger = False
            _log.info("%s: connection lost (%s)", who, type(error).__name__)
        except Exception:  # noqa: BLE001 - our own fault: this session ends, the others go on
            _log.exception("%s: internal error", who)
            self._hang_up(Code.INTERNAL, "internal error of the party", "tell its operator, who finds it in the log")
        finally:
            self._talk.wire.close(linger=linger)

    def _attend(self, held: contextlib.ExitStack) -> None:
        """Converse; what `held` has is released at the end, however it comes."""
        raise NotImplementedError

    def _hear(self, patience: float, sink: Sink | None = None) -> Received:
        """Wait for the guest's next message, unless the party stops meanwhile."""
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
        self._party.observer.refused(self._guest, code=code.value, message=message)
        conversation = self._talk.conversation
        if conversation.state is conversation.rules.closed:
            return
        with contextlib.suppress(OSError, SecureImgError):
            self._talk.say(Hangup(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT], retry_after=retry_after))

    def _refuse(self, code: Code, message: str, remedy: str) -> None:
        self._party.observer.refused(self._guest, code=code.value, message=message)
        self._talk.say(Refusal(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT]))
