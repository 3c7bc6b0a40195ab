"""A piece of the public part, kept in the secret part: it tells how a host has resized the rest."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secureimg.publishing.jpeg import CoefficientImage, make_frame, upsampled_planes, write_jpeg

__all__ = ["FILTERS", "Probe", "likeliest_filter", "likeness", "make_probe", "pixels_of"]

FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Linear filters that a host may resize with, by Pillow's names."""

_WIDEST: Final = 3.0  # of the filters, in pixels of the smaller picture: Lanczos
_SMALL: Final = 10_000  # bytes of a public part that is not worth one
_FEWEST: Final = 36  # pixels to compare

Probe = tuple[int, int, NDArray[np.float32]]
"""Top row, left column, and the pixels, level 0 where decoders have 128."""


def make_probe(public: CoefficientImage, size: int) -> tuple[int, int, bytes]:
    """Return block row, block column and a JPEG file of the richest square piece of the first component.

    Its side is 32 to 256 pixels, by how long (`size`) the public part is; empty where that is less than 10,000 bytes, or the
    first component is smaller, or not of the picture's full size.
    """
    first = public.frame.components[0]
    side = 4 if size < 20_000 else 8 if size < 200_000 else 16 if size < 1_000_000 else 32
    full = (first.horizontal, first.vertical) == public.frame.largest
    if size < _SMALL or not full or min(first.rows, first.columns) < side:
        return 0, 0, b""
    plane = public.plane(0)
    # a block of the border may hold pixels that are not in the picture: whole ones only
    rows, columns = public.frame.height // 8, public.frame.width // 8
    if min(rows, columns) < side:
        return 0, 0, b""
    energy = np.zeros((rows + 1, columns + 1))
    energy[1:, 1:] = np.abs(plane[:rows, :columns]).sum(axis=2, dtype=np.int64).cumsum(0).cumsum(1)
    sums = energy[side:, side:] - energy[:-side, side:] - energy[side:, :-side] + energy[:-side, :-side]
    row, column = (int(k) for k in np.unravel_index(int(sums.argmax()), sums.shape))
    piece = np.ascontiguousarray(plane[row : row + side, column : column + side]).reshape(-1, 64)
    frame = make_frame(8 * side, 8 * side, "baseline", [(1, 1, 1, 0)])
    return row, column, write_jpeg(CoefficientImage(frame, public.tables[:1], piece, "grey"))


def pixels_of(image: CoefficientImage) -> NDArray[np.float32]:
    """Return the probe's pixels."""
    return upsampled_planes(image.frame, image.tables, image.blocks)[0]


def likeliest_filter(probe: Probe, host: NDArray[np.float32], crop: tuple[int, int, int, int]) -> str | None:
    """Return the filter whose result on the probe is nearest to what the host has there; None if that cannot be told.

    Parameters
    ----------
    probe : Probe
    host : ndarray
        (H, W) the first component of the host's picture, level 0 where decoders have 128.
    crop : (left, top, right, bottom)
        What of the public part the host's picture shows, in pixels.
    """
    errors = {}
    for name, kind in FILTERS.items():
        pair = _both(probe, host, crop, kind)
        if pair is None:
            return None
        ours, theirs = pair
        errors[name] = float(np.square(ours - theirs).mean())
    return min(errors, key=lambda name: errors[name])


def likeness(probe: Probe, host: NDArray[np.float32]) -> float:
    """Return the correlation of the probe with the same piece of a picture of the same size, -1 to 1."""
    top, left, pixels = probe
    theirs = host[top : top + len(pixels), left : left + len(pixels)]
    product = float((pixels * (theirs - theirs.mean())).sum())
    return product / max(1e-9, float(np.linalg.norm(pixels)) * float(np.linalg.norm(theirs - theirs.mean())))


def _both(
    probe: Probe, host: NDArray[np.float32], crop: tuple[int, int, int, int], kind: Image.Resampling
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """The probe as resized by a filter, and the host's pixels there: those that depend on nothing but the probe."""
    ranges, boxes = [], []
    for axis, place in ((0, probe[0]), (1, probe[1])):
        side = len(probe[2])
        start, stop = (crop[1], crop[3]) if axis == 0 else (crop[0], crop[2])
        step = (stop - start) / host.shape[axis]
        reach = _WIDEST * max(step, 1.0)
        low = max(place, start) + (reach if place > start else 0.0)
        high = min(place + side, stop) - (reach if place + side < stop else 0.0)
        begin, end = math.ceil((low - start) / step), math.floor((high - start) / step)
        ranges.append(slice(begin, end))
        boxes.append((begin * step + start - place, end * step + start - place))
        # a piece that is cut by the crop would be resized with pixels that the host did not see
        if end <= begin or place < start or place + side > stop:
            return None
    (top, bottom), (left, right) = boxes
    size = (ranges[1].stop - ranges[1].start, ranges[0].stop - ranges[0].start)
    if size[0] * size[1] < _FEWEST:
        return None
    seen = np.clip(probe[2], -128.0, 127.0)  # by the host, whose pixels are bytes before and after
    if kind == Image.Resampling.NEAREST:  # Pillow's own is another one, to a pixel, if it is given a box
        down, across = (
            (low + (np.arange(count) + 0.5) * ((high - low) / count)).astype(np.int64)
            for low, high, count in ((top, bottom, size[1]), (left, right, size[0]))
        )
        return seen[np.ix_(down, across)], host[ranges[0], ranges[1]]
    ours = Image.fromarray(seen).resize(size, kind, box=(left, top, right, bottom))
    return np.clip(np.asarray(ours), -128.0, 127.0), host[ranges[0], ranges[1]]
