"""A pair of conversations, with party 0 and with party 1, as owners and the coordinator lead them."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from protocols.conversation import Conversation, Received, Rules
from protocols.errors import RefusedError
from protocols.federated.messages import Caps, Role
from protocols.frames import Head
from protocols.messages import Bye, Code
from protocols.sharing.talk import Talk, blaming
from protocols.tls import IdentityContext, bundle_context, dial, peer_fingerprint
from protocols.wire import Wire
from secureimg.errors import KeyMaterialError, ProtocolError, RemoteProtocolError, SecureImgError
from secureimg.federated import Terms

__all__ = ["PASSING", "Parties", "TwoTalks", "insist"]

T = TypeVar("T")

Address = tuple[str, int]
Parties = tuple[Address, Address]

PASSING: Final = frozenset({Code.BUSY, Code.RATE, Code.SHUTTING_DOWN, Code.PEER, Code.TIMEOUT, Code.DEALER})
"""Refusals after which the same may succeed a little later."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


def _signature(path: Path) -> tuple[int, int, int]:
    """Changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0  # what is wrong with it is said when it is loaded
    return found.st_mtime_ns, found.st_ino, found.st_mode


@lru_cache(maxsize=64)
def _context(identity: Path, *signature: int) -> IdentityContext:
    """Whoever sends in every round loads its bundle once, and again when it was renewed."""
    return bundle_context(identity, ssl.PROTOCOL_TLS_CLIENT)


class TwoTalks:
    """One connection to each party, authenticated on both sides.

    Parameters
    ----------
    parties : ((str, int), (str, int))
        Where party 0 and party 1 listen.
    identity : Path
    role : Role
    rules : Rules
    timeout : float
        Seconds to wait for an answer.
    pins : mapping of role to fingerprints
        Certificates accepted for "party-0" and "party-1".
    """

    def __init__(
        self, parties: Parties, identity: Path, role: Role, rules: Rules, timeout: float,
        pins: Mapping[str, frozenset[str]],
    ) -> None:  # fmt: skip
        self.context = _context(identity, *_signature(identity))
        if self.context.identity.role != role.value:
            raise KeyMaterialError(
                f"{self.context.identity} does not make the {role.value}: ask for a bundle of that role, from "
                "`secureimg pki issue`"
            )
        self.talks: list[Talk] = []
        self.seen: list[str] = []
        self._timeout = timeout
        try:
            for number, address in enumerate(parties):
                name = f"party-{number}"
                sock = dial(*address, self.context, min(timeout, 30.0), name, pins.get(name, frozenset()))
                self.seen.append(peer_fingerprint(sock))
                self.talks.append(Talk(Conversation(role, Caps(), rules), Wire(sock), timeout))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, questions: tuple[tuple[Head, Any], tuple[Head, Any]], kind: type[Any]) -> list[Received]:
        """Say something to both parties, then hear both; an answer of another kind is an error."""
        for number, (message, body) in enumerate(questions):
            with (
                blaming(f"party {number}", self._timeout),
                contextlib.suppress(ConnectionError, ssl.SSLEOFError),
            ):  # it may have said why
                self.talks[number].say(message, body)
        heard = []
        for number, talk in enumerate(self.talks):
            with blaming(f"party {number}", self._timeout):
                item = talk.hear(self._timeout)
                if not isinstance(item.message, kind):
                    raise RemoteProtocolError(f"expected {kind.__name__}, got {type(item.message).__name__}")
                heard.append(item)
        return heard

    def agree(self, heard: list[Received], terms: Terms | None) -> Terms:
        """The terms that both parties tell.

        Raises
        ------
        RemoteProtocolError
            If they differ, or are not those expected.
        """
        told: list[Terms] = [item.message.terms for item in heard]
        if told[0] != told[1] or [item.message.party for item in heard] != [0, 1]:
            raise RemoteProtocolError("the two parties tell different terms: do not send them anything")
        if terms is not None and terms != told[0]:
            raise RemoteProtocolError(
                f"the parties' terms are not those expected: they have {told[0]}, expected is {terms}: ask their operators"
            )
        return told[0]

    def close(self) -> None:
        """Say goodbye where that is due, and close both connections."""
        for talk in self.talks:
            if Bye in talk.conversation.rules.moves[talk.conversation.state]:
                with contextlib.suppress(OSError, SecureImgError):
                    talk.say(Bye())
            talk.wire.close()


def insist(attempt: Callable[[], T], seconds: float) -> T:
    """Try until it succeeds, as long as what stands in the way may pass: a party that restarts, a full house."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return attempt()
        except ProtocolError as error:
            passes = (
                error.code in PASSING if isinstance(error, RefusedError) else isinstance(error, RemoteProtocolError)
            )
            if not passes or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
