"""Images: what a file holds comes out right, and whatever else it holds is one clear error."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from secureimg.errors import ImageError
from secureimg.images import load_image, load_tensor_npy, prepare, save_image

GREY = np.linspace(0, 255, 12 * 16).astype(np.uint8).reshape(12, 16)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def encoded(picture: Image.Image | np.ndarray, form: str, **options: Any) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, format=form, **options)
    return file.getvalue()


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(*args, **options)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- formats and modes


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_formats_give_the_pixels_divided_by_255(form: str, pixels: np.ndarray) -> None:
    image = load_image(encoded(pixels, form))
    assert image.dtype == np.float64
    np.testing.assert_array_equal(image, pixels / 255)


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_jpeg_and_webp_give_pillows_own_pixels(form: str, options: dict[str, Any]) -> None:
    data = encoded(COLOUR, form, **options)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load_image(data), np.asarray(picture) / 255)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(GREY, "PNG"))
    np.testing.assert_array_equal(load_image(path), GREY / 255)
    np.testing.assert_array_equal(load_image(str(path)), GREY / 255)


def test_16_bit_greyscale_keeps_its_precision() -> None:
    deep = np.array([[0, 1, 257], [32768, 65534, 65535]], np.uint16)
    for form in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(load_image(encoded(deep, form)), deep / 65535)
    big_endian = Image.frombytes("I;16B", (3, 2), deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(load_image(encoded(big_endian, "TIFF")), deep / 65535)


def test_a_pgm_with_another_maximum_is_scaled_by_it() -> None:
    np.testing.assert_allclose(load_image(b"P5 3 1 100\n" + bytes([0, 50, 100])), [[0, 0.5, 1]], atol=1 / 255)
    np.testing.assert_allclose(load_image(b"P5 2 1 1000\n" + struct.pack(">2H", 500, 1000)), [[0.5, 1]], atol=1e-4)


def test_one_bit_pictures_are_black_and_white() -> None:
    bits = GREY > 100
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(bits), "PNG")), bits.astype(float))


def test_a_palette_gives_its_colours() -> None:
    palette = Image.fromarray(COLOUR).quantize(8)
    np.testing.assert_array_equal(load_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")) / 255)


def test_transparency_is_composited_on_black() -> None:
    alpha = np.full((12, 16), 51, np.uint8)
    alpha[:6] = 255
    share = (alpha / 255)[..., None]
    image = load_image(encoded(np.dstack([COLOUR, alpha]), "PNG"))
    np.testing.assert_allclose(image, COLOUR / 255 * share, atol=1 / 255)
    grey = load_image(encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]), "PNG"))
    np.testing.assert_allclose(grey, GREY / 255 * share[..., 0], atol=1 / 255)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    np.testing.assert_array_equal(load_image(encoded(palette, "PNG", transparency=0)), [[[0, 0, 0], [0, 1, 0]]])


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    np.testing.assert_array_equal(load_image(encoded(cmyk, "TIFF")), COLOUR / 255)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_applies_it(form: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(COLOUR, form, exif=exif.tobytes() if form != "TIFF" else exif, **options)
    with Image.open(io.BytesIO(data)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture)) / 255
    assert upright.shape == ((12, 16, 3) if orientation < 5 else (16, 12, 3))
    np.testing.assert_array_equal(load_image(data), upright)


def test_the_main_picture_of_a_phone_jpeg_with_two_is_read() -> None:
    data = encoded(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[Image.fromarray(COLOUR[::2, ::2])])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "MPO"
    assert load_image(data).shape == (12, 16, 3)


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_several_frames_are_refused(form: str) -> None:
    second = Image.fromarray(255 - COLOUR)
    data = encoded(Image.fromarray(COLOUR), form, save_all=True, append_images=[second])
    assert "several frames or pages" in refusal(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_truncated_file_is_refused_wherever_it_ends(form: str, rng: np.random.Generator) -> None:
    data = encoded(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), form)
    for share in (0.05, 0.3, 0.6, 0.9):
        assert "damaged" in (text := refusal(data[: int(len(data) * share)])) or "not an image" in text


def test_other_formats_and_other_files_are_refused_with_a_list_of_what_is_read() -> None:
    for data in (encoded(GREY, "GIF"), encoded(GREY, "ICO"), b"%PDF-1.7", b"\0" * 500, b"text"):
        assert "convert it to PNG" in refusal(data)


def test_pixels_without_a_known_range_are_refused() -> None:
    assert "'F'" in refusal(encoded(np.ones((2, 2), np.float32), "TIFF"))
    assert "'I'" in refusal(encoded(np.ones((2, 2), np.int32), "TIFF"))
    assert "'LAB'" in refusal(encoded(Image.new("LAB", (2, 2)), "TIFF"))


def test_a_missing_file_a_directory_a_pipe_and_an_empty_file_are_each_named(tmp_path: Path) -> None:
    empty, pipe = tmp_path / "empty.png", tmp_path / "pipe.png"
    empty.touch()
    os.mkfifo(pipe)
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "is a directory" in refusal(tmp_path)
    assert "not a regular file" in refusal(pipe)
    assert "empty (0 bytes)" in refusal(empty)
    assert "empty (0 bytes)" in refusal(b"")
    assert "cannot be reached" in refusal("a\0b")
    assert "path or bytes" in refusal(7)


def test_the_cap_on_bytes_is_checked_before_reading(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(2**40)  # sparse: reading it would fail or fill the memory
    assert str(2**40) in refusal(huge)
    data = encoded(GREY, "PNG")
    assert load_image(data, max_bytes=len(data)).shape == (12, 16)
    assert str(len(data) - 1) in refusal(data, max_bytes=len(data) - 1)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_the_cap_on_pixels_is_checked_on_the_header() -> None:
    assert "64000000" in refusal(png_header(8001, 8000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert "pixels" in refusal(png_header(10_000, 10_000))
        assert "179 million" in refusal(png_header(2**20, 2**20))
    data = encoded(GREY, "PNG")
    assert load_image(data, max_pixels=192).shape == (12, 16)
    assert "191" in refusal(data, max_pixels=191)
    for form in ("BMP", "TIFF", "PPM", "JPEG", "WEBP"):
        assert "limit of 191" in refusal(encoded(GREY, form), max_pixels=191)


def test_a_picture_without_pixels_is_refused() -> None:
    refusal(png_header(0, 5))
    refusal(b"P5 0 4 255\n")


@pytest.mark.parametrize("mode", ["l", "RGBA", "", 3])
def test_an_unknown_mode_is_refused(mode: Any) -> None:
    assert repr(mode) in refusal(encoded(GREY, "PNG"), mode=mode)


@pytest.mark.parametrize("size", [(0, 5), (5,), (-1, 5), (5.0, 5), [5, 5], (10**6, 10**6), 28])
def test_a_size_that_makes_no_sense_is_refused(size: Any) -> None:
    assert repr(size) in refusal(encoded(GREY, "PNG"), size=size)


FILES = [
    encoded(COLOUR, "PNG"),
    encoded(Image.fromarray(COLOUR).quantize(8), "PNG", transparency=1),
    encoded(GREY.astype(np.uint16) * 257, "PNG"),
    encoded(COLOUR, "JPEG"),
    encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    encoded(COLOUR, "WEBP"),
    encoded(COLOUR, "BMP"),
    encoded(COLOUR, "TIFF"),
    encoded(GREY, "TIFF", compression="tiff_lzw"),
    encoded(COLOUR, "PPM"),
]


def array_or_refusal(data: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
            image = load_image(data, max_pixels=10**6)
    except ImageError:
        return
    assert image.dtype == np.float64
    assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    assert 0 <= image.min() <= image.max() <= 1


@settings(max_examples=400)
@given(st.sampled_from(FILES), st.data())
def test_a_mutated_file_is_a_picture_or_an_image_error(file: bytes, data: st.DataObject) -> None:
    mutated = bytearray(file)
    for _ in range(data.draw(st.integers(1, 6))):
        near = data.draw(st.booleans())  # half of the changes hit the header, where the decisions are
        position = data.draw(st.integers(0, min(len(file), 96) - 1 if near else len(file) - 1))
        mutated[position] = data.draw(st.integers(0, 255))
    array_or_refusal(bytes(mutated[: data.draw(st.one_of(st.just(len(file)), st.integers(1, len(file))))]))


@given(st.binary(max_size=200))
@example(b"II*\0\x08\0\0\0")
@example(b"RIFF\x10\0\0\0WEBPVP8 ")
def test_arbitrary_bytes_are_an_image_error(data: bytes) -> None:
    array_or_refusal(data)


# ---------------------------------------------------------------------------------------------------------- preparing


def test_mode_and_size_while_loading_equal_those_of_prepare() -> None:
    data = encoded(COLOUR, "PNG")
    for mode in ("L", "RGB"):
        loaded = load_image(data, mode=mode, size=(7, 9))
        prepared = prepare(load_image(data), mode=mode, size=(7, 9), mean=(0,), std=(1,))
        planes = loaded[None] if mode == "L" else loaded.transpose(2, 0, 1)
        np.testing.assert_allclose(prepared, planes, atol=1e-6)


def test_grey_is_bt_601_luma_and_rgb_of_grey_is_three_copies() -> None:
    luma = load_image(encoded(COLOUR, "PNG"), mode="L")
    np.testing.assert_allclose(luma, COLOUR @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-12)
    with Image.open(io.BytesIO(encoded(COLOUR, "PNG"))) as picture:
        np.testing.assert_allclose(luma, np.asarray(picture.convert("L")) / 255, atol=1 / 255)
    copies = load_image(encoded(GREY, "PNG"), mode="RGB")
    np.testing.assert_array_equal(copies, np.repeat(GREY[..., None] / 255, 3, axis=2))


def test_resizing_averages_and_does_not_skip_pixels() -> None:
    checkers = (np.indices((64, 64)).sum(axis=0) % 2).astype(float)
    small = prepare(checkers, mode="L", size=(8, 8), mean=(0,), std=(1,))
    np.testing.assert_allclose(small, 0.5, atol=0.01)


def test_the_size_is_height_then_width() -> None:
    assert load_image(encoded(COLOUR, "PNG"), size=(5, 9)).shape == (5, 9, 3)
    assert prepare(COLOUR / 255, mode="RGB", size=(5, 9), mean=(0,), std=(1,)).shape == (3, 5, 9)


def test_the_right_size_leaves_the_pixels_exactly_as_they_are() -> None:
    np.testing.assert_array_equal(prepare(GREY / 255, mode="L", size=(12, 16), mean=(0,), std=(1,))[0], GREY / 255)


def test_each_channel_is_normalised_by_its_own_numbers() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    result = prepare(COLOUR / 255, mode="RGB", size=None, mean=mean, std=std)
    for k in range(3):
        np.testing.assert_allclose(result[k], (COLOUR[..., k] / 255 - mean[k]) / std[k])


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": GREY},
        {"image": GREY / 1.0},
        {"image": np.full((2, 2), np.nan)},
        {"image": np.zeros((2, 2, 4))},
        {"image": np.zeros((0, 2))},
        {"image": [[0.0]]},
        {"mode": "CMYK"},
        {"size": (0, 1)},
        {"mean": ()},
        {"mean": (0.5, 0.5)},
        {"mean": (float("inf"),)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
    ],
    ids=str,
)
def test_prepare_refuses_what_is_no_picture_or_no_preprocessing(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"image": GREY / 255, "mode": "L", "size": (8, 8), "mean": (0.5,), "std": (0.5,)}
    assert prepare(**right).shape == (1, 8, 8)
    with pytest.raises(ImageError):
        prepare(**{**right, **wrong})


# ------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".PNG"])
def test_what_is_saved_loads_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save_image(path, COLOUR / 255)
    np.testing.assert_array_equal(load_image(path), COLOUR / 255)
    save_image(path, GREY)
    np.testing.assert_array_equal(load_image(path, mode="L"), GREY / 255)


@pytest.mark.parametrize("image", [GREY.astype(float), np.full((2, 2), np.nan), np.zeros((2, 2, 4)), np.zeros((2, 0))])
def test_saving_refuses_what_is_no_picture(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ImageError):
        save_image(tmp_path / "picture.png", image)
    assert not list(tmp_path.iterdir())


def test_saving_refuses_unknown_suffixes_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\.gif"):
        save_image(tmp_path / "picture.gif", GREY)
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(tmp_path / "none" / "picture.png", GREY)


# ------------------------------------------------------------------------------------------------------------ tensors


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2", "u1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_tensor_keeps_its_values_in_any_number_type_and_order(dtype: str, order: Any, tmp_path: Path) -> None:
    values = np.asarray(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), dtype, order=order)
    path = tmp_path / "inputs.npy"
    path.write_bytes(npy(values))
    loaded = load_tensor_npy(path)
    assert loaded.dtype == np.float64
    np.testing.assert_array_equal(loaded, values.astype(float))


def header(text: str, payload: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + payload


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy(np.zeros((3, 4, 5))), "shape"),
        (npy(np.zeros((1, 0, 4, 5))), "shape"),
        (npy(np.zeros((1, 1, 2, 2), complex)), "complex"),
        (npy(np.zeros((1, 1, 2, 2), bool)), "bool"),
        (npy(np.zeros((1, 1, 2, 2), object), allow_pickle=True), "object"),
        (npy(np.full((1, 1, 2, 2), np.nan)), "finite"),
        (npy(np.full((1, 1, 2, 2), np.inf)), "finite"),
        (npy(np.zeros((1, 1, 2, 2)))[:-1], "truncated"),
        (npy(np.zeros((1, 1, 2, 2))) + b"\0", "bytes of values"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 1, 1, 1)}\n"), "header"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (999999999, 9, 9, 9)}\n"), "raise max_bytes"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 1, 1, -1)}\n"), "shape"),
        (header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 1, 1, 1)}\n"), "header"),
        (header("(" * 5000), "header"),
        (header("", version=b"\x09\x00"), "version"),
        (encoded(GREY, "PNG"), "not a .npy file"),
        (b"", "empty"),
    ],
)
def test_a_tensor_file_that_is_no_batch_of_inputs_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_tensor_npy(data)


def test_the_cap_counts_the_float64_array_too() -> None:
    data = npy(np.zeros((1, 1, 100, 100), np.uint8))
    assert load_tensor_npy(data, max_bytes=80_000).shape == (1, 1, 100, 100)
    with pytest.raises(ImageError, match="max_bytes"):
        load_tensor_npy(data, max_bytes=79_999)


@given(st.data())
def test_a_mutated_tensor_file_is_a_batch_or_an_image_error(data: st.DataObject) -> None:
    mutated = bytearray(npy(np.ones((1, 1, 2, 3), np.float32)))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mutated literal may be an odd one
            loaded = load_tensor_npy(bytes(mutated))
    except ImageError:
        return
    assert loaded.ndim == 4
    assert np.isfinite(loaded).all()


# -------------------------------------------------------------------------------------------------------------- DICOM


def dicom(pixels: np.ndarray, **elements: Any) -> bytes:
    """A DICOM file of 16-bit values, written by pydicom."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


