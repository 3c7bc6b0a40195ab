"""Differential privacy: exact samplers for its noise, accounting, and budgets that are kept."""

from __future__ import annotations

from secureimg.privacy.accounting import gaussian_epsilon, gaussian_rho, rho_for, rho_to_epsilon
from secureimg.privacy.discrete_gaussian import add_discrete_gaussian, discrete_gaussian
from secureimg.privacy.discrete_laplace import add_discrete_laplace, discrete_laplace, laplace_scale
from secureimg.privacy.laplace import laplace_grid, laplace_noise
from secureimg.privacy.ledger import WHOLE_IMAGE, Charge, Ledger, Unit, picture_name
from secureimg.privacy.metric_noise import metric_grid, metric_noise, on_grid

__all__ = [
    "WHOLE_IMAGE",
    "Charge",
    "Ledger",
    "Unit",
    "add_discrete_gaussian",
    "add_discrete_laplace",
    "discrete_gaussian",
    "discrete_laplace",
    "gaussian_epsilon",
    "gaussian_rho",
    "laplace_grid",
    "laplace_noise",
    "laplace_scale",
    "metric_grid",
    "metric_noise",
    "on_grid",
    "picture_name",
    "rho_for",
    "rho_to_epsilon",
]
