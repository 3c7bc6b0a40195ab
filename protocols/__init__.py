"""Who does which step and what crosses the wire: messages, state machines, transports, servers, command line."""

from protocols.asynchronous import AsyncOwnerClient, AsyncSharesClient
from protocols.client import Answer, OwnerClient
from protocols.conversation import MOVES, Conversation, Opening, Received, Role, State
from protocols.engine import CkksEngine, Engine
from protocols.errors import BrokenError, RefusedError
from protocols.limits import Limits
from protocols.memory import MemoryPair
from protocols.messages import Caps, Code
from protocols.operations import Observer
from protocols.owner import OwnerConversation
from protocols.owner_limits import OwnerLimits
from protocols.pki import Authority, Bundle, create_bundles
from protocols.server import ServerConversation
from protocols.service import Service

__all__ = [
    "MOVES",
    "Answer",
    "AsyncOwnerClient",
    "AsyncSharesClient",
    "Authority",
    "BrokenError",
    "Bundle",
    "Caps",
    "CkksEngine",
    "Code",
    "Conversation",
    "Engine",
    "Limits",
    "MemoryPair",
    "Observer",
    "Opening",
    "OwnerClient",
    "OwnerConversation",
    "OwnerLimits",
    "Received",
    "RefusedError",
    "Role",
    "ServerConversation",
    "Service",
    "State",
    "create_bundles",
]
