"""JPEG files from coefficients: new ones with the best Huffman tables, and old ones again as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.publishing.jpeg.coefficients import CoefficientImage, Frame, Scan
from secureimg.publishing.jpeg.huffman import DC_REFINE, SEQUENTIAL
from secureimg.publishing.jpeg.reading import kind_of, layout_of
from secureimg.publishing.jpeg.segments import Walk
from secureimg.publishing.jpeg.tables import HuffmanTable, best_table
from secureimg.publishing.jpeg.tokens import BE_LIMIT, STATE_WORDS, TOKENS_A_BLOCK, count, emit, tokenise

__all__ = ["refill", "standard_scans", "write_jpeg"]

_FRAMES: Final = {"baseline": 0xC0, "extended": 0xC1, "progressive": 0xC2}
_CHUNK: Final = 4096  # blocks whose tokens are held at a time
_LARGEST_DC: Final = 2047
_LARGEST_AC: Final = 1023

# libjpeg's script (jpeg_simple_progression): first, last, high, low; for luma and chroma, and for any components
_COLOUR_SCRIPT: Final = (
    ((0, 1, 2), 0, 0, 0, 1), ((0,), 1, 5, 0, 2), ((2,), 1, 63, 0, 1), ((1,), 1, 63, 0, 1), ((0,), 6, 63, 0, 2),
    ((0,), 1, 63, 2, 1), ((0, 1, 2), 0, 0, 1, 0), ((2,), 1, 63, 1, 0), ((1,), 1, 63, 1, 0), ((0,), 1, 63, 1, 0),
)  # fmt: skip
_PLAIN_SCRIPT: Final = ((1, 5, 0, 2), (6, 63, 0, 2), (1, 63, 2, 1), (1, 63, 1, 0))


def write_jpeg(image: CoefficientImage, *, scans: Sequence[Scan] | None = None, notes: bytes = b"") -> bytes:
    """Return a JPEG file with these coefficients and the best Huffman tables for them.

    Parameters
    ----------
    image : CoefficientImage
        Coefficients of at most 11 (DC) and 10 (AC) bits. A baseline or extended frame is written in one scan where the
        standard allows it, a progressive one by `scans`.
    scans : sequence of Scan, optional
        What the file is to be coded in; `standard_scans` if none are given. Table numbers are chosen anew.
    notes : bytes
        Whole segments (comments, application data) to put in front.

    Raises
    ------
    PublishingError
        A coefficient is too large.

    Notes
    -----
    Holds nothing but what decoding needs: JFIF's or Adobe's marker (which colours), tables, frame, scans. Cost: 12
    megapixels take about 0.3 s on one core.
    """
    frame = image.frame
    if frame.block_count and (
        _largest(image.blocks[:, 0]) > _LARGEST_DC or _largest(image.blocks[:, 1:]) > _LARGEST_AC
    ):
        raise PublishingError(
            f"a coefficient is larger than {_LARGEST_DC} (DC) or {_LARGEST_AC} (AC): 8-bit JPEG cannot hold it"
        )
    parts = [b"\xff\xd8", _colour_marker(image), notes, *_quantisation(image), _frame_header(image)]
    for scan in scans if scans is not None else standard_scans(frame):
        scan = _numbered(scan)
        counts = np.zeros((8, 256), np.int64)
        for tokens, amount, _ in _tokens(image.frame, image.blocks, scan):
            count(tokens, amount, counts)
        used = _used(frame, scan)
        tables = {number: best_table(counts[number]) for number in used}
        for number, table in tables.items():
            body = bytes([(number >> 2 << 4) | (number & 3)]) + table.counts + table.values
            parts.append(_segment(0xC4, body))
        parts.append(_scan_header(frame, scan))
        parts.append(_entropy(frame, image.blocks, scan, tables, 1))
    return b"".join((*parts, b"\xff\xd9"))


def refill(skeleton: bytes, blocks: NDArray[np.int16], name: str, max_pixels: int, padding: int) -> bytes:
    """Return a file whose scans are coded from coefficients, and whose other bytes are given.

    Parameters
    ----------
    skeleton : bytes
        The file without its entropy-coded data, see `JpegFile.skeleton`.
    blocks : ndarray
        (blocks, 64) int16, as `CoefficientImage` has them.
    name : str
        What errors call the skeleton.
    max_pixels : int
    padding : int
        0 or 1: the bit that fills the last byte before a marker.

    Raises
    ------
    ImageError
        The skeleton is damaged, or is of a picture with another number of blocks.
    PublishingError
        A Huffman table of the skeleton has no code for a symbol that is needed.
    """
    walk = Walk(skeleton, name, max_pixels, bare=True)
    parts: list[bytes] = []
    done = 0

    def on_scan(scan: Scan, place: int) -> int:
        nonlocal done
        assert walk.frame is not None
        if walk.frame.block_count != len(blocks):
            raise walk.fail(f"has a frame of {walk.frame.block_count} blocks where there are {len(blocks)},", place)
        tables = {}
        for number in _used(walk.frame, scan):
            table = walk.huffman.get((number >> 2, number & 3))
            if table is None:
                raise walk.fail("has a scan without its Huffman table", place)
            tables[number] = table
        parts.append(skeleton[done:place])
        parts.append(_entropy(walk.frame, blocks, scan, tables, padding))
        done = place
        return place

    walk.walk(on_scan)
    return b"".join((*parts, skeleton[done:]))


def standard_scans(frame: Frame) -> list[Scan]:
    """Return scans for a frame: as few as can be for a sequential one, libjpeg's script for a progressive one."""
    everyone = tuple(range(len(frame.components)))
    together = sum(c.horizontal * c.vertical for c in frame.components) <= 10
    groups = [everyone] if together or len(everyone) == 1 else [(k,) for k in everyone]
    if frame.process != "progressive":
        return [_scan(group, 0, 63, 0, 0) for group in groups]
    if len(everyone) == 3 and together:
        return [_scan(*line) for line in _COLOUR_SCRIPT]
    found = [_scan(group, 0, 0, 0, 1) for group in groups]
    for band in _PLAIN_SCRIPT[:3]:
        found += [_scan((k,), *band) for k in everyone]
    found += [_scan(group, 0, 0, 1, 0) for group in groups]
    return found + [_scan((k,), *_PLAIN_SCRIPT[3]) for k in everyone]


