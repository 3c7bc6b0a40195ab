"""One valid message of every kind that travels, with a body where there is one.

Messages are made from their own field lists, so that a new message or field takes at most one line here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from protocols import messages as inference
from protocols.conversation import INFERENCE
from protocols.federated import messages as federated
from protocols.frames import Head
from protocols.sharing import messages as sharing
from secureimg.federated import Terms

__all__ = ["BODIES", "EXAMPLES"]

_HEX: Final = "ab" * 32
_TOKEN: Final = "0123456789abcdef" * 2
_SIZE: Final = 1 << 24

_VALUES: Final[dict[str, Any]] = {
    "code": inference.Code.BUSY,
    "contribution": _TOKEN,
    "correlation": _TOKEN,
    "count": 2,
    "dealing": "dealer",
    "dealt": 1000,
    "epoch": _TOKEN,
    "epochs": (_TOKEN,),
    "images": 2,
    "key": bytes(range(1, 33)),  # almost any 32 bytes are an X25519 key
    "key_id": _TOKEN,
    "known": True,
    "max_ciphertext_bytes": _SIZE,
    "max_keys_bytes": _SIZE,
    "message": "busy",
    "model": "mnist-cnn",
    "owner": _HEX,
    "party": 1,
    "peak_rss": _SIZE,
    "peer": _HEX,
    "preparation": inference.InputPreparation(mode="RGB", size=(28, 32), mean=(0.5, 0.25, 0.125), std=(0.5, 0.5, 1.0)),
    "program": _HEX,
    "purpose": "session",
    "remedy": "later",
    "request": 3,
    "request_id": _TOKEN,
    "retry_after": 1.5,
    "reveal": "label",
    "room": _SIZE,
    "roster": 20,
    "round": _TOKEN,
    "rounds": 9,
    "seconds": 60.0,
    "sent": 5000,
    "session": _TOKEN,
    "software": "secureimg",
    "stream": "to party 1",
    "terms": Terms(parameters=100, clip=1.0, owners=10, least=3, noise=1.0),
    "waited": 0.5,
    "weights": 2000,
}
_OTHER: Final[dict[type[Head], dict[str, Any]]] = {
    sharing.Joined: {"weights": True},
    federated.Counted: {"owners": 3},
}


def _example(kind: type[Head]) -> Head:
    values = _VALUES | _OTHER.get(kind, {})
    wanted = [field.name for field in msgspec.structs.fields(kind) if field.required or field.name in values]
    return kind(**{name: values[name] for name in wanted})


def _kinds() -> Iterable[type[Head]]:
    for rules in (INFERENCE, sharing.VISIT, sharing.JOIN, sharing.SUPPLY, federated.CONTRIBUTE, federated.ATTEND):
        for said in rules.speaks.values():
            yield from said


EXAMPLES: Final[dict[type[Head], Head]] = {kind: _example(kind) for kind in _kinds()}
"""Kind of message -> a valid one."""

BODIES: Final[dict[type[Head], bytes]] = {
    kind: bytes(range(48))
    for kind in EXAMPLES
    if max(caps.body(kind) for caps in (inference.Caps(), sharing.Caps(), federated.Caps()))
}
"""Kinds that have a body -> one."""
