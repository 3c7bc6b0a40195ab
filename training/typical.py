"""Pictures that are like those of a data set and nobody's: means of the classes, along their principal components."""

from __future__ import annotations

import base64
import zlib

import numpy as np

from training.data import Pixels, Split

__all__ = ["pack_pictures", "typical_pictures"]

_COMPONENTS = 4
_DEVIATIONS = 2.5


def typical_pictures(split: Split) -> Pixels:
    """Return (8 * classes, H, W): each class's mean, moved either way along each of four principal components."""
    made = []
    for label in np.unique(split.labels):
        flat = split.images[split.labels == label].reshape((split.labels == label).sum(), -1).astype(np.float64)
        mean = flat.mean(axis=0)
        _, values, components = np.linalg.svd(flat - mean, full_matrices=False)
        for value, component in zip(values[:_COMPONENTS], components[:_COMPONENTS], strict=True):
            reach = _DEVIATIONS * value / np.sqrt(len(flat)) * component
            made += [mean - reach, mean + reach]
    pixels = np.clip(np.rint(np.stack(made)), 0, 255).astype(np.uint8)
    return pixels.reshape(-1, *split.images.shape[1:])


def pack_pictures(pictures: Pixels) -> str:
    """Return pictures as they stand in a model card."""
    return base64.b64encode(zlib.compress(pictures.tobytes(), 9)).decode()
