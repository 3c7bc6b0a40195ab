"""Features as pictures: maps, and plates of gradient directions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from secureimg.features import KeyPoints

__all__ = ["hog_plate", "keypoint_plate", "map_plate"]

Array = NDArray[np.float64]

_CELL = 16
_MOST_MAPS = 16
_KEYPOINT_WIDTH = 512
_COLOURS = ("#ffd500", "#00d5ff", "#ff5fa2", "#7cff4f", "#ff8a00", "#b48cff")  # one for each octave


def map_plate(values: Array) -> Array:
    """Show maps as grey pictures, from their smallest value in black to their largest in white.

    Parameters
    ----------
    values : (C, H, W)
        Three channels within [0, 1] are a picture in colour. Others are laid out in a grid, at most sixteen.

    Returns
    -------
    ndarray of float64, shape (rows, columns) or (H, W, 3), in [0, 1]
    """
    if len(values) == 3 and values.min() >= 0.0 and values.max() <= 1.0:
        return np.moveaxis(values, 0, -1)
    shown = values[:_MOST_MAPS]
    low, high = float(shown.min()), float(shown.max())
    scaled = (shown - low) / (high - low) if high > low else np.zeros(shown.shape)
    count, height, width = scaled.shape
    columns = math.ceil(math.sqrt(count))
    sheet = np.zeros((math.ceil(count / columns) * height, columns * width))
    for number, part in enumerate(scaled):
        row, column = divmod(number, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = part
    return sheet


def hog_plate(blocks: Array) -> Array:
    """Draw each cell's directions as lines along the edges that have them, bright where there is much of one.

    Parameters
    ----------
    blocks : (block rows, block columns, cell rows, cell columns, orientations)
        As `secureimg.features.hog` gives with ``feature_vector=False``.

    Returns
    -------
    ndarray of float64, shape (16 cells, 16 cells), in [0, 1]
    """
    rows, columns, cell_rows, cell_columns, bins = blocks.shape
    cells = np.zeros((rows + cell_rows - 1, columns + cell_columns - 1, bins))
    seen = np.zeros((*cells.shape[:2], 1))
    for row in range(cell_rows):
        for column in range(cell_columns):
            cells[row : row + rows, column : column + columns] += blocks[:, :, row, column]
            seen[row : row + rows, column : column + columns] += 1
    cells /= seen
    plate = Image.new("F", (cells.shape[1] * _CELL, cells.shape[0] * _CELL), 0.0)
    draw, reach = ImageDraw.Draw(plate), _CELL / 2 - 1
    largest = float(cells.max()) or 1.0
    for row, column, number in np.argwhere(cells > 0.02 * largest)[np.argsort(cells[cells > 0.02 * largest])]:
        angle = math.pi * (number + 0.5) / bins  # of the gradient; the edge is across it
        x, y = (column + 0.5) * _CELL, (row + 0.5) * _CELL
        along, down = reach * math.sin(angle), -reach * math.cos(angle)
        draw.line(
            [(x - along, y - down), (x + along, y + down)], fill=float(cells[row, column, number]) / largest, width=1
        )
    return np.clip(np.asarray(plate, dtype=np.float64), 0.0, 1.0)


def keypoint_plate(picture: Array, points: KeyPoints) -> Array:
    """Draw keypoints as circles of their size, each with a line in its direction.

    Parameters
    ----------
    picture : (H, W)
        Values in [0, 1].
    points : KeyPoints

    Returns
    -------
    ndarray of float64, shape (zoom H, zoom W, 3), in [0, 1]
        At least 512 pixels wide.
    """
    zoom = max(1, -(-_KEYPOINT_WIDTH // picture.shape[1]))
    pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    size = picture.shape[1] * zoom, picture.shape[0] * zoom
    plate = Image.fromarray(pixels).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(plate)
    for number in np.argsort(points.response):
        x, y = (points.x[number] + 0.5) * zoom, (points.y[number] + 0.5) * zoom
        radius, turn = points.size[number] / 2 * zoom, math.radians(points.angle[number])
        colour = _COLOURS[int(points.octave[number]) % len(_COLOURS)]
        draw.ellipse([(x - radius, y - radius), (x + radius, y + radius)], outline=colour, width=1)
        draw.line([(x, y), (x + radius * math.cos(turn), y + radius * math.sin(turn))], fill=colour, width=1)
    return np.asarray(plate, dtype=np.float64) / 255
