"""Real pictures: those that come with scikit-image, as square pictures of any size with 8 bits a value."""

# mypy: disallow-untyped-calls=False
# (scikit-image annotates a part of its functions)
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage import color, data, transform

__all__ = ["COLOUR", "GREY", "faces", "jittered", "patches", "pictures", "textures"]

Array = NDArray[np.float64]
GREY = ("camera", "coins", "moon", "astronaut")
COLOUR = ("astronaut", "coffee", "chelsea")
_TEXTURES = ("brick", "grass", "gravel")
_SCENES = ("camera", "coins", "moon", "coffee", "chelsea", "rocket", "brick", "grass", "gravel")
_SIDE = 25


def pictures(size: int, *, colour: bool = False) -> Array:
    """The middle square of each picture at one size: (N, 1 or 3, size, size), whole 255ths."""
    found = []
    for name in COLOUR if colour else GREY:
        picture = _scaled(name, colour=colour)
        side = min(picture.shape[:2])
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        square = picture[top : top + side, left : left + side]
        found.append(transform.resize(square, (size, size), anti_aliasing=True))
    stacked = np.rint(255 * np.stack(found)) / 255
    return np.moveaxis(stacked, -1, 1) if colour else stacked[:, None]


def faces() -> tuple[Array, NDArray[np.bool_]]:
    """scikit-image's part of Labeled Faces in the Wild: (200, 1, 25, 25), and which of them are faces."""
    found = np.asarray(data.lfw_subset(), dtype=np.float64)[:, None]
    return found, np.arange(len(found)) < len(found) // 2


def textures(size: int) -> tuple[Array, NDArray[np.int64]]:
    """Tiles of brick, grass and gravel: (N, 1, size, size) in [0, 1], and which of the three each is."""
    tiles, labels = [], []
    for label, name in enumerate(_TEXTURES):
        picture = _scaled(name)
        rows, columns = (length // size for length in picture.shape)
        cut = picture[: rows * size, : columns * size].reshape(rows, size, columns, size).swapaxes(1, 2)
        tiles.append(cut.reshape(-1, 1, size, size))
        labels += [label] * (rows * columns)
    return np.concatenate(tiles), np.array(labels)


def patches(count: int, seed: int) -> Array:
    """Parts of pictures without faces, as large as a face: (count, 1, 25, 25)."""
    rng = np.random.default_rng(seed)
    scenes = [_scaled(name) for name in _SCENES]
    found = np.empty((count, 1, _SIDE, _SIDE))
    for number in range(count):
        scene = scenes[number % len(scenes)]
        step = int(rng.integers(1, 5))
        top, left = (int(rng.integers(0, length - step * _SIDE)) for length in scene.shape)
        found[number, 0] = scene[top : top + step * _SIDE : step, left : left + step * _SIDE : step]
    return found


def jittered(images: Array, shift: int, noise: float, seed: int) -> Array:
    """The same pictures moved by up to `shift` pixels (edges repeated), with Gaussian noise; values stay in [0, 1]."""
    rng = np.random.default_rng(seed)
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="edge")
    moved = np.empty_like(images)
    for number, picture in enumerate(padded):
        top, left = rng.integers(0, 2 * shift + 1, 2)
        moved[number] = picture[:, top : top + height, left : left + width]
    return np.clip(moved + rng.normal(scale=noise, size=moved.shape), 0.0, 1.0)


def _scaled(name: str, *, colour: bool = False) -> Array:
    picture = getattr(data, name)()
    if picture.ndim == 3 and not colour:
        return np.asarray(color.rgb2gray(picture))
    return np.asarray(picture / 255.0)
