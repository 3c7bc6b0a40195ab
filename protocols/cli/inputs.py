"""Inputs of the command line: pictures, or one .npy of the model's own input values."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.messages import InputPreparation
from protocols.pictures import prepare_picture
from secureimg.errors import ImageError
from secureimg.images import load_image, load_tensor_npy

__all__ = ["Inputs", "load_inputs", "round_outwards"]

MAX_INPUTS = 100_000


@dataclass(frozen=True, eq=False)
class Inputs:
    """Values for a model.

    Attributes
    ----------
    values : (N, *input_shape) float64
    names : tuple of str
        One for each.
    range : (float, float) or None
        For .npy input: smallest and largest value, rounded outwards. The server is told it: it is public. None for
        pictures, whose range follows from the model's preparation.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    range: tuple[float, float] | None


def load_inputs(paths: Sequence[Path], shape: tuple[int, ...], preparation: InputPreparation | None) -> Inputs:
    """Load pictures, or one .npy file.

    Parameters
    ----------
    paths : sequence of Path
        Image files, or a single .npy file.
    shape : tuple of int
        The model's input shape for one image.
    preparation : InputPreparation or None
        What the model wants from a picture.

    Raises
    ------
    ImageError
        If a file cannot be read, or does not fit the model.
    """
    arrays = [path for path in paths if path.suffix.lower() == ".npy"]
    if arrays and len(paths) > 1:
        raise ImageError(f"{arrays[0]} is one of {len(paths)} inputs: give one .npy file alone, or image files only")
    if not arrays:
        if len(paths) > MAX_INPUTS:
            raise ImageError(f"{len(paths)} images in one call, the limit is {MAX_INPUTS}: call several times")
        values = np.stack([prepare_picture(load_image(path), shape, preparation, str(path)) for path in paths])
        return Inputs(values, tuple(path.name for path in paths), None)
    values = load_tensor_npy(arrays[0])
    if values.shape[1:] != shape and math.prod(values.shape[1:]) == math.prod(shape) and len(shape) == 1:
        values = values.reshape(len(values), *shape)
    if values.shape[1:] != shape or not len(values):
        wanted = ", ".join(map(str, shape))
        raise ImageError(f"{arrays[0]} has shape {values.shape}, the model takes (N, {wanted}): reshape it")
    names = tuple(f"{arrays[0].name}[{i}]" for i in range(len(values)))
    return Inputs(values, names, round_outwards(float(values.min()), float(values.max())))


def round_outwards(low: float, high: float) -> tuple[float, float]:
    """Return a range that holds [low, high] and tells little more: its ends are multiples of an eighth of its size."""
    largest = max(abs(low), abs(high))
    step = max(2.0 ** (math.floor(math.log2(largest)) - 2), sys.float_info.min) if largest > 0 else 1.0
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return bottom, top if top > bottom else bottom + step
