"""Colour spaces that are linear in RGB: grey, YCbCr, YUV.

Functions and constants are those of `skimage.color` 0.26. Each graph is one 1x1 convolution: one level on CKKS, one local
step on shares. Nothing leaks but shapes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.graph import Graph, PublicGraphBuilder

__all__ = ["rgb2gray", "rgb2ycbcr", "rgb2yuv", "ycbcr2rgb", "yuv2rgb"]

Array = NDArray[np.float64]

_GRAY: Final = np.array([[0.2125, 0.7154, 0.0721]])
_YCBCR: Final = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
_YCBCR_OFFSET: Final = np.array([16.0, 128.0, 128.0])
_YUV: Final = np.array(
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]]
)


def _converted(name: str, shape: tuple[int, ...], matrix: Array, offset: Array | None = None) -> Graph:
    full = picture_shape(shape, name)
    if full[0] != 3:
        raise GraphError(f"{name}: takes pictures of three channels (3, H, W), got {tuple(shape)}")
    b = PublicGraphBuilder(name, full)
    return b.build(b.conv(b.input, matrix[:, :, None, None], offset))


def rgb2gray(shape: tuple[int, ...]) -> Graph:
    """Luminance: 0.2125 R + 0.7154 G + 0.0721 B.

    Parameters
    ----------
    shape : (3, H, W)
        Of the picture.

    Returns
    -------
    Graph
        To (1, H, W): the result of `skimage.color.rgb2gray`.

    Raises
    ------
    GraphError
        If the picture has not three channels.
    """
    return _converted("rgb2gray", shape, _GRAY)


def rgb2ycbcr(shape: tuple[int, ...]) -> Graph:
    """Luma and chroma of digital video (ITU-R BT.601).

    Parameters
    ----------
    shape : (3, H, W)
        Of the picture, values in [0, 1].

    Returns
    -------
    Graph
        To (3, H, W), luma from 16 to 235, chroma from 16 to 240: the result of `skimage.color.rgb2ycbcr`.

    Raises
    ------
    GraphError
        If the picture has not three channels.
    """
    return _converted("rgb2ycbcr", shape, _YCBCR, _YCBCR_OFFSET)


def ycbcr2rgb(shape: tuple[int, ...]) -> Graph:
    """From luma and chroma of digital video to RGB.

    Parameters
    ----------
    shape : (3, H, W)
        Of what `rgb2ycbcr` gives: compile the graph for its range, ``input_range=(16, 240)``.

    Returns
    -------
    Graph
        To (3, H, W), values in [0, 1]: the result of `skimage.color.ycbcr2rgb`.

    Raises
    ------
    GraphError
        If the picture has not three channels.
    """
    matrix = np.linalg.inv(_YCBCR)
    return _converted("ycbcr2rgb", shape, matrix, -matrix @ _YCBCR_OFFSET)


def rgb2yuv(shape: tuple[int, ...]) -> Graph:
    """Luma and chroma of analogue video.

    Parameters
    ----------
    shape : (3, H, W)
        Of the picture, values in [0, 1].

    Returns
    -------
    Graph
        To (3, H, W), luma from 0 to 1, U within 0.437 and V within 0.615 of 0: the result of `skimage.color.rgb2yuv`.

    Raises
    ------
    GraphError
        If the picture has not three channels.
    """
    return _converted("rgb2yuv", shape, _YUV)


def yuv2rgb(shape: tuple[int, ...]) -> Graph:
    """From luma and chroma of analogue video to RGB.

    Parameters
    ----------
    shape : (3, H, W)
        Of what `rgb2yuv` gives: compile the graph for its range, ``input_range=(-0.62, 1)``.

    Returns
    -------
    Graph
        To (3, H, W), values in [0, 1]: the result of `skimage.color.yuv2rgb`.

    Raises
    ------
    GraphError
        If the picture has not three channels.
    """
    return _converted("yuv2rgb", shape, np.linalg.inv(_YUV))
