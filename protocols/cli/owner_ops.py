"""What the owner does with decrypted values, as a public program says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.cli.remote import apply_tail
from secureimg.ckks import PublicProgram
from secureimg.graph import ArgMax, Softmax

__all__ = ["finish"]


def finish(values: NDArray[np.float64], public: PublicProgram) -> NDArray[np.float64]:
    """Apply softmax and argmax of a program to decrypted values (N, *output_shape)."""
    ops = tuple(
        Softmax(op.axis, log=op.log) if op.kind == "softmax" else ArgMax(op.axis, keepdims=op.keepdims)
        for op in public.owner_ops
    )
    return apply_tail(values, ops)
