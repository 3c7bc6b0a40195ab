"""How the two parties close a round together: who brought shares to both, whose updates are short enough, the noisy sum.

On the link of a session each tells what it has. Owners with one contribution at both sides are candidates. The parties
draw coins together, each makes one pass over its candidates' shares (sum and sketch), and they run the norm check on the
sketches; two bits an owner are opened. Both write the verdict down before anything of the sum leaves. A party that finds
that the other has a verdict already, from before a crash, takes it over: a round has one verdict, one noise and one sum.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from protocols.errors import RefusedError
from protocols.federated.messages import MAX_ROSTER, Roster
from protocols.federated.store import RoundStore
from protocols.messages import Code, Fingerprint, Token
from protocols.sharing.link import Link
from protocols.sharing.party import PartyServer
from protocols.sharing.session import Session
from secureimg.errors import RemoteProtocolError
from secureimg.federated import TOO_LONG, Reader, Sketch, Tally, Terms, check_input, passed, seed_stream
from secureimg.federated.terms import MAX_OWNERS
from secureimg.sharing import fresh_seed

__all__ = ["close_round", "decode_offer", "meet"]

_MAX_OFFER: Final = 128 * MAX_OWNERS + MAX_ROSTER + 4096
_BATCH: Final = 256
"""Owners whose norms are checked in one run."""

_ONE_SIDED = "its share reached one party only"

Units = NDArray[np.uint32]


class _Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a party tells the other one about a round."""

    round: Token
    purpose: Annotated[str, Meta(max_length=20)]
    terms: Fingerprint
    owners: Annotated[tuple[tuple[Fingerprint, Token], ...], Meta(max_length=MAX_OWNERS)] = ()
    verdict: Roster | None = None
    dropped: Annotated[str, Meta(max_length=400)] = ""


def meet(link: Link, name: str, terms: Terms) -> None:
    """Check that both parties open the same round under the same terms."""
    _exchange(link, _Offer(round=name, purpose="begin", terms=terms.fingerprint))


def close_round(
    party: PartyServer, store: RoundStore, terms: Terms, session: Session, name: str, deadline: float
) -> None:
    """Close a round with the other party; the store has the answer then.

    Raises
    ------
    RefusedError
        If the round is dropped, or the other party or the dealer fails: it can be closed later then.
    """
    link = session.link
    link.allow(deadline)
    mine = store.freeze(name)
    state = store.state(name)
    own = store.roster(name)
    dropped = store.why(name) if state == "dropped" else ""
    offer = _Offer(
        round=name, purpose="finish", terms=terms.fingerprint, owners=tuple(mine), verdict=own, dropped=dropped
    )
    theirs = _exchange(link, offer)
    if own is not None and theirs.verdict is not None and own != theirs.verdict:
        raise RemoteProtocolError(f"the parties have two verdicts on round {name[:8]}: do not use it")
    if dropped or theirs.dropped:
        _drop(store, name, dropped or theirs.dropped)
    verdict = own or theirs.verdict
    tally: Tally | None = None
    if verdict is None:
        tally, verdict = _decide(party, store, terms, session, name, (mine, list(theirs.owners)), deadline)
    elif missing := [owner for owner in verdict.owners if state != "finished" and owner not in dict(mine)]:
        raise RefusedError(Code.GONE, f"{len(missing)} shares of round {name[:8]} are lost here", "open another round")
    if len(verdict.owners) < terms.least:
        _drop(store, name, f"{len(verdict.owners)} owners are left, the sum of fewer than {terms.least} is not opened")
    store.decide(name, verdict)
    _exchange(link, _Offer(round=name, purpose="decided", terms=terms.fingerprint))  # it is on disk at both
    if state == "finished":
        return
    if tally is None:
        tally = Tally(terms, bytes(32))
        unused = np.zeros(Sketch.values(terms.length), dtype=np.uint32)
        for owner in verdict.owners:
            with _share(store, party.number, name, owner) as read:
                tally.take(read, unused)
    store.finish(name, tally.finish(store.noise_seed(name)))


def _drop(store: RoundStore, name: str, why: str) -> None:
    if store.state(name) != "dropped":
        store.drop(name, why)
    raise RefusedError(Code.LIMIT, f"round {name[:8]} is dropped: {why}", "open another round, with more owners")


