"""What the owner does: split images into shares, put results together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import DecryptionError, ImageError
from secureimg.sharing.program import PublicProgram
from secureimg.sharing.ring import Words, byte_width, decode, encode, pack, unpack
from secureimg.sharing.streams import Stream, fresh_seed

__all__ = ["MAX_IMAGES", "check_images", "decode_result", "expand_share", "join_result", "share_images", "view_share"]

MAX_IMAGES = 4096


def check_images(public: PublicProgram, images: ArrayLike) -> NDArray[np.float64]:
    """Return images as float64 (N, *input_shape), or raise `ImageError` if they do not fit the program."""
    array = np.asarray(images, dtype=np.float64)
    if array.shape[1:] != public.input_shape or not 1 <= array.shape[:1][0] <= MAX_IMAGES:
        raise ImageError(
            f"images have shape {array.shape}, the program takes (N, {', '.join(map(str, public.input_shape))}) with N from "
            f"1 to {MAX_IMAGES}"
        )
    low, high = public.input_range
    slack = 1e-6 * (high - low)
    least, most = float(array.min()), float(array.max())
    if not (low - slack <= least and most <= high + slack):
        raise ImageError(
            f"images hold values from {least:.4g} to {most:.4g}, the program takes {low:.4g} to {high:.4g}: compile it with "
            "an input range that covers them"
        )
    return array


def share_images(
    public: PublicProgram, images: ArrayLike, seed: bytes | None = None
) -> tuple[bytes, NDArray[np.uint8]]:
    """Split images into the two parties' shares.

    Parameters
    ----------
    public : PublicProgram
    images : array_like, shape (N, *input_shape)
        Values in the program's input range.
    seed : bytes, optional
        32 bytes from the operating system if not given; pass one only in tests.

    Returns
    -------
    seed : bytes
        Party 0's share: 32 bytes that it expands.
    share : ndarray of uint8
        Party 1's share, `public.share_bytes(N)` long. Either alone is uniformly random.

    Raises
    ------
    ImageError
        If the images do not fit the program.
    """
    values = encode(check_images(public, images), public.registers[0].scale).reshape(-1)
    seed = fresh_seed() if seed is None else seed
    values -= zero_share(seed, values.size)
    size = byte_width(public.input_width)
    share = np.empty(values.size * size, dtype=np.uint8)
    pack(values & np.uint64((1 << public.input_width) - 1), size, share)
    return seed, share


def zero_share(seed: bytes, count: int) -> Words:
    """Party 0's share of `count` values from its seed."""
    return Stream(seed, "input").words(count)


def expand_share(public: PublicProgram, seed: bytes, images: int) -> NDArray[np.uint8]:
    """Party 0's share of `images` images in the form of party 1's: to show what it sees."""
    words = zero_share(seed, images * int(np.prod(public.input_shape)))
    size = byte_width(public.input_width)
    share = np.empty(words.size * size, dtype=np.uint8)
    pack(words & np.uint64((1 << public.input_width) - 1), size, share)
    return share


def read_share(public: PublicProgram, share: NDArray[np.uint8], images: int) -> Words:
    """Party 1's share of `images` images as words, shape (N, *input_shape)."""
    out = np.empty((images, *public.input_shape), dtype=np.uint64)
    unpack(share, byte_width(public.input_width), out.reshape(-1))
    return out


def view_share(public: PublicProgram, share: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A share of one image as a picture in [0, 1], shape (H, W): what its holder sees. It is noise."""
    words = read_share(public, share[: public.share_bytes(1)], 1)
    grey = (words >> np.uint64(max(0, public.input_width - 8))).astype(np.float64) / 255.0
    plane = grey.reshape(-1, *public.input_shape[-2:])[0] if len(public.input_shape) > 1 else grey.reshape(1, -1)
    return np.asarray(np.minimum(plane, 1.0))


def join_result(
    public: PublicProgram, first: NDArray[np.uint8], second: NDArray[np.uint8], images: int
) -> NDArray[np.float64]:
    """Put both parties' shares of the result together.

    Returns
    -------
    ndarray of float64
        "scores": (N, *output_shape). "label" and "top-k": (N, top) places as whole numbers.

    Raises
    ------
    DecryptionError
        If a share has the wrong size, or the sum cannot be a result.
    """
    wanted = public.result_bytes(images)
    for name, share in (("party 0", first), ("party 1", second)):
        if share.size != wanted:
            raise DecryptionError(f"the result share of {name} has {share.size} bytes, expected {wanted}")
    size = byte_width(public.registers[public.output].width)
    words = np.empty((2, wanted // size), dtype=np.uint64)
    unpack(first, size, words[0])
    unpack(second, size, words[1])
    return decode_result(public, (words[0] + words[1]).reshape(images, *public.result_shape))


def decode_result(public: PublicProgram, words: Words) -> NDArray[np.float64]:
    """What result words stand for."""
    register = public.registers[public.output]
    if not public.code:
        return decode(words, register.scale, register.width) * register.factor
    places = ((1 << public.code) - 1) - (words & np.uint64((1 << public.code) - 1)).astype(np.int64)
    size = int(np.prod(public.output_shape))
    if places.max(initial=0) >= max(size, 2):
        raise DecryptionError(f"the result names output {int(places.max())} of {size}: the parties disagree")
    return places.astype(np.float64)
