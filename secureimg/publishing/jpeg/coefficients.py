"""A JPEG picture as quantised coefficients: frames, components, scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ZIGZAG",
    "CoefficientImage",
    "Colours",
    "Component",
    "Frame",
    "Process",
    "Scan",
    "make_frame",
    "up",
    "with_blocks",
]

Process: TypeAlias = Literal["baseline", "extended", "progressive"]
Colours: TypeAlias = Literal["grey", "YCbCr", "RGB", "CMYK", "YCCK"]

ZIGZAG: Final = np.array(
    sorted(range(64), key=lambda k: (k // 8 + k % 8, (k % 8 if (k // 8 + k % 8) % 2 == 0 else k // 8)))
)
"""Place in an 8x8 block, row by row, of each coefficient in the order of a scan (T.81, figure 5)."""


def up(value: int, unit: int) -> int:
    """How many units cover a value."""
    return -(-value // unit)


@dataclass(frozen=True)
class Component:
    """One colour plane.

    Attributes
    ----------
    identifier : int
        The byte that names it in the file.
    horizontal, vertical : int
        Sampling factors, 1 to 4.
    table : int
        Number of its quantisation table, 0 to 3.
    rows, columns : int
        Blocks that the picture needs.
    padded_rows, padded_columns : int
        Blocks stored: whole MCUs of an interleaved scan.
    first : int
        Index of its first block among all blocks of the picture; they follow row by row.
    """

    identifier: int
    horizontal: int
    vertical: int
    table: int
    rows: int
    columns: int
    padded_rows: int
    padded_columns: int
    first: int

    @property
    def stop(self) -> int:
        """Index after its last block."""
        return self.first + self.padded_rows * self.padded_columns


@dataclass(frozen=True)
class Frame:
    """What a frame header says (T.81, B.2.2)."""

    width: int
    height: int
    process: Process
    components: tuple[Component, ...]

    @property
    def largest(self) -> tuple[int, int]:
        """Largest horizontal and vertical sampling factor."""
        return max(c.horizontal for c in self.components), max(c.vertical for c in self.components)

    @property
    def mcus(self) -> tuple[int, int]:
        """MCUs of an interleaved scan of all components: across, down."""
        across, down = self.largest
        return up(self.width, 8 * across), up(self.height, 8 * down)

    @property
    def block_count(self) -> int:
        """Blocks of all components, padding included."""
        return self.components[-1].stop


def make_frame(width: int, height: int, process: Process, planes: list[tuple[int, int, int, int]]) -> Frame:
    """Lay out a frame; `planes` has (identifier, horizontal, vertical, table) of each component. Values are not checked."""
    across, down = max(plane[1] for plane in planes), max(plane[2] for plane in planes)
    mcus_across, mcus_down = up(width, 8 * across), up(height, 8 * down)
    found, first = [], 0
    for identifier, horizontal, vertical, table in planes:
        columns = up(up(width * horizontal, across), 8)  # T.81, A.1.1
        rows = up(up(height * vertical, down), 8)
        found.append(
            Component(
                identifier, horizontal, vertical, table, rows, columns, mcus_down * vertical, mcus_across * horizontal,
                first,
            )
        )  # fmt: skip
        first = found[-1].stop
    return Frame(width, height, process, tuple(found))


@dataclass(frozen=True)
class Scan:
    """What a scan header says (T.81, B.2.3).

    Attributes
    ----------
    members : tuple of int
        Indices of its components in the frame.
    dc_tables, ac_tables : tuple of int
        Huffman tables of each member, 0 to 3.
    first, last : int
        Coefficients, in zigzag order.
    high, low : int
        Successive approximation: the bit coded before, and the one coded now. 0 and 0 if there is none.
    restart : int
        MCUs between restart markers; 0 for none.
    """

    members: tuple[int, ...]
    dc_tables: tuple[int, ...]
    ac_tables: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int
    restart: int


@dataclass(frozen=True, eq=False)
class CoefficientImage:
    """A picture as its file has it, before any loss of decoding.

    Attributes
    ----------
    frame : Frame
    tables : tuple of ndarray
        Quantisation table of each component, (64,) uint16 in zigzag order.
    blocks : ndarray
        (blocks, 64) int16, quantised coefficients in zigzag order; see `Component.first`.
    colours : str
        How decoders take the components: "grey", "YCbCr", "RGB", "CMYK" or "YCCK".
    adobe : bool
        Whether the file has Adobe's marker (four components are then inverted by most writers and readers).
    """

    frame: Frame
    tables: tuple[NDArray[np.uint16], ...]
    blocks: NDArray[np.int16]
    colours: Colours
    adobe: bool = False

    def plane(self, index: int) -> NDArray[np.int16]:
        """Blocks of one component as the picture needs them, a view (rows, columns, 64)."""
        component = self.frame.components[index]
        stored = self.blocks[component.first : component.stop]
        return stored.reshape(component.padded_rows, component.padded_columns, 64)[
            : component.rows, : component.columns
        ]


def with_blocks(image: CoefficientImage, blocks: NDArray[np.int16]) -> CoefficientImage:
    """Return the same picture with other coefficients."""
    return CoefficientImage(image.frame, image.tables, blocks, image.colours, image.adobe)
