"""JPEG files as quantised coefficients, read strictly and written exactly. Baseline, extended sequential and progressive."""

from __future__ import annotations

from secureimg.publishing.jpeg.coefficients import CoefficientImage, Component, Frame, Scan, make_frame, with_blocks
from secureimg.publishing.jpeg.pixels import to_rgb, upsampled_planes
from secureimg.publishing.jpeg.reading import JpegFile, open_jpeg, read_jpeg, read_skeleton
from secureimg.publishing.jpeg.writing import refill, standard_scans, write_jpeg

__all__ = [
    "CoefficientImage",
    "Component",
    "Frame",
    "JpegFile",
    "Scan",
    "make_frame",
    "open_jpeg",
    "read_jpeg",
    "read_skeleton",
    "refill",
    "standard_scans",
    "to_rgb",
    "upsampled_planes",
    "with_blocks",
    "write_jpeg",
]
