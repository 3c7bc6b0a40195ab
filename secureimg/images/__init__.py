"""Images in and out: untrusted files into float64 arrays in [0, 1], and what a model wants made from them.

Pillow does the decoding, of an allow-list of formats; DICOM comes with the extra ``dicom``. Sizes are checked against
caps before anything is decoded. Whatever a file holds, the outcome is an array or an `ImageError`.
"""

from __future__ import annotations

from secureimg.images.files import MAX_BYTES, MAX_PIXELS
from secureimg.images.pictures import FORMATS, load_image, save_image
from secureimg.images.preparing import Mode, Size, prepare
from secureimg.images.tensors import load_tensor_npy

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Mode",
    "Size",
    "load_image",
    "load_tensor_npy",
    "prepare",
    "save_image",
]
