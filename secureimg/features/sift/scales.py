"""Scale space: a picture blurred more and more, in octaves of half the size.

Follows Lowe, IJCV 2004, in the form of OpenCV's `cv2.SIFT`: the first octave is the picture at twice its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secureimg.errors import GraphError
from secureimg.features.axes import grey_shape
from secureimg.features.borders import extend
from secureimg.graph import GraphBuilder, ops

__all__ = ["BORDER", "ScaleSpace"]

Array = NDArray[np.float64]

BORDER: Final = 5
"""Pixels of an octave's border without extrema."""

_CAMERA_SIGMA: Final = 0.5  # blur that a picture comes with, in its own pixels
_NEGLIGIBLE: Final = 1e-5  # of a kernel's sum, at each end
_MOST_LAYERS: Final = 8
_SMALLEST_SIDE: Final = 2 * BORDER + 3


@dataclass(frozen=True)
class ScaleSpace:
    """Which octaves and layers a picture has, and how they are computed.

    Attributes
    ----------
    shape : (H, W)
        Of the picture, at least 8x8.
    n_octave_layers : int
        Layers of an octave where extrema are looked for, 1 to 8. There are 3 more blurred pictures in an octave.
    sigma : float
        Blur of an octave's first picture, in pixels of the octave; 0.8 to 4.

    Raises
    ------
    GraphError
        If a parameter is out of range.
    """

    shape: tuple[int, ...]
    n_octave_layers: int = 3
    sigma: float = 1.6

    def __post_init__(self) -> None:
        _, *sides = grey_shape(self.shape, "sift")
        object.__setattr__(self, "shape", tuple(sides))
        if not 1 <= self.n_octave_layers <= _MOST_LAYERS:
            raise GraphError(f"sift: n_octave_layers {self.n_octave_layers} is outside 1 to {_MOST_LAYERS}")
        if not 0.8 <= self.sigma <= 4.0:
            raise GraphError(f"sift: sigma {self.sigma} is outside 0.8 to 4")
        if not self.octaves:
            raise GraphError(f"sift: a picture of {sides[0]}x{sides[1]} is too small, it needs sides of at least 8")

    @cached_property
    def octaves(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each octave that has room for extrema."""
        rows, columns = (2 * side for side in self.shape)
        found = []
        while min(rows, columns) >= _SMALLEST_SIDE:
            found.append((rows, columns))
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        return tuple(found)

    @property
    def blurs(self) -> int:
        """Blurred pictures in an octave."""
        return self.n_octave_layers + 3

    def build(self, b: GraphBuilder, picture: str, gain: float) -> list[str]:
        """Add the blurred pictures.

        Parameters
        ----------
        b : GraphBuilder
        picture : str
            Of shape (1, H, W), values in [0, 1].
        gain : float
            Of the result; what is subtracted of it later keeps so many more bits on shares.

        Returns
        -------
        list of str
            One (blurs, rows, columns) for each octave: `gain` times the picture less a medium grey.
        """
        base = b.affine(picture, gain, -0.5 * gain)
        for axis in (1, 2):
            base = self._doubled(b, base, axis)
        found: list[str] = []
        for number, (rows, columns) in enumerate(self.octaves):
            if number:
                last = (self.n_octave_layers, 0, 0)
                base = b.apply(ops.Slice(last, (1, rows, columns), (1, 2, 2)), found[-1])
            found.append(b.concat(base, *(_blurred(b, base, kernel) for kernel in self._kernels)))
        return found

    def _doubled(self, b: GraphBuilder, value: str, axis: int) -> str:
        """Twice as many rows or columns, by linear interpolation, and blurred to `sigma`."""
        blur = _cv_gaussian(math.sqrt(self.sigma**2 - (2 * _CAMERA_SIGMA) ** 2))
        radius = blur.size // 2
        reach = (radius + 3) // 2
        kernels = np.zeros((2, 2 * reach + 1))
        for phase in (0, 1):
            for place, weight in enumerate(blur, phase - radius):
                pixel, odd = divmod(place, 2)  # at (place - 1/2) / 2 of the picture's own pixels
                kernels[phase, reach + pixel] += 0.75 * weight
                kernels[phase, reach + pixel + (1 if odd else -1)] += 0.25 * weight
        shape = b.shape(value)
        margins = [(0, 0), (0, 0)]
        margins[axis - 1] = (reach, reach)
        wider = extend(b, value, margins[0], margins[1], "reflect")
        weight = kernels[:, None, :, None] if axis == 1 else kernels[:, None, None, :]
        both = b.transpose(b.conv(wider, weight), (1, 0, 2) if axis == 1 else (1, 2, 0))
        return b.reshape(both, (1, 2 * shape[1], shape[2]) if axis == 1 else (1, shape[1], 2 * shape[2]))

    @cached_property
    def _kernels(self) -> tuple[Array, ...]:
        """From the first blurred picture of an octave to each other one."""
        whole, kernels = np.ones(1), []
        for number in range(1, self.blurs):
            before, after = (self.sigma * 2 ** (step / self.n_octave_layers) for step in (number - 1, number))
            whole = np.convolve(whole, _cv_gaussian(math.sqrt(after**2 - before**2)))
            cut = int(np.searchsorted(np.cumsum(whole), _NEGLIGIBLE))
            whole = whole[cut : whole.size - cut]
            whole /= whole.sum()
            kernels.append(whole)
        return tuple(kernels)


def _cv_gaussian(sigma: float) -> Array:
    """The kernel that OpenCV takes for a blur of floating-point numbers."""
    radius = (round(8 * sigma + 1) | 1) // 2
    kernel = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def _blurred(b: GraphBuilder, value: str, kernel: Array) -> str:
    _, rows, columns = b.shape(value)
    margins = [min(kernel.size // 2, side - 1) for side in (rows, columns)]
    down, across = (kernel[kernel.size // 2 - m : kernel.size // 2 + m + 1] for m in margins)
    wider = extend(b, value, (margins[0],) * 2, (margins[1],) * 2, "mirror")
    wider = b.conv(wider, (down / down.sum())[None, None, :, None])
    return b.conv(wider, (across / across.sum())[None, None, None, :])
