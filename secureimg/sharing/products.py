"""Exact linear maps modulo 2^64, on float64 matrix products.

A 53-bit mantissa multiplies and adds integers exactly as long as every partial sum stays below 2^53. So the factors are
cut into signed limbs short enough for that; each pair of limbs is one BLAS product, and the results are shifted together
modulo 2^64. A model's weights are small (one limb), shares are not (two limbs, rarely three).

Convolutions gather a few rows of output positions at a time into a buffer that stays in the cache.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from secureimg.errors import CompileError
from secureimg.sharing.ring import Words
from secureimg.sharing.text import Geometry
from secureimg.sharing.workers import in_parallel, one_blas_thread

__all__ = ["Factor", "apply_linear", "ring_factor", "small_factor"]

Floats = NDArray[np.float64]

_EXACT_BITS: Final = 53
_BLOCK_BYTES: Final = 1 << 21
_COLUMNS: Final = 128
_PLANES_BYTES: Final = 1 << 25
_SHARES: Final = 2  # blocks that even a small layer is cut into, for as many cores
_FEWEST_TERMS: Final = 256
_FEWEST_BITS: Final = 8
_DIRECT: Final = 4  # output channels of a group below which a matrix product would mostly wait


@dataclass(frozen=True, eq=False)
class Factor:
    """The weights of a linear map, ready to multiply.

    Attributes
    ----------
    words : ndarray of uint64, weight_shape
    limbs : tuple of ndarray of float64, each (groups, M / groups, K)
        Least significant first; empty where the map is done in integers.
    step : int
        Bits from one limb to the next.
    terms : int
        How many terms a product may sum up at once.
    value_bits : int
        Bits of a limb of the values to multiply with.
    """

    words: Words
    limbs: tuple[Floats, ...]
    step: int
    terms: int
    value_bits: int

    def value_limbs(self, width: int) -> tuple[int, int]:
        """How values of `width` bits are cut: number of limbs, bits of each."""
        count = -(-width // self.value_bits)
        return count, -(-width // count)


def _matrix(geometry: Geometry) -> bool:
    """Whether the map is done by matrix products."""
    if geometry.kind == "dense":
        return True
    return geometry.kind == "conv" and geometry.weight_shape[0] // geometry.groups >= _DIRECT


def small_factor(geometry: Geometry, words: Words) -> Factor:
    """Weights as they are: signed numbers far below 2^53."""
    if not _matrix(geometry):
        return Factor(words, (), 64, 0, 64)
    values = words.view(np.int64).astype(np.float64)
    grouped = values.reshape(geometry.groups, geometry.weight_shape[0] // geometry.groups, -1)
    row = int(np.abs(grouped).sum(axis=2).max())
    room = _EXACT_BITS + 1 - max(row, 1).bit_length()
    if room < _FEWEST_BITS:
        raise CompileError(f"weights whose rows sum up to 2^{row.bit_length()} leave no exact product: scale them down")
    return Factor(words, (np.ascontiguousarray(grouped),), 64, grouped.shape[2], room)


def ring_factor(geometry: Geometry, words: Words, width: int) -> Factor:
    """Weights masked modulo ``2^width``: limbs such that limb times limb summed over K stays exact."""
    if not _matrix(geometry):
        return Factor(words, (), 64, 0, 64)
    grouped = words.reshape(geometry.groups, geometry.weight_shape[0] // geometry.groups, -1)
    step = -(-width // 2)
    if 2 * step > _EXACT_BITS + 2 - _FEWEST_TERMS.bit_length():
        step = -(-width // 3)
    count = -(-width // step)
    terms = min(grouped.shape[2], (1 << (_EXACT_BITS + 2 - 2 * step)) - 1)
    limbs = np.empty((count, *grouped.shape))
    _split(grouped.reshape(-1), width, step, limbs.reshape(count, -1))
    return Factor(words, tuple(limbs), step, terms, step)


@numba.njit(cache=True, nogil=True)
def _split(words: Words, width: int, step: int, out: Floats) -> None:
    """Cut into signed limbs of `step` bits, least significant first."""
    count = out.shape[0]
    for i in range(words.size):
        value = np.int64(words[i] << np.uint64(64 - width)) >> np.int64(64 - width)
        for j in range(count - 1):
            limb = np.int64(value << np.int64(64 - step)) >> np.int64(64 - step)
            out[j, i] = limb
            value = (value - limb) >> np.int64(step)
        out[count - 1, i] = value


@numba.njit(cache=True, nogil=True)
def _split_planes(words: Words, width: int, step: int, top: int, left: int, out: Floats) -> None:
    """The same for (C, H, W) into the inside of padded planes (limbs, C, Hp, Wp)."""
    count = out.shape[0]
    channels, height, columns = words.shape
    for c in range(channels):
        for y in range(height):
            for x in range(columns):
                value = np.int64(words[c, y, x] << np.uint64(64 - width)) >> np.int64(64 - width)
                for j in range(count - 1):
                    limb = np.int64(value << np.int64(64 - step)) >> np.int64(64 - step)
                    out[j, c, y + top, x + left] = limb
                    value = (value - limb) >> np.int64(step)
                out[count - 1, c, y + top, x + left] = value


@numba.njit(cache=True, nogil=True)
def _gather(
    planes: Floats, first: int, rows: int, height: int, kernel: tuple[int, int], strides: tuple[int, int],
    dilations: tuple[int, int], columns: int, out: Floats,
) -> None:  # fmt: skip
    """Columns of a convolution: planes (limbs, N, C, Hp, Wp) -> out (limbs, C kh kw, rows * columns)."""
    for limb in range(planes.shape[0]):
        for c in range(planes.shape[2]):
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    line = out[limb, (c * kernel[0] + ky) * kernel[1] + kx]
                    for row in range(rows):
                        image, y = divmod(first + row, height)
                        source = planes[limb, image, c, y * strides[0] + ky * dilations[0]]
                        start, place = kx * dilations[1], row * columns
                        if strides[1] == 1:
                            for x in range(columns):
                                line[place + x] = source[start + x]
                        else:
                            for x in range(columns):
                                line[place + x] = source[start + x * strides[1]]


@numba.njit(cache=True, nogil=True)
def _collect(product: Floats, shift: int, fresh: bool, first: int, rows: int, channel: int, out: Words) -> None:
    """Add a product (M, rows * columns), moved up by `shift` bits, to out (N, channels, OH, OW)."""
    height, columns = out.shape[2], out.shape[3]
    for m in range(product.shape[0]):
        for row in range(rows):
            image, y = divmod(first + row, height)
            target, place = out[image, channel + m, y], row * columns
            if fresh:
                for x in range(columns):
                    target[x] = np.uint64(np.int64(product[m, place + x])) << np.uint64(shift)
            else:
                for x in range(columns):
                    target[x] += np.uint64(np.int64(product[m, place + x])) << np.uint64(shift)


@numba.njit(cache=True, nogil=True)
def _direct(
    words: Words, weights: Words, strides: tuple[int, int], pads: tuple[int, int], dilations: tuple[int, int],
    groups: int, out: Words,
) -> None:  # fmt: skip
    """Convolution in 64-bit integers: words (N, C, H, W), weights (O, C / groups, kh, kw), out (N, O, OH, OW)."""
    images, _, height, width = words.shape
    outputs, per_group, kh, kw = weights.shape
    out[:] = 0
    for n in range(images):
        for o in range(outputs):
            base = o // (outputs // groups) * per_group
            for c in range(per_group):
                for ky in range(kh):
                    for kx in range(kw):
                        weight = weights[o, c, ky, kx]
                        for oy in range(out.shape[2]):
                            y = oy * strides[0] + ky * dilations[0] - pads[0]
                            if y < 0 or y >= height:
                                continue
                            source, target = words[n, base + c, y], out[n, o, oy]
                            for ox in range(out.shape[3]):
                                x = ox * strides[1] + kx * dilations[1] - pads[1]
                                if 0 <= x < width:
                                    target[ox] += weight * source[x]


def apply_linear(geometry: Geometry, factor: Factor, values: Words, width: int) -> Words:
    """The linear map of a batch, modulo ``2^width`` (bits above are noise).

    Parameters
    ----------
    geometry : Geometry
    factor : Factor
        Its weights.
    values : ndarray of uint64, shape (N, *geometry.in_shape)
    width : int
        Bits that count, of the values and of the result.

    Returns
    -------
    ndarray of uint64, shape (N, *geometry.out_shape)
    """
    count = values.shape[0]
    if geometry.kind == "scale":
        out = np.empty((count, *geometry.out_shape), dtype=np.uint64)
        axes = (1,) * (len(geometry.out_shape) - len(geometry.in_shape))  # new axes come after the images'
        weights = factor.words.reshape(geometry.weight_shape)  # a mask and what a party receives come flat
        return np.multiply(values.reshape(count, *axes, *geometry.in_shape), weights, out=out)
    if geometry.kind == "sparse":
        entries = factor.words.reshape(-1)[: geometry.columns.size]  # an empty matrix has one weight, which is not used
        matrix = sp.csr_array((entries, geometry.columns, geometry.starts), shape=geometry.matrix_shape)
        flat = np.ascontiguousarray(values.reshape(count, -1).T)
        return np.ascontiguousarray((matrix @ flat).T).reshape(count, *geometry.out_shape)
    if geometry.kind == "dense":
        rows = values.reshape(-1, values.shape[-1], 1, 1)
        out = np.empty((rows.shape[0], geometry.weight_shape[0], 1, 1), dtype=np.uint64)
        _by_columns(geometry, factor, rows, width, out)
        return out.reshape(count, *geometry.out_shape)
    out = np.empty((count, *geometry.out_shape), dtype=np.uint64)
    if _matrix(geometry):
        _by_columns(geometry, factor, values, width, out)
    else:
        weights = factor.words.reshape(geometry.weight_shape)
        _direct(values, weights, geometry.strides, geometry.pads[:2], geometry.dilations, geometry.groups, out)
    return out


@one_blas_thread()
def _by_columns(geometry: Geometry, factor: Factor, values: Words, width: int, out: Words) -> None:
    limbs, step = factor.value_limbs(width)
    if geometry.kind == "dense":
        _dense(factor, values, width, limbs, step, out)
        return
    channels, height, columns = values.shape[1:]
    top, left, bottom, right = geometry.pads
    images = max(1, _PLANES_BYTES // (8 * limbs * channels * (height + top + bottom) * (columns + left + right)))
    for start in range(0, values.shape[0], images):
        part = values[start : start + images]
        planes = np.zeros((limbs, len(part), channels, height + top + bottom, columns + left + right))
        for number, image in enumerate(part):
            _split_planes(image, width, step, top, left, planes[:, number])
        _multiply(geometry, factor, planes, width, step, out[start : start + images])


def _dense(factor: Factor, values: Words, width: int, limbs: int, step: int, out: Words) -> None:
    rows, terms = values.shape[:2]
    pieces = np.empty((limbs, rows * terms))
    _split(values.reshape(-1), width, step, pieces)
    flat = out.reshape(rows, -1)
    for i, left in enumerate(factor.limbs):
        for j in range(limbs):
            shift = i * factor.step + j * step
            if shift < width:
                right = pieces[j].reshape(rows, terms)
                for k in range(0, terms, factor.terms):
                    product = right[:, k : k + factor.terms] @ left[0, :, k : k + factor.terms].T
                    fresh = not (shift or k)
                    _collect(product.reshape(1, -1), shift, fresh, 0, 1, 0, flat.reshape(1, 1, 1, -1))


def _multiply(geometry: Geometry, factor: Factor, planes: Floats, width: int, step: int, out: Words) -> None:
    limbs, images = planes.shape[:2]
    height, columns = out.shape[2:]
    per_group, kh, kw = geometry.weight_shape[1:]
    outputs = geometry.weight_shape[0] // geometry.groups
    terms, total = per_group * kh * kw, images * height
    rows = max(1, _BLOCK_BYTES // (8 * limbs * terms * columns), -(-_COLUMNS // columns))
    rows = max(1, min(rows, -(-total // _SHARES)))
    memory = threading.local()

    def block(number: int) -> None:
        group, first = divmod(number, len(starts))
        first = starts[first]
        size = min(rows, total - first)
        if not hasattr(memory, "gathered"):
            memory.gathered = np.empty(limbs * terms * rows * columns)
            memory.products = np.empty(outputs * rows * columns)
        right = memory.gathered[: limbs * terms * size * columns].reshape(limbs, terms, size * columns)
        product = memory.products[: outputs * size * columns].reshape(outputs, size * columns)
        own = planes[:, :, group * per_group : (group + 1) * per_group]
        _gather(own, first, size, height, (kh, kw), geometry.strides, geometry.dilations, columns, right)
        for i, left in enumerate(factor.limbs):
            for j in range(limbs):
                shift = i * factor.step + j * step
                if shift < width:
                    for k in range(0, terms, factor.terms):
                        part = slice(k, k + factor.terms)
                        np.matmul(left[group, :, part], right[j, part], out=product)
                        _collect(product, shift, not (shift or k), first, size, group * outputs, out)

    starts = list(range(0, total, rows))
    in_parallel(images * geometry.multiplications, block, range(geometry.groups * len(starts)))
