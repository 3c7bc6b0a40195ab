"""From a picture to what a model takes: greyscale or RGB, size, normalisation, channels first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secureimg.errors import ImageError

__all__ = ["Mode", "Size", "check_wanted", "conform", "prepare"]

Mode: TypeAlias = Literal["L", "RGB"]
"""Greyscale or colour, by Pillow's names."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, which Pillow and OpenCV use too
_LARGEST_SIDE = 2**14  # of a picture that a model asks for


def prepare(
    image: NDArray[np.float64], *, mode: Mode, size: Size | None, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float64]:
    """Make a model's input from a picture: colours, then size, then ``(x - mean) / std``.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, 3), values in [0, 1].
    mode : "L" or "RGB"
        Colours become grey by BT.601 luma; grey becomes three equal channels.
    size : (height, width) or None
        What the picture is resized to (stretched, bilinear with antialiasing, computed in float32). None keeps its
        size.
    mean, std : sequence of float
        One number, or one a channel.

    Returns
    -------
    ndarray
        (C, H, W) float64, C = 1 or 3.

    Raises
    ------
    ImageError
        The array is not such a picture, or mode, size, mean or std make no sense.
    """
    image = _checked(image)
    check_wanted(mode, size)
    pixels = conform(image, 1.0, mode, size)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    result: NDArray[np.float64] = (planes - _per_channel("mean", mean, len(planes))) / _per_channel(
        "std", std, len(planes)
    )
    return result


def conform(
    image: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float64],
    full: float,
    mode: Mode | None,
    size: Size | None,
) -> NDArray[np.float64]:
    """Return pixels (H, W) or (H, W, 3) of a picture whose white is ``full``, as float64 in [0, 1].

    Colours and resizing are linear, so each channel is resized alone: a large picture never exists in float64 as a
    whole.
    """
    planes: list[NDArray[Any]] = [image] if image.ndim == 2 else [image[..., k] for k in range(3)]
    if size is not None and size != image.shape[:2]:
        planes = [_resized(plane, size) for plane in planes]
    if mode == "L" and len(planes) == 3:
        grey = np.zeros(planes[0].shape, np.float64)
        for weight, plane in zip(_LUMA, planes, strict=True):
            grey += plane * (weight / full)
        return grey.clip(0.0, 1.0, out=grey)
    result = np.empty((*planes[0].shape, len(planes)), np.float64)
    for k, plane in enumerate(planes):
        np.divide(plane, full, out=result[..., k])
    result.clip(0.0, 1.0, out=result)
    if len(planes) == 1:
        return np.repeat(result, 3, axis=2) if mode == "RGB" else result[..., 0]
    return result


def check_wanted(mode: object, size: object) -> None:
    """Refuse a mode or size that no picture can be brought to.

    Raises
    ------
    ImageError
        The mode is neither "L", "RGB" nor None; the size is not a pair of whole numbers from 1 to 16384.
    """
    if mode not in ("L", "RGB", None):
        raise ImageError(f"mode {mode!r} is unknown: ask for 'L' (greyscale), 'RGB', or None to keep the picture's own")
    if size is None:
        return
    if (
        not isinstance(size, tuple)
        or len(size) != 2
        or not all(isinstance(side, int) and 1 <= side <= _LARGEST_SIDE for side in size)
    ):
        raise ImageError(f"size {size!r} is not (height, width), whole numbers from 1 to {_LARGEST_SIDE}: correct it")


def _resized(plane: NDArray[Any], size: Size) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float32)


def _checked(image: object) -> NDArray[np.float64]:
    if not isinstance(image, np.ndarray) or image.dtype.kind != "f":
        kind = f"array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"a picture is a float array with values in [0, 1], not {kind}: load it with load_image")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"a picture has shape (H, W) or (H, W, 3), not {image.shape}: load it with load_image")
    if not (image.min() >= 0.0 and image.max() <= 1.0):  # a NaN fails this too
        raise ImageError("a picture's values lie in [0, 1] and these do not: scale them (8-bit values divide by 255)")
    return image.astype(np.float64, copy=False)


def _per_channel(name: str, values: Sequence[float], channels: int) -> NDArray[np.float64]:
    if len(values) not in (1, channels):
        raise ImageError(f"{name} has {len(values)} numbers for {channels} channels: give one, or one a channel")
    if not all(math.isfinite(value) for value in values) or (name == "std" and min(values) <= 0):
        limit = "finite and above 0" if name == "std" else "finite"
        raise ImageError(f"{name} is {tuple(values)}, and each number must be {limit}: correct the preprocessing")
    return np.asarray(values, np.float64).reshape(-1, 1, 1)
