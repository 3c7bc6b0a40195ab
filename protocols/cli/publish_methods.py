"""The ways to publish pictures that `secureimg publish` knows: obfuscation, differential privacy, encryption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.publish_ciphers import SPLIT, THUMBNAIL
from protocols.cli.publish_kinds import Method, Parameter, Release, Settings, Source, sides_below
from secureimg.errors import PublishingError
from secureimg.publishing import (
    MethodOfSet,
    PrivateImage,
    PrivateValues,
    Recipient,
    black_box,
    blur,
    dp_blur,
    dp_histogram,
    dp_hog,
    dp_pixelate,
    dp_svd,
    k_same,
    ofset,
    pixelate,
)

__all__ = ["METHODS", "find_method"]

Array = NDArray[np.float64]
_Plain = Callable[[Array, Settings], tuple[Array, Any]]
_Private = Callable[[Array, Settings], PrivateImage]
_Values = Callable[[Array, Settings], PrivateValues]

_EXACTLY: Final = 1e6  # an epsilon whose noise cannot be seen: for the owner's report
_EPSILONS: Final = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)

_CELL = Parameter("cell", "whole", "side of a cell in pixels", required=True, low=1, high=1 << 16)
_DP_CELL = Parameter("cell", "whole", "side of a cell in pixels", 16, low=1, high=1 << 16)
_SIGMA = Parameter("sigma", "number", "standard deviation in pixels", required=True, low=0.01, high=1000)
_EPSILON = Parameter("epsilon", "number", "the privacy loss of each picture", required=True, low=1e-6, high=1e6)
_PIXELS = Parameter(
    "pixels", "pixels", "how many pixels neighbours may differ in, or `all` for the whole picture", required=True
)


def find_method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    PublishingError
        There is none; the known ones are named.
    """
    if name not in METHODS:
        raise PublishingError(f"no method {name!r}: use one of {', '.join(METHODS)}")
    return METHODS[name]


def _obfuscation(
    name: str, summary: str, parameters: tuple[Parameter, ...], run: _Plain, strength: str, strengths: Any = None
) -> Method:
    def publish(sources: Sequence[Source], settings: Settings, _: Sequence[Recipient]) -> list[Release]:
        releases = []
        for source in sources:
            image, guarantee = run(source.image, settings)
            releases.append(Release(guarantee, image))
        return releases

    def attacked(settings: Settings) -> MethodOfSet:
        return ofset(lambda image: run(image, settings)[0])

    return Method(name, summary, parameters, publish, attacked, strength, strengths or _cells)


def _private_image(
    name: str, summary: str, parameters: tuple[Parameter, ...], run: _Private, strengths: Any = None
) -> Method:
    def publish(sources: Sequence[Source], settings: Settings, _: Sequence[Recipient]) -> list[Release]:
        found = [run(source.image, settings) for source in sources]
        return [
            Release(each.guarantee, each.image, charge=each.charge, facts={"noise_scale": each.noise}) for each in found
        ]

    def attacked(settings: Settings) -> MethodOfSet:
        return ofset(lambda image: run(image, settings).image)

    return Method(name, summary, parameters, publish, attacked, "epsilon", strengths or _epsilons)


def _private_values(name: str, summary: str, parameters: tuple[Parameter, ...], run: _Values) -> Method:
    def publish(sources: Sequence[Source], settings: Settings, _: Sequence[Recipient]) -> list[Release]:
        releases = []
        for source in sources:
            found = run(source.image, settings)
            exact = run(source.image, {**settings, "epsilon": _EXACTLY, "pixels": 1, "delta": 0.0}).values
            facts = {"noise_scale": found.noise, "values": int(found.values.size)}
            releases.append(
                Release(found.guarantee, None, values=found.values, exact=exact, charge=found.charge, facts=facts)
            )
        return releases

    def attacked(settings: Settings) -> MethodOfSet:
        return ofset(lambda image: run(image, settings).values.astype(np.float64))

    return Method(name, summary, parameters, publish, attacked, "epsilon", _epsilons)


def _cells(_: Settings, height: int, width: int) -> tuple[float, ...]:
    return sides_below(height, width)


def _sigmas(_: Settings, height: int, width: int) -> tuple[float, ...]:
    return tuple(side / 2 for side in sides_below(height, width))


def _epsilons(_: Settings, __: int, ___: int) -> tuple[float, ...]:
    return _EPSILONS


