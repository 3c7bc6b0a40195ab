"""Inputs of the command line: pictures, or one .npy of the model's own input values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocols.messages import InputPreparation
from secureimg.errors import ImageError
from secureimg.images import load_image, load_tensor_npy, prepare

__all__ = ["Inputs", "load_inputs", "prepare_picture", "round_outwards"]

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


def prepare_picture(
    picture: NDArray[np.float64], shape: tuple[int, ...], preparation: InputPreparation | None, name: str
) -> NDArray[np.float64]:
    """Make a model's input from a picture with values in [0, 1].

    A model that says nothing about pictures gets them in its own size with values in [0, 1], if it takes one or three
    channels.
    """
    if preparation is None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ImageError(f"the model takes inputs of shape {shape}, which a picture is not: give a .npy file")
        preparation = InputPreparation(
            mode="L" if shape[0] == 1 else "RGB", size=(shape[1], shape[2]), mean=(0.0,), std=(1.0,)
        )
    mode: Literal["L", "RGB"] = "L" if preparation.mode == "L" else "RGB"
    size = preparation.size or ((shape[1], shape[2]) if len(shape) == 3 else None)
    values = prepare(picture, mode=mode, size=size, mean=preparation.mean, std=preparation.std)
    if values.shape != shape:
        if values.size == math.prod(shape):
            return values.reshape(shape)
        raise ImageError(f"{name} becomes an input of shape {values.shape}, the model takes {shape}: give a .npy file")
    return values


def round_outwards(low: float, high: float) -> tuple[float, float]:
    """Return a range that holds [low, high] and tells little more: its ends are multiples of an eighth of its size."""
    largest = max(abs(low), abs(high))
    step = 2.0 ** (math.floor(math.log2(largest)) - 2) if largest > 0 else 1.0
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return bottom, top if top > bottom else bottom + step