VALUES = np.array([[0, 100, 200], [300, 400, 1000]], np.uint16)


def test_dicom_8_bit_values_are_taken_at_their_full_range() -> None:
    np.testing.assert_array_equal(load_image(dicom(GREY)), GREY / 255)


def test_dicom_deep_values_without_a_window_go_from_minimum_to_maximum() -> None:
    np.testing.assert_allclose(load_image(dicom(VALUES + 24)), VALUES / 1000)
    np.testing.assert_array_equal(load_image(dicom(np.full((2, 2), 7, np.int16))), np.zeros((2, 2)))


def test_dicom_window_follows_the_standards_formula_after_the_rescale() -> None:
    image = load_image(
        dicom(VALUES, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[300, 40], WindowWidth=[401, 400])
    )
    rescaled = VALUES * 2.0 - 100
    np.testing.assert_allclose(image, np.clip((rescaled - 299.5) / 400 + 0.5, 0, 1))
    exact = load_image(dicom(VALUES, WindowCenter=300, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_allclose(exact, np.clip((VALUES - 300.0) / 400 + 0.5, 0, 1))
    sigmoid = load_image(dicom(VALUES, WindowCenter=300, WindowWidth=400, VOILUTFunction="SIGMOID"))
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-4 * (VALUES - 300.0) / 400)))


