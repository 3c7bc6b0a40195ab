"""Gradient inversion: pictures read back from an update. It shows why a single update must not be seen.

The gradient of a dense layer's weights is a sum over pictures of (what each output wants) times (what each picture puts
in); the gradient of its bias is the same sum without the input. One picture's input is therefore the quotient of the two,
exactly. Several pictures' inputs are mixed, and are taken apart as independent sources. If convolutions come first, the
quotient is what they made of the picture, and the picture is searched for that they make it of.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import ParameterError
from secureimg.federated.layers import Dense
from secureimg.federated.networks import Array, Network

__all__ = ["Match", "best_matches", "invert_update"]

Pictures = NDArray[np.float64]

_SMOOTHNESS = 1e-3  # weight of neighbouring pixels' differences where several pictures would fit
_SEARCH_STEPS = 400
_SEPARATION_STEPS = 200
_STARTS = (0.0, 0.5, 1.0)  # evenly black, grey and white: squares have several pictures for the same features


@dataclass(frozen=True)
class Match:
    """How near the nearest candidate comes to one picture.

    Attributes
    ----------
    candidate : int
    psnr : float
        Decibels for values in [0, 1]: 30 is a good copy, the mean picture of a data set gives 12 to 18.
    ssim : float
        Structural similarity, 1 for equal pictures.
    """

    candidate: int
    psnr: float
    ssim: float


def invert_update(
    network: Network, weights: Array, update: NDArray[np.floating], *, pictures: int = 1, span: tuple[float, float]
) -> Pictures:
    """Read pictures back from an update, or from a sum of updates.

    Parameters
    ----------
    network : Network
    weights : (parameters,) float32
        Global weights that the update was made from; whoever sees updates has them.
    update : (parameters,)
        New minus old weights after one gradient step or a few.
    pictures : int
        How many were trained on, or a guess. Above 1 candidates of both methods are returned.
    span : (float, float)
        Least and largest pixel of a prepared picture.

    Returns
    -------
    ndarray of float64, (K, C, H, W)
        Candidates, prepared as the network takes them, within `span`. None of them need be a picture that was trained on:
        see `best_matches`.

    Raises
    ------
    ParameterError
        If the update is not of this network, or holds nothing to invert.

    Notes
    -----
    Cost: a quotient; for several pictures a singular value decomposition of the first dense layer's gradient; behind
    convolutions up to 400 passes forward and backward for each candidate.
    Source: Phong et al., "Privacy-preserving deep learning via additively homomorphic encryption", IEEE TIFS 2018, section
    III; Geiping et al., "Inverting gradients", NeurIPS 2020, proposition 3.1. Several pictures: Kariyappa et al.,
    "Cocktail party attack", ICML 2023 (there an own search, here FastICA on derivatives of the pictures).
    """
    change: Pictures = np.asarray(update, dtype=np.float64)
    if change.shape != (network.parameters,):
        raise ParameterError(
            f"an update of shape {change.shape} is not of a network of {network.parameters} parameters"
        )
    if pictures < 1:
        raise ParameterError(f"an update is of at least 1 picture, not {pictures}")
    if not np.isfinite(change).all():
        raise ParameterError("the update holds values that are not finite")
    first = next(number for number, layer in enumerate(network.layers) if isinstance(layer, Dense))
    place = sum(
        math.prod(shape) for number, shape in network.tensors if number < first
    )  # where the dense layer's tensors begin
    outputs, inputs = network.layers[first].tensors(network.shapes[first])[0]
    gradient = change[place : place + outputs * inputs].reshape(outputs, inputs)
    bias = change[place + outputs * inputs : place + outputs * inputs + outputs]
    shape = network.shapes[first]
    found = _quotients(gradient, bias)
    if pictures > 1:
        found = np.concatenate([found, _separated(gradient, bias, pictures, shape)])
    features = found.reshape(-1, *shape)
    if first:
        features = features[:1] if pictures == 1 else features[-min(pictures, len(features)) :]
        features = np.stack([_search(network, weights, first, feature, span) for feature in features])
    return np.asarray(np.clip(features, *span))


def best_matches(originals: Pictures, candidates: Pictures) -> tuple[Match, ...]:
    """The nearest candidate to each original, by PSNR.

    Parameters
    ----------
    originals, candidates : (N, H, W) and (M, H, W), in [0, 1]
    """
    from skimage.metrics import structural_similarity  # half a second that parties need not wait for

    flat = candidates.reshape(len(candidates), -1)
    matches = []
    for original in originals:
        errors = np.mean((flat - original.reshape(-1)) ** 2, axis=1)
        best = int(errors.argmin())
        psnr = 10 * math.log10(1 / max(float(errors[best]), 1e-12))
        ssim = float(structural_similarity(original, candidates[best], data_range=1.0))  # type: ignore[no-untyped-call]
        matches.append(Match(best, psnr, ssim))
    return tuple(matches)


def _quotients(gradient: Pictures, bias: Pictures) -> Pictures:
    """The least-squares quotient of all rows first, then each row's own."""
    weight = float(bias @ bias)
    if weight == 0.0:
        raise ParameterError("the update leaves the first dense layer's bias as it was: there is nothing to invert")
    rows = np.flatnonzero(np.abs(bias) > 1e-6 * math.sqrt(weight))
    return np.concatenate([(bias @ gradient)[None] / weight, gradient[rows] / bias[rows, None]])


