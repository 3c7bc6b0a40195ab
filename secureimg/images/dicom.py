"""One picture from a DICOM file, as a viewer would show it. Needs the extra ``dicom`` (pydicom).

Stored values go through the modality transform (rescale slope and intercept, or its table), then the value-of-interest
transform (the first window, or its table), then MONOCHROME1 is inverted (PS3.3, C.7.6.3.1.2, C.11.1, C.11.2). Without a
window, 8-bit values are taken at their full range, and deeper ones from the picture's own minimum to its maximum.
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import ImageError
from secureimg.images.files import check_pixels

__all__ = ["decode"]

_RLE = "1.2.840.10008.1.2.5"
_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    _RLE: "RLE",
}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def decode(data: bytes, name: str, max_pixels: int) -> NDArray[np.float64]:
    """Return the picture of a DICOM file, (H, W) or (H, W, 3) in [0, 1].

    Parameters
    ----------
    data : bytes
        The file, with its preamble.
    name : str
        What errors call it.
    max_pixels : int
        Checked on rows and columns before the pixels are decoded.

    Raises
    ------
    ImageError
        pydicom is missing; the file is damaged, has several frames, or a compression or kind of pixels that is not
        read.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ImageError(f"{name} is DICOM, and pydicom is not installed: pip install 'secureimg[dicom]'") from error
    try:
        with pydicom.config.disable_value_validation():  # whose warnings quote the file
            return _picture(data, name, max_pixels)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises many types on damaged files, and quotes from them
        raise ImageError(f"{name} is truncated or damaged DICOM ({type(error).__name__}): export it again") from None


def _picture(data: bytes, name: str, max_pixels: int) -> NDArray[np.float64]:
    import pydicom
    from pydicom.pixels.utils import pixel_array

    syntax = _transfer_syntax(data)
    if syntax not in _TRANSFER_SYNTAXES:
        readable = ", ".join(_TRANSFER_SYNTAXES.values())
        raise ImageError(f"{name} has DICOM transfer syntax {_word(syntax)}: convert it to one of {readable}")
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise ImageError(f"{name} is a DICOM file without pixels (a report or a directory?): name an image file")
    height, width = int(dataset.Rows), int(dataset.Columns)
    check_pixels(name, height, width, max_pixels)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise ImageError(f"{name} has {frames} frames: save the one that is meant as a file of its own")
    kind = str(dataset.PhotometricInterpretation)
    if kind not in _GREY + _COLOUR:
        raise ImageError(
            f"{name} has DICOM pixels of kind {_word(kind)!r}: convert it to one of {', '.join(_GREY + _COLOUR)}"
        )
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if samples not in (1, 3) or bits not in (1, 8, 16, 32):
        raise ImageError(f"{name} has {samples} samples of {bits} bits a pixel, not 1 or 3 of 8, 16 or 32: convert it")
    stored = height * width * samples * max(bits // 8, 1)
    if syntax == _RLE and len(dataset.PixelData) > 2 * stored + 4096:  # no encoder makes these: they could grow 64-fold
        raise ImageError(f"{name} has more RLE bytes than its {width} x {height} pixels can need: export it again")
    pixels = np.asarray(pixel_array(dataset))
    if pixels.shape not in ((height, width), (height, width, 3)):
        raise ImageError(f"{name} has pixels of shape {pixels.shape} in a {width} x {height} picture: export it again")
    if pixels.ndim == 3:
        return np.clip(pixels / float(2 ** int(dataset.BitsStored) - 1), 0.0, 1.0)
    shown = _shown(pixels, dataset)
    if not np.isfinite(shown).all():
        raise ImageError(f"{name} has a rescale or window that gives values that are not finite: export it again")
    return 1.0 - shown if kind == "MONOCHROME1" else shown


def _transfer_syntax(data: bytes) -> str:
    """Read the file's meta group only: reading more would already inflate a deflated file, to any size."""
    from pydicom.filereader import read_dataset, read_preamble

    stream = io.BytesIO(data)
    read_preamble(stream, False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _word(text: str) -> str:
    """Return a file's word for an error message, if it is one: in a damaged file it may be anything, even pixels."""
    return text if re.fullmatch(r"[A-Z0-9_. ]{1,64}", text) else "unreadable" if text else "none"


def _shown(pixels: NDArray[Any], dataset: Any) -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = np.asarray(apply_modality_lut(pixels, dataset), np.float64)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        table = apply_voi_lut(np.asarray(apply_modality_lut(pixels, dataset)), dataset, prefer_lut=True)
        return np.clip(table / float(2**bits - 1), 0.0, 1.0)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        function = str(dataset.get("VOILUTFunction", "") or "LINEAR")
        return _windowed(values, _first(dataset.WindowCenter), _first(dataset.WindowWidth), function)
    bits = int(dataset.BitsStored)
    rescaled = "ModalityLUTSequence" in dataset or "RescaleSlope" in dataset
    if bits <= 8 and not int(dataset.PixelRepresentation) and not rescaled:
        return np.clip(values / float(2**bits - 1), 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _first(value: Any) -> float:
    """Return the first of one or several numbers: a file may offer several windows."""
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)


def _windowed(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """PS3.3, C.11.2.1.2 (linear) and C.11.2.1.3 (sigmoid, exact linear)."""
    if not width >= 1 and (function == "LINEAR" or not width > 0):
        raise ImageError(f"a DICOM window of width {width} is not allowed (at least 1): export the file again")
    if function == "SIGMOID":
        result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700.0, 700.0)))
        return result
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if function != "LINEAR":
        raise ImageError(f"DICOM window function {_word(function)!r} is unknown: use LINEAR, LINEAR_EXACT or SIGMOID")
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
