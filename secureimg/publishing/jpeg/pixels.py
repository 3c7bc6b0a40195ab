"""From coefficients to pixels without rounding or clipping, so that sums of pictures are pictures of sums."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import PublishingError
from secureimg.publishing.jpeg.coefficients import ZIGZAG, Colours, Component, Frame, up

__all__ = ["to_rgb", "upsampled_planes"]

_CHUNK: Final = 4096  # blocks
# JFIF 1.02, "Conversion to and from RGB"; rows are R, G, B
_YCC: Final = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def _basis() -> NDArray[np.float32]:
    """Row k: the 64 pixels of the coefficient that comes as k-th in zigzag order (T.81, A.3.3)."""
    u, x = np.arange(8)[:, None], np.arange(8)[None, :]
    wave = np.cos((2 * x + 1) * u * np.pi / 16) / 2
    wave[0] /= np.sqrt(2)
    pixels = np.einsum("ux,vy->uvxy", wave, wave).reshape(64, 64)
    basis: NDArray[np.float32] = pixels[ZIGZAG].astype(np.float32)
    return basis


def upsampled_planes(
    frame: Frame, tables: tuple[NDArray[np.uint16], ...], blocks: NDArray[np.int16]
) -> list[NDArray[np.float32]]:
    """Return every component at the size of the picture, (H, W) float32, with the level 0 where decoders have 128.

    Linear in the coefficients. Components at half the size are brought up as libjpeg does by default: 3 parts of the
    nearer sample, 1 of the next (its "fancy upsampling"); at other factors samples are repeated.

    Cost: 12 megapixels with 4:2:0 take about 0.5 s on one core.
    """
    basis = _basis()
    return [
        _upsampled(frame, component, _samples(component, blocks, basis * values[:, None].astype(np.float32)))
        for component, values in zip(frame.components, tables, strict=True)
    ]


def _samples(component: Component, blocks: NDArray[np.int16], basis: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = component.padded_rows, component.padded_columns
    stored = blocks[component.first : component.stop].reshape(rows, columns, 64)
    plane = np.empty((8 * rows, 8 * columns), np.float32)
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        piece = stored[start : start + step]
        pixels = (piece.reshape(-1, 64).astype(np.float32) @ basis).reshape(len(piece), columns, 8, 8)
        plane[8 * start : 8 * (start + len(piece))] = pixels.swapaxes(1, 2).reshape(8 * len(piece), 8 * columns)
    return plane


def _upsampled(frame: Frame, component: Component, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    across, down = frame.largest
    width, height = up(frame.width * component.horizontal, across), up(frame.height * component.vertical, down)
    plane = plane[:height, :width]
    factors = (down / component.vertical, across / component.horizontal)
    smooth = factors in ((1.0, 2.0), (2.0, 2.0), (2.0, 1.0)) and (factors[1] == 1.0 or width > 2)
    for axis, (factor, size) in enumerate(zip(factors, (frame.height, frame.width), strict=True)):
        if factor == 2 and smooth:
            plane = _doubled(plane, axis)
        elif factor != 1:
            plane = np.take(plane, (np.arange(size) / factor).astype(np.int64), axis)
    return plane[: frame.height, : frame.width]


def _doubled(plane: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Twice as many samples along an axis: 3 parts of the nearer, 1 of the next, the first and last on their own."""
    rows, columns = plane.shape
    out = np.empty((2 * rows, columns) if axis == 0 else (rows, 2 * columns), np.float32)
    turned = out if axis == 0 else out.T
    before, after = turned[0::2], turned[1::2]
    samples = plane if axis == 0 else plane.T
    quarter = samples * np.float32(0.25)  # keeps the order in memory, whichever it is
    np.multiply(samples, np.float32(0.75), out=before)
    after[...] = before
    before[1:] += quarter[:-1]
    after[:-1] += quarter[1:]
    before[0] += quarter[0]
    after[-1] += quarter[-1]
    return out


def to_rgb(planes: list[NDArray[np.float32]], colours: Colours) -> NDArray[np.float32]:
    """Return grey (H, W) or RGB (H, W, 3) of planes, linearly: levels stay as they are.

    Raises
    ------
    PublishingError
        The picture has four components: ink does not mix linearly.
    """
    if colours in ("CMYK", "YCCK"):
        raise PublishingError(f"a {colours} picture has no linear way to RGB: join it exactly, with join_jpeg")
    if len(planes) == 1:
        return planes[0]
    out = np.empty((*planes[0].shape, 3), np.float32)
    for channel, weights in enumerate(_YCC):
        if colours == "RGB":
            out[..., channel] = planes[channel]
            continue
        mixed = planes[0]
        for weight, plane in zip(weights[1:], planes[1:], strict=True):
            if weight:
                mixed = mixed + np.float32(weight) * plane
        out[..., channel] = mixed
    return out
