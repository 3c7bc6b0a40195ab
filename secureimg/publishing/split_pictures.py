"""Pictures from a public part that a host has recompressed, resized or cropped, and the secret part.

Follows P3, section 3.3, equation 2: what a host does to the public part, if it is linear, is done to the secret part too,
with its signs put right; the results add up.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secureimg.errors import BlobError, ImageError, PublishingError
from secureimg.images import load_image
from secureimg.publishing.jpeg import CoefficientImage, Frame, read_jpeg, to_rgb, upsampled_planes
from secureimg.publishing.split_coefficients import signed
from secureimg.publishing.split_probe import FILTERS, Probe, likeliest_filter, likeness, pixels_of
from secureimg.publishing.split_secret import SecretPart, decode_secret

__all__ = ["join_pictures"]

_LUMA: Final = (0.299, 0.587, 0.114)
_LEVEL: Final = np.float32(128.0)
_ALIKE: Final = 0.3  # correlation that the probe must have with an unresized public part


def join_pictures(
    public: bytes,
    secret: bytes,
    *,
    resampling: str | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> NDArray[np.float64]:
    """Return the photograph from a public part that a host has changed, as well as that can be done.

    Parameters
    ----------
    public : bytes
        The picture that the host gives: JPEG, or another format that `load_image` reads.
    secret : bytes
        The secret part, out of its seal.
    resampling : str, optional
        How the host has resized: "nearest", "box", "bilinear", "hamming", "bicubic" or "lanczos", as Pillow does it. Found
        out from the picture if not given, from a piece of the public part that the secret part has.
    crop : (left, top, right, bottom), optional
        What the host has cut out, before it resized, in pixels of the public part. Any pixels, no need of whole blocks.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) float64 in [0, 1], upright by the original's EXIF orientation. Grey if the host's picture is.

    Raises
    ------
    ImageError
        The host's picture is damaged.
    BlobError
        The secret part is damaged, or the picture is none of its public part.
    PublishingError
        The crop or filter is not one, or the filter cannot be told, or the original has four components.

    Notes
    -----
    Limits: steps that are not linear are not undone (sharpening with a limit, contrast, colour profiles, overlays, filters
    of other software that differ from Pillow's, rotation), and clipping of the public part to 0 to 255 loses what was
    beyond. Recompression adds its own error, about as much as it would add to the original. Figures:
    docs/publishing/split.md.

    Cost: about 60 bytes of memory a pixel; 12 megapixels take about 3 s on one core.

    Source: P3, section 3.3, equation 2, and section 4 for how a filter is found (there by trying on known pictures).
    """
    part, whole, hidden = decode_secret(secret)
    if resampling is not None and resampling not in FILTERS:
        raise PublishingError(f"resampling {resampling!r} is none of {', '.join(FILTERS)}: choose one")
    if whole.colours in ("CMYK", "YCCK"):
        raise PublishingError("a picture of four components is joined exactly or not at all: use join_jpeg")
    if not isinstance(public, bytes):
        raise ImageError(f"a host's picture is bytes, not {type(public).__name__}: read its file")
    cut, probe = _checked_crop(crop, whole.frame), _probe(part)
    missing = upsampled_planes(whole.frame, whole.tables, signed(hidden.blocks, part.threshold))
    missing = [plane[cut[1] : cut[3], cut[0] : cut[2]] for plane in missing]
    coded = read_jpeg(public) if public[:2] == b"\xff\xd8" else None  # damage shows here, and not in Pillow
    if coded is not None and coded.colours == whole.colours and _size(coded.frame) == missing[0].shape:
        # not through Pillow: so nothing is rounded or clipped
        planes = upsampled_planes(coded.frame, coded.tables, coded.blocks)
        _check_likeness(probe, planes[0], crop)
        for plane, addend in zip(planes, missing, strict=True):
            plane += addend
        joined = to_rgb(planes, whole.colours) + _LEVEL
    else:
        joined = _added(public, to_rgb(missing, whole.colours), whole, probe, cut, resampling, crop)
    joined /= np.float32(255.0)
    return _upright(np.clip(joined, 0.0, 1.0, out=joined).astype(np.float64), part.orientation)


def _size(frame: Frame) -> tuple[int, int]:
    return frame.height, frame.width


def _added(
    public: bytes,
    difference: NDArray[np.float32],
    whole: CoefficientImage,
    probe: Probe | None,
    cut: tuple[int, int, int, int],
    resampling: str | None,
    crop: object,
) -> NDArray[np.float32]:
    """The host's picture and the difference, brought to its size; levels 0 to 255."""
    given = load_image(public).astype(np.float32) * np.float32(255.0)
    (height, width), (rows, columns) = difference.shape[:2], given.shape[:2]
    if abs(rows * width - columns * height) > max(rows + height, columns + width):
        raise PublishingError(
            f"the host's picture of {columns} x {rows} has not the proportions of {width} x {height}, which it shows: it "
            "was cropped, turned or stretched; say how with crop"
        )
    first = _first_component(given, whole)
    if given.ndim == 2 and difference.ndim == 3:
        difference = np.tensordot(difference, np.array(_LUMA, np.float32), 1)
    if (rows, columns) == (height, width):
        _check_likeness(probe, first, crop)
    else:
        chosen = resampling or (likeliest_filter(probe, first, cut) if probe is not None else None)
        if chosen is None:
            raise PublishingError(
                f"how the host resized {width} x {height} to {columns} x {rows} cannot be told from the picture: name the "
                f"filter, resampling= one of {', '.join(FILTERS)}"
            )
        difference = _resized(difference, (rows, columns), FILTERS[chosen])
    if given.ndim == 3 and difference.ndim == 2:
        difference = difference[..., None]
    given += difference
    return given


def _check_likeness(probe: Probe | None, first: NDArray[np.float32], crop: object) -> None:
    if probe is not None and crop is None and likeness(probe, first) < _ALIKE:
        raise BlobError(
            "the picture is not of the public part that the secret part was made with: they do not belong together"
        )


def _checked_crop(crop: object, frame: Frame) -> tuple[int, int, int, int]:
    width, height = frame.width, frame.height
    if crop is None:
        return 0, 0, width, height
    if not isinstance(crop, tuple) or len(crop) != 4 or not all(isinstance(k, int) for k in crop):
        raise PublishingError(f"crop {crop!r} is not (left, top, right, bottom) in whole pixels: correct it")
    left, top, right, bottom = crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PublishingError(f"crop {crop!r} does not lie in the public part of {width} x {height}: correct it")
    return left, top, right, bottom


def _first_component(given: NDArray[np.float32], whole: CoefficientImage) -> NDArray[np.float32]:
    if given.ndim == 2:
        return given - _LEVEL
    if whole.colours == "RGB":
        return given[..., 0] - _LEVEL
    return np.tensordot(given, np.array(_LUMA, np.float32), 1) - _LEVEL


def _probe(part: SecretPart) -> Probe | None:
    if not part.probe:
        return None
    try:
        image = read_jpeg(part.probe, max_pixels=1 << 20)
    except ImageError as error:
        raise BlobError(f"the secret part is malformed: {error}") from None
    return 8 * part.probe_row, 8 * part.probe_column, pixels_of(image)


def _resized(picture: NDArray[np.float32], size: tuple[int, ...], kind: Image.Resampling) -> NDArray[np.float32]:
    planes = [picture] if picture.ndim == 2 else [picture[..., k] for k in range(3)]
    done = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), kind)) for plane in planes
    ]
    return done[0] if len(done) == 1 else np.stack(done, axis=-1)


def _upright(picture: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Turn and mirror as EXIF says (2.32, table 4, Orientation)."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)
    across = orientation in (2, 3, 6, 7)
    down = orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(picture[:: -1 if down else 1, :: -1 if across else 1])
