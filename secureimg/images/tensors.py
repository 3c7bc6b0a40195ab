"""Model inputs that are already arrays: .npy files of shape (N, C, H, W)."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from secureimg.errors import ImageError
from secureimg.images.files import MAX_BYTES, read_capped

__all__ = ["load_tensor_npy"]

_MAX_HEADER = 512  # numpy writes some 120 bytes for four axes, and takes seconds to refuse 10,000 of spaces


def load_tensor_npy(path: str | Path | bytes, max_bytes: int = MAX_BYTES) -> NDArray[np.float64]:
    """Load a batch of model inputs from a NumPy file. Nothing in it is executed: pickled objects are refused.

    Parameters
    ----------
    path : str, Path or bytes
        A .npy file of integers or floats, of shape (N, C, H, W). The values are taken as they are.
    max_bytes : int
        Limit both of the file and of the float64 array made from it. Checked on the header, before anything is
        allocated.

    Returns
    -------
    ndarray
        (N, C, H, W) float64, all finite.

    Raises
    ------
    ImageError
        The file is missing, too large, truncated, not a .npy file, of another shape or type, or has values that are not
        finite.

    References
    ----------
    NumPy enhancement proposal 1, "A simple file format for NumPy arrays".
    """
    data, name = read_capped(path, max_bytes)
    name = name.replace("image", "array", 1)
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
    except ValueError as error:
        raise ImageError(f"{name} is not a .npy file (wrong first bytes): write it with numpy.save") from error
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ImageError(f"{name} is .npy version {version}, not 1.0 or 2.0: write it with numpy.save of a plain array")
    try:
        shape, columns_first, dtype = readers[version](stream, max_header_size=_MAX_HEADER)
    except Exception as error:  # the header is a Python literal of any content: whatever fails in it, it is damaged
        raise ImageError(f"{name} has a damaged .npy header: write it again with numpy.save") from error
    if dtype.kind not in "iuf" or dtype.hasobject:
        raise ImageError(f"{name} holds {dtype}, not integers or floats: convert it with astype('float32')")
    if len(shape) != 4 or min(shape) < 1:
        raise ImageError(f"{name} has shape {shape}, not (N, C, H, W) with each at least 1: reshape it")
    count = math.prod(shape)
    if count * 8 > max_bytes:
        raise ImageError(f"{name} has {count} values, more than {max_bytes // 8}: split it, or raise max_bytes")
    present = len(data) - stream.tell()
    if present != count * dtype.itemsize:
        raise ImageError(
            f"{name} has {present} bytes of values where shape {shape} of {dtype} has {count * dtype.itemsize}: "
            "it is truncated or damaged, copy it again"
        )
    flat = np.frombuffer(data, dtype, count, offset=stream.tell())
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite and is refused below
        result = flat.reshape(shape, order="F" if columns_first else "C").astype(np.float64, order="C")
    if not np.isfinite(result).all():
        raise ImageError(f"{name} has values that are not finite numbers: replace NaN and infinity before saving")
    return result