def _scan(members: tuple[int, ...], first: int, last: int, high: int, low: int) -> Scan:
    return Scan(members, (0,) * len(members), (0,) * len(members), first, last, high, low, 0)


def _numbered(scan: Scan) -> Scan:
    """One pair of tables for the first component, one for the others; no restart markers."""
    numbers = tuple(0 if member in (0, 3) else 1 for member in scan.members)
    return replace(scan, dc_tables=numbers, ac_tables=numbers, restart=0)


def _used(frame: Frame, scan: Scan) -> list[int]:
    """Tables that a scan uses: number, plus 4 for AC."""
    kind = kind_of(frame, scan)
    found: set[int] = set()
    if kind == SEQUENTIAL or (kind != DC_REFINE and scan.first == 0):
        found |= set(scan.dc_tables)
    if kind == SEQUENTIAL or scan.first > 0:
        found |= {4 + number for number in scan.ac_tables}
    return sorted(found)


def _tokens(
    frame: Frame, blocks: NDArray[np.int16], scan: Scan
) -> Iterator[tuple[NDArray[np.uint32], int, NDArray[np.int64]]]:
    """Tokens of a scan, some thousand blocks at a time: (tokens, how many, state of the writer). The buffer is reused."""
    layout, mcus = layout_of(frame, scan)
    total, in_mcu = int(mcus[0] * mcus[1]), int((layout[:, 2] * layout[:, 3]).sum())
    step = min(max(1, _CHUNK // in_mcu), total)
    out = np.empty((TOKENS_A_BLOCK + 1) * step * in_mcu + BE_LIMIT, np.uint32)
    state, waiting = np.zeros(STATE_WORDS, np.int64), np.zeros(BE_LIMIT + 64, np.uint8)
    kind = kind_of(frame, scan)
    for start in range(0, total, step):
        amount = tokenise(
            blocks, layout, mcus, kind, scan.first, scan.last, scan.low, scan.restart, start, min(start + step, total),
            state, waiting, out,
        )  # fmt: skip
        yield out, int(amount), state


def _entropy(
    frame: Frame, blocks: NDArray[np.int16], scan: Scan, tables: dict[int, HuffmanTable], padding: int
) -> bytes:
    codes, lengths = np.zeros((8, 256), np.uint32), np.zeros((8, 256), np.uint8)
    for number, table in tables.items():
        codes[number], lengths[number] = table.codes()
    parts, out = [], np.empty(0, np.uint8)
    writer = np.zeros(STATE_WORDS, np.int64)
    for tokens, amount, _ in _tokens(frame, blocks, scan):
        if out.size < 8 * amount + 16:  # 31 bits a token at most, and each byte may be stuffed
            out = np.empty(8 * len(tokens) + 16, np.uint8)
        filled = int(emit(tokens, amount, codes, lengths, writer, padding, False, out))
        if filled < 0:
            raise PublishingError(
                "a Huffman table has no code for a coefficient: write the file with tables of its own"
            )
        parts.append(out[:filled].tobytes())
    filled = int(emit(np.empty(0, np.uint32), 0, codes, lengths, writer, padding, True, out))
    return b"".join((*parts, out[:filled].tobytes()))


def _largest(values: NDArray[np.int16]) -> int:
    return max(int(values.max()), -int(values.min()))


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _colour_marker(image: CoefficientImage) -> bytes:
    """JFIF for grey and YCbCr, whose pixels are square unless told otherwise; Adobe's marker for what JFIF cannot say."""
    if image.colours in ("grey", "YCbCr"):
        return _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
    if image.colours == "CMYK" and not image.adobe:
        return b""
    return _segment(0xEE, b"Adobe\0\x64\0\0\0\0" + (b"\x02" if image.colours == "YCCK" else b"\0"))


def _quantisation(image: CoefficientImage) -> list[bytes]:
    parts: list[bytes] = []
    written: dict[int, NDArray[np.uint16]] = {}
    for component, values in zip(image.frame.components, image.tables, strict=True):
        if not np.array_equal(written.setdefault(component.table, values), values):
            raise PublishingError(f"two components name quantisation table {component.table} and have different ones")
    for number, values in sorted(written.items()):
        wide = bool(values.max() > 255)
        parts.append(_segment(0xDB, bytes([wide << 4 | number]) + values.astype(">u2" if wide else np.uint8).tobytes()))
    return parts


def _frame_header(image: CoefficientImage) -> bytes:
    frame = image.frame
    body = b"\x08" + frame.height.to_bytes(2, "big") + frame.width.to_bytes(2, "big") + bytes([len(frame.components)])
    for c in frame.components:
        body += bytes([c.identifier, c.horizontal << 4 | c.vertical, c.table])
    return _segment(_FRAMES[frame.process], body)


def _scan_header(frame: Frame, scan: Scan) -> bytes:
    body = bytes([len(scan.members)])
    for member, dc, ac in zip(scan.members, scan.dc_tables, scan.ac_tables, strict=True):
        body += bytes([frame.components[member].identifier, dc << 4 | ac])
    return _segment(0xDA, body + bytes([scan.first, scan.last, scan.high << 4 | scan.low]))
