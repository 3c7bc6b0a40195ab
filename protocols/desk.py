"""A CKKS server for owners who come another way than by the native protocol (HTTPS): one call a request."""

from __future__ import annotations

import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack

from protocols.errors import RefusedError
from protocols.evaluation import Outcome
from protocols.messages import Code, InputPreparation
from protocols.results import Kept
from protocols.service import Service

__all__ = ["ServerDesk"]


class ServerDesk:
    """Where owners hand in evaluation keys and encrypted inputs. Thread-safe; each call blocks until it is done.

    All methods raise `RefusedError` for what is not granted or fails; it says why and what to do.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def model(self) -> str:
        """Name of the model that is served now."""
        return self._service.station.engine.model

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its program."""
        return self._service.station.engine.fingerprint

    @property
    def public(self) -> bytes:
        """The public program, for `secureimg.ckks.PublicProgram.from_bytes`."""
        return self._service.station.engine.public

    @property
    def preparation(self) -> InputPreparation | None:
        """How a picture becomes an input."""
        return self._service.station.engine.preparation

    @property
    def largest(self) -> tuple[int, int]:
        """Bytes that evaluation keys, and an encrypted input, may take."""
        engine = self._service.station.engine
        return engine.keys_bytes, engine.input_bytes

    def register(self, owner: str, key_id: str, data: bytes) -> None:
        """Keep an owner's evaluation keys."""
        station = self._service.station
        station.register(station.reserve(owner, key_id, len(data)), data)

    def evaluate(self, owner: str, key_id: str, request: str, data: bytes, seconds: float, images: int = 1) -> Outcome:
        """Evaluate an encrypted input; asked again under the same request, give the same answer.

        Parameters
        ----------
        owner : str
        key_id, request : str
            The owner's names for its keys and for this request; 32 hexadecimal digits the latter.
        data : bytes
            From `OwnerKeys.encrypt`.
        seconds : float
            How long the owner waits.
        images : int
            Images in it.
        """
        station = self._service.station
        shared, deadline = station.shared, time.monotonic() + seconds

        def wait(kept: Kept[Outcome]) -> Outcome:
            try:
                return kept.future.result(max(0.0, deadline - time.monotonic()))
            except FutureTimeoutError:
                raise RefusedError(Code.TIMEOUT, "that request is still under way", "ask again later") from None

        with ExitStack() as stack:
            kept = shared.results.find((owner, request))
            if kept is None:
                if shared.stopping():
                    raise RefusedError(Code.SHUTTING_DOWN, "the server is shutting down", "ask again later", 30.0)
                station.admit(owner, key_id, images, len(data))
                stack.callback(shared.inputs.give_back, len(data))
                kept = station.begin(owner, request, key_id, data, seconds, stack)
            return station.finish(owner, images, kept, wait)
