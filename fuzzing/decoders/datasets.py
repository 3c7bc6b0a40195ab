"""Labelled pictures in .npz files."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

import numpy as np

from fuzzing.targets import Target
from protocols.cli.examples_file import decode_examples

__all__ = ["make_targets"]

_MOST_BYTES: Final = 1 << 20


def _written(images: tuple[int, ...], labels: tuple[int, ...], compressed: bool) -> bytes:
    rng = np.random.default_rng(9)
    count, shape = images[0], images[1:]
    arrays = {
        "train_images": rng.integers(0, 256, images, dtype=np.uint8),
        "train_labels": rng.integers(0, 3, labels, dtype=np.uint8),
        "val_images": rng.integers(0, 256, (count, *shape), dtype=np.uint8),
        "val_labels": rng.integers(0, 3, count, dtype=np.int64),
    }
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _seeds() -> list[bytes]:
    return [
        _written((4, 6, 5), (4, 1), True),
        _written((3, 4, 4, 3), (3,), False),
        _written((2, 8, 8), (2,), False),
    ]


def _reseal(data: bytes) -> bytes:
    """Make checksums right again: a mutant's arrays are put into a new archive, as far as they can still be read."""
    stream = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            for info in old.infolist():
                with old.open(info) as file:
                    file._expected_crc = None  # type: ignore[attr-defined]  # what is wrong in the mutant
                    new.writestr(info.filename, file.read(_MOST_BYTES))
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, RuntimeError, LookupError):
        return data
    return stream.getvalue()


def make_targets() -> list[Target]:
    """Pictures with labels, as `secureimg federate` reads them."""
    return [
        Target(
            "labelled-pictures",
            "pictures with labels in an .npz file, from whoever gives it",
            lambda data: decode_examples(data, "input", _MOST_BYTES),
            _seeds,
            reseal=_reseal,
        )
    ]
