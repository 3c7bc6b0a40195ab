"""Images that leave their owner: obfuscation and its failure, differential privacy, sealed and split photographs."""

from __future__ import annotations

from secureimg.publishing.guarantee import Guarantee, Kind
from secureimg.publishing.key_files import load_key, load_recipient, save_key, save_recipient
from secureimg.publishing.recipients import HYBRID, X25519, Kem, Recipient, RecipientKey, find_kem
from secureimg.publishing.sealed import (
    MAX_RECIPIENTS,
    SealedKind,
    SealedReader,
    Unsealed,
    is_sealed,
    seal,
    seal_guarantee,
    seal_stream,
    sealed_size,
    unseal,
)

__all__ = [
    "HYBRID",
    "MAX_RECIPIENTS",
    "X25519",
    "Guarantee",
    "Kem",
    "Kind",
    "Recipient",
    "RecipientKey",
    "SealedKind",
    "SealedReader",
    "Unsealed",
    "find_kem",
    "is_sealed",
    "load_key",
    "load_recipient",
    "save_key",
    "save_recipient",
    "seal",
    "seal_guarantee",
    "seal_stream",
    "sealed_size",
    "unseal",
]
