"""Party 0 as a process: no weights, and the one that dials."""

from __future__ import annotations

import contextlib
import math
import secrets
import ssl
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from protocols.conversation import Conversation
from protocols.errors import RefusedError
from protocols.messages import Code
from protocols.sharing.link import Link
from protocols.sharing.messages import JOIN, STREAMS, Dealing, Join, Joined, Role, link_terms
from protocols.sharing.party import Address, PartyServer
from protocols.sharing.session import Session
from protocols.sharing.stock import Keeper, order
from protocols.sharing.talk import Talk
from protocols.tls import dial, peer_fingerprint, reason
from protocols.wire import Wire
from secureimg import sharing
from secureimg.errors import BlobError, KeyMaterialError, RemoteProtocolError

__all__ = ["PartyZeroServer"]

_MODELS: Final = 2


class PartyZeroServer(PartyServer):
    """Party 0: has no weights; gets the program and masked weights from party 1.

    Parameters
    ----------
    identity : Path
    peer : (str, int)
        Where party 1 listens.
    program : secureimg.sharing.Program, optional
        The model, if its weights are public.
    stock : (int, int)
        Correlations for one image that are made ahead: when fewer than the first number are left, up to the second. Needs a
        dealer process and a state directory.
    **options
        As for `PartyServer`.
    """

    number = 0

    def __init__(
        self,
        identity: Path,
        peer: Address,
        *,
        program: sharing.Program | None = None,
        stock: tuple[int, int] = (0, 0),
        **options: Any,
    ) -> None:
        super().__init__(identity, **options)
        self._peer = peer
        self._program = program
        self._lock = threading.Lock()
        if stock[1] and (self._stock is None or self._dealer is None):
            raise KeyMaterialError("correlations are made ahead by a dealer process and kept on disk: name both")
        self._programs: OrderedDict[str, sharing.PublicProgram] = OrderedDict()
        self._runners: OrderedDict[str, sharing.PartyZero] = OrderedDict()
        self._keeper = Keeper(*stock, self._restock) if stock[1] else None

    def close(self) -> None:
        """Stop filling the stock, then as for both parties."""
        if self._keeper is not None:
            self._keeper.close()
        super().close()

    def swap(self, program: sharing.Program) -> None:
        """Serve another model with public weights from now on; party 1 must be given the same one."""
        self._program = program

    def public(self) -> sharing.PublicProgram:
        """Ask party 1 for the program that it runs now."""
        session = self._join_peer(secrets.token_hex(16), self.fingerprint, self._some_dealing(), "stock")
        session.close()
        return session.public

    def _some_dealing(self) -> Dealing:
        return "dealer" if self._dealer is not None else "client-aided"

    def _taken(self) -> None:
        if self._keeper is not None:
            self._keeper.look()

    def _restock(self, low: int, high: int) -> None:
        """Have correlations made up to `high`, if there are fewer than `low` for the model that party 1 runs now."""
        assert self._stock is not None
        session = self._join_peer(secrets.token_hex(16), self.fingerprint, "dealer", "stock")
        try:
            # what was made for another model or weight mask can never be used
            self._stock.store.discard(program=session.public.fingerprint, epoch=session.epoch)
            have = len(self._stock.store.available(program=session.public.fingerprint, images=1, epoch=session.epoch))
            if have >= low:
                return
            for _ in range(high - have):
                if self.stopping.is_set():
                    return
                order(self._stock, session.link, self._supply(session), session.public)
            self.observer.event("stock filled", program=session.public.fingerprint, correlations=high)
        finally:
            session.close()

    def open(self, token: str, owner: str, dealing: Dealing, model: str | None, deadline: float = math.inf) -> Session:
        """See `PartyServer.open`."""
        self.allow(dealing)
        try:
            session = self._join_peer(token, owner, dealing, "session")
        except RefusedError as refusal:
            raise RefusedError(
                Code.PEER,
                f"party 1 refused ({refusal.code.value}): {refusal.message}",
                "see to party 1, then connect again",
            ) from None
        except (RemoteProtocolError, OSError) as error:
            why = reason(error) if isinstance(error, OSError) else error
            raise RefusedError(Code.PEER, f"no link to party 1: {why}", "see to party 1, then connect again") from None
        public = session.public
        if model not in (None, public.model, public.fingerprint):
            session.close()
            raise RefusedError(Code.UNKNOWN_MODEL, f"model {model!r} is not served here", f"ask for {public.model!r}")
        return session

    def _join_peer(self, token: str, owner: str, dealing: Dealing, purpose: Literal["session", "stock"]) -> Session:
        """Open a link to party 1; get program and masked weights, if they are not here yet."""
        context = self._dialling
        with self._lock:
            # a session keeps what it says it knows: another one may push it out of the cache meanwhile
            programs, runners = OrderedDict(self._programs), OrderedDict(self._runners)
        known, epochs = list(programs), tuple(runners)
        talks: list[Talk] = []
        socks: list[ssl.SSLSocket] = []
        asked: list[Join] = []
        with contextlib.ExitStack() as opened:
            for stream in STREAMS:
                pins = self.pins.get("party-1", frozenset())
                sock = dial(*self._peer, context, min(self.limits.patience, 10.0), "party-1", pins)
                opened.callback(sock.close)
                talk = Talk(Conversation(Role.ZERO, self.limits.caps, JOIN), Wire(sock), self.limits.patience)
                asked.append(Join(
                    key=talk.conversation.key, session=token, owner=owner, dealing=dealing, purpose=purpose, stream=stream,
                    program=known[-1] if known else None, epochs=epochs[-8:],
                ))  # fmt: skip
                talk.say(asked[-1])
                talks.append(talk)
                socks.append(sock)
            answers = [talk.hear() for talk in talks]
            joined: Joined = answers[1].message
            peers = {peer_fingerprint(sock) for sock in socks}
            if len(peers) != 1:
                raise RemoteProtocolError("two different certificates answered for party 1")
            peer = peers.pop()
            for talk, question, answer in zip(talks, asked, answers, strict=True):
                talk.conversation.bind(link_terms(question, answer.message, context.identity.fingerprint, peer))
            public = self._learn(joined, answers[1].body or b"", programs)
            taggers = talks[0].conversation.taggers[0], talks[1].conversation.taggers[1]
            link = Link(socks[0], socks[1], taggers, self.limits.patience)
            opened.callback(link.close)
            runner, size = self._arm(joined, public, link, runners)
            opened.pop_all()
        return Session(token, owner, dealing, peer, link, runner, public, joined.epoch, weights=size)

    def _learn(
        self, joined: Joined, body: bytes, programs: Mapping[str, sharing.PublicProgram]
    ) -> sharing.PublicProgram:
        public = programs.get(joined.program)
        if public is None:
            try:
                public = sharing.PublicProgram.from_bytes(body)
            except BlobError as error:
                raise RemoteProtocolError(f"the program of party 1: {error}") from None
            if public.fingerprint != joined.program:
                raise RemoteProtocolError("the program of party 1 is not the one it names")
        if public.weights == "public" and (
            self._program is None or self._program.public.fingerprint != public.fingerprint
        ):
            raise RemoteProtocolError("party 1 runs a model with public weights that party 0 was not started with")
        with self._lock:
            if self._keeper is not None and self._programs and public.fingerprint not in self._programs:
                self._keeper.look()  # party 1 has another model: what is in stock is of no use
            self._programs[public.fingerprint] = public
            while len(self._programs) > _MODELS:
                self._programs.popitem(last=False)
        return public

    def _arm(
        self, joined: Joined, public: sharing.PublicProgram, link: Link, runners: Mapping[str, sharing.PartyZero]
    ) -> tuple[sharing.PartyZero, int]:
        """The runner for a weight mask: kept from an earlier session, or loaded through the link."""
        if not joined.weights:
            runner = runners.get(joined.epoch)
            if runner is None:
                raise RemoteProtocolError("party 1 thinks that masked weights are here that are not")
            return runner, 0
        runner = sharing.PartyZero(public, self._program)
        before = link.received
        runner.load_masked_weights(link.receive)
        with self._lock:
            self._runners[joined.epoch] = runner
            while len(self._runners) > _MODELS:
                self._runners.popitem(last=False)
        return runner, link.received - before
