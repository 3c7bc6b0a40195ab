"""Layers of the networks that are trained here: forward, and backward into given slots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from secureimg.errors import ParameterError

__all__ = ["AveragePool", "Convolution", "Dense", "Layer", "Square"]

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """A convolution without padding: weight (channels, C, kernel, kernel), bias (channels,)."""

    channels: int
    kernel: int
    stride: int = 1

    def result(self, shape: Shape) -> Shape:
        """Shape of what it gives for one picture of a shape."""
        if len(shape) != 3 or min(shape[1:]) < self.kernel:
            raise ParameterError(
                f"a convolution of {self.kernel}x{self.kernel} takes (C, H, W) no smaller, not {shape}"
            )
        height, width = ((side - self.kernel) // self.stride + 1 for side in shape[1:])
        return self.channels, height, width

    def tensors(self, shape: Shape) -> tuple[Shape, ...]:
        """Shapes of weight and bias for a shape of input."""
        return (self.channels, shape[0], self.kernel, self.kernel), (self.channels,)

    def forward(self, x: Array, tensors: tuple[Array, ...]) -> Array:
        """Apply it to (N, C, H, W)."""
        weight, bias = tensors
        columns, sides = self._columns(x)
        flat = columns @ weight.reshape(self.channels, -1).T + bias
        return np.ascontiguousarray(flat.reshape(len(x), *sides, self.channels).transpose(0, 3, 1, 2))

    def backward(
        self, x: Array, delta: Array, tensors: tuple[Array, ...], slots: tuple[Array, ...], onwards: bool
    ) -> Array:
        """Write the gradient of weight and bias; return that of the input if `onwards`."""
        weight = tensors[0]
        columns, (height, width) = self._columns(x)
        flat = delta.transpose(0, 2, 3, 1).reshape(-1, self.channels)
        slots[0][:] = (flat.T @ columns).reshape(weight.shape)
        slots[1][:] = flat.sum(axis=0)
        if not onwards:
            return delta
        taps = (flat @ weight.reshape(self.channels, -1)).reshape(len(x), height, width, x.shape[1], self.kernel, -1)
        back = np.zeros_like(x)
        step = self.stride
        for i in range(self.kernel):
            for j in range(self.kernel):
                rows, cols = slice(i, i + step * height, step), slice(j, j + step * width, step)
                back[:, :, rows, cols] += taps[..., i, j].transpose(0, 3, 1, 2)
        return back

    def _columns(self, x: Array) -> tuple[Array, tuple[int, int]]:
        """Windows as rows (N * H' * W', C * kernel * kernel)."""
        windows = sliding_window_view(x, (self.kernel, self.kernel), axis=(2, 3))[:, :, :: self.stride, :: self.stride]
        height, width = windows.shape[2:4]
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(x) * height * width, -1), (height, width)


@dataclass(frozen=True)
class Square:
    """x * x."""

    def result(self, shape: Shape) -> Shape:
        """Shape of what it gives."""
        return shape

    def tensors(self, shape: Shape) -> tuple[Shape, ...]:
        """It has no weights."""
        return ()

    def forward(self, x: Array, tensors: tuple[Array, ...]) -> Array:
        """Apply it."""
        return x * x

    def backward(
        self, x: Array, delta: Array, tensors: tuple[Array, ...], slots: tuple[Array, ...], onwards: bool
    ) -> Array:
        """Return the gradient of the input."""
        return 2 * x * delta


@dataclass(frozen=True)
class AveragePool:
    """Means over squares of `side` pixels; rows and columns that fill none are left out."""

    side: int

    def result(self, shape: Shape) -> Shape:
        """Shape of what it gives for one picture of a shape."""
        if len(shape) != 3 or min(shape[1:]) < self.side:
            raise ParameterError(f"a mean over {self.side}x{self.side} takes (C, H, W) no smaller, not {shape}")
        return shape[0], shape[1] // self.side, shape[2] // self.side

    def tensors(self, shape: Shape) -> tuple[Shape, ...]:
        """It has no weights."""
        return ()

    def forward(self, x: Array, tensors: tuple[Array, ...]) -> Array:
        """Apply it to (N, C, H, W)."""
        count, channels = x.shape[:2]
        height, width = (length // self.side for length in x.shape[2:])
        whole = x[:, :, : height * self.side, : width * self.side]
        blocks = whole.reshape(count, channels, height, self.side, width, self.side)
        return np.asarray(blocks.mean(axis=(3, 5)))

    def backward(
        self, x: Array, delta: Array, tensors: tuple[Array, ...], slots: tuple[Array, ...], onwards: bool
    ) -> Array:
        """Return the gradient of the input."""
        back = np.zeros_like(x)
        height, width = (length * self.side for length in delta.shape[2:])
        spread = (delta / np.float32(self.side**2)).repeat(self.side, axis=2).repeat(self.side, axis=3)
        back[:, :, :height, :width] = spread
        return back


@dataclass(frozen=True)
class Dense:
    """A dense layer on flat input: weight (outputs, inputs), bias (outputs,)."""

    outputs: int

    def result(self, shape: Shape) -> Shape:
        """Shape of what it gives."""
        return (self.outputs,)

    def tensors(self, shape: Shape) -> tuple[Shape, ...]:
        """Shapes of weight and bias for a shape of input."""
        return (self.outputs, math.prod(shape)), (self.outputs,)

    def forward(self, x: Array, tensors: tuple[Array, ...]) -> Array:
        """Apply it to (N, ...), flat."""
        return x.reshape(len(x), -1) @ tensors[0].T + tensors[1]

    def backward(
        self, x: Array, delta: Array, tensors: tuple[Array, ...], slots: tuple[Array, ...], onwards: bool
    ) -> Array:
        """Write the gradient of weight and bias; return that of the input if `onwards`."""
        np.matmul(delta.T, x.reshape(len(x), -1), out=slots[0])
        slots[1][:] = delta.sum(axis=0)
        return (delta @ tensors[0]).reshape(x.shape) if onwards else delta


Layer: TypeAlias = Convolution | Square | AveragePool | Dense
