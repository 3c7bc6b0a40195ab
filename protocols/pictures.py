"""A picture becomes a model's input."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocols.messages import InputPreparation
from secureimg.errors import ImageError
from secureimg.images import prepare

__all__ = ["prepare_picture"]


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
