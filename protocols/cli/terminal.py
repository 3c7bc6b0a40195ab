"""Pictures and bars in a terminal, out of half-block characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.style import Style
from rich.table import Table
from rich.text import Text

from protocols.cli.console import out

__all__ = ["bars", "picture", "side_by_side"]

_WIDTH = 36
_SHADES = " .:-=+*#%@"


def picture(values: NDArray[np.float64] | NDArray[np.uint8], width: int = _WIDTH) -> Text:
    """Render a picture, two pixels to a character: foreground above, background below.

    Parameters
    ----------
    values : (H, W) or (H, W, 3)
        float64 in [0, 1], or uint8.
    width : int
        Characters.
    """
    scale = 1 if values.dtype == np.uint8 else 255
    pixels = np.round(np.clip(values * scale, 0, 255)).astype(np.uint8)
    height = max(2, round(pixels.shape[0] / pixels.shape[1] * width / 2) * 2)
    method = Image.Resampling.NEAREST if pixels.shape[1] <= width else Image.Resampling.BOX
    if not out.is_terminal:
        return _shaded(Image.fromarray(pixels).convert("L").resize((width, height // 2), method))
    rows = np.asarray(Image.fromarray(pixels).convert("RGB").resize((width, height), method))
    text = Text(no_wrap=True)
    for y in range(0, height, 2):
        for x in range(width):
            text.append("▀", Style(color=_colour(rows[y, x]), bgcolor=_colour(rows[y + 1, x])))
        text.append("\n")
    text.rstrip()
    return text


def side_by_side(*parts: tuple[str, Text]) -> Table:
    """Put titled pictures beside each other."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for title, _ in parts:
        table.add_column(title)
    table.add_row(*(part for _, part in parts))
    return table


def bars(names: Sequence[str], columns: Sequence[tuple[str, Sequence[float]]], width: int = 24) -> Table:
    """Render scores as numbers with bars; the largest of the first column is marked."""
    first = columns[0][1]
    low, high = min(0.0, *first), max(first)
    best = max(range(len(first)), key=lambda i: first[i])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title, _ in columns:
        table.add_column(title, justify="right")
    table.add_column("")
    for i, name in enumerate(names):
        filled = round((first[i] - low) / (high - low) * width) if high > low else 0
        style = "bold green" if i == best else ""
        numbers = [f"{values[i]:.4f}" for _, values in columns]
        table.add_row(name, *numbers, "█" * filled, style=style)
    return table


def _shaded(grey: Image.Image) -> Text:
    """Render without colours, where output goes to a file: light to dark as characters."""
    levels = np.asarray(grey).astype(np.int64) * len(_SHADES) // 256
    return Text("\n".join("".join(_SHADES[level] for level in row) for row in levels), no_wrap=True)


def _colour(pixel: NDArray[np.uint8]) -> str:
    red, green, blue = (int(value) for value in pixel)
    return f"rgb({red},{green},{blue})"
