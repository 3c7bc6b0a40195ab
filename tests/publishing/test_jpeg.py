"""JPEG coefficients: equal to libjpeg's, strict on damage, written so that others read the same pixels."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jpeglib
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secureimg.errors import ImageError, PublishingError, SecureImgError
from secureimg.publishing.jpeg import (
    CoefficientImage,
    Scan,
    make_frame,
    open_jpeg,
    read_jpeg,
    read_skeleton,
    refill,
    standard_scans,
    to_rgb,
    upsampled_planes,
    with_blocks,
    write_jpeg,
)
from secureimg.publishing.jpeg.coefficients import ZIGZAG
from secureimg.publishing.jpeg.tables import HuffmanTable, best_table

ASTRONAUT = skimage.data.astronaut()
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 3},
    {"restart_marker_rows": 1, "progressive": True},
)


def encoded(pixels: Any, mode: str | None = None, **options: Any) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, "JPEG", **options)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def reference(data: bytes, folder: Path) -> list[np.ndarray]:
    """Coefficients by libjpeg, of each component."""
    path = folder / "picture.jpg"
    path.write_bytes(data)
    found = jpeglib.read_dct(str(path))
    planes = [found.Y, found.Cb, found.Cr, getattr(found, "K", None)]
    return [plane for plane in planes if plane is not None]


def natural(image: CoefficientImage, index: int) -> np.ndarray:
    plane = image.plane(index)
    out = np.zeros_like(plane)
    out[..., ZIGZAG] = plane
    return out


def crop(height: int, width: int, kind: str) -> Image.Image:
    picture = Image.fromarray(ASTRONAUT[60 : 60 + height, 100 : 100 + width])
    return picture.convert({"grey": "L", "colour": "RGB", "ink": "CMYK"}[kind])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["grey", "colour", "ink"])
def test_coefficients_are_those_of_libjpeg(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    for quality in (20, 75, 100):
        for subsampling in (0, 1, 2):
            data = encoded(crop(101, 203, kind), quality=quality, subsampling=subsampling, **options)
            image, planes = read_jpeg(data), reference(data, tmp_path)
            assert len(planes) == len(image.frame.components)
            for k, plane in enumerate(planes):
                mine = natural(image, k)
                np.testing.assert_array_equal(plane[: mine.shape[0], : mine.shape[1]].reshape(mine.shape), mine)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from(["grey", "colour", "ink"]), st.integers(5, 100),
    st.integers(0, 2), st.sampled_from(OPTIONS),
)  # fmt: skip
def test_a_file_comes_out_as_it_was_and_anew_with_the_same_pixels(
    height: int, width: int, kind: str, quality: int, subsampling: int, options: dict[str, Any]
) -> None:
    data = encoded(crop(height, width, kind), quality=quality, subsampling=subsampling, **options)
    opened = open_jpeg(data)
    skeleton = opened.skeleton(data)
    assert refill(skeleton, opened.image.blocks, "it", 10**6, 1) == data
    assert read_skeleton(skeleton, "it", 10**6).frame == opened.image.frame
    process: Any
    for process in ("baseline", "progressive"):
        frame = replace(opened.image.frame, process=process)
        again = write_jpeg(replace(opened.image, frame=frame))
        np.testing.assert_array_equal(decoded(again), decoded(data))


def test_any_sampling_factors_and_one_scan_a_component(tmp_path: Path) -> None:
    """Factors that Pillow does not write; libjpeg decodes them."""
    rng = np.random.default_rng(3)
    table = np.arange(1, 65, dtype=np.uint16)
    for factors in (((1, 1), (1, 1), (1, 1)), ((2, 2), (1, 2), (2, 1)), ((4, 1), (1, 1), (2, 1)), ((4, 4), (1, 1), (4, 2)),
                    ((1, 2), (1, 1), (1, 1))):  # fmt: skip
        frame = make_frame(77, 51, "baseline", [(k + 1, *pair, 0) for k, pair in enumerate(factors)])
        blocks = np.zeros((frame.block_count, 64), np.int16)
        image = CoefficientImage(frame, (table,) * 3, blocks, "YCbCr")
        for k, component in enumerate(frame.components):
            plane = image.plane(k)
            plane[...] = rng.integers(-3, 4, plane.shape) * (rng.random(plane.shape) < 0.2)
            assert component.columns == -(-(-(-77 * component.horizontal // frame.largest[0])) // 8)  # noqa: B002
        for process in ("baseline", "progressive"):
            data = write_jpeg(replace(image, frame=replace(frame, process=process)))  # type: ignore[arg-type]
            again, planes = read_jpeg(data), reference(data, tmp_path)
            for k in range(3):
                np.testing.assert_array_equal(again.plane(k), image.plane(k))
                mine = natural(again, k)
                np.testing.assert_array_equal(planes[k][: mine.shape[0], : mine.shape[1]].reshape(mine.shape), mine)


def test_pixels_are_those_of_libjpeg_without_rounding() -> None:
    for subsampling in (0, 1, 2):
        data = encoded(crop(101, 203, "colour"), quality=90, subsampling=subsampling)
        image = read_jpeg(data)
        planes = upsampled_planes(image.frame, image.tables, image.blocks)
        pixels = to_rgb([np.clip(plane, -128, 127) for plane in planes], image.colours) + 128
        difference = np.abs(np.clip(pixels, 0, 255) - decoded(data))
        assert difference.max() < 3.5  # it rounds planes, chroma and colours, and clips planes
        assert difference.mean() < 0.55


def test_the_best_tables_are_no_larger_than_libjpegs_and_never_too_deep() -> None:
    data = encoded(ASTRONAUT, quality=85, optimize=True)
    assert abs(len(write_jpeg(read_jpeg(data))) - len(data)) < 30
    fibonacci = [1, 1]
    while len(fibonacci) < 60:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    table = best_table(np.array(fibonacci + [0] * 196, np.int64))
    assert table.fault() == ""
    assert sorted(table.values) == list(range(60))
    one = best_table(np.eye(256, dtype=np.int64)[7])
    assert (one.counts[0], one.values) == (1, b"\x07")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 255), st.integers(1, 2**40), min_size=1, max_size=256))
def test_a_best_table_is_valid_for_any_counts(counts: dict[int, int]) -> None:
    array = np.zeros(256, np.int64)
    for symbol, count in counts.items():
        array[symbol] = count
    table = best_table(array)
    assert table.fault() == ""
    assert sorted(table.values) == sorted(counts)
    lengths = table.codes()[1]
    assert all(lengths[a] <= lengths[b] for a in counts for b in counts if counts[a] > counts[b])


def test_tables_that_are_no_code_are_refused() -> None:
    assert HuffmanTable(bytes([2] + [0] * 15), b"\0\1").fault() == "more codes of 1 bits than there are"
    assert "two codes" in HuffmanTable(bytes([0, 2] + [0] * 14), b"\5\5").fault()


# --------------------------------------------------------------------------------------------------------------- damage


def spans(data: bytes) -> tuple[int, int]:
    return open_jpeg(data).spans[0]


def test_every_truncation_is_an_error() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        data = encoded(crop(40, 56, "colour"), quality=70, **options)
        for length in range(0, len(data), 7):
            with pytest.raises(ImageError, match=r"empty|byte \d+ of|does not begin"):
                read_jpeg(data[:length])


def test_the_error_says_what_and_where() -> None:
    data = encoded(crop(40, 56, "colour"), quality=70)
    start, stop = spans(data)
    for name, damaged, what in (
        ("garbage", data[:stop] + b"\0" + data[stop:], "left over|ends within"),
        ("lost bytes", data[: stop - 40] + data[stop:], "too early"),
        ("between segments", data[:2] + b"x" + data[2:], "no marker at byte 2"),
        ("second start", data[:2] + data, "FFD8|D8 out of place"),
        ("end in front", data[:2] + b"\xff\xd9", "before all its components"),
        ("restart marker", data[: start + 40] + b"\xff\xd0" + data[start + 40 :], "restart markers"),
        ("no tables", data.replace(b"\xff\xc4", b"\xff\xfe"), "without its Huffman table"),
        ("no quantisation", data.replace(b"\xff\xdb", b"\xff\xfe"), "without its quantisation table"),
    ):
        with pytest.raises(ImageError, match=what) as caught:
            read_jpeg(damaged)
        assert "byte" in str(caught.value), name


def test_other_kinds_of_jpeg_are_refused_in_one_sentence() -> None:
    data = encoded(crop(16, 16, "grey"))
    frame = data.index(b"\xff\xc0")
    for marker, what in ((0xC3, "lossless"), (0xC9, "arithmetic"), (0xC5, "hierarchical")):
        with pytest.raises(ImageError, match=what):
            read_jpeg(data[: frame + 1] + bytes([marker]) + data[frame + 2 :])
    with pytest.raises(ImageError, match="12 bits"):
        read_jpeg(data[: frame + 4] + b"\x0c" + data[frame + 5 :])
    with pytest.raises(ImageError, match="no pixels"):  # the height would follow in a DNL segment
        read_jpeg(data[: frame + 5] + b"\0\0" + data[frame + 7 :])


def test_caps_come_before_memory_and_time() -> None:
    data = encoded(crop(16, 16, "grey"))
    frame = data.index(b"\xff\xc0")
    with pytest.raises(ImageError, match="more than the limit"):
        read_jpeg(data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :])
    with pytest.raises(ImageError, match="too short for its"):
        read_jpeg(data[: frame + 5] + b"\x1f\x00\x1f\x00" + data[frame + 9 :])
    with pytest.raises(ImageError, match="more than the limit of 100"):
        read_jpeg(data, max_bytes=100)


def test_a_bomb_of_scans_ends_soon() -> None:
    """Thousands of scans of a large picture, each a few bytes of end-of-band runs."""
    frame = make_frame(1600, 1600, "progressive", [(1, 1, 1, 0)])
    image = CoefficientImage(frame, (np.ones(64, np.uint16),), np.zeros((frame.block_count, 64), np.int16), "grey")
    dc, band = Scan((0,), (0,), (0,), 0, 0, 0, 0, 0), Scan((0,), (0,), (0,), 1, 63, 0, 0, 0)
    honest = write_jpeg(image, scans=[dc, band])
    last = honest.rindex(b"\xff\xda")
    bits = [replace(band, first=k, last=k, high=low + 1 if low < 13 else 0, low=low) for k in (1, 2, 3, 4, 5, 6, 7, 8)
            for low in range(13, -1, -1)]  # fmt: skip
    many = write_jpeg(image, scans=[dc, *bits])
    start = time.process_time()
    with pytest.raises(ImageError, match="not due"):
        read_jpeg(honest[:-2] + 5000 * honest[last:-2] + b"\xff\xd9")
    with pytest.raises(ImageError, match="more than 100 scans"):
        read_jpeg(many)
    assert time.process_time() - start < 3


def test_damage_is_one_error_or_a_valid_picture() -> None:
    rng = np.random.default_rng(8)
    seeds = [encoded(crop(40, 56, "colour"), quality=70, **options) for options in OPTIONS]
    outcomes = {"error": 0, "valid": 0}
    for number in range(1000):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            write_jpeg(read_jpeg(bytes(data)))
            outcomes["valid"] += 1
        except SecureImgError:
            outcomes["error"] += 1
    assert outcomes["error"] > 500


def test_coefficients_that_no_file_can_hold_are_refused() -> None:
    image = read_jpeg(encoded(crop(16, 16, "grey")))
    blocks = image.blocks.copy()
    blocks[0, 1] = 1024
    with pytest.raises(PublishingError, match="larger than"):
        write_jpeg(with_blocks(image, blocks))
    assert len(standard_scans(image.frame)) == 1
