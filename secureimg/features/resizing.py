"""Pictures of other sizes: resizing and the Gaussian pyramid.

Follow `skimage.transform` 0.26. Each axis is one linear map: what the smoothing and the interpolation of `scipy.ndimage`
make of unit vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import along, axis_matrix, picture_shape
from secureimg.graph import Graph, GraphBuilder, LinearMap, PublicGraphBuilder

__all__ = ["pyramid_gaussian", "pyramid_reduce", "resize"]

Array = NDArray[np.float64]

_OF_NDIMAGE: Final = {
    "constant": "grid-constant", "edge": "nearest", "symmetric": "reflect", "reflect": "mirror", "wrap": "grid-wrap",
}  # fmt: skip
_PYRAMID: Final = {name: _OF_NDIMAGE[name] for name in ("reflect", "constant", "wrap")}


@dataclass(frozen=True)
class _Stage:
    """What happens along one axis: a blur, and a new length; each with what it reads beyond the border."""

    sigma: float
    blur_mode: str
    size: int
    mode: str

    def run(self, vectors: Array, order: int, cval: float) -> Array:
        """Along axis 0."""
        if int(4.0 * self.sigma + 0.5):  # scipy's kernel is longer than one value
            vectors = ndi.gaussian_filter1d(vectors, self.sigma, axis=0, mode=self.blur_mode, cval=cval)
        factor = 1 / (vectors.shape[0] / self.size)  # in the order of scikit-image: rounding decides between neighbours
        zoomed = ndi.zoom(vectors, (factor, 1.0), order=order, mode=self.mode, cval=cval, grid_mode=True)
        return np.asarray(zoomed, dtype=np.float64)


def resize(
    shape: tuple[int, ...],
    output_shape: tuple[int, int] = (64, 64),
    order: int = 1,
    mode: str = "reflect",
    cval: float = 0.0,
    *,
    anti_aliasing: bool = True,
    anti_aliasing_sigma: float | tuple[float, float] | None = None,
) -> Graph:
    """A picture of another size.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    output_shape : (int, int)
        Rows and columns wanted.
    order : int
        0 takes the nearest pixel, 1 interpolates between the four nearest.
    mode : str
        Beyond the border: "constant" (of `cval`), "edge", "symmetric", "reflect" or "wrap", as in `numpy.pad`.
    cval : float
    anti_aliasing : bool
        Blur an axis that becomes shorter first.
    anti_aliasing_sigma : float or (float, float), optional
        Standard deviation of that blur, in pixels; (factor - 1) / 2 if not given.

    Returns
    -------
    Graph
        To (C, rows, columns): the result of `skimage.transform.resize` of a picture of floating-point numbers.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: one level. Shares: two linear maps with public weights, one round. Leaks nothing but shapes.

    Deviations: `output_shape` has a default; no orders above 1. Results are not clipped to the range of the picture: that
    differs where a picture is made larger in mode "constant" only.
    """
    channels, *sides = picture_shape(shape, "resize")
    wanted = tuple(output_shape)
    if [side >= 1 for side in wanted] != [True, True]:
        raise GraphError(f"resize: output_shape {wanted} is not (rows, columns) of at least 1")
    _check("resize", order, mode, _OF_NDIMAGE)
    factors = [old / new for old, new in zip(sides, output_shape, strict=True)]
    if anti_aliasing_sigma is None:
        sigmas = [max(0.0, (factor - 1) / 2) for factor in factors]
    elif isinstance(anti_aliasing_sigma, int | float):
        sigmas = [anti_aliasing_sigma] * 2
    else:
        sigmas = list(anti_aliasing_sigma)
    if len(sigmas) != 2 or not all(math.isfinite(s) and s >= 0 for s in sigmas):
        raise GraphError(f"resize: anti_aliasing_sigma {anti_aliasing_sigma} is not one number, or two, of at least 0")
    if not anti_aliasing or max(factors) <= 1:
        sigmas = [0.0, 0.0]
    border = _OF_NDIMAGE[mode]
    stages = [[_Stage(sigmas[axis], border, output_shape[axis], border)] for axis in (0, 1)]
    return _resized("resize", (channels, *sides), stages, order, cval)


def pyramid_reduce(
    shape: tuple[int, ...],
    downscale: float = 2.0,
    sigma: float | None = None,
    order: int = 1,
    mode: str = "reflect",
    cval: float = 0.0,
) -> Graph:
    """Blur and make smaller: the next level of a Gaussian pyramid.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    downscale : float
        Above 1.
    sigma : float, optional
        Standard deviation of the blur, in pixels; ``downscale / 3`` if not given.
    order : int
        As of `resize`.
    mode : str
        Beyond the border: "reflect", "constant" (of `cval`) or "wrap". The blur reads "reflect" as `scipy.ndimage` does.
    cval : float

    Returns
    -------
    Graph
        To (C, ceil(H / downscale), ceil(W / downscale)): the result of `skimage.transform.pyramid_reduce`.

    Raises
    ------
    GraphError
        If a parameter is out of range.

    Notes
    -----
    CKKS: one level. Shares: two linear maps with public weights, one round. Leaks nothing but shapes.
    Deviations: no orders above 1.
    """
    return _pyramid("pyramid_reduce", shape, 1, downscale, sigma, order, mode, cval)


def pyramid_gaussian(
    shape: tuple[int, ...],
    layer: int = 1,
    downscale: float = 2.0,
    sigma: float | None = None,
    order: int = 1,
    mode: str = "reflect",
    cval: float = 0.0,
) -> Graph:
    """One level of a Gaussian pyramid.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.
    layer : int
        Which level; 0 is the picture, and each next one `pyramid_reduce` of the one before. The last level has one pixel.
    downscale, sigma, order, mode, cval
        As of `pyramid_reduce`.

    Returns
    -------
    Graph
        To (C, rows, columns) of that level: the item of `skimage.transform.pyramid_gaussian`.

    Raises
    ------
    GraphError
        If a parameter is out of range or there is no such level.

    Notes
    -----
    Costs as `pyramid_reduce` whatever the level: what leads to it is one map for each axis. Deviations: one level of the
    pyramid, not all; no orders above 1.
    """
    if layer < 0:
        raise GraphError(f"pyramid_gaussian: layer is {layer}, the least is 0")
    return _pyramid("pyramid_gaussian", shape, layer, downscale, sigma, order, mode, cval)


def _pyramid(
    name: str,
    shape: tuple[int, ...],
    layers: int,
    downscale: float,
    sigma: float | None,
    order: int,
    mode: str,
    cval: float,
) -> Graph:
    sides = list(picture_shape(shape, name)[1:])
    _check(name, order, mode, _PYRAMID)
    blur = downscale / 3 if sigma is None else sigma
    if not (math.isfinite(downscale) and downscale > 1 and math.isfinite(blur) and blur >= 0):
        raise GraphError(f"{name}: downscale {downscale} must be above 1 and sigma {blur} at least 0")
    stages: list[list[_Stage]] = [[], []]
    for layer in range(layers):
        smaller = [math.ceil(side / downscale) for side in sides]
        if smaller == sides and layer:
            raise GraphError(f"{name}: layer {layers} does not exist, the last one is {layer}")
        for axis in (0, 1):
            stages[axis].append(_Stage(blur, mode, smaller[axis], _PYRAMID[mode]))
        sides = smaller
    return _resized(name, picture_shape(shape, name), stages, order, cval)


def _check(name: str, order: int, mode: str, known: dict[str, str]) -> None:
    if order not in (0, 1):
        raise GraphError(f"{name}: order is {order}, it must be 0 (nearest pixel) or 1 (linear)")
    if mode not in known:
        raise GraphError(f"{name}: mode {mode!r} is none of {', '.join(map(repr, known))}")


def _resized(name: str, shape: tuple[int, ...], stages: list[list[_Stage]], order: int, cval: float) -> Graph:
    """Both axes, each as one map."""
    b = PublicGraphBuilder(name, shape)
    value = b.input
    for axis, chain in enumerate(stages, 1):
        value = _mapped(b, value, axis, chain, order, cval)
    return b.build(value)


def _mapped(b: GraphBuilder, value: str, axis: int, chain: list[_Stage], order: int, cval: float) -> str:
    shape = b.shape(value)
    constant = any("constant" in stage.mode for stage in chain) and cval != 0.0

    def run(vectors: Array, beyond: float) -> Array:
        for stage in chain:
            vectors = stage.run(vectors, order, beyond)
        return vectors

    op = along(shape, axis, axis_matrix(shape[axis], lambda unit: run(unit, 0.0)))
    if constant:
        added = run(np.zeros((shape[axis], 1)), cval).reshape(1, -1, *[1] * (2 - axis))
        op = LinearMap(op.matrices, np.broadcast_to(added, op.shape).reshape(-1), op.shape)
    return b.apply(op, value)
