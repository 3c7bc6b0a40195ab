"""Advice before anything runs: which executor suits a model, what it will cost on this machine, and why."""

from protocols.advice.calibration import Calibration, cache_file, calibrate, read_calibration, write_calibration
from protocols.advice.ckks_forecast import CkksForecast, forecast_ckks
from protocols.advice.network import NETWORKS, Network, parse_network
from protocols.advice.shares_forecast import SharesForecast, forecast_shares
from protocols.advice.study import Cost, Study, study
from protocols.advice.verdict import Trust, Verdict, judge

__all__ = [
    "NETWORKS",
    "Calibration",
    "CkksForecast",
    "Cost",
    "Network",
    "SharesForecast",
    "Study",
    "Trust",
    "Verdict",
    "cache_file",
    "calibrate",
    "forecast_ckks",
    "forecast_shares",
    "judge",
    "parse_network",
    "read_calibration",
    "study",
    "write_calibration",
]
