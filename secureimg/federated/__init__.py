"""Training across owners: updates on additive shares, of which only the noisy sum is opened."""

from __future__ import annotations

__all__: list[str] = []
