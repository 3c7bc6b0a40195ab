"""Random changes to a batch of images: affine and elastic warps, light, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation", "augment"]


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed at most. Each image draws its own strength, uniform between none and all of this.

    Attributes
    ----------
    rotation : float
        Degrees either way.
    scale, shear : float
        Relative, either way, each axis on its own.
    shift, elastic : float
        Pixels either way; elastic moves a coarse grid of 6 x 6 points, the rest follows smoothly.
    flip : bool
        Mirror half of the images left to right.
    light, gamma : float
        Brightness and contrast (additive and relative), and the logarithm of gamma, either way.
    blur, noise : float
        The share of a 3 x 3 mean that is mixed in, and the standard deviation of the pixel noise.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    flip: bool = False
    light: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return changed copies of ``images`` (N, 1, H, W) with values in [0, 1]."""
    strength = torch.rand(len(images), 1, generator=generator)
    return _relight(_warp(images, how, strength, generator), how, strength, generator)


def _draw(count: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, width, generator=generator) * 2 - 1


def _warp(images: Tensor, how: Augmentation, strength: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    draws = _draw(count, 7, generator) * strength
    angle = draws[:, 0] * math.radians(how.rotation)
    stretch = 1 + draws[:, 1:3] * how.scale
    shear = draws[:, 3:5] * how.shear
    shift = draws[:, 5:7] * (2 * how.shift / width)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack(
        (
            torch.stack((cos * stretch[:, 0], -sin + shear[:, 0], shift[:, 0]), 1),
            torch.stack((sin + shear[:, 1], cos * stretch[:, 1], shift[:, 1]), 1),
        ),
        1,
    )
    if how.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        rows[mirrored, :, 0] *= -1
    grid = F.affine_grid(rows, [count, 1, height, width], align_corners=False)
    if how.elastic:
        coarse = _draw(count, 72, generator) * strength * (2 * how.elastic / width)
        field = F.interpolate(coarse.reshape(count, 2, 6, 6), (height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _relight(images: Tensor, how: Augmentation, strength: Tensor, generator: torch.Generator) -> Tensor:
    def draw() -> Tensor:
        return (_draw(len(images), 1, generator) * strength)[:, :, None, None]

    if how.blur:
        images = torch.lerp(images, F.avg_pool2d(images, 3, 1, 1, count_include_pad=False), draw().abs() * how.blur)
    if how.gamma:
        images = images.clamp(1e-3, 1).pow(torch.exp(draw() * how.gamma))
    if how.light:
        images = (images - 0.5) * (1 + draw() * how.light) + 0.5 + draw() * how.light
    if how.noise:
        images = images + torch.randn(images.shape, generator=generator) * draw().abs() * how.noise
    return images.clamp(0, 1) if how.gamma or how.light or how.noise else images
