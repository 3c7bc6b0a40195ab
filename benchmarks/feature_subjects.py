"""The features that are measured, each beside the function of another library that says what is right."""

# mypy: disallow-untyped-calls=False
# (scikit-image annotates a part of its functions)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pywt  # type: ignore[import-untyped]
import scipy.fft
import scipy.ndimage as ndi
import scipy.stats
from numpy.typing import NDArray
from skimage import color, feature, filters, measure, transform

from secureimg.features import FEATURES, build, spell
from secureimg.graph import Graph

from .feature_executors import Ends
from .feature_pictures import pictures

__all__ = ["SUBJECTS", "Kind", "Subject"]

Array = NDArray[np.float64]
Kind = Literal["relative", "equal"]
_BINS = 16  # between which no 8-bit value lies on an edge, where rounding would decide


@dataclass(frozen=True)
class Subject:
    """One feature.

    Attributes
    ----------
    name : str
        How tables call it.
    build : callable
        From a side to the graph that takes square pictures of it.
    reference : callable
        From an input of the graph to as many values as the graph gives, in their order.
    source : str
        What `reference` is, by name.
    executors : tuple of str
        Of "plain", "ckks" and "shares".
    kind : str
        What counts: "relative", the largest error over the reference's largest value; "equal", the part of equal values.
    colour : bool
        It takes three channels.
    prepare : callable, optional
        From pictures (N, C, H, W) to inputs; if not given, what the graph's preprocessing says.
    ends : (float, float), optional
        Smallest and largest input value, if `prepare` changes them.
    quick : bool
        Measured in a quick run, too.
    """

    name: str
    build: Callable[[int], Graph]
    reference: Callable[[Array], Array]
    source: str
    executors: tuple[str, ...]
    kind: Kind = "relative"
    colour: bool = False
    prepare: Callable[[Array], Array] | None = None
    ends: Ends | None = None
    quick: bool = False

    def inputs(self, graph: Graph, size: int) -> Array:
        """Real pictures as the graph takes them: (N, *graph.input_shape)."""
        found = pictures(size, colour=self.colour)
        if self.prepare is not None:
            return self.prepare(found)
        if graph.preprocessing is None:
            return found
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (graph.preprocessing.mean, graph.preprocessing.std))
        return np.asarray((found - mean) / std)


