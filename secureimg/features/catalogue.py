"""Features by name: a text such as ``feature:hog:128x128:orientations=8`` says which graph, on any machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from secureimg.errors import GraphError
from secureimg.features.colour import rgb2gray, rgb2ycbcr, rgb2yuv, ycbcr2rgb, yuv2rgb
from secureimg.features.corner_maps import corner_peaks
from secureimg.features.corners import corner_harris, corner_shi_tomasi, structure_tensor
from secureimg.features.edges import (
    prewitt,
    prewitt_h,
    prewitt_v,
    scharr,
    scharr_h,
    scharr_v,
    sobel,
    sobel_h,
    sobel_v,
)  # fmt: skip
from secureimg.features.filters import box, gaussian, laplace, separable
from secureimg.features.gabor import gabor
from secureimg.features.hog import hog
from secureimg.features.lbp import local_binary_pattern
from secureimg.features.moments import moments, moments_central, moments_hu, moments_normalized
from secureimg.features.polynomial_hog import hog_polynomial
from secureimg.features.resizing import pyramid_reduce, resize
from secureimg.features.sift import sift_dense, sift_descriptors, sift_extrema, sift_orientations
from secureimg.features.statistics import color_moments, gradient_energy, histogram
from secureimg.features.transforms import block_dct, haar, integral_image
from secureimg.graph import Graph, Preprocessing
from secureimg.graph.ops import elements

__all__ = ["FEATURES", "PREFIX", "Feature", "build", "find", "parse_sides", "spell"]

PREFIX: Final = "feature:"
"""What a text starts with that names a feature."""

_MOST_PIXELS: Final = 2**22
_MAX_TEXT: Final = 400


@dataclass(frozen=True)
class Feature:
    """A function from a picture's shape to a graph.

    Attributes
    ----------
    function : callable
        Takes a shape, then parameters: numbers, words, and pairs.
    executors : tuple of str
        What its graph can run on.
    channels : tuple of int
        How many a picture may have.
    """

    function: Callable[..., Graph]
    executors: tuple[str, ...]
    channels: tuple[int, ...] = (1, 3)

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and defaults; `inspect.Parameter.empty` for those that must be given."""
        return {name: item.default for name, item in list(inspect.signature(self.function).parameters.items())[1:]}

    @property
    def defaults(self) -> dict[str, str]:
        """The same as `build` reads them; nothing for one that must be given, or that follows from others."""
        return {name: _written(value) for name, value in self.parameters.items()}


_BOTH: Final = ("plain", "ckks", "shares")
_SHARES: Final = ("plain", "shares")

FEATURES: Final[dict[str, Feature]] = {
    **{function.__name__: Feature(function, _BOTH) for function in (
        gaussian, box, separable, laplace, sobel_h, sobel_v, scharr_h, scharr_v, prewitt_h, prewitt_v, gabor,
        resize, pyramid_reduce, haar, block_dct, integral_image, moments,
        gradient_energy, hog_polynomial,
    )},
    **{function.__name__: Feature(function, _SHARES) for function in (
        sobel, scharr, prewitt, hog, histogram, color_moments, moments_central, moments_normalized, moments_hu,
    )},
    "local_binary_pattern": Feature(local_binary_pattern, _SHARES, (1,)),
    "structure_tensor": Feature(structure_tensor, _BOTH, (1,)),
    "corner_harris": Feature(corner_harris, _BOTH, (1,)),
    "corner_shi_tomasi": Feature(corner_shi_tomasi, _SHARES, (1,)),
    **{function.__name__: Feature(function, _SHARES, (1,)) for function in (
        corner_peaks, sift_dense, sift_extrema, sift_orientations, sift_descriptors,
    )},
    **{function.__name__: Feature(function, _BOTH, (3,)) for function in (rgb2gray, rgb2ycbcr, ycbcr2rgb, rgb2yuv, yuv2rgb)},
}  # fmt: skip
"""Every feature by its name."""


def find(name: str) -> Feature:
    """The feature of a name; `GraphError` if there is none."""
    if name not in FEATURES:
        raise GraphError(f"there is no feature {name!r}: it is one of {', '.join(FEATURES)}")
    return FEATURES[name]


def spell(name: str, shape: tuple[int, ...], parameters: dict[str, str]) -> str:
    """Return the text that `build` reads."""
    words = ",".join(f"{key}={value}" for key, value in parameters.items())
    return f"{PREFIX}{name}:{'x'.join(map(str, shape))}" + (f":{words}" if words else "")


def build(text: str) -> Graph:
    """Build a feature's graph from its text.

    Parameters
    ----------
    text : str
        ``feature:NAME:HxW`` or ``feature:NAME:CxHxW``, then, if wanted, ``:parameter=value,parameter=value``; a pair of
        numbers is written 8x8.

    Returns
    -------
    Graph
        With the preprocessing of a picture of that shape.

    Raises
    ------
    GraphError
        If the text names no feature, or a parameter is unknown or does not fit.
    """
    if len(text) > _MAX_TEXT:
        raise GraphError(f"a feature's text of {len(text)} characters, the limit is {_MAX_TEXT}")
    name, _, rest = text.removeprefix(PREFIX).partition(":")
    size, _, words = rest.partition(":")
    feature = find(name)
    shape = parse_sides(size)
    if len(shape) not in (2, 3) or not 0 < elements(shape) <= _MOST_PIXELS:
        raise GraphError(
            f"feature {name!r}: {size!r} is no size of at most {_MOST_PIXELS} values: write it like 128x128"
        )
    given = {}
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        if key not in feature.parameters:
            known = ", ".join(feature.parameters) or "none"
            raise GraphError(f"feature {name!r} has no parameter {key!r}; its parameters are: {known}")
        given[key] = _parse(name, key, value, feature.parameters[key])
    for key, default in feature.parameters.items():
        if default is inspect.Parameter.empty and key not in given:
            raise GraphError(f"feature {name!r} needs a value for {key!r}: add {key}=VALUE")
    graph = feature.function(shape, **given)
    if graph.preprocessing is not None or graph.input_shape[0] not in (1, 3):
        return graph
    channels, height, width = graph.input_shape
    mode = "L" if channels == 1 else "RGB"
    return graph.replace(preprocessing=Preprocessing(mode, (height, width), (0.0,) * channels, (1.0,) * channels))


def parse_sides(text: str) -> tuple[int, ...]:
    """Read ``HxW`` or ``CxHxW``; nothing if it is neither."""
    parts = text.split("x")
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        return ()
    return tuple(map(int, parts))


def _parse(name: str, key: str, value: str, default: Any) -> Any:
    """Read a parameter as what its default is."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if default is None or default is inspect.Parameter.empty:
            parts = tuple(int(part) if part.isdecimal() else float(part) for part in value.split("x"))
            return parts if len(parts) > 1 else parts[0]
        if isinstance(default, tuple):
            parts = tuple(type(default[0])(part) for part in value.split("x"))
            if isinstance(default[0], int) and len(parts) != len(default):
                raise ValueError
            return parts
        if isinstance(default, int | float):
            return type(default)(value)
    except (ValueError, KeyError):
        like = _written(default) or "64x64 or 0.5"
        kind = "true or false" if isinstance(default, bool) else f"written like {like}"
        raise GraphError(f"feature {name!r}: {key} = {value!r} is not {kind}") from None
    return value


def _written(value: Any) -> str:
    """Return a parameter's value as `build` reads it."""
    if value is None or value is inspect.Parameter.empty:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
