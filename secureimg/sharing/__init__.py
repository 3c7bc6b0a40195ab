"""The graph on additive shares in Z_2^64, between two parties that do not collude."""

from secureimg.sharing.channel import Channel
from secureimg.sharing.clear import run_clear
from secureimg.sharing.compiler import compile_graph as compile  # noqa: A004  # reads as sharing.compile
from secureimg.sharing.dealer import Dealer
from secureimg.sharing.handing_on import Handed, hand_on
from secureimg.sharing.ownership import expand_share, join_result, share_images, view_share
from secureimg.sharing.party import PartyOne, PartyZero, Prepared, Result
from secureimg.sharing.plan import CostReport, LayerCost, cost_of
from secureimg.sharing.program import Program, PublicProgram
from secureimg.sharing.shared_weights import share_weights, weight_share_seed
from secureimg.sharing.store import Correlation, CorrelationStore
from secureimg.sharing.streams import fresh_seed, seed_name
from secureimg.sharing.together import run_on_shares, run_together, warm_up
from secureimg.sharing.workers import one_blas_thread

__all__ = [
    "Channel",
    "Correlation",
    "CorrelationStore",
    "CostReport",
    "Dealer",
    "Handed",
    "LayerCost",
    "PartyOne",
    "PartyZero",
    "Prepared",
    "Program",
    "PublicProgram",
    "Result",
    "compile",
    "cost_of",
    "expand_share",
    "fresh_seed",
    "hand_on",
    "join_result",
    "one_blas_thread",
    "run_clear",
    "run_on_shares",
    "run_together",
    "seed_name",
    "share_images",
    "share_weights",
    "view_share",
    "warm_up",
    "weight_share_seed",
]
