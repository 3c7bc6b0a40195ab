"""The owner's side of the conversation, without any I/O."""

from __future__ import annotations

import secrets

from msgspec import structs

from protocols.binding import Terms
from protocols.conversation import Buffer, Conversation, Event, Received, Role
from protocols.messages import (
    AskKeys,
    Bye,
    Caps,
    Evaluate,
    Hello,
    KeysState,
    KeysStored,
    Message,
    Offer,
    RegisterKeys,
    Result,
)
from secureimg.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["OwnerConversation"]


class OwnerConversation(Conversation):
    """The owner: greets, registers evaluation keys, asks for evaluations; checks that answers match its questions.

    Parameters
    ----------
    caps : Caps, optional
        Largest bodies to accept from the server.
    owner, server : str
        SHA-256 of both sides' certificates, which the session's keys are bound to.
    """

    def __init__(self, caps: Caps | None = None, *, owner: str = "", server: str = "") -> None:
        super().__init__(Role.OWNER, caps)
        self._terms = Terms(protocol="inference", owner=owner, server=server)
        self.offer: Offer | None = None
        self._asked: Message | None = None

    def hello(self, model: str | None = None, software: str = "") -> list[Buffer]:
        """Open the conversation, naming the model expected (None: whatever the server has)."""
        return self._say(Hello(key=self.key, model=model, software=software))

    def ask_keys(self, key_id: str) -> list[Buffer]:
        """Ask whether the server already holds these keys of ours."""
        return self._say(AskKeys(key_id=key_id))

    def register_keys(self, key_id: str, keys: Buffer) -> list[Buffer]:
        """Send evaluation keys."""
        if self.offer is not None and memoryview(keys).nbytes > self.offer.max_keys_bytes:
            raise LocalProtocolError(
                f"the evaluation keys are {memoryview(keys).nbytes} bytes, the server takes "
                f"{self.offer.max_keys_bytes}: ask its operator for a higher limit"
            )
        return self._say(RegisterKeys(key_id=key_id), keys)

    def evaluate(
        self, key_id: str, count: int, blob: Buffer, *, request_id: str | None = None, seconds: float = 900.0
    ) -> list[Buffer]:
        """Ask for an evaluation of the encrypted input `blob`, which holds `count` images.

        Whoever asks again after a broken connection names the same request; a new one is drawn otherwise.
        """
        if self.offer is not None and memoryview(blob).nbytes > self.offer.max_ciphertext_bytes:
            raise LocalProtocolError(
                f"the encrypted input is {memoryview(blob).nbytes} bytes, the server takes "
                f"{self.offer.max_ciphertext_bytes}: ask its operator for a higher limit"
            )
        request = request_id or secrets.token_hex(16)
        return self._say(Evaluate(request_id=request, key_id=key_id, count=count, seconds=seconds), blob)

    def bye(self) -> list[Buffer]:
        """Leave."""
        return self._say(Bye())

    def receive_data(self, data: Buffer) -> list[Event]:
        """Take bytes from the wire; return what they complete. See `Conversation.receive_data`."""
        events = super().receive_data(data)
        for event in events:
            if isinstance(event, Received):
                self._check(event.message)
        return events

    def _say(self, message: Message, body: Buffer = b"") -> list[Buffer]:
        buffers = self.send(message, body)
        self._asked = message
        return buffers

    def _check(self, answer: Message) -> None:
        asked = self._asked
        if isinstance(answer, Offer):
            self.offer = answer
            self.bind(structs.replace(self._terms, model=answer.model, program=answer.program))
        elif isinstance(answer, KeysState | KeysStored):
            if isinstance(asked, AskKeys | RegisterKeys) and answer.key_id != asked.key_id:
                raise RemoteProtocolError(f"{type(answer).__name__} speaks of another key than was asked for")
        elif isinstance(answer, Result) and isinstance(asked, Evaluate) and answer.request_id != asked.request_id:
            raise RemoteProtocolError(
                f"the result answers request {answer.request_id}, but request {asked.request_id} was asked"
            )
