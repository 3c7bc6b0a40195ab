"""A compiled program: the public part, which everyone follows, and the weights, which their owner keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from secureimg.errors import BlobError, CompileError, GraphError
from secureimg.graph import Preprocessing
from secureimg.graph.ops import ArgMax, Op, Softmax
from secureimg.sharing import text
from secureimg.sharing.checks import check_program
from secureimg.sharing.ring import byte_width
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["MAX_PROGRAM_BYTES", "Program", "PublicProgram", "Reveal", "Weights"]

Reveal = Literal["scores", "label", "top-k", "shares"]
Weights = Literal["party 1", "public", "shared"]

MAX_PROGRAM_BYTES: Final = 64 << 20
_MAGIC: Final = b"SIMGSHR1"


class _Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An op that the owner does on revealed scores."""

    op: Literal["softmax", "log softmax", "argmax"]
    axis: int
    keepdims: bool


class _Prepare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["L", "RGB"]
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public program as it travels."""

    model: text.Name
    input_shape: text.Shape
    output_shape: text.Shape
    labels: tuple[text.Name, ...] | None
    prepare: _Prepare | None
    tail: tuple[_Tail, ...]
    fraction_bits: int
    input_range: tuple[float, float]
    reveal: Reveal
    top: int
    weights: Weights
    registers: tuple[text.Register, ...]
    steps: tuple[text.Step, ...]
    output: int
    code: int


@dataclass(frozen=True, eq=False)
class PublicProgram:
    """What is computed, without any weight. Both parties, the dealer and the owner hold the same one.

    It shows the architecture: shapes, strides, the order of layers, and for each layer the ring its values fit into.

    Attributes
    ----------
    model : str
    input_shape, output_shape : tuple of int
        Per image.
    labels : tuple of str or None
    preprocessing : Preprocessing or None
    tail : tuple of Op
        What the owner does with revealed scores (softmax, argmax).
    fraction_bits : int
    input_range : (float, float)
        Values an input may have.
    reveal : str
        "scores", "label", "top-k" or "shares".
    top : int
        How many places "top-k" reveals.
    weights : str
        "party 1", "public" or "shared".
    registers, steps, output
        The text, see `secureimg.sharing.text`.
    code : int
        Low bits of the output register that say which label (0 unless a label or top-k is revealed).
    """

    model: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    tail: tuple[Op, ...]
    fraction_bits: int
    input_range: tuple[float, float]
    reveal: Reveal
    top: int
    weights: Weights
    registers: tuple[text.Register, ...]
    steps: tuple[text.Step, ...]
    output: int
    code: int

    def __post_init__(self) -> None:
        check_program(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the public program, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Per-image shape of what is revealed."""
        return self.registers[self.output].shape

    @property
    def input_width(self) -> int:
        """Bits of a pixel's share."""
        return self.registers[0].width

    def share_bytes(self, images: int) -> int:
        """Bytes of party 1's share of `images` inputs (party 0's is a seed)."""
        return images * int(np.prod(self.input_shape)) * byte_width(self.input_width)

    def result_bytes(self, images: int) -> int:
        """Bytes of one party's share of the result."""
        return images * int(np.prod(self.result_shape)) * byte_width(self.registers[self.output].width)

    def to_bytes(self) -> bytes:
        """The program as bytes: magic, then msgpack."""
        prepare = self.preprocessing
        wire = _Wire(
            model=self.model, input_shape=self.input_shape, output_shape=self.output_shape, labels=self.labels,
            prepare=None if prepare is None else _Prepare(
                "L" if prepare.mode == "L" else "RGB", prepare.size, prepare.mean, prepare.std),
            tail=tuple(_tail(op) for op in self.tail), fraction_bits=self.fraction_bits, input_range=self.input_range,
            reveal=self.reveal, top=self.top, weights=self.weights, registers=self.registers, steps=self.steps,
            output=self.output, code=self.code,
        )  # fmt: skip
        return _MAGIC + msgspec.msgpack.encode(wire)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> PublicProgram:
        """Decode a program that somebody else made; every shape is checked against its step.

        Raises
        ------
        BlobError
            If it is too large, of another version, malformed, or its parts contradict each other.
        """
        view = memoryview(data)
        if len(view) > MAX_PROGRAM_BYTES:
            raise BlobError(f"a program of {len(view)} bytes is above the limit of {MAX_PROGRAM_BYTES}")
        if bytes(view[: len(_MAGIC)]) != _MAGIC:
            raise BlobError("not a program on shares of this version: both sides need equal releases of secureimg")
        try:
            wire = msgspec.msgpack.decode(view[len(_MAGIC) :], type=_Wire)
            given = wire.prepare
            prepare = None if given is None else Preprocessing(given.mode, given.size, given.mean, given.std)
            values = {name: getattr(wire, name) for name in wire.__struct_fields__ if name not in ("prepare", "tail")}
            return cls(preprocessing=prepare, tail=tuple(_op(item) for item in wire.tail), **values)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BlobError(f"the program does not fit its type: {error}") from None
        except (CompileError, GraphError) as error:
            raise BlobError(f"the program contradicts itself: {error}") from None


def _tail(op: Op) -> _Tail:
    if isinstance(op, Softmax):
        return _Tail("log softmax" if op.log else "softmax", op.axis, False)
    assert isinstance(op, ArgMax)
    return _Tail("argmax", op.axis, op.keepdims)


def _op(item: _Tail) -> Op:
    return ArgMax(item.axis, item.keepdims) if item.op == "argmax" else Softmax(item.axis, item.op == "log softmax")


@dataclass(frozen=True, eq=False)
class Program:
    """A public program with its weights.

    Attributes
    ----------
    public : PublicProgram
    weights : dict of int to (ndarray of uint64, ndarray of uint64 or None)
        By number of the step: weights, and what is added to the result. Not shown in a repr.
    """

    public: PublicProgram
    weights: dict[int, tuple[NDArray[np.uint64], NDArray[np.uint64] | None]] = field(repr=False)

    @cached_property
    def _digest(self) -> bytes:
        """Depends on every weight; not to be shown."""
        digest = hashlib.blake2b(self.public.to_bytes())
        for number in sorted(self.weights):
            for array in self.weights[number]:
                part = np.empty(0, dtype=np.uint64) if array is None else np.ascontiguousarray(array)
                digest.update(f"{number} {part.shape} ".encode())
                digest.update(part.data)
        return digest.digest()

    def weight_seed(self, master: bytes) -> bytes:
        """Seed of this model's weight mask from a lasting 32-byte secret: another model, other weights, another mask."""
        return hashlib.blake2b(self._digest, key=master, digest_size=SEED_BYTES, person=b"secureimg-mask-1").digest()
