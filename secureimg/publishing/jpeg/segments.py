"""The marker segments of a JPEG file (T.81, annex B): one strict walk over them.

Every position, length and number is checked before it is used. What to do at a scan's entropy-coded data is up to the
caller: `walk` hands over the scan and goes on at the position that it gets back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import ImageError
from secureimg.images.files import check_pixels
from secureimg.publishing.jpeg.coefficients import Colours, Frame, Process, Scan, make_frame
from secureimg.publishing.jpeg.tables import HuffmanTable

__all__ = ["MAX_SCANS", "Walk"]

MAX_SCANS: Final = 100
"""Scans of one file; standard progressive files have some 10."""

_MAX_SEGMENTS: Final = 10_000
_PROCESSES: Final[dict[int, Process]] = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_REFUSED: Final = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xC9: "arithmetic coding",
    0xCA: "arithmetic coding", 0xCB: "lossless arithmetic coding", 0xCC: "arithmetic coding", 0xCD: "hierarchical",
    0xCE: "hierarchical", 0xCF: "hierarchical", 0xDC: "a height that follows the first scan", 0xDE: "hierarchical",
    0xDF: "hierarchical",
}  # fmt: skip


class Walk:
    """State of a walk over one file, and what it has found.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What errors call it.
    max_pixels : int
    bare : bool
        The file's entropy-coded data were taken out.

    Attributes
    ----------
    frame : Frame or None
    tables : dict
        Quantisation table of each component, by index, as it was at its first scan.
    huffman : dict
        Current tables by class (0 is DC, 1 is AC) and number.
    notes : list of (start, stop)
        Application and comment segments, without those that say how to decode (JFIF, Adobe).
    end : int
        Position after the end marker; bytes may follow (several pictures in one file, a film): they are not looked at.
    """

    def __init__(self, data: bytes, name: str, max_pixels: int, *, bare: bool = False) -> None:
        self.data, self.name, self.max_pixels = data, name, max_pixels
        self.frame: Frame | None = None
        self.tables: dict[int, NDArray[np.uint16]] = {}
        self.huffman: dict[tuple[int, int], HuffmanTable] = {}
        self.notes: list[tuple[int, int]] = []
        self.end = 0
        self.scans = 0
        self._quantisation: dict[int, NDArray[np.uint16]] = {}
        self._restart = 0
        self._bare = bare
        self._jfif = False
        self._adobe: int | None = None
        self._progress: NDArray[np.int8] = np.zeros((0, 64), np.int8)  # lowest bit coded so far; -1 for none

    def fail(self, what: str, place: int) -> ImageError:
        """Return the error that says what is wrong at a byte."""
        return ImageError(
            f"{self.name} {what} at byte {place} of {len(self.data)}: it is damaged, copy or export it again"
        )

    def walk(self, on_scan: Callable[[Scan, int], int]) -> None:
        """Go from start to end marker.

        Parameters
        ----------
        on_scan : callable
            Gets a scan and the position of its entropy-coded data, and returns that of the marker after them.

        Raises
        ------
        ImageError
            The file breaks a rule of the standard, is truncated, or is of a kind that is not read.
        """
        data = self.data
        if data[:2] != b"\xff\xd8":
            raise ImageError(f"{self.name} does not begin as a JPEG file does: convert it to JPEG")
        place, segments = 2, 0
        while True:
            start = place
            if place >= len(data) or data[place] != 0xFF:
                raise self.fail("has no marker" if place < len(data) else "ends without its end marker", place)
            while place < len(data) and data[place] == 0xFF:
                place += 1
            if place >= len(data):
                raise self.fail("ends within a marker", place)
            marker = data[place]
            place += 1
            if marker == 0xD9:
                break
            if marker < 0xC0 or 0xD0 <= marker <= 0xD8:
                raise self.fail(f"has marker {marker:02X} out of place", start)
            segments += 1
            if segments > _MAX_SEGMENTS:
                raise self.fail(f"has more than {_MAX_SEGMENTS} segments", start)
            size = int.from_bytes(data[place : place + 2], "big")
            if size < 2 or place + size > len(data):
                raise self.fail("has a segment that ends beyond the file, or before it begins,", start)
            body, place = data[place + 2 : place + size], place + size
            if marker == 0xDA:
                place = on_scan(self._scan(body, start), place)
            else:
                self._segment(marker, body, start, place)
        self.end = place
        if self.frame is None or (self._progress[:, 0] < 0).any():
            raise self.fail("ends before all its components were coded", place)

    def _segment(self, marker: int, body: bytes, start: int, stop: int) -> None:
        if marker in _PROCESSES:
            self._frame(_PROCESSES[marker], body, start)
        elif marker in _REFUSED:
            raise ImageError(
                f"{self.name} is JPEG with {_REFUSED[marker]}, which is not read: save it as baseline JPEG"
            )
        elif marker == 0xC4:
            self._huffman(body, start)
        elif marker == 0xDB:
            self._quantise(body, start)
        elif marker == 0xDD:
            if len(body) != 2:
                raise self.fail(f"has a restart interval of {len(body)} bytes instead of 2", start)
            self._restart = int.from_bytes(body, "big")
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            self._jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            self._adobe = body[11]
        elif marker >= 0xE0 and (marker < 0xF0 or marker == 0xFE):
            self.notes.append((start, stop))
        else:
            raise self.fail(f"has the unknown marker {marker:02X}", start)

    def _quantise(self, body: bytes, start: int) -> None:
        place = 0
        while place < len(body):
            wide, number = body[place] >> 4, body[place] & 15
            size = 64 * (wide + 1)
            values = np.frombuffer(
                body[place + 1 : place + 1 + size].ljust(size, b"\0"), ">u2" if wide == 1 else np.uint8
            )
            if wide > 1 or number > 3 or not values.all():
                raise self.fail("has a quantisation table that is cut, numbered above 3, or holds a zero,", start)
            self._quantisation[number] = values.astype(np.uint16)
            place += 1 + size

    def _huffman(self, body: bytes, start: int) -> None:
        place = 0
        while place < len(body):
            kind, number = body[place] >> 4, body[place] & 15
            counts = body[place + 1 : place + 17]
            total = sum(counts)
            table = HuffmanTable(counts, body[place + 17 : place + 17 + total])
            fault = table.fault()
            if kind > 1 or number > 3 or fault:
                raise self.fail(f"has a Huffman table with {fault or 'a class or number that there is not'}", start)
            self.huffman[kind, number] = table
            place += 17 + total

    def _frame(self, process: Process, body: bytes, start: int) -> None:
        if self.frame is not None:
            raise self.fail("has a second frame", start)
        if len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise self.fail("has a frame header of a wrong length", start)
        if body[0] != 8:
            raise ImageError(f"{self.name} is JPEG with {body[0]} bits a sample, not 8: save it as baseline JPEG")
        height, width, members = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
        check_pixels(self.name, height, width, self.max_pixels)
        if members not in (1, 3, 4):
            raise ImageError(
                f"{self.name} is JPEG with {members} components, not 1, 3 or 4: save it as greyscale or RGB"
            )
        planes = [(body[k], body[k + 1] >> 4, body[k + 1] & 15, body[k + 2]) for k in range(6, len(body), 3)]
        if len({plane[0] for plane in planes}) < members:
            raise self.fail("has two components of one name", start)
        if any(not (1 <= across <= 4 and 1 <= down <= 4 and table < 4) for _, across, down, table in planes):
            raise self.fail("has a sampling factor outside 1 to 4 or a table above 3", start)
        self.frame = make_frame(width, height, process, planes)
        # each block takes at least one bit: what is allocated next stays in proportion to the file
        if sum(c.rows * c.columns for c in self.frame.components) > 8 * len(self.data) and not self._bare:
            raise self.fail(f"is too short for its {width} x {height} pixels, as stated", start)
        self._progress = np.full((members, 64), -1, np.int8)

    def _scan(self, body: bytes, start: int) -> Scan:
        frame = self.frame
        if frame is None:
            raise self.fail("has a scan before its frame", start)
        self.scans += 1
        if self.scans > MAX_SCANS:
            raise self.fail(f"has more than {MAX_SCANS} scans", start)
        if len(body) < 1 or len(body) != 4 + 2 * body[0] or not 1 <= body[0] <= 4:
            raise self.fail("has a scan header of a wrong length", start)
        names = [component.identifier for component in frame.components]
        chosen, selectors = body[1:-3:2], body[2:-3:2]
        if any(name not in names for name in chosen):
            raise self.fail("has a scan of a component that there is not", start)
        members = tuple(names.index(name) for name in chosen)
        if list(members) != sorted(set(members)):
            raise self.fail("has a scan whose components are out of order", start)
        if (
            len(members) > 1
            and sum(frame.components[m].horizontal * frame.components[m].vertical for m in members) > 10
        ):
            raise self.fail("has a scan with more than 10 blocks in one unit", start)
        scan = Scan(
            members, tuple(s >> 4 for s in selectors), tuple(s & 15 for s in selectors), body[-3], body[-2],
            body[-1] >> 4, body[-1] & 15, self._restart,
        )  # fmt: skip
        if any(number > 3 for number in (*scan.dc_tables, *scan.ac_tables)):
            raise self.fail("has a scan with a Huffman table above 3", start)
        self._check_progress(scan, start)
        for member in members:
            if member not in self.tables:
                number = frame.components[member].table
                if number not in self._quantisation:
                    raise self.fail(f"has a scan without its quantisation table {number}", start)
                self.tables[member] = self._quantisation[number]
        return scan

    def _check_progress(self, scan: Scan, start: int) -> None:
        """Each bit of each coefficient is coded once, and DC comes first (T.81, G.1.1.1)."""
        assert self.frame is not None
        band = self._progress[list(scan.members), scan.first : scan.last + 1]
        if self.frame.process != "progressive":
            right = (scan.first, scan.last, scan.high, scan.low) == (0, 63, 0, 0)
            if not right or (band >= 0).any():
                raise self.fail("has a scan that is not of a sequential picture, or one twice,", start)
        else:
            dc = scan.first == 0
            if not (
                scan.first <= scan.last <= 63
                and (scan.last == 0 if dc else len(scan.members) == 1)
                and scan.low <= 13
                and (scan.high == 0 or scan.high == scan.low + 1)
                and (band == (scan.high or -1)).all()
                and (dc or (self._progress[list(scan.members), 0] >= 0).all())
            ):
                raise self.fail("has a progressive scan of coefficients that are not due", start)
        self._progress[list(scan.members), scan.first : scan.last + 1] = scan.low

    def colours(self) -> Colours:
        """What the components are, by libjpeg's rules."""
        assert self.frame is not None
        names = bytes(component.identifier for component in self.frame.components)
        if len(names) == 1:
            return "grey"
        if len(names) == 4:
            return "YCCK" if self._adobe == 2 else "CMYK"
        if self._jfif:
            return "YCbCr"
        if self._adobe is not None:
            return "RGB" if self._adobe == 0 else "YCbCr"
        return "RGB" if names == b"RGB" else "YCbCr"

    @property
    def adobe(self) -> bool:
        """Whether Adobe's marker is there."""
        return self._adobe is not None
