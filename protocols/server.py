"""The server's side of the conversation, without any I/O."""

from __future__ import annotations

from msgspec import structs

from protocols.binding import Terms
from protocols.conversation import Buffer, Conversation, Role, State
from protocols.messages import (
    Caps,
    Code,
    Hangup,
    InputPreparation,
    KeysState,
    KeysStored,
    Offer,
    Refusal,
    Result,
)

__all__ = ["ServerConversation"]

_TEXT = 2000


class ServerConversation(Conversation):
    """The server: answers. It has no way to speak first but to hang up.

    Parameters
    ----------
    caps : Caps, optional
        Largest bodies to accept from the owner.
    owner, server : str
        SHA-256 of both sides' certificates, which the session's keys are bound to.
    """

    def __init__(self, caps: Caps | None = None, *, owner: str = "", server: str = "") -> None:
        self._granted = caps or Caps()
        self._terms = Terms(protocol="inference", owner=owner, server=server)
        super().__init__(Role.SERVER, self._granted)

    def offer(
        self,
        *,
        model: str,
        program: str,
        public: Buffer,
        preparation: InputPreparation | None = None,
    ) -> list[Buffer]:
        """Answer the greeting with the public program and what this side accepts."""
        message = Offer(
            key=self.key,
            model=model,
            program=program,
            max_keys_bytes=self._granted.keys,
            max_ciphertext_bytes=self._granted.ciphertext,
            preparation=preparation,
        )
        buffers = self.send(message, public)
        self.bind(structs.replace(self._terms, model=model, program=program))
        return buffers

    def keys_state(self, key_id: str, *, known: bool, room: int) -> list[Buffer]:
        """Say whether the keys are held, and how large a key set this owner may send."""
        return self.send(KeysState(key_id=key_id, known=known, room=room))

    def keys_stored(self, key_id: str) -> list[Buffer]:
        """Confirm that the keys are ready."""
        return self.send(KeysStored(key_id=key_id))

    def result(self, request_id: str, blob: Buffer, *, seconds: float, waited: float, peak_rss: int) -> list[Buffer]:
        """Answer an evaluation; seconds in evaluation and in the queue, peak memory of the server in bytes."""
        message = Result(request_id=request_id, seconds=seconds, waited=waited, peak_rss=peak_rss)
        return self.send(message, blob)

    def refuse(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> list[Buffer]:
        """Refuse the request at hand; the conversation goes on."""
        return self.send(Refusal(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT], retry_after=retry_after))

    def hang_up(self, code: Code, message: str, remedy: str, retry_after: float | None = None) -> list[Buffer]:
        """End the conversation, saying why. Nothing is sent if it has ended already."""
        if self.state is State.CLOSED:
            return []
        return self.send(Hangup(code=code, message=message[:_TEXT], remedy=remedy[:_TEXT], retry_after=retry_after))
