"""Party 0 as a process: no weights, and the one that dials."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from protocols.conversation import Conversation
from protocols.errors import RefusedError
from protocols.identity import PARTY_ROLES
from protocols.messages import Code
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
from protocols.sharing.party import Address, PartyServer, Session, Trouble
from protocols.sharing.stock import Keeper, order
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial
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
    client_aided : bool
        Whether an owner may deal for its own images.
    dealer : (str, int) or None
        Where the dealer process listens, if one may be used.
    program : secureimg.sharing.Program, optional
        The model, if its weights are public.
    """

    number = 0

    def __init__(
        self,
        identity: Path,
        peer: Address,
        *,
        program: sharing.Program | None = None,
        ahead: int = 0,
        **options: object,
    ) -> None:
        super().__init__(identity, **options)  # type: ignore[arg-type]
        self._peer = peer
        self._program = program
        self._lock = threading.Lock()
        if ahead and (self._stock is None or self._dealer is None):
            raise KeyMaterialError("correlations are made ahead by a dealer process and kept in a store: name both")
        self._programs: OrderedDict[str, sharing.PublicProgram] = OrderedDict()
        self._runners: OrderedDict[str, sharing.PartyZero] = OrderedDict()
        self._keeper = Keeper(ahead, self._restock) if ahead else None

    def close(self) -> None:
        """Stop filling the stock, then as for both parties."""
        if self._keeper is not None:
            self._keeper.close()
        super().close()

    def _taken(self) -> None:
        if self._keeper is not None:
            self._keeper.look()

    def _restock(self, goal: int) -> None:
        """Have correlations made until there are `goal` for the model that party 1 runs now."""
        assert self._stock is not None
        own = x509.load_pem_x509_certificate(self.identity.read_bytes()).fingerprint(hashes.SHA256()).hex()
        session = self._join_peer(secrets.token_hex(16), own, "dealer", "stock")
        try:
            # what was made for another model or weight mask can never be used
            self._stock.store.discard(program=session.public.fingerprint, epoch=session.epoch)
            have = len(self._stock.store.available(program=session.public.fingerprint, images=1, epoch=session.epoch))
            for _ in range(goal - have):
                order(self._stock, session.link, self._supply(session), session.public)
        finally:
            session.close()

    def _open(self, message: Open, guest: Guest) -> Session:
        self._allow(message.dealing)
        try:
            return self._join_peer(message.session, guest.fingerprint, message.dealing, "session")
        except RefusedError as refusal:
            raise Trouble(Code.PEER, f"party 1 refused: {refusal}", "see to party 1, then connect again") from None
        except (RemoteProtocolError, OSError) as error:
            raise Trouble(Code.PEER, f"no link to party 1: {error}", "see to party 1, then connect again") from None

    def _join_peer(self, token: str, owner: str, dealing: Dealing, purpose: Literal["session", "stock"]) -> Session:
        """Open a link to party 1; get program and masked weights, if they are not here yet."""
        context = bundle_context(self.identity, ssl.PROTOCOL_TLS_CLIENT)
        with self._lock:
            # a session keeps what it says it knows: another one may push it out of the cache meanwhile
            programs, runners = OrderedDict(self._programs), OrderedDict(self._runners)
        known, epochs = list(programs), tuple(runners)
        talks = []
        with contextlib.ExitStack() as opened:
            for stream in ("to party 1", "to party 0"):
                sock = dial(*self._peer, context, min(self.limits.patience, 10.0), PARTY_ROLES["party-1"])
                opened.callback(sock.close)
                talk = Talk(Conversation(Role.ZERO, self.limits.caps, JOIN), Wire(sock), self.limits.patience)
                talk.say(Join(
                    session=token, owner=owner, dealing=dealing, purpose=purpose,
                    stream="to party 1" if stream == "to party 1" else "to party 0",
                    program=known[-1] if known else None, epochs=epochs[-8:],
                ))  # fmt: skip
                talks.append((talk, sock))
            answers = [talk.hear() for talk, _ in talks]
            joined: Joined = answers[1].message
            public = self._learn(joined, answers[1].body or b"", programs)
            link = Link(talks[0][1], talks[1][1], self.limits.patience)
            opened.callback(link.close)
            runner, size = self._arm(joined, public, link, runners)
            opened.pop_all()
        return Session(token, owner, dealing, link, runner, public, joined.epoch, weights=size)

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