def _decide(
    party: PartyServer,
    store: RoundStore,
    terms: Terms,
    session: Session,
    name: str,
    offers: tuple[list[tuple[str, str]], list[tuple[str, str]]],
    deadline: float,
) -> tuple[Tally, Roster]:
    """Sum and sketch what both parties have, and check norms."""
    both = sorted(set(offers[0]) & set(offers[1]))
    left_out = dict.fromkeys(
        sorted({owner for offer in offers for owner, _ in offer} - {o for o, _ in both}), _ONE_SIDED
    )
    candidates = [owner for owner, _ in both]
    if len(candidates) < terms.least:
        _drop(
            store, name, f"shares of {len(candidates)} owners reached both parties, at least {terms.least} are needed"
        )
    tally = Tally(terms, _coins(session.link, party.number))
    sketches = np.zeros((len(candidates), Sketch.values(terms.length)), dtype=np.uint32)
    for owner, row in zip(candidates, sketches, strict=True):
        with _share(store, party.number, name, owner) as read:
            tally.take(read, row)
    verdict = _check(party, session, sketches, name, deadline)
    admitted = []
    for owner, good in zip(candidates, verdict, strict=True):
        if good:
            admitted.append(owner)
            continue
        left_out[owner] = TOO_LONG
        with _share(store, party.number, name, owner) as read:
            tally.drop(read)
    return tally, Roster(owners=tuple(admitted), left_out=left_out)


def _check(party: PartyServer, session: Session, sketches: Units, name: str, deadline: float) -> NDArray[np.bool_]:
    """Run the norm check, some owners at a time, and open its two bits for each."""
    verdicts = []
    for start in range(0, len(sketches), _BATCH):
        part = sketches[start : start + _BATCH]
        token = hashlib.blake2b(f"{session.token} {start}".encode(), digest_size=16).hexdigest()
        nothing = np.empty(0, dtype=np.uint8)
        correlation, prepared = party.prepare(session, len(part), token, nothing, deadline)
        run = f"{name} {start} {correlation}"
        own = party.compute(session, prepared, check_input(part), run, deadline).share
        other = np.empty_like(own)
        session.link.send(own)
        session.link.receive(other)
        session.link.flush()
        verdicts.append(passed(own, other))
    return np.concatenate(verdicts)


def _coins(link: Link, party: int) -> bytes:
    """Random bytes that both parties have a hand in, drawn when all shares are in."""
    own, other = np.frombuffer(fresh_seed(), dtype=np.uint8), np.empty(32, dtype=np.uint8)
    link.send(own)
    link.receive(other)
    ordered = (other, own) if party else (own, other)
    return hashlib.blake2b(b"".join(part.tobytes() for part in ordered), digest_size=32).digest()


@contextlib.contextmanager
def _share(store: RoundStore, party: int, name: str, owner: str) -> Any:
    """An owner's share, from its start."""
    if party == 0:
        yield seed_stream(store.seed(name, owner)).fill
        return
    with store.reading(name, owner) as read:
        reader: Reader = read
        yield reader


def _exchange(link: Link, own: _Offer) -> _Offer:
    """Tell and hear; both sides must mean the same round, terms and step."""
    data = np.frombuffer(msgspec.msgpack.encode(own), dtype=np.uint8)
    sizes = np.array([data.size], dtype="<u8"), np.zeros(1, dtype="<u8")
    link.send(sizes[0].view(np.uint8))
    link.receive(sizes[1].view(np.uint8))
    size = int(sizes[1][0])
    if not 0 < size <= _MAX_OFFER:
        raise RemoteProtocolError(f"the other party announces {size} bytes about a round, the limit is {_MAX_OFFER}")
    other = np.empty(size, dtype=np.uint8)
    link.send(data)
    link.receive(other)
    link.flush()
    theirs = decode_offer(other.tobytes())
    if theirs.terms != own.terms:
        raise RemoteProtocolError("the other party aggregates under other terms: compare [aggregation] in both files")
    if (theirs.round, theirs.purpose) != (own.round, own.purpose):
        raise RemoteProtocolError("the other party is about to do something else with another round")
    return theirs


def decode_offer(data: bytes) -> _Offer:
    """Decode what the other party tells about a round.

    Raises
    ------
    RemoteProtocolError
        If it is malformed, or names an owner twice.
    """
    try:
        offer = msgspec.msgpack.decode(data, type=_Offer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"what the other party tells about a round does not fit its type: {error}") from None
    if len({owner for owner, _ in offer.owners}) != len(offer.owners):
        raise RemoteProtocolError("the other party names an owner twice")
    return offer
