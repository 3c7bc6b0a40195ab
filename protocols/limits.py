"""What a server grants: sizes, times and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocols.messages import Caps

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of a service; every one of them ends in a clear refusal.

    Attributes
    ----------
    caps : Caps
        Largest message bodies, bytes.
    connections : int
        Open connections.
    queue : int
        Evaluations that may wait beside the one that runs.
    keys_per_owner, keys_total : int
        Memory for evaluation keys, bytes, measured as they travel.
    inputs_total : int
        Memory for encrypted inputs that arrive, wait or are evaluated, bytes.
    handshake, idle, frame : float
        Seconds for TLS and greeting, between requests, and for the header of a message.
    slowest : int
        Bytes per second below which a body counts as stuck (after `frame` seconds of grace).
    drain : float
        Seconds that a stopping service gives to evaluations under way.
    """

    caps: Caps = field(default_factory=Caps)
    connections: int = 64
    queue: int = 8
    keys_per_owner: int = 2 << 30
    keys_total: int = 8 << 30
    inputs_total: int = 4 << 30
    handshake: float = 10.0
    idle: float = 600.0
    frame: float = 15.0
    slowest: int = 128 << 10
    drain: float = 30.0

    def fitted(self, keys: int, inputs: int) -> Limits:
        """Return the same limits with caps no larger than a program's own blobs, in bytes."""
        caps = replace(self.caps, keys=min(self.caps.keys, keys), ciphertext=min(self.caps.ciphertext, inputs))
        return replace(self, caps=caps)

    def patience(self, size: int) -> float:
        """Return the seconds allowed to carry a body of `size` bytes."""
        return self.frame + size / self.slowest
