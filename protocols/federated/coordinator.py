"""Whoever leads the training: opens rounds, closes them, and puts the two shares of the sum together."""

from __future__ import annotations

import secrets
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protocols.federated.messages import (
    ATTEND,
    MAX_ROSTER,
    Attend,
    Attending,
    Begin,
    Begun,
    Count,
    Counted,
    Finish,
    Finished,
    Role,
    Roster,
    attend_terms,
)
from protocols.federated.two_talks import Parties, TwoTalks, insist
from secureimg.errors import RemoteProtocolError
from secureimg.federated import RoundSum, Terms, open_sum

__all__ = ["Coordinator", "RoundCost"]


@dataclass(frozen=True)
class RoundCost:
    """What closing a round took.

    Attributes
    ----------
    seconds : (float, float)
        At party 0 and party 1.
    sent : (int, int)
        Bytes that they sent to each other.
    down : int
        Bytes of the two shares of the sum.
    rounds : int
        Rounds that the parties have opened so far.
    """

    seconds: tuple[float, float]
    sent: tuple[int, int]
    down: int
    rounds: int


class Coordinator:
    """Opens and closes rounds at the two parties. It learns noisy sums, and who took part.

    Parameters
    ----------
    parties : ((str, int), (str, int))
        Where party 0 and party 1 listen.
    identity : Path
        A bundle of the role coordinator.
    timeout : float
        Seconds to wait for an answer; the parties are told.
    retry : float
        Seconds to go on trying when a party is away: a round that is closed again gives the same sum.
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "party-0" and "party-1"; a role that is not named: all of the authority's.

    Attributes
    ----------
    cost : RoundCost or None
        Of the last round closed.
    """

    def __init__(
        self,
        parties: Parties,
        identity: Path | str,
        *,
        timeout: float = 600.0,
        retry: float = 60.0,
        pins: Mapping[str, frozenset[str]] = types.MappingProxyType({}),
    ) -> None:
        self._parties, self._identity, self._pins = parties, Path(identity), pins
        self._timeout, self._retry = timeout, retry
        self.cost: RoundCost | None = None

    def terms(self) -> Terms:
        """Ask the parties for the terms of their rounds."""

        def attempt() -> Terms:
            with self._connected(None) as (_, terms):
                return terms

        return insist(attempt, self._retry)

    def open(self, terms: Terms) -> str:
        """Open a round under the terms, which must be the parties'; return its token, for the owners.

        Raises
        ------
        RefusedError, RemoteProtocolError
            If the parties have other terms, have opened as many rounds as they may, or cannot be reached.
        """
        name = secrets.token_hex(16)

        def attempt() -> str:
            with self._connected(terms) as (two, _):
                asked = Begin(round=name, session=secrets.token_hex(16), seconds=self._timeout)
                heard = two.ask(((asked, b""), (asked, b"")), Begun)
                for number, item in enumerate(heard):
                    if item.message.peer != two.seen[1 - number]:
                        raise RemoteProtocolError(
                            f"party {number} works with another party {1 - number} than the one connected to: check the "
                            "addresses with the operators"
                        )
                return name

        return insist(attempt, self._retry)

    def count(self, round: str) -> tuple[int, int]:  # noqa: A002  # the field's word
        """Of how many owners party 0 and party 1 have shares."""

        def attempt() -> tuple[int, int]:
            with self._connected(None) as (two, _):
                asked = Count(round=round)
                first, second = two.ask(((asked, b""), (asked, b"")), Counted)
                return first.message.owners, second.message.owners

        return insist(attempt, self._retry)

    def close(self, round: str, terms: Terms | None = None) -> RoundSum:  # noqa: A002  # the field's word
        """Close a round and open its sum.

        Raises
        ------
        RefusedError
            If too few owners are left: the round is dropped, and nothing is opened.
        RemoteProtocolError
            If the parties cannot be reached, or do not agree.
        """
        return insist(lambda: self._close(round, terms), self._retry)

    def _close(self, name: str, expected: Terms | None) -> RoundSum:
        with self._connected(expected) as (two, terms):
            asked = Finish(round=name, session=secrets.token_hex(16), seconds=self._timeout)
            heard = two.ask(((asked, b""), (asked, b"")), Finished)
            rosters, shares = [], []
            for number, item in enumerate(heard):
                body = memoryview(item.body or b"")
                if item.message.roster > MAX_ROSTER or len(body) != item.message.roster + 4 * terms.length:
                    raise RemoteProtocolError(
                        f"party {number} sent {len(body)} bytes as roster and sum, of another size"
                    )
                rosters.append(Roster.from_bytes(body[: item.message.roster]))
                shares.append(np.frombuffer(body[item.message.roster :], dtype=np.uint32))
            if rosters[0] != rosters[1]:
                raise RemoteProtocolError("the two parties name different owners in the sum: do not use it")
            told: list[Any] = [item.message for item in heard]
            self.cost = RoundCost(
                (told[0].seconds, told[1].seconds), (told[0].sent, told[1].sent),
                sum(talk.wire.received for talk in two.talks), told[0].rounds,
            )  # fmt: skip
            return open_sum(terms, shares[0], shares[1], rosters[0].owners, dict(rosters[0].left_out))

    def _connected(self, expected: Terms | None) -> _Connected:
        return _Connected(self._parties, self._identity, self._timeout, self._pins, expected)


class _Connected:
    """Both parties, greeted, as a context."""

    def __init__(
        self, parties: Parties, identity: Path, timeout: float, pins: Mapping[str, frozenset[str]],
        expected: Terms | None,
    ) -> None:  # fmt: skip
        self._two = TwoTalks(parties, identity, Role.COORDINATOR, ATTEND, timeout, pins)
        self._expected = expected

    def __enter__(self) -> tuple[TwoTalks, Terms]:
        two = self._two
        try:
            asked = [Attend(key=talk.conversation.key) for talk in two.talks]
            heard = two.ask(((asked[0], b""), (asked[1], b"")), Attending)
            terms = two.agree(heard, self._expected)
            for number, talk in enumerate(two.talks):
                own = two.context.identity.fingerprint
                talk.conversation.bind(attend_terms(terms, number, own, two.seen[number]))
        except BaseException:
            two.close()
            raise
        return two, terms

    def __exit__(self, *error: object) -> None:
        self._two.close()
