"""Party 1 as a process: has the model, and waits for owner and party 0 to come for the same session."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final

from protocols.conversation import Conversation
from protocols.messages import Code, Hangup
from protocols.sharing.link import Link
from protocols.sharing.listener import Guest
from protocols.sharing.messages import (
    JOIN,
    Dealing,
    Join,
    Joined,
    Open,
    Role,
)
from protocols.sharing.party import PartyServer, Session, Trouble
from protocols.sharing.stock import fill_orders
from protocols.sharing.talk import Talk
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import RemoteProtocolError, SecureImgError

__all__ = ["PartyOneServer"]

_log = logging.getLogger(__name__)

_OWNERS: Final = 64


class PartyOneServer(PartyServer):
    """Party 1: has the model.

    Parameters
    ----------
    identity : Path
    program : secureimg.sharing.Program
    client_aided, dealer
        As for party 0.
    """

    number = 1

    def __init__(self, identity: Path, program: sharing.Program, **options: object) -> None:
        self._program = program
        self._runner = sharing.PartyOne(program)
        self._seeds: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._change = threading.Condition()
        self._streams: dict[str, dict[str, tuple[Join, Guest]]] = {}
        self._links: dict[str, tuple[Join, Link, bytes]] = {}
        self._timers: dict[str, threading.Timer] = {}
        super().__init__(identity, **options)  # type: ignore[arg-type]

    def _weight_seed(self, dealing: Dealing, owner: str) -> bytes:
        """The mask of the weights: one for the dealer process, one for each owner that deals itself."""
        if dealing == "dealer" and self._stock is not None:
            return self._stock.weight_seed(self._program)
        name = (dealing, owner if dealing == "client-aided" else "")
        with self._change:
            seed = self._seeds.pop(name, None) or sharing.fresh_seed()
            self._seeds[name] = seed
            while len(self._seeds) > _OWNERS:
                self._seeds.popitem(last=False)
        return seed

    def _join(self, guest: Guest) -> None:
        """Take one connection of party 0; the second one of a session completes its link."""
        if guest.role != "party-0":
            raise RemoteProtocolError(f"{guest.role} has nothing to ask of party 1")
        talk = Talk(Conversation(Role.ONE, self.limits.caps, JOIN), Wire(guest.sock), self.limits.patience)
        message = talk.hear().message
        assert isinstance(message, Join)
        try:
            self._allow(message.dealing)
        except Trouble as trouble:
            talk.say(Hangup(code=trouble.code, message=str(trouble), remedy=trouble.remedy))
            talk.wire.close(linger=True)
            return
        public = self._program.public
        seed = self._weight_seed(message.dealing, message.owner)
        epoch = sharing.seed_name(seed)
        weights = epoch not in message.epochs
        body = b"" if message.program == public.fingerprint or message.stream == "to party 1" else public.to_bytes()
        talk.say(Joined(program=public.fingerprint, epoch=epoch, weights=weights), body)
        with self._change:
            streams = self._streams.setdefault(message.session, {})
            if message.stream in streams or message.session in self._links:
                raise RemoteProtocolError(f"session {message.session} has this stream already")
            facts = (message.owner, message.dealing, message.purpose)
            if any(facts != (other.owner, other.dealing, other.purpose) for other, _ in streams.values()):
                raise RemoteProtocolError(f"the two streams of session {message.session} are for different things")
            streams[message.stream] = message, guest
            guest.keep()
            if len(streams) < 2:
                self._expire(message.session)
                return
            del self._streams[message.session]
            self._keep_waiting(message.session)
        link = Link(streams["to party 0"][1].sock, streams["to party 1"][1].sock, self.limits.patience)
        try:
            if weights:
                for piece in self._runner.masked_weights(seed):
                    link.send(piece)
        except SecureImgError as error:
            _log.warning("party 0: %s", error)
            link.close()
            return
        if message.purpose == "stock":
            self._fill(link, epoch, seed)
            return
        with self._change:
            self._links[message.session] = message, link, seed
            self._expire(message.session)
            self._change.notify_all()

    def _fill(self, link: Link, epoch: str, seed: bytes) -> None:
        """Keep what party 0 orders for both stocks."""
        try:
            if self._stock is None:
                raise RemoteProtocolError("party 0 fills a stock, but this party was started without a store")
            with self._engage(self._program.public, epoch, seed) as supply:
                fill_orders(self._stock, link, supply, self._program.public)
        except RemoteProtocolError as error:
            _log.info("stock: %s", error)
        finally:
            link.close()

    def _expire(self, session: str) -> None:
        """Give up on a link that nobody comes for."""

        def give_up() -> None:
            with self._change:
                if self._timers.get(session) is not threading.current_thread():
                    return
                del self._timers[session]
                streams, waiting = self._streams.pop(session, {}), self._links.pop(session, None)
            for _, guest in streams.values():
                guest.sock.close()
            if waiting is not None:
                waiting[1].close()

        self._keep_waiting(session)
        timer = self._timers[session] = threading.Timer(2 * self.limits.patience, give_up)
        timer.daemon = True
        timer.start()

    def _keep_waiting(self, session: str) -> None:
        """Call `_expire` off: what it waits for is here. A timer is a thread, which a session must not leave behind."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _open(self, message: Open, guest: Guest) -> Session:
        self._allow(message.dealing)
        public = self._program.public
        if message.model not in (None, public.model, public.fingerprint):
            raise Trouble(Code.UNKNOWN_MODEL, f"model {message.model!r} is not served here",
                           f"ask for {public.model!r}")  # fmt: skip
        deadline = time.monotonic() + self.limits.patience
        with self._change:
            while message.session not in self._links:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Trouble(
                        Code.PEER, "party 0 did not open its link for this session", "see to party 0; connect again"
                    )
                self._change.wait(left)
            join, link, seed = self._links[message.session]
            if join.owner != guest.fingerprint or join.dealing != message.dealing:
                raise Trouble(Code.PEER, "party 0 knows this session as another owner's", "open a session of your own")
            del self._links[message.session]
            self._keep_waiting(message.session)
        return Session(
            message.session, join.owner, join.dealing, link, self._runner, public, sharing.seed_name(seed), seed
        )
