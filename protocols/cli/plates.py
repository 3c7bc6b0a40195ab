"""Features as pictures: maps, plates of gradient directions, keypoints, and sheets of a probe beside its matches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from secureimg.features import KeyPoints

__all__ = ["Tile", "hog_plate", "keypoint_plate", "map_plate", "match_sheet"]

Array = NDArray[np.float64]

_CELL = 16
_MOST_MAPS = 16
_KEYPOINT_WIDTH = 512
_COLOURS = ("#ffd500", "#00d5ff", "#ff5fa2", "#7cff4f", "#ff8a00", "#b48cff")  # one for each octave

_TILE: Final = 144  # pixels of a picture on a sheet, the probe's is twice that
_MARGIN: Final = 20
_CAPTION: Final = 44
_HEADING: Final = 72
_COLUMNS: Final = 5
_PAPER, _INK, _FAINT = (250, 250, 248), (28, 28, 30), (118, 118, 122)
_YES, _NO, _LINE, _BLANK = (22, 128, 61), (180, 40, 36), (208, 208, 204), (232, 232, 228)


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


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture on a match sheet.

    Attributes
    ----------
    picture : (H, W) or (H, W, 3), uint8 or float64 in [0, 1]; or None
        None where the gallery keeps none.
    title, detail : str
        The two lines of its caption.
    match : bool
        Marked as what was decided for.
    """

    picture: NDArray[np.uint8] | Array | None
    title: str
    detail: str
    match: bool = False


def match_sheet(
    probe: Tile, tiles: Sequence[Tile], verdict: str, detail: str, *, found: bool | None
) -> NDArray[np.uint8]:
    """A probe at the left, the templates it was matched with at its right, the decision above.

    Parameters
    ----------
    probe : Tile
    tiles : sequence of Tile
        In their order: five in a row, one alone as large as the probe.
    verdict, detail : str
        The decision, and how it was come by.
    found : bool or None
        Whether there is a match: green, or red. None where that was not asked.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        434 x 656 pixels for up to one tile; else W is 1168, and H 434 for one row, 498 for two, 208 more for each further
        one.
    """
    large, step = 2 * _TILE, _TILE + _CAPTION + _MARGIN
    alone = len(tiles) <= 1
    columns, side = (1, large) if alone else (_COLUMNS, _TILE)
    left, top = large + 3 * _MARGIN, _HEADING + _MARGIN  # of the tiles
    width = left + columns * (side + _MARGIN)
    height = (
        top + max(large + _CAPTION, 0 if alone else math.ceil(len(tiles) / columns) * step - _MARGIN) + _MARGIN // 2
    )
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, width, _HEADING - 1), fill={True: _YES, False: _NO, None: _INK}[found])
    for text, size, y in ((verdict, 26, 11), (detail, 14, 46)):
        draw.text((_MARGIN, y), _fitted(draw, text, _font(size), width - 2 * _MARGIN), fill=_PAPER, font=_font(size))
    _paste(sheet, draw, probe, (_MARGIN, top), large)
    line = left - _MARGIN
    draw.line((line, top, line, height - _MARGIN), fill=_LINE, width=1)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        _paste(sheet, draw, tile, (left + column * (side + _MARGIN), top + row * step), side)
    if not tiles:
        text = "no template was revealed"
        draw.text((left + large / 2, top + large / 2), text, fill=_FAINT, font=_font(18), anchor="mm")
    return np.asarray(sheet)


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int], side: int) -> None:
    x, y = place
    draw.rectangle((x, y, x + side - 1, y + side - 1), fill=_BLANK)
    if tile.picture is None:
        draw.text((x + side / 2, y + side / 2), "no picture", fill=_FAINT, font=_font(14), anchor="mm")
    else:
        scale = 1 if tile.picture.dtype == np.uint8 else 255
        picture = Image.fromarray(np.round(np.clip(tile.picture * scale, 0, 255)).astype(np.uint8)).convert("RGB")
        factor = side / max(picture.size)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
    if tile.match:
        draw.rectangle((x - 5, y - 5, x + side + 4, y + side + 4), outline=_YES, width=5)
    colour = _YES if tile.match else _INK
    title = _fitted(draw, tile.title, _font(16), side)
    draw.text((x, y + side + 7), title, fill=colour, font=_font(16))
    draw.text((x, y + side + 26), _fitted(draw, tile.detail, _font(13), side), fill=_FAINT, font=_font(13))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The text, cut where it is wider than that."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
