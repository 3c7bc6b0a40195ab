"""Convolution with a rule for what lies beyond the border: the core of every filter.

The rules and their names are those of `scipy.ndimage`. A picture is first extended by rows and columns of its own, which
moves elements and computes nothing; the convolution behind it then has a few weights, whatever the size of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.graph import GraphBuilder, ops

__all__ = ["LARGEST_SIDE", "Mode", "checked_mode", "convolve", "convolve_twice", "extend"]

Array = NDArray[np.float64]
Mode = Literal["reflect", "constant", "nearest", "mirror", "wrap"]

LARGEST_SIDE: Final = 1024
"""Of a kernel, in pixels."""

_OF_NUMPY: Final[dict[str, Any]] = {"reflect": "symmetric", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}


def checked_mode(mode: str, where: str) -> Mode:
    """Return the mode; `GraphError` if there is none of that name."""
    for known in get_args(Mode):
        if mode == known:
            return known  # type: ignore[no-any-return]  # one of the literals
    raise GraphError(f"{where}: mode {mode!r} is none of {', '.join(map(repr, get_args(Mode)))}")


def extend(
    b: GraphBuilder, value: str, rows: tuple[int, int], columns: tuple[int, int], mode: Mode, cval: float = 0.0
) -> str:
    """Add rows and columns around a picture.

    Parameters
    ----------
    b : GraphBuilder
    value : str
        Of shape (C, H, W).
    rows, columns : (int, int)
        How many before and after.
    mode : str
        As in `scipy.ndimage`.
    cval : float
        What lies beyond the border in mode "constant".

    Returns
    -------
    str
        A value of shape (C, rows + H, columns + W).

    Notes
    -----
    Free on every executor.
    """
    if mode == "constant":
        return b.pad(value, ((0, 0), rows, columns), cval) if any((*rows, *columns)) else value
    for axis, margins in ((1, rows), (2, columns)):
        if not any(margins):
            continue
        shape = b.shape(value)
        parts = [_cut(b, value, axis, run) for run in _runs(np.pad(np.arange(shape[axis]), margins, _OF_NUMPY[mode]))]
        value = b.concat(*parts, axis=axis)
    return value


def _runs(places: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Start, count and step of the pieces of a list of numbers that go up or down by one; single ones else."""
    steps, start = np.diff(places), 0
    while start < places.size:
        end = start + 1
        if start < steps.size and abs(steps[start]) == 1:
            while end <= steps.size and steps[end - 1] == steps[start]:
                end += 1
            yield int(places[start]), end - start, int(steps[start])
        else:
            yield int(places[start]), 1, 1
        start = end


def _cut(b: GraphBuilder, value: str, axis: int, run: tuple[int, int, int]) -> str:
    starts, counts, steps = [0, 0, 0], list(b.shape(value)), [1, 1, 1]
    starts[axis], counts[axis], steps[axis] = run
    return b.apply(ops.Slice(tuple(starts), tuple(counts), tuple(steps)), value)


def convolve(b: GraphBuilder, value: str, kernels: Array, mode: Mode, cval: float = 0.0) -> str:
    """Convolve each channel with each kernel, as `scipy.ndimage.convolve`.

    Parameters
    ----------
    b : GraphBuilder
    value : str
        Of shape (C, H, W).
    kernels : ndarray, shape (K, h, w)
    mode, cval
        As of `extend`.

    Returns
    -------
    str
        A value of shape (C K, H, W): the results of the first channel first.
    """
    channels, (height, width) = b.shape(value)[0], kernels.shape[1:]
    wider = _around(b, value, height, width, mode, cval)
    weight = np.tile(kernels[:, None, ::-1, ::-1], (channels, 1, 1, 1))
    return b.conv(wider, weight, groups=channels)


def convolve_twice(b: GraphBuilder, value: str, down: Array, across: Array, mode: Mode, cval: float = 0.0) -> str:
    """Convolve each channel along its columns, then along its rows.

    Parameters
    ----------
    b : GraphBuilder
    value : str
        Of shape (C, H, W).
    down : ndarray, shape (G, J, h)
        Kernels along the columns, in G groups.
    across : ndarray, shape (G, K, J, w)
        Result k of group g is the sum over j of the group's column result j convolved with ``across[g, k, j]``.
    mode, cval
        As of `extend`.

    Returns
    -------
    str
        A value of shape (C G K, H, W): the results of the first channel first, with the border that a convolution with
        the whole kernel has.
    """
    channels, groups = b.shape(value)[0], len(down)
    height, width = down.shape[-1], across.shape[-1]
    value = _around(b, value, height, width, mode, cval)
    if height > 1 or not (down.size == 1 and down.item() == 1.0):
        weight = down.reshape(-1, 1, height, 1)[:, :, ::-1]
        value = b.conv(value, np.tile(weight, (channels, 1, 1, 1)), groups=channels)
    if width > 1 or not (across.size == 1 and across.item() == 1.0):
        weight = across.reshape(-1, across.shape[2], 1, width)[..., ::-1]
        value = b.conv(value, np.tile(weight, (channels, 1, 1, 1)), groups=channels * groups)
    return value


def _around(b: GraphBuilder, value: str, height: int, width: int, mode: Mode, cval: float) -> str:
    """The picture with what a kernel of that size reaches: a side of even length reaches one further after."""
    return extend(b, value, ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2), mode, cval)
