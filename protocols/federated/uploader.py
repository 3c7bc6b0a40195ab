"""The owner's side of secure aggregation: clip, round, split, and bring a share to each party."""

from __future__ import annotations

import secrets
import types
from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from protocols.federated.messages import CONTRIBUTE, Contribute, Role, Share, Stored, contribute_terms
from protocols.federated.messages import Accepting as _Accepting
from protocols.federated.two_talks import Parties, TwoTalks, insist
from secureimg.errors import RemoteProtocolError
from secureimg.federated import Shares, Terms, quantise, share_update

__all__ = ["Uploader"]


class Uploader:
    """Brings an owner's updates to the two parties.

    Parameters
    ----------
    parties : ((str, int), (str, int))
        Where party 0 and party 1 listen.
    identity : Path
        The owner's bundle.
    timeout : float
        Seconds to wait for an answer.
    retry : float
        Seconds to go on trying when a party is away or full.
    pins : mapping of role to fingerprints, optional
        Certificates accepted for "party-0" and "party-1"; a role that is not named: all of the authority's.
    """

    def __init__(
        self,
        parties: Parties,
        identity: Path | str,
        *,
        timeout: float = 120.0,
        retry: float = 60.0,
        pins: Mapping[str, frozenset[str]] = types.MappingProxyType({}),
    ) -> None:
        self._parties, self._identity, self._pins = parties, Path(identity), pins
        self._timeout, self._retry = timeout, retry

    def send(self, round: str, terms: Terms, update: ArrayLike, weight: float = 1.0) -> int:  # noqa: A002  # the field's word
        """Share an update; return when both shares are on the parties' disks.

        Parameters
        ----------
        round : str
            The round's token, from the coordinator.
        terms : Terms
            What the owner expects. Parties that tell others get nothing.
        update : array_like, shape (terms.parameters,)
            Clipped to `terms.clip` here.
        weight : float
            In (0, 1].

        Returns
        -------
        int
            Bytes sent to both parties.

        Raises
        ------
        ParameterError
            If the update does not fit the terms.
        RefusedError, RemoteProtocolError
            If the round is closed, the parties cannot be reached, or they do not mean the same.

        Notes
        -----
        Cost: 32 bytes to party 0, 4 bytes a parameter to party 1; no interaction. A share that a party has already is
        sent again after a break, under the same name, and counts once.
        """
        shares, contribution = share_update(quantise(terms, update, weight)), secrets.token_hex(16)
        return insist(lambda: self._attempt(round, terms, shares, contribution), self._retry)

    def _attempt(self, name: str, terms: Terms, shares: Shares, contribution: str) -> int:
        with TwoTalks(self._parties, self._identity, Role.OWNER, CONTRIBUTE, self._timeout, self._pins) as two:
            asked = [Contribute(key=talk.conversation.key, round=name) for talk in two.talks]
            heard = two.ask(((asked[0], b""), (asked[1], b"")), _Accepting)
            two.agree(heard, terms)
            for number, item in enumerate(heard):
                if item.message.peer != two.seen[1 - number]:
                    raise RemoteProtocolError(
                        f"party {number} works with another party {1 - number} (certificate {item.message.peer[:16]}) than "
                        f"the one connected to ({two.seen[1 - number][:16]}): check the addresses with the operators"
                    )
            for talk in two.talks:
                talk.conversation.bind(
                    contribute_terms(name, terms, two.context.identity.fingerprint, (two.seen[0], two.seen[1]))
                )
            share = Share(contribution=contribution)
            two.ask(((share, shares.seed), (share, shares.words.view("u1").data)), Stored)
            return sum(talk.wire.sent for talk in two.talks)
