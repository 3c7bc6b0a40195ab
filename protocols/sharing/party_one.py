"""Party 1 as a process: has the model, and waits for owner and party 0 to come for the same session."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from protocols.conversation import Conversation
from protocols.errors import RefusedError
from protocols.listener import Guest
from protocols.messages import Code, Hangup
from protocols.sharing.link import Link
from protocols.sharing.messages import JOIN, STREAMS, Dealing, Join, Joined, Role, link_terms
from protocols.sharing.party import PartyServer
from protocols.sharing.session import Session
from protocols.sharing.stock import fill_orders
from protocols.sharing.talk import Talk
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import RemoteProtocolError, SecureImgError

__all__ = ["PartyOneServer"]

_log = logging.getLogger(__name__)

_OWNERS: Final = 64


@dataclass(frozen=True)
class _Model:
    """What party 1 serves, until it is given another."""

    program: sharing.Program
    runner: sharing.PartyOne


@dataclass(frozen=True)
class _Half:
    """One of the two connections of a link, answered."""

    asked: Join
    answered: Joined
    guest: Guest
    talk: Talk
    model: _Model


@dataclass(frozen=True)
class _Linked:
    """A link that waits for its owner."""

    asked: Join
    link: Link
    seed: bytes = field(repr=False)
    model: _Model
    peer: str


class PartyOneServer(PartyServer):
    """Party 1: has the model.

    Parameters
    ----------
    identity : Path
    program : secureimg.sharing.Program
    **options
        As for `PartyServer`.
    """

    number = 1

    def __init__(self, identity: Path, program: sharing.Program, **options: Any) -> None:
        self._model = _Model(program, sharing.PartyOne(program))
        self._seeds: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._changed = threading.Condition()
        self._streams: dict[str, dict[str, _Half]] = {}
        self._links: dict[str, _Linked] = {}
        self._timers: dict[str, threading.Timer] = {}
        super().__init__(identity, **options)

    def swap(self, program: sharing.Program) -> None:
        """Serve another model from now on. Sessions that are open go on with the one they began with."""
        self._model = _Model(program, sharing.PartyOne(program))
        self.observer.event("model swapped", model=program.public.model, program=program.public.fingerprint)

    def public(self) -> sharing.PublicProgram:
        """Return the program that is served now."""
        return self._model.program.public

    def _weight_seed(self, program: sharing.Program, dealing: Dealing, owner: str) -> bytes:
        """The mask of a model's weights: one for the dealer process, one for each owner that deals itself."""
        if dealing == "dealer" and self._stock is not None:
            return self._stock.weight_seed(program)
        name = (program.public.fingerprint, dealing, owner if dealing == "client-aided" else "")
        with self._changed:
            seed = self._seeds.pop(name, None) or sharing.fresh_seed()
            self._seeds[name] = seed
            while len(self._seeds) > _OWNERS:
                self._seeds.popitem(last=False)
        return seed

    def _join(self, guest: Guest) -> None:
        """Take one connection of party 0; the second one of a session completes its link."""
        talk = Talk(Conversation(Role.ONE, self.limits.caps, JOIN), Wire(guest.sock), self.limits.patience)
        asked = talk.hear().message
        assert isinstance(asked, Join)
        try:
            self.allow(asked.dealing)
        except RefusedError as refusal:
            talk.say(Hangup(code=refusal.code, message=refusal.message, remedy=refusal.remedy))
            talk.wire.close(linger=True)
            return
        with self._changed:
            waiting = next(iter(self._streams.get(asked.session, {}).values()), None)
            model = waiting.model if waiting is not None else self._model  # both halves mean the same, swapped or not
        public = model.program.public
        seed = self._weight_seed(model.program, asked.dealing, asked.owner)
        epoch = sharing.seed_name(seed)
        body = b"" if asked.program == public.fingerprint or asked.stream == "to party 1" else public.to_bytes()
        answered = Joined(
            key=talk.conversation.key, model=public.model, program=public.fingerprint, epoch=epoch,
            weights=epoch not in asked.epochs,
        )  # fmt: skip
        talk.say(answered, body)
        talk.conversation.bind(link_terms(asked, answered, guest.fingerprint, guest.own))
        linked = self._pair(_Half(asked, answered, guest, talk, model), seed)
        if linked is None:
            return
        try:
            if answered.weights:
                for piece in model.runner.masked_weights(seed):
                    linked.link.send(piece)
        except SecureImgError as error:
            _log.warning("party 0: %s", error)
            linked.link.close()
            return
        if asked.purpose == "stock":
            self._fill(linked, epoch)
            return
        with self._changed:
            self._links[asked.session] = linked
            self._expire(asked.session)
            self._changed.notify_all()

    def _pair(self, half: _Half, seed: bytes) -> _Linked | None:
        """Keep the first connection of a link until the second one is there."""
        asked = half.asked
        with self._changed:
            halves = self._streams.setdefault(asked.session, {})
            if asked.stream in halves or asked.session in self._links:
                raise RemoteProtocolError(f"session {asked.session} has this stream already")
            facts = _facts(half)
            if any(_facts(other) != facts for other in halves.values()):
                raise RemoteProtocolError(f"the two streams of session {asked.session} are for different things")
            halves[asked.stream] = half
            half.guest.keep()
            if len(halves) < len(STREAMS):
                self._expire(asked.session)
                return None
            del self._streams[asked.session]
            self._keep_waiting(asked.session)
        inward, outward = (halves[stream] for stream in STREAMS)
        taggers = outward.talk.conversation.taggers[0], inward.talk.conversation.taggers[1]
        link = Link(outward.guest.sock, inward.guest.sock, taggers, self.limits.patience)
        return _Linked(asked, link, seed, half.model, half.guest.fingerprint)

    def _fill(self, linked: _Linked, epoch: str) -> None:
        """Keep what party 0 orders for both stocks."""
        public = linked.model.program.public
        try:
            if self._stock is None:
                linked.link.receive(np.empty(1, dtype=np.uint8))  # party 0 only asked for the program, and leaves
                return
            with contextlib.ExitStack() as opened:
                fill_orders(
                    self._stock, linked.link, epoch, public,
                    lambda: opened.enter_context(self._engage(public, epoch, linked.seed)),
                )  # fmt: skip
        except RemoteProtocolError as error:
            _log.debug("stock: %s", error)  # party 0 leaves when it has ordered enough
        finally:
            linked.link.close()

    def _expire(self, session: str) -> None:
        """Give up on a link that nobody comes for."""

        def give_up() -> None:
            with self._changed:
                if self._timers.get(session) is not threading.current_thread():
                    return
                del self._timers[session]
                streams, waiting = self._streams.pop(session, {}), self._links.pop(session, None)
            for half in streams.values():
                half.guest.sock.close()
            if waiting is not None:
                waiting.link.close()

        self._keep_waiting(session)
        timer = self._timers[session] = threading.Timer(2 * self.limits.patience, give_up)
        timer.daemon = True
        timer.start()

    def _keep_waiting(self, session: str) -> None:
        """Call `_expire` off: what it waits for is here. A timer is a thread, which a session must not leave behind."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def open(self, token: str, owner: str, dealing: Dealing, model: str | None, deadline: float = math.inf) -> Session:
        """See `PartyServer.open`: waits for party 0's link of this session."""
        self.allow(dealing)
        deadline = min(deadline, time.monotonic() + self.limits.patience)
        with self._changed:
            while token not in self._links:
                self._check_name(model, self._model)  # at once: party 0 may not come for this
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RefusedError(
                        Code.PEER, "party 0 did not open its link for this session", "see to party 0; connect again"
                    )
                self._changed.wait(left)
            linked = self._links[token]
            if linked.asked.owner != owner or linked.asked.dealing != dealing:
                raise RefusedError(
                    Code.PEER, "party 0 knows this session as another owner's", "open a session of your own"
                )
            del self._links[token]
            self._keep_waiting(token)
        try:
            self._check_name(model, linked.model)
        except RefusedError:
            linked.link.close()
            raise
        return Session(
            token, owner, dealing, linked.peer, linked.link, linked.model.runner, linked.model.program.public,
            sharing.seed_name(linked.seed), linked.seed,
        )  # fmt: skip

    @staticmethod
    def _check_name(name: str | None, model: _Model) -> None:
        public = model.program.public
        if name not in (None, public.model, public.fingerprint):
            raise RefusedError(Code.UNKNOWN_MODEL, f"model {name!r} is not served here", f"ask for {public.model!r}")


def _facts(half: _Half) -> tuple[object, ...]:
    """What the two connections of a link must have in common."""
    asked = half.asked
    return asked.owner, asked.dealing, asked.purpose, half.guest.fingerprint, half.answered.epoch, half.answered.program
