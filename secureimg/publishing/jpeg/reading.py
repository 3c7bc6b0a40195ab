"""Coefficients from a JPEG file that may be anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.images.files import MAX_BYTES, MAX_PIXELS, read_capped
from secureimg.publishing.jpeg.coefficients import CoefficientImage, Frame, Scan
from secureimg.publishing.jpeg.huffman import (
    AC_FIRST,
    AC_REFINE,
    DC_FIRST,
    DC_REFINE,
    FAULTS,
    ROOM,
    SEQUENTIAL,
    decode_scan,
    unstuff,
)
from secureimg.publishing.jpeg.segments import Walk

__all__ = ["JpegFile", "kind_of", "layout_of", "open_jpeg", "read_jpeg", "read_skeleton"]

_NO_TABLE: Final = np.zeros((8, 1), np.uint16)


@dataclass(frozen=True, eq=False)
class JpegFile:
    """A file taken apart.

    Attributes
    ----------
    image : CoefficientImage
    spans : tuple of (start, stop)
        Where the entropy-coded data of each scan are.
    notes : tuple of (start, stop)
        Where application and comment segments are that do not say how to decode.
    end : int
        Position after the end marker.
    """

    image: CoefficientImage
    spans: tuple[tuple[int, int], ...]
    notes: tuple[tuple[int, int], ...]
    end: int

    def skeleton(self, data: bytes) -> bytes:
        """Return the file that was opened without its entropy-coded data."""
        places = [0, *(place for span in self.spans for place in span), len(data)]
        return b"".join(data[start:stop] for start, stop in zip(places[::2], places[1::2], strict=True))


def read_jpeg(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> CoefficientImage:
    """Return the quantised coefficients of a JPEG file.

    Parameters
    ----------
    data : bytes
        Baseline, extended sequential or progressive JPEG, Huffman coded, 8 bits a sample, 1, 3 or 4 components of any
        sampling factors. Bytes after the end marker are not looked at.
    max_bytes, max_pixels : int
        Caps, checked before anything is allocated.

    Returns
    -------
    CoefficientImage

    Raises
    ------
    ImageError
        The file is too large, truncated or damaged in any way that shows (with the byte), or another kind of JPEG. Damage
        that leaves a valid file cannot show: JPEG has no checksum.

    Notes
    -----
    Stricter than libjpeg, which goes on after damage with grey blocks: every scan must end exactly at its marker, and
    each bit of a coefficient be coded once. Cost: 12 megapixels take about 0.2 s on one core.

    Source: ITU-T T.81, annexes B, F and G.
    """
    return open_jpeg(data, max_bytes=max_bytes, max_pixels=max_pixels).image


def open_jpeg(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> JpegFile:
    """As `read_jpeg`, with where the parts of the file are."""
    data, name = read_capped(data, max_bytes)
    walk = Walk(data, name, max_pixels)
    raw = np.frombuffer(data, np.uint8)
    blocks: list[NDArray[np.int16]] = []
    spans: list[tuple[int, int]] = []
    clean: list[NDArray[np.uint8]] = []

    def on_scan(scan: Scan, start: int) -> int:
        assert walk.frame is not None
        if not blocks:
            blocks.append(np.zeros((walk.frame.block_count, 64), np.int16))
            clean.append(np.empty(len(data) + ROOM, np.uint8))
        stop = _decode(walk, scan, start, raw, clean[0], blocks[0])
        spans.append((start, stop))
        return stop

    walk.walk(on_scan)
    assert walk.frame is not None
    tables = tuple(walk.tables[k] for k in range(len(walk.frame.components)))
    image = CoefficientImage(walk.frame, tables, blocks[0], walk.colours(), walk.adobe)
    return JpegFile(image, tuple(spans), tuple(walk.notes), walk.end)


def read_skeleton(skeleton: bytes, name: str, max_pixels: int) -> CoefficientImage:
    """Return the picture of a file whose entropy-coded data were taken out, all its coefficients 0.

    Raises
    ------
    ImageError
        The skeleton is damaged.
    """
    walk = Walk(skeleton, name, max_pixels, bare=True)
    walk.walk(lambda _scan, place: place)
    assert walk.frame is not None
    tables = tuple(walk.tables[k] for k in range(len(walk.frame.components)))
    none = np.broadcast_to(np.zeros(1, np.int16), (walk.frame.block_count, 64))  # takes no memory
    return CoefficientImage(walk.frame, tables, none, walk.colours(), walk.adobe)


def _decode(
    walk: Walk, scan: Scan, start: int, raw: NDArray[np.uint8], clean: NDArray[np.uint8], blocks: NDArray[np.int16]
) -> int:
    assert walk.frame is not None
    layout, mcus = layout_of(walk.frame, scan)
    total = int(mcus[0] * mcus[1])
    expected = -(-total // scan.restart) if scan.restart else 1
    stops = np.zeros(expected, np.int64)
    stop, found = unstuff(raw, start, clean, stops)
    if stop < 0:
        raise walk.fail(f"ends within scan {walk.scans},", len(raw))
    if found != expected:
        what = (
            "a restart marker out of order" if found == -2 else "more or fewer restart markers than its interval says,"
        )
        raise walk.fail(f"has in scan {walk.scans} {what}", stop)
    filled = int(stops[-1])
    clean[filled : filled + ROOM] = 0
    kind = kind_of(walk.frame, scan)
    fast, full = _lookups(walk, scan, kind, start)
    outcome = int(
        decode_scan(clean, stops, blocks, layout, mcus, fast, full, kind, scan.first, scan.last, scan.low, scan.restart)
    )
    if outcome < 0:
        fault, byte = FAULTS[-outcome % 8], -outcome // 64
        raise walk.fail(f"has in scan {walk.scans} {fault},", _stuffed(raw, start, min(byte, filled)))
    return int(stop)


def kind_of(frame: Frame, scan: Scan) -> int:
    """The kernel's name for a kind of scan."""
    if frame.process != "progressive":
        return SEQUENTIAL
    if scan.first == 0:
        return DC_REFINE if scan.high else DC_FIRST
    return AC_REFINE if scan.high else AC_FIRST


