"""Secure aggregation under Flower (extra `flower`): Flower moves the model and the messages, the parties get updates."""

from __future__ import annotations

from protocols.federated.flower.accounts import RoundReport
from protocols.federated.flower.mod import ShareUpdate
from protocols.federated.flower.strategy import SecureAverage

__all__ = ["RoundReport", "SecureAverage", "ShareUpdate"]
