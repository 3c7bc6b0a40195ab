"""Compiled programs: the server's, with weights, and the owner's, without."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from secureimg.ckks.blobs import Kind, frame, unframe
from secureimg.ckks.parameters import Parameters, PrimeBits
from secureimg.ckks.report import CostReport
from secureimg.ckks.text import Text
from secureimg.errors import BlobError, ParameterError

__all__ = ["OwnerOp", "Program", "PublicProgram"]

_MAX_PROGRAM_BYTES = 64 << 20
_MAX_ELEMENTS = 1 << 26


class OwnerOp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An op the owner runs on the decrypted result: softmax or argmax along an axis of one image's result."""

    kind: str
    axis: int
    log: bool = False
    keepdims: bool = False


class _Places(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layout on the wire: int32 arrays, little endian."""

    slots: int
    ciphertexts: int
    period: int
    ciphertext: bytes
    slot: bytes

    def indices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return (
            np.frombuffer(self.ciphertext, dtype="<i4").astype(np.int64),
            np.frombuffer(self.slot, dtype="<i4").astype(np.int64),
        )


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything in a public program."""

    name: str
    graph: str
    layout: str
    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: int
    primes: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    batch: int
    input_range: tuple[float, float]
    input_scale: float
    packing: _Places
    gather: bytes
    output_primes: int
    output_scale: float
    output: _Places
    rotations: tuple[tuple[int, int], ...]
    relinearisation: int
    levels: int
    rotation_count: int
    error_bound: float
    output_bound: float
    owner_ops: tuple[OwnerOp, ...]
    labels: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class PublicProgram:
    """What an owner needs to use a program: parameters, packing, rotation steps, bounds. No weights.

    Attributes
    ----------
    body : struct
        The fields, also reachable as attributes below.
    """

    body: _Body

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields; keys, ciphertexts and results are bound to it."""
        return hashlib.sha256(b"secureimg ckks program 1\0" + msgspec.msgpack.encode(self.body)).hexdigest()

    @property
    def fingerprint_bytes(self) -> bytes:
        """The fingerprint as 32 bytes."""
        return bytes.fromhex(self.fingerprint)

    @cached_property
    def parameters(self) -> Parameters:
        """The parameter set."""
        return Parameters(self.body.ring_degree, PrimeBits(self.body.data_bits, self.body.special_bits))

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.body.name

    @property
    def graph_fingerprint(self) -> str:
        """Fingerprint of the graph it was compiled from."""
        return self.body.graph

    @property
    def layout(self) -> str:
        """`slots`, or `throughput` for one image a slot."""
        return self.body.layout

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.body.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output, before the owner's ops."""
        return self.body.output_shape

    @property
    def batch(self) -> int:
        """Images in one evaluation."""
        return self.body.batch

    @property
    def input_range(self) -> tuple[float, float]:
        """Range the inputs have to lie in; public."""
        return self.body.input_range

    @property
    def output_bound(self) -> float:
        """Results above this magnitude are refused by decryption."""
        return self.body.output_bound

    @property
    def error_bound(self) -> float:
        """Predicted largest absolute error of a result: 25 deviations of the average slot.

        Key switching is noisier in a few slots, by up to ``sqrt(3 N) / pi``: where its noise is most of all, as with many
        rotations at N = 4096, single results were seen at three times the prediction.
        """
        return self.body.error_bound

    @property
    def rotations(self) -> int:
        """Rotations in one evaluation."""
        return self.body.rotation_count

    @property
    def levels(self) -> int:
        """Multiplicative depth, in rescales."""
        return self.body.levels

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the outputs."""
        return self.body.labels

    @property
    def owner_ops(self) -> tuple[OwnerOp, ...]:
        """What the owner runs on the decrypted result."""
        return self.body.owner_ops

    def to_bytes(self) -> bytes:
        """Framed bytes."""
        return frame(Kind.PROGRAM, msgspec.msgpack.encode(self.body), self.fingerprint_bytes)

    @staticmethod
    def from_bytes(blob: bytes) -> PublicProgram:
        """Decode and check untrusted bytes.

        Raises
        ------
        BlobError
            If the blob is malformed, inconsistent, or asks for insecure parameters.
        """
        found = unframe(blob, Kind.PROGRAM, max_bytes=_MAX_PROGRAM_BYTES)
        try:
            program = PublicProgram(msgspec.msgpack.decode(found.payload, type=_Body))
            if program.fingerprint_bytes != found.program:
                raise BlobError("program blob is damaged: its fingerprint does not match its content")
            _check(program.body)
            actual = program.parameters.primes
        except (msgspec.DecodeError, ParameterError, ValueError) as error:
            raise BlobError(f"program blob is malformed: {error}") from None
        if actual != program.body.primes:
            raise BlobError("program blob names other primes than this release of SEAL makes: use equal releases")
        return program


def _check(body: _Body) -> None:
    """Consistency of a decoded program; ValueError names what is wrong."""
    parameters = Parameters(body.ring_degree, PrimeBits(body.data_bits, body.special_bits))
    slots = parameters.slots
    if body.batch < 1 or slots % body.batch:
        raise ValueError(f"batch {body.batch} does not divide {slots} slots")
    if body.layout not in ("slots", "throughput"):
        raise ValueError(f"unknown layout {body.layout!r}")
    sizes = int(np.prod(body.input_shape, dtype=np.float64)), int(np.prod(body.output_shape, dtype=np.float64))
    if min((*sizes, *body.input_shape, *body.output_shape)) < 1 or max(sizes) > _MAX_ELEMENTS:
        raise ValueError(f"shapes {body.input_shape} and {body.output_shape} are outside the limit of {_MAX_ELEMENTS}")
    for title, places in (("input", body.packing), ("output", body.output)):
        if len(places.ciphertext) % 4 or len(places.slot) != len(places.ciphertext):
            raise ValueError(f"{title} layout has arrays of unequal length")
        ciphertext, slot = places.indices()
        if places.slots != slots // body.batch or places.period < 1 or places.slots % places.period:
            raise ValueError(f"{title} layout does not fit {slots // body.batch} slots")
        if not 1 <= places.ciphertexts <= _MAX_ELEMENTS // slots * 64:
            raise ValueError(f"{title} layout has {places.ciphertexts} ciphertexts")
        if ciphertext.size and (
            ciphertext.min() < 0
            or ciphertext.max() >= places.ciphertexts
            or slot.min() < 0
            or slot.max() >= places.period
        ):
            raise ValueError(f"{title} layout points outside its ciphertexts")
    gather = np.frombuffer(body.gather, dtype="<i4")
    if gather.size != len(body.packing.slot) // 4 or gather.size == 0 or gather.min() < -1 or gather.max() >= sizes[0]:
        raise ValueError("input layout copies elements that do not exist")
    if len(body.output.slot) // 4 != sizes[1]:
        raise ValueError("output layout and output shape differ")
    if not 1 <= body.output_primes <= len(body.data_bits):
        raise ValueError(f"output level {body.output_primes} is not in the chain")
    if any(not 1 <= primes <= len(body.data_bits) or not 0 < step < slots for step, primes in body.rotations):
        raise ValueError("a rotation step is out of range")
    if not 0 <= body.relinearisation <= len(body.data_bits):
        raise ValueError("relinearisation level is not in the chain")
    numbers = (*body.input_range, body.input_scale, body.output_scale, body.error_bound, body.output_bound)
    if not all(np.isfinite(numbers)) or body.input_scale <= 0 or body.output_scale <= 0:
        raise ValueError("scales and bounds must be finite")
    if any(op.kind not in ("softmax", "argmax") for op in body.owner_ops):
        raise ValueError("unknown owner op")


@dataclass(frozen=True, eq=False)
class Program:
    """A program as its server holds it: the public part, the text with all weights, and the cost report."""

    public: PublicProgram
    text: Text
    cost: CostReport

    @property
    def graph_fingerprint(self) -> str:
        """Fingerprint of the graph it was compiled from."""
        return self.public.graph_fingerprint
