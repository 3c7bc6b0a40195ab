"""Differential privacy: exact samplers for its noise, accounting, and budgets that are kept."""

from __future__ import annotations

__all__: list[str] = []
