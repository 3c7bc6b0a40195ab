"""Two parties on additive shares: messages, state machines, the link, the processes of party 0, party 1 and dealer."""

from protocols.sharing.dealer import DealerServer, Supply
from protocols.sharing.link import Link
from protocols.sharing.messages import DEALINGS, JOIN, SUPPLY, VISIT, Caps, Dealing, Role, Stage
from protocols.sharing.owner import Answer, Offline, SharesClient
from protocols.sharing.party import PartyLimits, PartyServer
from protocols.sharing.party_one import PartyOneServer
from protocols.sharing.party_zero import PartyZeroServer

__all__ = [
    "DEALINGS",
    "JOIN",
    "SUPPLY",
    "VISIT",
    "Answer",
    "Caps",
    "DealerServer",
    "Dealing",
    "Link",
    "Offline",
    "PartyLimits",
    "PartyOneServer",
    "PartyServer",
    "PartyZeroServer",
    "Role",
    "SharesClient",
    "Stage",
    "Supply",
]
