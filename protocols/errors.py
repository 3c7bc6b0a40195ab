"""What the owner sees when the server says no."""

from __future__ import annotations

from protocols.messages import Code
from secureimg.errors import ProtocolError

__all__ = ["RefusedError"]


class RefusedError(ProtocolError):
    """The server refused: neither side broke the protocol, but the request is not done.

    Attributes
    ----------
    code : Code
        The reason, for programs.
    retry_after : float or None
        Seconds after which a new attempt may succeed, if the server gave them.
    """

    def __init__(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> None:
        super().__init__(f"the server refused ({code.value}): {message}: {remedy}")
        self.code = code
        self.retry_after = retry_after