def layout_of(frame: Frame, scan: Scan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the kernels' `layout` and `mcus` of a scan (T.81, A.2)."""
    alone = len(scan.members) == 1
    rows = []
    for member, dc, ac in zip(scan.members, scan.dc_tables, scan.ac_tables, strict=True):
        component = frame.components[member]
        across, down = (1, 1) if alone else (component.horizontal, component.vertical)
        rows.append((component.first, component.padded_columns, across, down, dc, 4 + ac))
    only = frame.components[scan.members[0]]
    mcus = (only.columns, only.rows) if alone else frame.mcus
    return np.array(rows, np.int64), np.array(mcus, np.int64)


def _lookups(walk: Walk, scan: Scan, kind: int, start: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Look-ups of the tables that a scan uses: row is number, plus 4 for AC."""
    needed = set()
    if kind in (SEQUENTIAL, DC_FIRST):
        needed |= {(0, number) for number in scan.dc_tables}
    if kind in (SEQUENTIAL, AC_FIRST, AC_REFINE):
        needed |= {(1, number) for number in scan.ac_tables}
    if not needed:
        return _NO_TABLE, _NO_TABLE
    fast, full = np.zeros((8, 1 << 10), np.uint16), np.empty((8, 1 << 16), np.uint16)
    for kind_of_table, number in needed:
        table = walk.huffman.get((kind_of_table, number))
        if table is None:
            letter = "AC" if kind_of_table else "DC"
            raise walk.fail(f"has a scan without its Huffman table {number} for {letter}", start)
        fast[4 * kind_of_table + number], full[4 * kind_of_table + number] = table.lookup()
    return fast, full


def _stuffed(raw: NDArray[np.uint8], start: int, byte: int) -> int:
    """Position in the file of a byte of its unstuffed data, to a few bytes (restart markers are not counted)."""
    window = raw[start : start + byte + byte // 64 + 64]
    stuffing = np.flatnonzero((window[:-1] == 0xFF) & (window[1:] == 0)) + 1
    return start + byte + int(np.searchsorted(stuffing - np.arange(len(stuffing)), byte, side="right"))
