"""The two parties of secure aggregation as processes: they take shares from owners, and orders from the coordinator."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from protocols.conversation import Conversation
from protocols.errors import RefusedError
from protocols.federated.closing import close_round, meet
from protocols.federated.messages import (
    ATTEND,
    CONTRIBUTE,
    Accepting,
    Attend,
    Attending,
    Begin,
    Begun,
    Caps,
    Contribute,
    Count,
    Counted,
    Finish,
    Finished,
    Role,
    Share,
    Stored,
    attend_terms,
    contribute_terms,
    share_bytes,
)
from protocols.federated.store import RoundStore
from protocols.listener import Guest
from protocols.messages import Bye, Code
from protocols.sharing import PartyOneServer, PartyServer, PartyZeroServer
from protocols.sharing.party import Address
from protocols.sharing.reception import Reception
from protocols.sharing.session import until
from secureimg.errors import BlobError, RemoteProtocolError
from secureimg.federated import Terms, check_program

__all__ = ["AggregatorOne", "AggregatorZero"]

_ROUNDS: Final = "rounds"


class _Aggregator(PartyServer):
    """What both parties have in common.

    Parameters
    ----------
    identity : Path
    terms : Terms
        Of all rounds; the other party must have the same.
    state : Path
        Directory for what must outlive a restart: shares, verdicts, sums.
    **options
        As for `PartyServer`; `dealer` is required, since the norm check needs correlations that no owner made.
    """

    guests: ClassVar[frozenset[str]] = frozenset({"owner", "coordinator"})

    def _set_up(self, terms: Terms, state: Path) -> None:
        self.terms = terms
        self.rounds = RoundStore(state / _ROUNDS, terms, self.number)
        self._closing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.observer.gauge("rounds_open", "Rounds that take shares.", lambda: self.rounds.taking)

    def _receive(self, guest: Guest) -> Reception:
        return _Contribution(self, guest) if guest.role == "owner" else _Attendance(self, guest)

    def begin(self, name: str, token: str, coordinator: str, deadline: float) -> str:
        """Open a round together with the other party; return its certificate."""
        session = self.open(token, coordinator, "dealer", None, deadline)
        try:
            session.link.allow(deadline)
            meet(session.link, name, self.terms)
        except RemoteProtocolError as error:
            raise RefusedError(Code.PEER, str(error), "see to both parties, then open the round again") from None
        finally:
            session.close()
        self.rounds.begin(name, session.peer)
        self.observer.event("round opened", round=name)
        return session.peer

    def finish(self, name: str, token: str, coordinator: str, deadline: float) -> tuple[bytes, NDArray[np.uint32], int]:
        """Close a round together with the other party; return the roster, the share of the sum, bytes to the other party."""
        with self._closing[name]:
            self.rounds.state(name)
            session = self.open(token, coordinator, "dealer", None, deadline)
            try:
                close_round(self, self.rounds, self.terms, session, name, deadline)
            except (RemoteProtocolError, BlobError) as error:
                raise RefusedError(Code.PEER, str(error), "see to the parties, then close the round again") from None
            finally:
                session.close()
            sent = session.link.sent
            roster = self.rounds.roster(name)
            assert roster is not None
            answer = self.rounds.answer(name)
        self.observer.answered(
            coordinator, session=name, model="aggregation", program=self.terms.fingerprint, images=len(roster.owners),
            reveal="sum", seconds=0.0,
        )  # fmt: skip
        return roster.to_bytes(), answer, sent


class AggregatorZero(_Aggregator, PartyZeroServer):
    """Party 0: gets seeds, and dials party 1.

    Parameters
    ----------
    identity : Path
    peer : (str, int)
        Where party 1 listens.
    terms : Terms
    state : Path
    **options
        As for `PartyServer`.
    """

    def __init__(self, identity: Path, peer: Address, terms: Terms, *, state: Path, **options: Any) -> None:
        PartyZeroServer.__init__(
            self, identity, peer, program=check_program(terms), client_aided=False, state=state, **options
        )
        self._set_up(terms, state)


class AggregatorOne(_Aggregator, PartyOneServer):
    """Party 1: gets masked updates.

    Parameters
    ----------
    identity : Path
    terms : Terms
    state : Path
    **options
        As for `PartyServer`.
    """

    def __init__(self, identity: Path, terms: Terms, *, state: Path, **options: Any) -> None:
        PartyOneServer.__init__(self, identity, check_program(terms), client_aided=False, state=state, **options)
        self._set_up(terms, state)


class _Contribution(Reception):
    """An owner brings its share."""

    _party: _Aggregator

    def __init__(self, party: _Aggregator, guest: Guest) -> None:
        caps = Caps(share_bytes(party.terms, party.number))
        super().__init__(party, guest, Conversation(Role.PARTY, caps, CONTRIBUTE))

    def _attend(self, held: contextlib.ExitStack) -> None:
        party = self._party
        asked = self._hear(party.limits.patience).message
        assert isinstance(asked, Contribute)
        held.enter_context(party.gate.session(self._guest))
        party.gate.admit(self._guest, 1)
        party.rounds.check_open(asked.round, self._guest)
        peer = party.rounds.peer(asked.round)
        self._talk.say(Accepting(key=self._talk.conversation.key, party=party.number, peer=peer, terms=party.terms))
        parties = (peer, self._own) if party.number else (self._own, peer)
        self._talk.conversation.bind(contribute_terms(asked.round, party.terms, self._guest, parties))
        memory = np.empty(share_bytes(party.terms, party.number), dtype=np.uint8)

        def sink(message: Any, size: int) -> memoryview | None:
            if not isinstance(message, Share):
                return None
            if size != memory.size:
                raise RemoteProtocolError(f"a share of {size} bytes, expected {memory.size}")
            return memory.data

        while isinstance(message := self._hear(party.limits.idle, sink).message, Share):
            try:
                party.rounds.put(asked.round, self._guest, message.contribution, memory)
            except RefusedError as refusal:
                self._refuse(refusal.code, refusal.message, refusal.remedy)
                continue
            self._talk.say(Stored(contribution=message.contribution))


class _Attendance(Reception):
    """The coordinator gives its orders."""

    _party: _Aggregator

    def __init__(self, party: _Aggregator, guest: Guest) -> None:
        super().__init__(party, guest, Conversation(Role.PARTY, Caps(share_bytes(party.terms, 1)), ATTEND))

    def _attend(self, held: contextlib.ExitStack) -> None:
        party = self._party
        opened = self._hear(party.limits.patience).message
        assert isinstance(opened, Attend)
        held.enter_context(party.gate.session(self._guest))
        self._talk.say(
            Attending(
                key=self._talk.conversation.key, party=party.number, terms=party.terms, rounds=party.rounds.opened
            )
        )
        self._talk.conversation.bind(attend_terms(party.terms, party.number, self._guest, self._own))
        party.observer.opened(self._guest, model="aggregation", program=party.terms.fingerprint, dealer="dealer")
        held.callback(party.observer.closed, self._guest)
        while not isinstance(asked := self._hear(party.limits.idle).message, Bye):
            try:
                self._obey(asked)
            except RefusedError as refusal:
                self._refuse(refusal.code, refusal.message, refusal.remedy)

    def _obey(self, asked: Begin | Count | Finish) -> None:
        party = self._party
        if isinstance(asked, Count):
            self._talk.say(Counted(round=asked.round, owners=party.rounds.count(asked.round)))
        elif isinstance(asked, Begin):
            peer = party.begin(asked.round, asked.session, self._guest, until(asked.seconds))
            self._talk.say(Begun(round=asked.round, peer=peer))
        else:
            start = time.perf_counter()
            roster, share, sent = party.finish(asked.round, asked.session, self._guest, until(asked.seconds))
            seconds = time.perf_counter() - start
            told = Finished(
                round=asked.round, roster=len(roster), seconds=seconds, sent=sent, rounds=party.rounds.opened
            )
            pieces = [memoryview(roster), share.view(np.uint8).data]
            self._talk.say_pieces(told, len(roster) + share.nbytes, pieces)
