"""Training across owners: updates on additive shares, of which only the noisy sum is opened."""

from __future__ import annotations

from secureimg.federated.norm_check import check_input, check_program, passed
from secureimg.federated.sketch import Sketch
from secureimg.federated.tally import Reader, RoundSum, Tally, open_sum
from secureimg.federated.terms import Terms
from secureimg.federated.together import TOO_LONG, aggregate_together, sum_shares
from secureimg.federated.updates import Shares, quantise, seed_stream, share_update

__all__ = [
    "TOO_LONG",
    "Reader",
    "RoundSum",
    "Shares",
    "Sketch",
    "Tally",
    "Terms",
    "aggregate_together",
    "check_input",
    "check_program",
    "open_sum",
    "passed",
    "quantise",
    "seed_stream",
    "share_update",
    "sum_shares",
]
