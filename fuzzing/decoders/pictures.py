"""Pictures of every format, and arrays."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image

from fuzzing.targets import Target
from secureimg.images import load_image, load_tensor_npy

__all__ = ["make_targets"]

_MOST_BYTES: Final = 1 << 20
_MOST_PIXELS: Final = 1 << 16
_PNG_HEADER: Final = 8


def _pixels(mode: str) -> Image.Image:
    rng = np.random.default_rng(11)
    grey = rng.integers(0, 256, (9, 13), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (9, 13), dtype=np.uint16))
    picture = Image.merge("RGB", [Image.fromarray(np.roll(grey, k)) for k in range(3)])
    return picture.convert(mode)


def _saved(form: str, mode: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    _pixels(mode).save(stream, format=form, **options)
    return stream.getvalue()


def _tiffs() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("L", {}), ("RGB", {"compression": "tiff_lzw"}), ("RGB", {"compression": "jpeg"}), ("I;16", {}),
        ("1", {"compression": "group4"}), ("RGBA", {"compression": "tiff_adobe_deflate"}),
        ("P", {"compression": "packbits"}),
        ("CMYK", {}), ("L", {"exif": exif}),
    ]  # fmt: skip
    return [_saved("TIFF", mode, **options) for mode, options in kinds]


_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "png": lambda: [_saved("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    "jpeg": lambda: [
        _saved("JPEG", "L"), _saved("JPEG", "RGB"), _saved("JPEG", "RGB", progressive=True), _saved("JPEG", "CMYK"),
    ],
    "webp": lambda: [_saved("WEBP", "RGB"), _saved("WEBP", "RGBA"), _saved("WEBP", "RGB", lossless=True)],
    "bmp": lambda: [_saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")],
    "tiff": _tiffs,
    "ppm": lambda: [_saved("PPM", mode) for mode in ("1", "L", "RGB", "I;16")]
    + [b"P3\n2 1\n255\n1 2 3 4 5 6\n", b"P1\n3 1\n1 0 1\n"],
}  # fmt: skip


def _decode(data: bytes) -> object:
    return load_image(data, max_bytes=_MOST_BYTES, max_pixels=_MOST_PIXELS)


def _png_sums(data: bytes) -> bytes:
    """Make the checksum of every chunk right again."""
    out, place = bytearray(data), _PNG_HEADER
    while place + 12 <= len(out):
        size = int.from_bytes(out[place : place + 4], "big")
        end = place + 8 + size
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)


# --------------------------------------------------------------------------------------------------------------- arrays


def _arrays() -> list[bytes]:
    found = []
    for kind in ("<f4", "<f8", ">f4", "u1", "<i8", "<f2"):
        stream = io.BytesIO()
        np.save(stream, np.arange(24).reshape(2, 1, 3, 4).astype(kind))
        found.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(np.arange(24.0).reshape(2, 1, 3, 4)))
    return [*found, stream.getvalue()]


def _npy_length(data: bytes) -> bytes:
    """The length of the header again, so that its text is read to its end."""
    end = data.find(b"\n", 10)
    return data[:8] + struct.pack("<H", min(end - 9, 0xFFFF)) + data[10:] if end > 0 else data


# ---------------------------------------------------------------------------------------------------------------- DICOM


def _dicoms() -> list[bytes]:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.pixels.utils import compress
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    found = []
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless):
        for bits, colours in ((8, 1), (16, 1), (8, 3)):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
            meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
            meta.MediaStorageSOPInstanceUID = UID("1.2.3")
            data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
            data.Rows, data.Columns, data.SamplesPerPixel = 4, 6, colours
            data.PhotometricInterpretation = "RGB" if colours > 1 else "MONOCHROME1" if bits > 8 else "MONOCHROME2"
            data.BitsAllocated = data.BitsStored = bits
            data.HighBit, data.PixelRepresentation = bits - 1, 0
            if colours > 1:
                data.PlanarConfiguration = 0
            if bits > 8:
                data.WindowCenter, data.WindowWidth = "2000", "4000"
                data.RescaleSlope, data.RescaleIntercept = "2", "-100"
            values = np.random.default_rng(2).integers(0, 1 << bits, (4, 6, colours)).astype(f"<u{bits // 8}")
            data.PixelData = values.tobytes()
            data["PixelData"].VR = "OW"
            if syntax == RLELossless:
                compress(data, RLELossless)
            stream = io.BytesIO()
            data.save_as(stream, enforce_file_format=True)
            found.append(stream.getvalue())
    return found


def make_targets() -> list[Target]:
    """One target for each format; DICOM only if pydicom is installed."""
    found = [
        Target(f"image-{form}", f"a picture, {form.upper()}", _decode, seeds, _png_sums if form == "png" else None)
        for form, seeds in _SEEDS.items()
    ]
    found.append(
        Target(
            "tensor-npy",
            "an array of model inputs",
            lambda data: load_tensor_npy(data, _MOST_BYTES),
            _arrays,
            _npy_length,
        )
    )
    try:
        import pydicom  # noqa: F401 - an extra
    except ImportError:
        return found
    return [*found, Target("image-dicom", "a picture, DICOM", _decode, _dicoms)]
