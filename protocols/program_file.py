"""The public program as a file: the very message by which a server offers it."""

from __future__ import annotations

from protocols.conversation import Received
from protocols.messages import InputPreparation, Offer
from protocols.owner import OwnerConversation
from protocols.server import ServerConversation
from secureimg.ckks import PublicProgram
from secureimg.errors import BlobError, RemoteProtocolError

__all__ = ["decode_program", "encode_program"]


def encode_program(model: str, public: PublicProgram, preparation: InputPreparation | None) -> bytes:
    """Return the bytes of a program file."""
    server, owner = ServerConversation(), OwnerConversation()
    for buffer in owner.hello():
        server.receive_data(buffer)
    buffers = server.offer(
        model=model[:200] or "model", program=public.fingerprint, public=public.to_bytes(), preparation=preparation
    )
    return b"".join(buffers)


def decode_program(data: bytes, name: str) -> tuple[PublicProgram, InputPreparation | None]:
    """Read a program file.

    Parameters
    ----------
    data : bytes
        Untrusted.
    name : str
        What to call it in an error.

    Raises
    ------
    BlobError
        If it is anything but one whole offer of a sound program.
    """
    owner = OwnerConversation()
    owner.hello()
    try:
        events = owner.receive_data(data)
        if owner.mid_frame:
            raise BlobError(f"{name} is not a whole program file: make it again with `secureimg keygen`")
    except RemoteProtocolError as error:
        raise BlobError(f"{name} is not a program file: {error}") from None
    match events:
        case [_, Received(message=Offer() as offer, body=bytes(body))]:
            return PublicProgram.from_bytes(body), offer.preparation
        case _:
            raise BlobError(f"{name} is not a program file: make it with `secureimg keygen`")