def _planes(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function of (H, W) on each channel."""
    return lambda values: np.stack([function(plane) for plane in values])


def _feature(
    name: str,
    reference: Callable[[Array], Array],
    source: str,
    *,
    parameters: dict[str, str] | None = None,
    kind: Kind = "relative",
    colour: bool | None = None,
    prepare: Callable[[Array], Array] | None = None,
    ends: Ends | None = None,
    quick: bool = False,
) -> Subject:
    """A feature of the catalogue, with its default parameters but for some."""
    found = FEATURES[name]
    channels = 3 if (1 not in found.channels if colour is None else colour) else 1

    def make(side: int) -> Graph:
        return build(spell(name, (side, side) if channels == 1 else (3, side, side), parameters or {}))

    return Subject(name, make, reference, source, found.executors, kind, channels == 3, prepare, ends, quick)


# --------------------------------------------------------------------------------------------------------- references


def _gabor(values: Array) -> Array:
    return np.stack(filters.gabor(values[0], 0.25))


def _haar(plane: Array) -> Array:
    return np.asarray(pywt.coeffs_to_array(pywt.wavedec2(plane, "haar", level=1))[0])


def _block_dct(plane: Array) -> Array:
    blocks = plane.reshape(plane.shape[0] // 8, 8, plane.shape[1] // 8, 8)
    return np.asarray(scipy.fft.dctn(blocks, axes=(1, 3), norm="ortho").reshape(plane.shape))


def _separable(plane: Array) -> Array:
    return np.asarray(ndi.convolve(plane, np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])))


def _histogram(plane: Array) -> Array:
    return np.histogram(plane, _BINS, (0, 1))[0].astype(np.float64)


def _kept(values: Array, least: int = 0) -> Array:
    """Moments of orders that add up to `least` to 3."""
    total = np.add.outer(np.arange(4), np.arange(4))
    return np.where((total <= 3) & (total >= least), values, 0.0)


def _moments_normalized(plane: Array) -> Array:
    return _kept(measure.moments_normalized(measure.moments_central(plane)), 2)


def _moments_hu(plane: Array) -> Array:
    return np.asarray(measure.moments_hu(measure.moments_normalized(measure.moments_central(plane))))


def _color_moments(plane: Array) -> Array:
    return np.array([plane.mean(), plane.std(), scipy.stats.skew(plane, axis=None)])


def _lbp(values: Array) -> Array:
    return np.asarray(feature.local_binary_pattern(np.rint(values[0]).astype(np.uint8), 8, 1.0))


def _peaks(values: Array) -> Array:
    found = np.zeros(values.shape[1:])
    found[tuple(feature.corner_peaks(feature.corner_harris(values[0])).T)] = 1.0
    return found


def _converted(name: str) -> Callable[[Array], Array]:
    return lambda values: np.asarray(getattr(color, name)(values, channel_axis=-3))


_EDGES = ("sobel", "scharr", "prewitt")

SUBJECTS: tuple[Subject, ...] = (
    _feature("gaussian", _planes(filters.gaussian), "skimage.filters.gaussian", quick=True),
    _feature("box", _planes(lambda plane: ndi.uniform_filter(plane, 3)), "scipy.ndimage.uniform_filter"),
    _feature("separable", _planes(_separable), "scipy.ndimage.convolve"),
    _feature("laplace", _planes(filters.laplace), "skimage.filters.laplace"),
    *(
        _feature(f"{name}_{axis}", _planes(getattr(filters, f"{name}_{axis}")), f"skimage.filters.{name}_{axis}",
                 quick=name == "sobel" and axis == "h")
        for name in _EDGES for axis in "hv"
    ),
    *(_feature(name, _planes(getattr(filters, name)), f"skimage.filters.{name}", quick=name == "sobel") for name in _EDGES),
    _feature("gabor", _gabor, "skimage.filters.gabor", quick=True),
    _feature("resize", _planes(lambda plane: transform.resize(plane, (64, 64))), "skimage.transform.resize"),
    _feature("pyramid_reduce", _planes(transform.pyramid_reduce), "skimage.transform.pyramid_reduce"),
    _feature("haar", _planes(_haar), "pywt.wavedec2"),
    _feature("block_dct", _planes(_block_dct), "scipy.fft.dctn"),
    _feature("integral_image", _planes(transform.integral_image), "skimage.transform.integral_image"),
    _feature("gradient_energy", _planes(lambda plane: np.mean(filters.sobel(plane) ** 2)), "skimage.filters.sobel"),
    _feature("histogram", _planes(_histogram), "numpy.histogram", parameters={"bins": str(_BINS)}, kind="equal"),
    _feature("color_moments", _planes(_color_moments), "scipy.stats.skew", colour=True),
    _feature("moments", _planes(lambda plane: _kept(measure.moments(plane))), "skimage.measure.moments"),
    _feature(
        "moments_central", _planes(lambda plane: _kept(measure.moments_central(plane))), "skimage.measure.moments_central"
    ),
    _feature("moments_normalized", _planes(_moments_normalized), "skimage.measure.moments_normalized"),
    _feature("moments_hu", _planes(_moments_hu), "skimage.measure.moments_hu"),
    _feature("hog", lambda values: feature.hog(values[0]), "skimage.feature.hog", quick=True),
    _feature("local_binary_pattern", _lbp, "skimage.feature.local_binary_pattern", kind="equal", quick=True),
    _feature(
        "structure_tensor", lambda values: np.stack(feature.structure_tensor(values[0], sigma=1)),
        "skimage.feature.structure_tensor",
    ),
    _feature("corner_harris", _planes(feature.corner_harris), "skimage.feature.corner_harris", quick=True),
    _feature("corner_shi_tomasi", _planes(feature.corner_shi_tomasi), "skimage.feature.corner_shi_tomasi"),
    _feature("corner_peaks", _peaks, "skimage.feature.corner_peaks", kind="equal"),
    _feature("rgb2gray", _converted("rgb2gray"), "skimage.color.rgb2gray"),
    _feature("rgb2ycbcr", _converted("rgb2ycbcr"), "skimage.color.rgb2ycbcr"),
    _feature("ycbcr2rgb", _converted("ycbcr2rgb"), "skimage.color.ycbcr2rgb", prepare=_converted("rgb2ycbcr"),
             ends=(16.0, 240.0)),
    _feature("rgb2yuv", _converted("rgb2yuv"), "skimage.color.rgb2yuv"),
    _feature("yuv2rgb", _converted("yuv2rgb"), "skimage.color.yuv2rgb", prepare=_converted("rgb2yuv"), ends=(-0.62, 1.0)),
)  # fmt: skip
