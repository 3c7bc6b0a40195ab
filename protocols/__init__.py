"""Who does which step and what crosses the wire: messages, state machines, transports, servers, command line."""

from protocols.client import Answer, OwnerClient
from protocols.conversation import MOVES, Conversation, Opening, Received, Role, State
from protocols.engine import CkksEngine, Engine
from protocols.errors import RefusedError
from protocols.limits import Limits
from protocols.memory import MemoryPair
from protocols.messages import Caps, Code
from protocols.owner import OwnerConversation
from protocols.pki import Authority, Bundle, create_bundles
from protocols.server import ServerConversation
from protocols.service import Service

__all__ = [
    "MOVES",
    "Answer",
    "Authority",
    "Bundle",
    "Caps",
    "CkksEngine",
    "Code",
    "Conversation",
    "Engine",
    "Limits",
    "MemoryPair",
    "Opening",
    "OwnerClient",
    "OwnerConversation",
    "Received",
    "RefusedError",
    "Role",
    "ServerConversation",
    "Service",
    "State",
    "create_bundles",
]
