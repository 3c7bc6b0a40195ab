"""The peer: TenSEAL's own way to run its tutorial network, with the tutorial's parameters.

TenSEAL, tutorials/Tutorial 4 - Encrypted Convolution on MNIST: image to columns, one `conv2d_im2col` a channel,
`pack_vectors`, `square_`, `mm`. One thread. It cannot do a second convolution, so every network is compared with this
one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

from secureimg import graph as g

from .nets import Net

__all__ = ["COEFF_MOD_BIT_SIZES", "RING_DEGREE", "SCALE_BITS", "TutorialPeer"]

Array = NDArray[np.float64]

RING_DEGREE = 8192
COEFF_MOD_BIT_SIZES = (31, 26, 26, 26, 26, 26, 26, 31)
SCALE_BITS = 26


@dataclass(frozen=True, eq=False)
class _Layers:
    """The tutorial network's constants as TenSEAL takes them: nested lists."""

    kernel: int
    stride: int
    kernels: list[list[list[float]]]
    kernel_bias: list[float]
    dense: tuple[tuple[list[list[float]], list[float]], ...]


class TutorialPeer:
    """The tutorial network under TenSEAL's high-level interface, owner and server in one object as in the tutorial.

    Parameters
    ----------
    net : Net
        A network of the tutorial's form: one convolution of a one-channel picture, square, dense, square, dense.
    """

    def __init__(self, net: Net) -> None:
        self._layers = _layers_of(net.graph)
        started = time.perf_counter()
        self._context = ts.context(
            ts.SCHEME_TYPE.CKKS, RING_DEGREE, coeff_mod_bit_sizes=list(COEFF_MOD_BIT_SIZES), n_threads=1
        )
        self._context.global_scale = 2.0**SCALE_BITS
        self._context.generate_galois_keys()
        self.keygen_seconds = time.perf_counter() - started

    def key_bytes(self) -> int:
        """Bytes of the context that the tutorial sends to the server: all keys but the secret one."""
        return len(self._context.serialize(save_secret_key=False, save_galois_keys=True, save_relin_keys=True))

    def encrypt(self, image: Array) -> tuple[Any, int]:
        """Encrypt one picture (1, H, W) as the tutorial does; the ciphertext and the number of windows."""
        layers = self._layers
        vector, windows = ts.im2col_encoding(
            self._context, image[0].tolist(), layers.kernel, layers.kernel, layers.stride
        )
        return vector, int(windows)

    def evaluate(self, vector: Any, windows: int) -> Any:
        """Run the network on the ciphertext, statement by statement as in the tutorial's `EncConvNet.forward`."""
        layers = self._layers
        channels = [
            vector.conv2d_im2col(kernel, windows) + bias
            for kernel, bias in zip(layers.kernels, layers.kernel_bias, strict=True)
        ]
        x = ts.CKKSVector.pack_vectors(channels)
        for weight, bias in layers.dense:
            x.square_()
            x = x.mm(weight) + bias
        return x

    def decrypt(self, vector: Any) -> Array:
        """Decrypt the answer, (10,) float64."""
        return np.asarray(vector.decrypt(), dtype=np.float64)


def _layers_of(graph: g.Graph) -> _Layers:
    linear = [node.op for node in graph.nodes if isinstance(node.op, g.Conv | g.Dense)]
    conv, *dense = linear
    if not isinstance(conv, g.Conv) or conv.weight.shape[1] != 1 or any(conv.pads) or len(dense) != 2:
        raise ValueError(
            f"{graph.name!r} is not of the tutorial's form: conv of one channel, square, dense, square, dense"
        )
    pairs = []
    for op in dense:
        if not isinstance(op, g.Dense):
            raise ValueError(f"{graph.name!r} has more than one convolution, which TenSEAL's tutorial path cannot do")
        pairs.append((op.weight.T.tolist(), _bias(op.bias, op.weight.shape[0])))
    return _Layers(
        kernel=conv.weight.shape[2],
        stride=conv.strides[0],
        kernels=conv.weight[:, 0].tolist(),
        kernel_bias=_bias(conv.bias, conv.weight.shape[0]),
        dense=tuple(pairs),
    )


def _bias(bias: Array | None, outputs: int) -> list[float]:
    return [0.0] * outputs if bias is None else [float(value) for value in bias]
