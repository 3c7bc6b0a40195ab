"""Differential privacy: exact samplers for its noise, accounting, and budgets that are kept."""

from __future__ import annotations

from secureimg.privacy.discrete_gaussian import add_discrete_gaussian, discrete_gaussian

__all__ = [
    "add_discrete_gaussian",
    "discrete_gaussian",
]
