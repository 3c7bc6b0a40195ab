"""Training across owners: updates on additive shares, of which only the noisy sum is opened."""

from __future__ import annotations

from secureimg.federated.accounting import epsilon_after
from secureimg.federated.export import network_graph, to_onnx
from secureimg.federated.inversion import Match, best_matches, invert_update
from secureimg.federated.networks import Network, compact_network, dense_network
from secureimg.federated.norm_check import check_input, check_program, passed
from secureimg.federated.partition import partition
from secureimg.federated.sketch import Sketch
from secureimg.federated.tally import Reader, RoundSum, Tally, open_sum
from secureimg.federated.terms import Terms
from secureimg.federated.together import TOO_LONG, aggregate_together, sum_shares
from secureimg.federated.training import Examples, Schedule, accuracy, average_plain, local_update, train
from secureimg.federated.updates import Shares, quantise, seed_stream, share_update

__all__ = [
    "TOO_LONG",
    "Examples",
    "Match",
    "Network",
    "Reader",
    "RoundSum",
    "Schedule",
    "Shares",
    "Sketch",
    "Tally",
    "Terms",
    "accuracy",
    "aggregate_together",
    "average_plain",
    "best_matches",
    "check_input",
    "check_program",
    "compact_network",
    "dense_network",
    "epsilon_after",
    "invert_update",
    "local_update",
    "network_graph",
    "open_sum",
    "partition",
    "passed",
    "quantise",
    "seed_stream",
    "share_update",
    "sum_shares",
    "to_onnx",
    "train",
]
