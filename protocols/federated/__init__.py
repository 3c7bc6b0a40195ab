"""Secure aggregation over real networks: two parties as processes, owners who bring updates, a coordinator who gets sums."""

from protocols.federated.aggregator import AggregatorOne, AggregatorZero
from protocols.federated.coordinator import Coordinator, RoundCost
from protocols.federated.uploader import Uploader

__all__ = ["AggregatorOne", "AggregatorZero", "Coordinator", "RoundCost", "Uploader"]