def test_dicom_monochrome1_is_inverted() -> None:
    plain = load_image(dicom(VALUES, WindowCenter=300, WindowWidth=400))
    inverted = load_image(dicom(VALUES, WindowCenter=300, WindowWidth=400, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(inverted, 1 - plain)


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"Rows": 60_000, "Columns": 60_000}, "limit of"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 300}, "damaged"),
        ({"WindowCenter": 3, "WindowWidth": 0}, "width 0"),
        ({"RescaleSlope": 1e308, "RescaleIntercept": 0}, "finite"),
        ({"PixelData": None}, "damaged"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_dicom_files_that_are_no_single_picture_are_refused(elements: dict[str, Any], says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's own remarks
        assert says in refusal(dicom(VALUES, **elements))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CT_small.dcm", (128, 128)),
        ("MR_small.dcm", (64, 64)),
        ("MR_small_RLE.dcm", (64, 64)),
        ("MR_small_bigendian.dcm", (64, 64)),
        ("MR_small_jp2klossless.dcm", (64, 64)),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3)),
        ("SC_rgb_small_odd.dcm", (3, 3, 3)),
    ],
)
def test_pydicoms_own_files_load_with_contrast(name: str, shape: tuple[int, ...]) -> None:
    image = load_image(dicom_file(name))
    assert image.shape == shape
    assert 0 <= image.min() < image.max() <= 1
    assert image.std() > 0.05