def _whole_box(image: Array, settings: Settings) -> tuple[Array, Any]:
    """The box as given, or the share of the picture's middle that curves ask for."""
    box = settings["box"]
    if settings.get("share") is not None:
        height, width = image.shape[:2]
        tall, wide = (max(1, round(side * settings["share"] / 100)) for side in (height, width))
        box = ((height - tall) // 2, (width - wide) // 2, tall, wide)
    if box is None:
        raise PublishingError(
            "black-box needs a box: add --box TOP,LEFT,HEIGHTxWIDTH in pixels, or --set share=PERCENT"
        )
    return black_box(image, box)


def _k_same(sources: Sequence[Source], settings: Settings, _: Sequence[Recipient]) -> list[Release]:
    shapes = {source.image.shape for source in sources}
    if len(shapes) > 1:
        raise PublishingError(f"k-same averages pictures of one size, and these have {len(shapes)}: crop them alike")
    images, guarantee = k_same(np.stack([source.image for source in sources]), settings["k"])
    return [Release(guarantee, image) for image in images]


def _k_same_seen(settings: Settings) -> MethodOfSet:
    """A set in the attack may be smaller than k: then it is one cluster."""
    return lambda images: k_same(images, max(2, min(settings["k"], len(images))))[0]


_ALL: Final = (
    _obfuscation("pixelate", "each cell of pixels becomes its mean; no guarantee", (_CELL,),
                 lambda image, given: pixelate(image, given["cell"]), "cell"),
    _obfuscation("blur", "Gaussian blur; no guarantee", (_SIGMA,),
                 lambda image, given: blur(image, given["sigma"]), "sigma", _sigmas),
    _obfuscation("black-box", "a rectangle becomes black; nothing is said of what is around it",
                 (Parameter("box", "box", "the rectangle in pixels: top, left, height x width"),
                  Parameter("share", "number", "per cent of each side, in the picture's middle, instead of a box",
                            low=0.1, high=100)),
                 _whole_box, "share", lambda _, __, ___: (20.0, 40.0, 60.0, 80.0, 90.0, 100.0)),
    Method("k-same", "each picture becomes the mean of at least k of the set", (
               Parameter("k", "whole", "least number of pictures in a mean", required=True, low=2, high=5_000),),
           _k_same, _k_same_seen, "k", lambda _, __, ___: (2.0, 3.0, 5.0, 10.0, 20.0, 50.0)),
    _private_image("dp-pix", "pixelation with noise: differential privacy", (_EPSILON, _PIXELS, _DP_CELL),
                   lambda image, given: dp_pixelate(
                       image, given["epsilon"], neighbours=given["pixels"], cell=given["cell"])),
    _private_image("dp-blur", "noise on the pixel grid, then blur: differential privacy", (
                       _EPSILON, _PIXELS, _DP_CELL,
                       Parameter("sigma", "number", "of the blur, in pixels; without it half a cell", low=0.01, high=1000)),
                   lambda image, given: dp_blur(
                       image, given["epsilon"], neighbours=given["pixels"], cell=given["cell"], sigma=given["sigma"])),
    _private_image("dp-svd", "noise on the leading singular values: metric privacy of these only", (
                       _EPSILON, Parameter("k", "whole", "singular values that are kept", 16, low=1, high=1 << 14)),
                   lambda image, given: dp_svd(image, given["epsilon"], given["k"])),
    _private_values("dp-histogram", "grey or colour histogram with noise: differential privacy", (
                        _EPSILON, _PIXELS, Parameter("bins", "whole", "number of bins", 64, low=1, high=1 << 16)),
                    lambda image, given: dp_histogram(
                        image, given["epsilon"], neighbours=given["pixels"], bins=given["bins"])),
    _private_values("dp-hog", "histograms of oriented gradients with noise: differential privacy", (
                        _EPSILON, _PIXELS,
                        Parameter("delta", "number", "0 for Laplace noise, above it for Gaussian", 0.0, low=0, high=0.01),
                        Parameter("orientations", "whole", "directions", 9, low=1, high=64),
                        Parameter("pixels_per_cell", "pair", "sides of a cell in pixels", (8, 8)),
                        Parameter("cells_per_block", "pair", "sides of a block in cells", (3, 3))),
                    lambda image, given: dp_hog(
                        image, given["epsilon"], neighbours=given["pixels"], delta=given["delta"],
                        orientations=given["orientations"], pixels_per_cell=given["pixels_per_cell"],
                        cells_per_block=given["cells_per_block"])),
    SPLIT,
    THUMBNAIL,
)  # fmt: skip

METHODS: Final[dict[str, Method]] = {method.name: method for method in _ALL}
"""By name, in the order in which they are listed."""
