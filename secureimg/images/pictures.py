"""Picture files: decoding with Pillow under caps, and writing."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from secureimg.errors import ImageError
from secureimg.images.files import MAX_BYTES, MAX_PIXELS, check_pixels, read_capped
from secureimg.images.preparing import Mode, Size, check_wanted, conform

__all__ = ["FORMATS", "load_image", "save_image"]

_log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
"""What Pillow may open, by its own names (PPM stands for PBM, PGM and PPM)."""

_SAVED_AS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
_ACCEPTED = "PNG, JPEG, WebP, BMP, TIFF, PGM, PPM or DICOM"
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 258

_Turn: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
# EXIF 2.32, table 4, tag Orientation: how the stored array becomes the upright one
_UPRIGHT: dict[object, _Turn] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def load_image(
    source: str | Path | bytes,
    *,
    mode: Mode | None = None,
    size: Size | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.float64]:
    """Load a picture from a file that may hold anything.

    Parameters
    ----------
    source : str, Path or bytes
        A file's path, or its content. PNG, JPEG, WebP, BMP, TIFF, PBM, PGM, PPM; DICOM with the extra ``dicom``. The
        content decides, not the name.
    mode : "L", "RGB" or None
        Greyscale (BT.601 luma), colour, or the picture's own.
    size : (height, width) or None
        Resize to this (stretched, bilinear with antialiasing). Cheaper in memory than to do it afterwards.
    max_bytes, max_pixels : int
        Caps on the file, before it is read, and on height times width, from the header before decoding. Pillow has a
        limit of its own, at about 179 million pixels.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) float64 in [0, 1]; 16-bit greyscale keeps its precision.

    Raises
    ------
    ImageError
        The file is missing, empty, too large, truncated, damaged, of another format, animated or has several pages, or
        its pixels have no known range (floating point, 32-bit TIFF, CIELAB).

    Notes
    -----
    The EXIF orientation is applied. Transparency is composited on black. Colour profiles are ignored. Colour with 16
    bits a channel is read with 8. Of a JPEG with several pictures (MPO) the first, main one is read. DICOM: see
    `secureimg.images.dicom`.
    """
    check_wanted(mode, size)
    data, name = read_capped(source, max_bytes)
    if data[128:132] == b"DICM":
        from secureimg.images import dicom  # pydicom is an extra

        return conform(dicom.decode(data, name, max_pixels), 1.0, mode, size)
    pixels, full = _decode(data, name, max_pixels)
    return conform(pixels, full, mode, size)


def _decode(data: bytes, name: str, max_pixels: int) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], float]:
    """Return (H, W) or (H, W, 3) and the value of white."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_pixels(name, picture.height, picture.width, max_pixels)
            if getattr(picture, "is_animated", False) and picture.format != "MPO":
                raise ImageError(f"{name} has several frames or pages: save the one that is meant as a file of its own")
            picture.load()
            pixels, full = _array(picture, name)
            pixels = _UPRIGHT.get(_orientation(picture, name), np.asarray)(pixels)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of a known format: convert it to {_ACCEPTED}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} has more pixels than Pillow decodes (about 179 million): scale it down") from error
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise many types on damaged files
        raise ImageError(f"{name} is truncated or damaged ({type(error).__name__}): export or copy it again") from None
    check_pixels(name, pixels.shape[0], pixels.shape[1], max_pixels)
    return pixels, full


def _array(picture: Image.Image, name: str) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], float]:
    mode = picture.mode
    if mode.startswith("I;16"):
        bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
        return np.asarray(picture).astype(np.uint16), float(2 ** min(max(int(bits), 9), 16) - 1)
    if mode == "I" and picture.format in ("PNG", "PPM"):  # both scale to 16 bits, and "I" is only how they are held
        return np.asarray(picture).clip(0, 65535).astype(np.uint16), 65535.0
    if mode in ("1", "L", "RGB"):
        return np.asarray(picture if mode != "1" else picture.convert("L")), 255.0
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or (mode == "P" and "transparency" in picture.info):
        return _on_black(picture), 255.0
    if mode in ("P", "RGBX", "CMYK", "YCbCr"):
        return np.asarray(picture.convert("RGB")), 255.0
    raise ImageError(
        f"{name} has pixels of mode {mode!r} in a {picture.format} file, whose range is not known: save it as 8- or "
        "16-bit greyscale, or as 8-bit RGB"
    )


def _on_black(picture: Image.Image) -> NDArray[np.uint8]:
    grey = picture.mode in ("LA", "La")
    straight = picture.convert("LA" if grey else "RGBA")
    black = Image.new(straight.mode, straight.size, (0, 255) if grey else (0, 0, 0, 255))
    if grey:  # alpha_composite knows RGBA only
        return np.asarray(Image.composite(straight.getchannel(0), black.getchannel(0), straight.getchannel(1)))
    return np.asarray(Image.alpha_composite(black, straight))[..., :3]


def _orientation(picture: Image.Image, name: str) -> object:
    """Return EXIF's orientation, after loading: Pillow has by then turned a TIFF itself, and removed the tag."""
    try:
        return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - as above; a picture with damaged notes is still a picture
        _log.warning("%s has damaged EXIF data: its orientation is taken as upright", name)
        return 1


def save_image(path: str | Path, image: NDArray[np.float64] | NDArray[np.uint8]) -> None:
    """Write a picture with 8 bits a channel. The name's suffix says the format; an existing file is replaced.

    Parameters
    ----------
    path : str or Path
        With one of the suffixes .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff, .pgm, .ppm. All but JPEG and WebP are
        lossless.
    image : ndarray
        (H, W) or (H, W, 3), uint8 or floats in [0, 1].

    Raises
    ------
    ImageError
        The suffix is unknown, the array is no such picture, or the file cannot be written.
    """
    target = Path(path)
    form = _SAVED_AS.get(target.suffix.lower())
    if form is None:
        raise ImageError(f"{str(path)!r} has suffix {target.suffix!r}: use one of {', '.join(_SAVED_AS)}")
    pixels = np.asarray(image)
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ImageError(f"a picture to save has shape (H, W) or (H, W, 3), not {pixels.shape}: reshape it")
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f" or not (pixels.min() >= 0.0 and pixels.max() <= 1.0):
            raise ImageError(f"a picture to save is uint8, or floats in [0, 1], and this {pixels.dtype} is not")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(target, format=form)
    except (OSError, ValueError) as error:
        raise ImageError(f"{str(path)!r} cannot be written ({error}): check folder and size") from error
