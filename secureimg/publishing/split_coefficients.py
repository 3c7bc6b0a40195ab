"""How coefficients are split and put together again, and what the public part shows."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secureimg.errors import PublishingError
from secureimg.images import load_image
from secureimg.publishing.jpeg import read_jpeg, with_blocks, write_jpeg

__all__ = ["DEFAULT_THRESHOLD", "check_threshold", "divided", "public_part_picture", "signed", "united"]

DEFAULT_THRESHOLD: Final = 15
"""The lower end of what the paper recommends, 15 to 20."""

_LARGEST_THRESHOLD: Final = 1023


def check_threshold(threshold: object) -> None:
    """Refuse a threshold that is not a whole number from 1 to 1023.

    Raises
    ------
    PublishingError
    """
    if not isinstance(threshold, int) or isinstance(threshold, bool) or not 1 <= threshold <= _LARGEST_THRESHOLD:
        raise PublishingError(
            f"threshold {threshold!r} is not a whole number from 1 to {_LARGEST_THRESHOLD}: choose one"
        )


def divided(blocks: NDArray[np.int16], threshold: int) -> tuple[NDArray[np.int16], NDArray[np.int16], float]:
    """Return public and secret coefficients, and the share of the AC coefficients other than 0 that were clipped.

    Where one is above the threshold, the public one is +threshold whatever the sign, and the secret one is the excess with
    the sign. P3, section 3.2.
    """
    public = np.clip(blocks, -threshold, threshold)
    secret = blocks - public
    secret[:, 0] = 0
    over = secret != 0
    np.copyto(public, np.int16(threshold), where=over)
    coded = int(np.count_nonzero(blocks)) - int(np.count_nonzero(blocks[:, 0]))
    share = int(np.count_nonzero(over)) / max(1, coded)
    secret[:, 0] = blocks[:, 0]
    public[:, 0] = 0
    return public, secret, share


def signed(secret: NDArray[np.int16], threshold: int) -> NDArray[np.int16]:
    """Return what must be added to the public coefficients: where the sign is minus, twice the threshold less.

    P3, section 3.3, equation 1.
    """
    correction = (secret < 0) * np.int16(-2 * threshold)
    correction[:, 0] = 0
    correction += secret
    return correction


def united(public: NDArray[np.int16], secret: NDArray[np.int16], threshold: int) -> NDArray[np.int16]:
    """Undo `divided`."""
    return public + signed(secret, threshold)


def public_part_picture(
    threshold: int = DEFAULT_THRESHOLD, *, quality: int = 90
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what an attack needs: a function from a picture to what the public part of its JPEG shows.

    Parameters
    ----------
    threshold : int
    quality : int
        Of the JPEG file that the picture is first saved as (Pillow's scale, 4:2:0), 1 to 100.

    Returns
    -------
    callable
        Takes and returns (H, W) or (H, W, 3) float64 in [0, 1]; other values are clipped.

    Raises
    ------
    PublishingError
        A parameter is out of range.
    """
    check_threshold(threshold)
    if quality not in range(1, 101):
        raise PublishingError(f"quality {quality!r} is not a whole number from 1 to 100: choose one")

    def picture(image: NDArray[np.float64]) -> NDArray[np.float64]:
        stream = io.BytesIO()
        Image.fromarray(np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)).save(
            stream, "JPEG", quality=quality
        )
        coefficients = read_jpeg(stream.getvalue())
        shown = with_blocks(coefficients, divided(coefficients.blocks, threshold)[0])
        return load_image(write_jpeg(shown))

    return picture
