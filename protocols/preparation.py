"""How pictures become a model's input, in the form that travels."""

from __future__ import annotations

from protocols.messages import InputPreparation
from secureimg.graph import Graph, Preprocessing

__all__ = ["preparation_for", "preparation_of"]


def preparation_for(given: Preprocessing | None) -> InputPreparation | None:
    """Return a preprocessing as it travels."""
    if given is None:
        return None
    size = None if given.size is None else (int(given.size[0]), int(given.size[1]))
    return InputPreparation(mode=given.mode, size=size, mean=tuple(given.mean), std=tuple(given.std))


def preparation_of(graph: Graph) -> InputPreparation | None:
    """Return how a picture becomes this graph's input."""
    return preparation_for(graph.preprocessing)
