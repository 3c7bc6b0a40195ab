"""What linear maps on shares take: their work counted from public shapes, and small ones timed on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from protocols.advice.fitting import Prices, Work, fit
from secureimg.sharing import one_blas_thread
from secureimg.sharing.products import Factor, apply_linear, ring_factor, small_factor
from secureimg.sharing.ring import Words
from secureimg.sharing.streams import Stream
from secureimg.sharing.text import Geometry

__all__ = ["linear_work", "map_prices", "ring_shape", "small_shape"]

_SEED: Final = bytes(32)
_REPEATS: Final = 5
_PARALLEL_FROM: Final = 1 << 22
"""Multiplications from which a convolution uses all cores; as `secureimg.sharing.workers` has it."""
_BLOCK_BYTES: Final = 1 << 21
_COLUMNS: Final = 128
_SHARES: Final = 2
_DIRECT: Final = 4


def small_shape(geometry: Geometry, words: Words, width: int) -> tuple[int, int]:
    """Limbs of the values, and float products for each limb product, of a map with the weights as they are."""
    factor = small_factor(geometry, words)
    return _shape(factor, width)


def ring_shape(width: int) -> tuple[int, int]:
    """The same for masked weights: as dealer and party 0 do it, before the image is there."""
    single = Geometry(kind="dense", in_shape=(1,), out_shape=(1,), weight_shape=(1, 1))
    return _shape(ring_factor(single, np.zeros(1, dtype=np.uint64), width), width)


def _shape(factor: Factor, width: int) -> tuple[int, int]:
    if not factor.limbs:
        return 1, 1
    limbs, step = factor.value_limbs(width)
    pairs = sum(i * factor.step + j * step < width for i in range(len(factor.limbs)) for j in range(limbs))
    return limbs, pairs


def linear_work(geometry: Geometry, images: int, shape: tuple[int, int]) -> dict[str, float]:
    """Count the work of one linear map.

    Parameters
    ----------
    geometry : Geometry
    images : int
    shape : (int, int)
        From `small_shape` or `ring_shape`.
    """
    limbs, pairs = shape
    results, given = images * math.prod(geometry.out_shape), images * math.prod(geometry.in_shape)
    products = images * geometry.multiplications
    if geometry.kind == "scale":
        return {"scale": 1, "scale result": results}
    if geometry.kind == "sparse":
        return {"sparse": 1, "sparse entry": geometry.weights * (1 + 0.25 * (images - 1)), "sparse result": results}
    if geometry.kind == "dense":
        return {"dense": 1, "dense product": pairs * products, "dense value": limbs * given + pairs * results}
    if geometry.weight_shape[0] // geometry.groups < _DIRECT:
        kind = "direct" if geometry.strides[1] == 1 else "direct strided"
        return {
            kind: 1, f"{kind} product": products, f"{kind} line": products / geometry.out_shape[-1],
            f"{kind} result": results,
        }  # fmt: skip
    terms = math.prod(geometry.weight_shape[1:])
    places = images * geometry.out_shape[-1] * geometry.out_shape[-2]
    columns, total = geometry.out_shape[-1], images * geometry.out_shape[-2]
    rows = max(1, _BLOCK_BYTES // (8 * limbs * terms * columns), -(-_COLUMNS // columns))
    rows = max(1, min(rows, -(-total // _SHARES)))
    blocks = geometry.groups * -(-total // rows)
    kind = "parallel" if _parallel(geometry, images) else "serial"
    return {
        f"{kind} block": blocks,
        f"{kind} product": pairs * products,
        f"{kind} gathered": limbs * geometry.groups * terms * places,
        f"{kind} weight": pairs * blocks * geometry.weights / geometry.groups,
        f"{kind} result": pairs * results,
        "conv": 1,
        "conv value": limbs * given,
    }  # fmt: skip


def _parallel(geometry: Geometry, images: int = 1) -> bool:
    """Whether a map is done on all cores."""
    outputs = geometry.weight_shape[0] // geometry.groups if geometry.kind == "conv" else 0
    return outputs >= _DIRECT and images * geometry.multiplications >= _PARALLEL_FROM


def map_prices() -> Prices:
    """Time linear maps of many shapes on this machine; return the price of each kind of work, in seconds.

    The shapes are made up for this. Cost: about half a second.
    """
    return fit([(work, seconds) for work, seconds in _kernels()])


def _kernels() -> Iterator[tuple[Work, float]]:
    for geometry in _geometries():
        stream = Stream(_SEED, "advice", geometry.kind, geometry.weights)
        values = stream.words(math.prod(geometry.in_shape)).reshape(1, *geometry.in_shape)
        words = stream.words(geometry.weights)
        small = (words >> np.uint64(49)).reshape(geometry.weight_shape)
        for width, factor in ((42, small_factor(geometry, small)), (42, ring_factor(geometry, words, 42))):
            with one_blas_thread():
                times = []
                # the processor's time: others who are at work here meanwhile do not count
                for _ in range(_REPEATS + 1):
                    start = time.process_time()
                    apply_linear(geometry, factor, values, width)
                    times.append(time.process_time() - start)
            threads = len(os.sched_getaffinity(0)) if _parallel(geometry) else 1
            yield linear_work(geometry, 1, _shape(factor, width)), float(np.percentile(times[1:], 25)) / threads


def _geometries() -> Iterator[Geometry]:
    for channels, side, outputs, kernel, stride in (
        (8, 16, 16, 3, 1), (1, 32, 8, 5, 1), (32, 14, 24, 3, 1), (16, 32, 64, 1, 1), (3, 32, 16, 7, 2), (64, 6, 96, 3, 1),
        (3, 64, 32, 5, 1), (32, 28, 64, 3, 1), (96, 40, 48, 1, 1), (192, 7, 160, 3, 1), (3, 160, 32, 7, 2),
        (256, 5, 384, 3, 1), (16, 60, 16, 3, 1),
    ):  # fmt: skip
        yield _conv(channels, side, outputs, kernel, stride)
    yield _conv(48, 28, 48, 3, 1, groups=48)
    yield _conv(2, 32, 2, 5, 1)
    yield _conv(32, 56, 32, 3, 2, groups=32)
    yield _conv(1, 80, 1, 3, 1)
    yield _conv(8, 20, 8, 5, 2, groups=8)
    for terms, outputs in ((64, 32), (400, 120), (1024, 256), (1536, 700)):
        yield Geometry(kind="dense", in_shape=(terms,), out_shape=(outputs,), weight_shape=(outputs, terms))
    for size in (256, 1 << 17):
        yield Geometry(kind="scale", in_shape=(size,), out_shape=(size,), weight_shape=(size,))
    for rows in (64, 1 << 13):
        columns = np.arange(8 * rows, dtype="<i4") % rows
        ends = np.arange(0, 8 * rows + 1, 8, dtype="<i4")
        yield Geometry(
            kind="sparse", in_shape=(rows,), out_shape=(rows,), weight_shape=(8 * rows,), places=columns.tobytes(),
            row_ends=ends.tobytes(),
        )  # fmt: skip


def _conv(channels: int, side: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> Geometry:
    pad = kernel // 2
    result = (side + 2 * pad - kernel) // stride + 1
    return Geometry(
        kind="conv", in_shape=(channels, side, side), out_shape=(outputs, result, result),
        weight_shape=(outputs, channels // groups, kernel, kernel), strides=(stride, stride), pads=(pad,) * 4, groups=groups,
    )  # fmt: skip