def _separated(gradient: Pictures, bias: Pictures, count: int, shape: Sequence[int]) -> Pictures:
    """Sources of the mixture: rows [gradient, bias] are combinations of [input, 1], one of each picture."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    mixed = np.concatenate([gradient, bias[:, None]], axis=1)
    _, sizes, basis = np.linalg.svd(mixed, full_matrices=False)
    rank = min(count, int(np.count_nonzero(sizes > 1e-7 * sizes[0])))
    basis = basis[:rank]
    if rank < 2:
        return np.empty((0, gradient.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is found so far is a candidate, too
        ica = FastICA(rank, whiten="unit-variance", random_state=0, max_iter=_SEPARATION_STEPS, tol=1e-5)
        ica.fit(_derivatives(basis[:, :-1], shape).T)
    sources = ica.components_ @ basis  # unmixed as a whole, with the coordinate that is 1 for a picture
    known = np.abs(sources[:, -1]) > 1e-9
    return np.asarray(sources[known, :-1] / sources[known, -1:])


def _derivatives(rows: Pictures, shape: Sequence[int]) -> Pictures:
    """Differences of neighbours: two pictures' are nearly independent, the pictures themselves look alike."""
    if len(shape) != 3:
        return rows
    grid = rows.reshape(len(rows), *shape)
    parts = np.diff(grid, axis=2), np.diff(grid, axis=3)
    return np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1)


def _search(network: Network, weights: Array, first: int, wanted: Pictures, span: tuple[float, float]) -> Pictures:
    """The picture whose features before the first dense layer are nearest to what is wanted, and that is smooth."""
    from scipy.optimize import minimize  # takes a third of a second to load, which nobody else need wait for

    layers, tensors = network.layers[:first], network.split(weights)[:first]
    scratch = network.split(np.empty_like(weights))[:first]
    goal = wanted[None].astype(np.float32)
    size = float(np.mean(goal**2)) or 1.0

    def loss(flat: Pictures) -> tuple[float, Pictures]:
        picture = flat.reshape(network.input_shape)
        values = [picture[None].astype(np.float32)]
        for layer, tensor in zip(layers, tensors, strict=True):
            values.append(layer.forward(values[-1], tensor))
        delta = values.pop() - goal
        value = float(np.mean(delta.astype(np.float64) ** 2)) / size
        back = delta * np.float32(2 / (delta.size * size))
        for number in range(first - 1, -1, -1):
            back = layers[number].backward(values[number], back, tensors[number], scratch[number], True)
        rough, pull = _roughness(picture)
        return value + _SMOOTHNESS * rough, (back[0].astype(np.float64) + _SMOOTHNESS * pull).reshape(-1)

    size_of_picture = math.prod(network.input_shape)
    found = [
        minimize(
            loss, np.full(size_of_picture, span[0] + part * (span[1] - span[0])), jac=True, method="L-BFGS-B",
            bounds=[span] * size_of_picture, options={"maxiter": _SEARCH_STEPS},
        )
        for part in _STARTS
    ]  # fmt: skip
    return np.asarray(min(found, key=lambda result: float(result.fun)).x).reshape(network.input_shape)


def _roughness(picture: Pictures) -> tuple[float, Pictures]:
    """Mean squared difference of neighbours, and its gradient."""
    pull = np.zeros_like(picture)
    total = 0.0
    for axis in (1, 2):
        step = np.diff(picture, axis=axis)
        total += float(np.mean(step**2))
        grown = np.zeros((2, *picture.shape))
        lower = [slice(None)] * 3
        upper = [slice(None)] * 3
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        grown[0][tuple(lower)] = -step
        grown[1][tuple(upper)] = step
        pull += (grown[0] + grown[1]) * (2 / step.size)
    return total, pull