def test_the_same_picture_in_four_transfer_syntaxes_is_the_same() -> None:
    plain = load_image(dicom_file("MR_small.dcm"))
    for name in ("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm"):
        np.testing.assert_array_equal(load_image(dicom_file(name)), plain)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("image_dfl.dcm", "transfer syntax 1.2.840.10008.1.2.1.99"),  # deflated: could inflate to any size
        ("JPEGLSNearLossless_08.dcm", "transfer syntax"),
        ("rtplan.dcm", "without pixels"),
        ("rtdose.dcm", "15 frames"),
        ("MR_truncated.dcm", "damaged"),
    ],
)
def test_pydicoms_files_that_are_not_read_say_why(name: str, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert says in refusal(dicom_file(name))


def test_an_error_never_quotes_what_a_damaged_file_has_in_place_of_a_word() -> None:
    for word in ("MONOCHROME2", "1.2.840.10008.1.2.1"):
        file = dicom(VALUES).replace(word.encode(), b"\xffsecret".ljust(len(word), b"\xfe"), 1)
        text = refusal(file)
        assert "secret" not in text
        assert text.isascii()


@settings(max_examples=80)
@given(st.data())
def test_a_mutated_dicom_file_is_a_picture_or_an_image_error(data: st.DataObject) -> None:
    pytest.importorskip("pydicom")
    file = dicom_file(data.draw(st.sampled_from(["MR_small.dcm", "MR_small_RLE.dcm", "SC_rgb_small_odd_jpeg.dcm"])))
    mutated = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        mutated[data.draw(st.integers(132, min(len(mutated), 2500) - 1))] = data.draw(st.integers(0, 255))
    array_or_refusal(bytes(mutated))


def dicom_file(name: str) -> Path:
    """One of the files in pydicom's wheel; nothing is downloaded."""
    data = pytest.importorskip("pydicom.data")
    path = data.get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))
