"""Changes of basis: Haar wavelets, block cosines, integral sums."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.sparse as sp

from secureimg.errors import GraphError
from secureimg.features.axes import picture_shape
from secureimg.graph import Graph, GraphBuilder, LinearMap

__all__ = ["block_dct", "haar", "integral_image"]


def haar(shape: tuple[int, ...], level: int = 1, *, inverse: bool = False) -> Graph:
    """Orthonormal Haar wavelet transform, in two dimensions.

    Parameters
    ----------
    shape : (H, W) or (C, H, W)
        Of the picture; both sides multiples of ``2**level``.
    level : int
        How often the approximation is divided again; at least 1.
    inverse : bool
        From coefficients back to the picture.

    Returns
    -------
    Graph
        To (C, H, W), of which the first H / 2 rows and W / 2 columns are the approximation, the columns right of it the
        details from column to column (`cV` of PyWavelets), the rows below it those from row to row (`cH`), and the rest
        those along both (`cD`); on the next level the same within the approximation. That is what PyWavelets'
        ``coeffs_to_array(wavedec2(picture, "haar", level=level))`` gives.

    Raises
    ------
    GraphError
        If a side is no multiple of ``2**level``.

    Notes
    -----
    A first level takes (a + b + c + d) / 2 and the three differences of a square of four pixels: Mallat, IEEE Transactions
    on Pattern Analysis and Machine Intelligence 1989. CKKS: one level. Shares: one linear map with public weights, which
    are powers of two, and no round. Leaks nothing but shapes. Deviations: no extension of odd sides.
    """
    channels, height, width = picture_shape(shape, "haar")
    if level < 1 or height % 2**level or width % 2**level:
        raise GraphError(
            f"haar: level {level} of a picture of {height}x{width}: level is at least 1 and both sides are multiples of "
            "2**level; pad the picture or take fewer levels"
        )
    whole = sp.csr_array(sp.eye_array(height * width))
    for step in range(level):
        whole = sp.csr_array(_haar_step(height, width, height >> step, width >> step) @ whole)
    whole = sp.csr_array(sp.kron(sp.eye_array(channels), whole.T if inverse else whole, format="csr"))
    full = (channels, height, width)
    b = GraphBuilder("inverse haar" if inverse else "haar", full)
    return b.build(b.apply(LinearMap((whole,), np.zeros(channels * height * width), full), b.input))


def _haar_axis(size: int, part: int) -> sp.csr_array:
    """Sums and differences of pairs of the first `part` elements; zeros for the others."""
    half = part // 2
    row, first = np.arange(half), 2 * np.arange(half)
    rows = np.concatenate([row, row, half + row, half + row])
    columns = np.concatenate([first, first + 1, first, first + 1])
    values = np.repeat([1.0, 1.0, 1.0, -1.0], half)
    return sp.csr_array(sp.coo_array((values, (rows, columns)), shape=(size, size)))


def _haar_step(height: int, width: int, rows: int, columns: int) -> sp.csr_array:
    """One level on the first rows and columns; the others stay."""
    inside = np.zeros((height, width))
    inside[:rows, :columns] = 1.0
    moved = 0.5 * sp.kron(_haar_axis(height, rows), _haar_axis(width, columns), format="csr")
    return sp.csr_array(moved + sp.diags_array(1.0 - inside.reshape(-1)))


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
    b = GraphBuilder("inverse block dct" if inverse else "block dct", (channels, height, width))
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
    b = GraphBuilder("integral image", (channels, height, width))
    value = b.transpose(b.dense(b.input, np.tri(width)), (0, 2, 1))
    return b.build(b.transpose(b.dense(value, np.tri(height)), (0, 2, 1)))
