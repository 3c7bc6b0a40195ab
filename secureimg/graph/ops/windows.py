"""Ops that slide a window over (C, H, W): convolution and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secureimg.errors import GraphError
from secureimg.graph.ops.base import FloatArray, Op, Shape, checked_shape, constant

__all__ = ["AveragePool", "Conv", "MaxPool", "Pads", "Pair", "window_count"]

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def window_count(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Number of window positions along one axis (at most 0 when the window does not fit).

    With `ceil_mode` a last, partial window counts if it starts inside the input or its leading padding, as in PyTorch
    and onnxruntime.
    """
    room = size + before + after - (dilation * (kernel - 1) + 1)
    if room < 0 and not (ceil_mode and room > -stride):
        return 0
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return count


def _pair(value: tuple[int, ...], where: str, least: int = 1) -> Pair:
    result = tuple(int(v) for v in value)
    if len(result) != 2 or min(result) < least:
        raise GraphError(f"{where} must be two integers of at least {least}, got {result}")
    return result[0], result[1]


def _pads(value: tuple[int, ...], where: str) -> Pads:
    result = tuple(int(v) for v in value)
    if len(result) != 4 or min(result) < 0:
        raise GraphError(f"{where} must be (top, left, bottom, right), none below 0, got {result}")
    return result[0], result[1], result[2], result[3]


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Two-dimensional cross-correlation, as neural networks call convolution.

    Attributes
    ----------
    weight : ndarray, shape (O, I / groups, kh, kw)
    bias : ndarray, shape (O,), or None
    strides, dilations : (int, int)
        Along height and width.
    pads : (int, int, int, int)
        Zeros added at top, left, bottom, right.
    groups : int
        Input and output channels are split into as many independent groups.
    """

    linear: ClassVar[bool] = True

    weight: FloatArray
    bias: FloatArray | None = None
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        weight = constant(self.weight, "Conv weight")
        if weight.ndim != 4 or 0 in weight.shape:
            raise GraphError(f"Conv: weight must have shape (O, I/groups, kh, kw), got {weight.shape}")
        if self.groups < 1 or weight.shape[0] % self.groups:
            raise GraphError(f"Conv: {weight.shape[0]} output channels cannot be split into {self.groups} groups")
        object.__setattr__(self, "weight", weight)
        if self.bias is not None:
            bias = constant(self.bias, "Conv bias")
            if bias.shape != weight.shape[:1]:
                raise GraphError(f"Conv: bias must have shape {weight.shape[:1]}, got {bias.shape}")
            object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "strides", _pair(self.strides, "Conv: strides"))
        object.__setattr__(self, "dilations", _pair(self.dilations, "Conv: dilations"))
        object.__setattr__(self, "pads", _pads(self.pads, "Conv: pads"))

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        channels, height, width = self._planes(shapes)
        out, per_group, kh, kw = self.weight.shape
        if channels != per_group * self.groups:
            raise GraphError(
                f"Conv: weight of shape {self.weight.shape} with {self.groups} group(s) needs "
                f"{per_group * self.groups} input channels, got {channels}"
            )
        top, left, bottom, right = self.pads
        rows = window_count(height, kh, self.strides[0], top, bottom, self.dilations[0], False)
        cols = window_count(width, kw, self.strides[1], left, right, self.dilations[1], False)
        if rows < 1 or cols < 1:
            raise GraphError(f"Conv: kernel {kh}x{kw} does not fit an input of {height}x{width} with pads {self.pads}")
        return checked_shape((out, rows, cols), "Conv")

    def params(self) -> int:
        """How many trained numbers the op holds."""
        return self.weight.size + (0 if self.bias is None else self.bias.size)


@dataclass(frozen=True, eq=False)
class _Pool(Op):
    kernel: Pair
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", _pair(self.kernel, f"{self.kind}: kernel"))
        object.__setattr__(self, "strides", _pair(self.strides, f"{self.kind}: strides"))
        pads = _pads(self.pads, f"{self.kind}: pads")
        object.__setattr__(self, "pads", pads)
        if max(pads[0], pads[2]) >= self.kernel[0] or max(pads[1], pads[3]) >= self.kernel[1]:
            raise GraphError(f"{self.kind}: pads {pads} must be smaller than the kernel {self.kernel}")

    def _windows(self, shapes: tuple[Shape, ...], dilations: Pair, ceil_mode: bool) -> Shape:
        channels, height, width = self._planes(shapes)
        (kh, kw), (top, left, bottom, right) = self.kernel, self.pads
        rows = window_count(height, kh, self.strides[0], top, bottom, dilations[0], ceil_mode)
        cols = window_count(width, kw, self.strides[1], left, right, dilations[1], ceil_mode)
        if rows < 1 or cols < 1:
            raise GraphError(
                f"{self.kind}: window {kh}x{kw} does not fit an input of {height}x{width} with pads {self.pads}"
            )
        return checked_shape((channels, rows, cols), self.kind)


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """Largest value of each window of each channel; padding never wins.

    Attributes
    ----------
    kernel, strides, dilations : (int, int)
        Along height and width.
    pads : (int, int, int, int)
        Top, left, bottom, right.
    ceil_mode : bool
        Whether a last, partial window counts.
    """

    dilations: Pair = (1, 1)
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", _pair(self.dilations, "MaxPool: dilations"))
        super().__post_init__()

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        return self._windows(shapes, self.dilations, self.ceil_mode)


@dataclass(frozen=True, eq=False)
class AveragePool(_Pool):
    """Mean of each window of each channel.

    Attributes
    ----------
    kernel, strides : (int, int)
        Along height and width.
    pads : (int, int, int, int)
        Top, left, bottom, right.
    count_include_pad : bool
        Whether padding counts as zeros in the mean, or not at all.
    ceil_mode : bool
        Whether a last, partial window counts. What such a window has beyond the padding never counts.
    """

    linear: ClassVar[bool] = True

    count_include_pad: bool = False
    ceil_mode: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        """Shape of the result; `GraphError` if the inputs do not fit."""
        return self._windows(shapes, (1, 1), self.ceil_mode)
