"""What the owner sees when the server says no, or nothing any more."""

from __future__ import annotations

from protocols.messages import Code
from secureimg.errors import ProtocolError, RemoteProtocolError

__all__ = ["BrokenError", "RefusedError"]


class RefusedError(ProtocolError):
    """A request is refused: neither side broke the protocol, but it is not done.

    A server raises it where it finds out, and sends it as a `Refusal` or a `Hangup`; the owner's client raises it again.

    Attributes
    ----------
    code : Code
        The reason, for programs.
    message, remedy : str
        What was wrong and what to do, for people.
    retry_after : float or None
        Seconds after which a new attempt may succeed, if the server gave them.
    """

    def __init__(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> None:
        super().__init__(f"the server refused ({code.value}): {message}: {remedy}")
        self.code, self.message, self.remedy = code, message, remedy
        self.retry_after = retry_after


class BrokenError(RemoteProtocolError):
    """A connection ended without a word: nobody broke the protocol, and the request may still be under way."""
