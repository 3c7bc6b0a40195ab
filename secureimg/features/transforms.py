"""Changes of basis: Haar wavelets, block cosines, integral sums."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.graph import Graph, LinearMap, PublicGraphBuilder

__all__ = ["block_dct", "haar", "integral_image"]

Array = NDArray[np.float64]


def haar(shape: tuple[int, ...], level: int = 1, *, inverse: bool = False, in_place: bool = False) -> Graph:
    """Orthonormal Haar wavelet transform, in two dimensions.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture; both sides multiples of ``2**level``.
    level : int
        How often the approximation is divided again; at least 1.
    inverse : bool
        From coefficients back to the picture.
    in_place : bool
        Leave coefficients where their pixels are, in place of sorted: much less for CKKS to do.

    Returns
    -------
    Graph
        To (C, H, W). Sorted, the first H / 2 rows and W / 2 columns are the approximation, the columns right of it the
        details from column to column (`cV` of PyWavelets), the rows below it those from row to row (`cH`), and the rest
        those along both (`cD`); on the next level the same within the approximation. That is what PyWavelets'
        ``coeffs_to_array(wavedec2(picture, "haar", level=level))`` gives.

        In place, with ``s = 2**(j - 1)``, `cV` of level j stands in ``[::2 * s, s::2 * s]``, `cH` in
        ``[s::2 * s, ::2 * s]``, `cD` in ``[s::2 * s, s::2 * s]``, and the last approximation in ``[::2 * s, ::2 * s]``.

    Raises
    ------
    GraphError
        If a side is no multiple of ``2**level``.

    Notes
    -----
    A first level takes (a + b + c + d) / 2 and the three differences of a square of four pixels: Mallat, IEEE Transactions
    on Pattern Analysis and Machine Intelligence 1989. CKKS: one level; one of 128x128 on one core takes some
    0.03 s in place (0.17 s for three levels) and 1.6 s sorted (3.8 s), which moves elements far. Shares: one linear map
    with public weights, which are powers of two, and no round. Leaks nothing but shapes. Deviations: no extension of odd
    sides.
    """
    channels, height, width = picture_shape(shape, "haar")
    if level < 1 or height % 2**level or width % 2**level:
        raise GraphError(
            f"haar: level {level} of a picture of {height}x{width}: level is at least 1 and both sides are multiples of "
            "2**level; pad the picture or take fewer levels"
        )
    whole = sp.csr_array(sp.eye_array(height * width))
    for step in range(level):
        (down, rows), (across, columns) = (_haar_axis(side, step, in_place=in_place) for side in (height, width))
        others = 1.0 - np.outer(rows, columns).reshape(-1)
        whole = sp.csr_array((0.5 * sp.kron(down, across, format="csr") + sp.diags_array(others)) @ whole)
    whole = sp.csr_array(sp.kron(sp.eye_array(channels), whole.T if inverse else whole, format="csr"))
    full = (channels, height, width)
    b = PublicGraphBuilder("inverse haar" if inverse else "haar", full)
    return b.build(b.apply(LinearMap((whole,), np.zeros(channels * height * width), full), b.input))


def _haar_axis(size: int, step: int, *, in_place: bool) -> tuple[sp.csr_array, Array]:
    """Sums and differences of pairs of the elements that are divided in this step, and a 1 for each of these."""
    stride = 2**step if in_place else 1
    places = stride * np.arange(size >> step)
    first, second = places[::2], places[1::2]
    sums, differences = (first, second) if in_place else np.split(places, 2)
    rows = np.concatenate([sums, sums, differences, differences])
    values = np.repeat([1.0, 1.0, 1.0, -1.0], first.size)
    matrix = sp.coo_array((values, (rows, np.concatenate([first, second] * 2))), shape=(size, size))
    inside = np.zeros(size)
    inside[places] = 1.0
    return sp.csr_array(matrix), inside


def block_dct(shape: tuple[int, ...], block_size: int = 8, *, inverse: bool = False) -> Graph:
    """Orthonormal discrete cosine transform (DCT-II) of each block of a picture.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture; both sides multiples of `block_size`.
    block_size : int
        Pixels along a side of a block, 2 to 64.
    inverse : bool
        From coefficients back to the picture (DCT-III).

    Returns
    -------
    Graph
        To (C, H, W): each block in its place, as ``scipy.fft.dctn(block, norm="ortho")``; its mean times `block_size` is
        the first of its coefficients.

    Raises
    ------
    GraphError
        If a parameter is out of range or a side is no multiple of `block_size`.

    Notes
    -----
    Ahmed, Natarajan and Rao, IEEE Transactions on Computers 1974; blocks as in JPEG. CKKS: one level. Shares: two matrix
    products with public weights, one round. Leaks nothing but shapes. Deviations: JPEG subtracts 128 (of 255)
    first, which changes the first coefficient of a block only, and quantizes afterwards.
    """
    channels, height, width = picture_shape(shape, "block_dct")
    if not 2 <= block_size <= 64:
        raise GraphError(f"block_dct: block_size is {block_size}, the limits are 2 and 64")
    if height % block_size or width % block_size:
        raise GraphError(
            f"block_dct: sides of {height}x{width} must be multiples of {block_size}: pad the picture, or crop it"
        )
    cosines = scipy.fft.dct(np.eye(block_size), axis=0, norm="ortho")
    weight = cosines.T if inverse else cosines
    b = PublicGraphBuilder("inverse block dct" if inverse else "block dct", (channels, height, width))
    value = b.reshape(b.input, (channels, height // block_size, block_size, width // block_size, block_size))
    value = b.transpose(b.dense(value, weight), (0, 1, 3, 4, 2))  # (channel, block row, block column, column, row)
    value = b.transpose(b.dense(value, weight), (0, 1, 4, 2, 3))
    return b.build(b.reshape(value, (channels, height, width)))


def integral_image(shape: tuple[int, ...]) -> Graph:
    """Sums of everything above and left of each pixel, itself included.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture.

    Returns
    -------
    Graph
        To (C, H, W): the result of `skimage.transform.integral_image` of each channel.

    Raises
    ------
    GraphError
        If the shape is no picture's.

    Notes
    -----
    Crow, SIGGRAPH 1984. Shares: two matrix products with public weights; values grow to H W, which leaves that much less
    of the fixed point's precision. CKKS: one level, but nearly every pixel depends on every other: pictures of some 64x64
    are the limit. Leaks nothing but shapes. Deviations: none.
    """
    channels, height, width = picture_shape(shape, "integral_image")
    b = PublicGraphBuilder("integral image", (channels, height, width))
    value = b.transpose(b.dense(b.input, np.tri(width)), (0, 2, 1))
    return b.build(b.transpose(b.dense(value, np.tri(height)), (0, 2, 1)))
