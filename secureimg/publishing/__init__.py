"""Images that leave their owner: obfuscation and its failure, differential privacy, sealed and split photographs."""

from __future__ import annotations

from secureimg.publishing.guarantee import Guarantee, Kind

__all__ = [
    "Guarantee",
    "Kind",
]
